//! From `alerts.json` to orders: no alert is lost or answered twice, whatever happens to
//! the file or to its reader.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use retort::event::{Action, Dialect, Expect, Field};
use retort::journal::{Journal, Position};
use retort::message::{self, Echo};
use retort::order::Order;
use retort::premises::Premises;
use retort::root::Root;
use retort::watch::{Follower, Heard, Line, Watcher};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing that is written takes longer to be heard.
const SOON: Duration = Duration::from_secs(10);

/// A folder for alerts, written as OSSEC and others write it.
struct Alerts {
    dir: TempDir,
    writer: Option<File>,
}

impl Alerts {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self { dir, writer: None }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("alerts.json")
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Opens the file anew, as a writer does that was told to.
    fn reopen(&mut self) {
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true);
        self.writer = Some(options.open(self.path()).unwrap());
    }

    fn write(&mut self, text: &str) {
        if self.writer.is_none() {
            self.reopen();
        }
        self.writer
            .as_mut()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn lines(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.write(&format!("line {number}\n"));
        }
    }

    /// OSSEC's and Wazuh's: a file of the day, which has the usual name as well.
    fn next_day(&mut self, day: u32) {
        let folder = self.beside("2026").join("Mar");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("ossec-alerts-{day:02}.json"));
        let mut options = OpenOptions::new();
        self.writer = Some(options.append(true).create(true).open(&file).unwrap());
        // One that was made for a file that somebody renamed has no other name.
        match fs::metadata(self.path()) {
            Ok(meta) if meta.nlink() == 1 => {
                let name = format!("alerts.json.before-{day}");
                fs::rename(self.path(), self.beside(&name)).unwrap();
            }
            Ok(_) => fs::remove_file(self.path()).unwrap(),
            Err(_) => {}
        }
        fs::hard_link(file, self.path()).unwrap();
    }

    /// logrotate's `copytruncate`.
    fn copy_and_empty(&mut self, name: &str) {
        fs::copy(self.path(), self.beside(name)).unwrap();
        self.writer.as_ref().unwrap().set_len(0).unwrap();
    }

    fn follow(&self, from: Option<&Position>) -> Follower {
        Follower::open(&self.path(), from)
    }
}

/// What a follower says until it is quiet.
#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    notes: Vec<String>,
    overlong: usize,
    position: Option<Position>,
}

impl Said {
    fn note(&self, words: &str) -> bool {
        self.notes.iter().any(|note| note.contains(words))
    }
}

fn all(follower: &mut Follower) -> Said {
    let mut said = Said::default();
    loop {
        match follower.next(Duration::ZERO) {
            Heard::Line(line) => {
                said.lines.push(String::from_utf8(line.bytes).unwrap());
                said.position = line.place.map(|place| place.behind);
            }
            Heard::Overlong { behind, .. } => {
                said.overlong += 1;
                said.position = behind;
            }
            Heard::Note(note) => said.notes.push(note),
            Heard::Quiet => return said,
            Heard::End => panic!("a file has no end"),
        }
    }
}

fn numbered(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("line {number}")).collect()
}

#[test]
fn the_first_time_it_begins_at_the_end() {
    let mut alerts = Alerts::new();
    alerts.lines(0..5);
    alerts.write("lin");
    let mut follower = alerts.follow(None);
    let first = all(&mut follower);
    assert_eq!(first.lines, [""; 0]);
    assert!(first.note("are not answered"), "{first:?}");
    alerts.write("e 5\n");
    alerts.lines(6..8);
    assert_eq!(all(&mut follower).lines, numbered(5..8));
}

#[test]
fn a_restart_before_the_first_alert_misses_none() {
    let mut alerts = Alerts::new();
    alerts.lines(0..5);
    let position = alerts.follow(None).position();
    alerts.lines(5..7);
    assert_eq!(
        all(&mut alerts.follow(Some(&position))).lines,
        numbered(5..7)
    );
}

#[test]
fn a_file_that_was_not_there_is_read_from_its_first_line() {
    let mut alerts = Alerts::new();
    let mut follower = alerts.follow(None);
    let before = all(&mut follower);
    assert!(before.note("jsonout_output"), "{before:?}");
    assert_eq!(all(&mut follower).notes, [""; 0], "it is said once");
    alerts.lines(0..3);
    assert_eq!(all(&mut follower).lines, numbered(0..3));
}

#[test]
fn a_file_that_came_while_nobody_read_is_read_from_its_first_line() {
    let mut alerts = Alerts::new();
    let position = alerts.follow(None).position();
    alerts.lines(0..3);
    let said = all(&mut alerts.follow(Some(&position)));
    assert_eq!(said.lines, numbered(0..3));
    assert!(said.note("was not there before"), "{said:?}");
}

#[test]
fn a_line_that_is_cut_in_the_middle_waits_for_its_end() {
    let mut alerts = Alerts::new();
    alerts.reopen();
    let mut follower = alerts.follow(None);
    all(&mut follower);
    alerts.write("li");
    assert_eq!(all(&mut follower).lines, [""; 0]);
    alerts.write("ne 0\nline");
    assert_eq!(all(&mut follower).lines, numbered(0..1));
    let position = follower.position();
    alerts.write(" 1\n");
    assert_eq!(all(&mut follower).lines, numbered(1..2));
    let again = all(&mut alerts.follow(Some(&position)));
    assert_eq!(again.lines, numbered(1..2), "its beginning is read again");
}

#[test]
fn what_is_written_is_heard_without_asking_again() {
    let mut alerts = Alerts::new();
    alerts.reopen();
    let mut follower = alerts.follow(None);
    all(&mut follower);
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        alerts.lines(0..1);
        alerts
    });
    assert!(matches!(follower.next(SOON), Heard::Line(_)));
    drop(writer.join().unwrap());
}

#[test]
fn a_line_that_is_too_long_is_skipped_and_said() {
    let mut alerts = Alerts::new();
    alerts.reopen();
    let mut follower = alerts.follow(None);
    all(&mut follower);
    alerts.lines(0..1);
    alerts.write(&"x".repeat(3 << 20));
    alerts.write("\n");
    alerts.lines(1..2);
    let said = all(&mut follower);
    assert_eq!(said.lines, numbered(0..2));
    assert_eq!(said.overlong, 1);
    let again = all(&mut alerts.follow(said.position.as_ref()));
    assert_eq!((again.lines.len(), again.overlong), (0, 0));
}

#[test]
fn a_renamed_file_is_read_to_its_end_before_the_new_one() {
    let mut alerts = Alerts::new();
    alerts.lines(0..2);
    let mut follower = alerts.follow(None);
    all(&mut follower);
    alerts.lines(2..4);
    fs::rename(alerts.path(), alerts.beside("alerts.json.1")).unwrap();
    alerts.lines(4..5);
    assert_eq!(
        all(&mut follower).lines,
        numbered(2..5),
        "its writer is still there"
    );
    // What logrotate's `create` makes is not written to yet.
    File::create(alerts.path()).unwrap();
    alerts.lines(5..6);
    assert_eq!(all(&mut follower).lines, numbered(5..6));
    alerts.lines(6..7);
    alerts.reopen();
    alerts.lines(7..9);
    assert_eq!(all(&mut follower).lines, numbered(6..9));
}

#[test]
fn the_last_line_of_a_file_that_was_left_needs_no_end() {
    let mut alerts = Alerts::new();
    alerts.reopen();
    let mut follower = alerts.follow(None);
    all(&mut follower);
    alerts.write("line 0\nline 1");
    fs::rename(alerts.path(), alerts.beside("alerts.json.1")).unwrap();
    alerts.reopen();
    alerts.lines(2..3);
    assert_eq!(all(&mut follower).lines, numbered(0..3));
}

#[test]
fn a_file_of_the_day_is_followed_by_the_next() {
    let mut alerts = Alerts::new();
    alerts.next_day(1);
    let mut follower = alerts.follow(None);
    all(&mut follower);
    alerts.lines(0..3);
    alerts.next_day(2);
    alerts.lines(3..5);
    assert_eq!(all(&mut follower).lines, numbered(0..5));
}

#[test]
fn days_that_passed_between_two_looks_are_all_read() {
    let mut alerts = Alerts::new();
    alerts.next_day(1);
    let mut follower = alerts.follow(None);
    all(&mut follower);
    for day in 2..6 {
        alerts.lines((day - 2) * 10..(day - 1) * 10);
        // File systems do not tell times apart that are closer.
        std::thread::sleep(Duration::from_millis(20));
        alerts.next_day(day);
    }
    alerts.lines(40..41);
    for other in ["ossec-alerts-05.log", "ossec-alerts-04.json.sum"] {
        fs::write(alerts.beside("2026/Mar").join(other), "no alerts\n").unwrap();
    }
    assert_eq!(all(&mut follower).lines, numbered(0..41));
}

#[test]
fn a_file_that_is_empty_hides_none_that_came_before_it() {
    let mut alerts = Alerts::new();
    alerts.next_day(1);
    let mut follower = alerts.follow(None);
    all(&mut follower);
    alerts.lines(0..2);
    std::thread::sleep(Duration::from_millis(20));
    alerts.next_day(2);
    alerts.lines(2..4);
    std::thread::sleep(Duration::from_millis(20));
    alerts.next_day(3);
    assert_eq!(all(&mut follower).lines, numbered(0..4));
    alerts.lines(4..5);
    assert_eq!(all(&mut follower).lines, numbered(4..5));
}

#[test]
fn what_was_written_while_nobody_read_is_read_at_the_start() {
    let mut alerts = Alerts::new();
    alerts.next_day(1);
    alerts.lines(0..3);
    let position = alerts.follow(None).position();
    alerts.lines(3..5);
    for day in 2..5 {
        std::thread::sleep(Duration::from_millis(20));
        alerts.next_day(day);
        alerts.lines(day * 10..day * 10 + 2);
    }
    let said = all(&mut alerts.follow(Some(&position)));
    let mut expected = numbered(3..5);
    for day in 2..5 {
        expected.extend(numbered(day * 10..day * 10 + 2));
    }
    assert_eq!(said.lines, expected);
    assert!(said.note("is read to its end first"), "{said:?}");
    let again = all(&mut alerts.follow(said.position.as_ref()));
    assert_eq!(again.lines, [""; 0]);
}

#[test]
fn what_was_compressed_before_it_was_read_is_said() {
    let mut alerts = Alerts::new();
    alerts.next_day(1);
    alerts.lines(0..3);
    let position = alerts.follow(None).position();
    for day in 2..4 {
        std::thread::sleep(Duration::from_millis(20));
        alerts.next_day(day);
        alerts.lines(day * 10..day * 10 + 2);
    }
    let folder = alerts.beside("2026").join("Mar");
    let (day, compressed) = ("ossec-alerts-02.json", "ossec-alerts-02.json.gz");
    fs::rename(folder.join(day), folder.join(compressed)).unwrap();
    let said = all(&mut alerts.follow(Some(&position)));
    assert_eq!(said.lines, numbered(30..32));
    assert!(said.note("1 files with alerts were compressed"), "{said:?}");
}

#[test]
fn a_file_that_is_copied_and_emptied_loses_nothing() {
    let mut alerts = Alerts::new();
    alerts.lines(0..10);
    let mut follower = alerts.follow(None);
    all(&mut follower);
    alerts.lines(10..12);
    assert_eq!(all(&mut follower).lines, numbered(10..12));
    alerts.lines(12..14);
    alerts.copy_and_empty("alerts.json.1");
    alerts.lines(14..16);
    let said = all(&mut follower);
    assert_eq!(said.lines, numbered(12..16));
    assert!(said.note("copied to"), "{said:?}");
    alerts.lines(16..17);
    assert_eq!(all(&mut follower).lines, numbered(16..17));
}

#[test]
fn a_file_that_was_emptied_and_is_longer_than_before_is_noticed() {
    let mut alerts = Alerts::new();
    alerts.lines(0..3);
    let mut follower = alerts.follow(None);
    all(&mut follower);
    alerts.lines(3..4);
    assert_eq!(all(&mut follower).lines, numbered(3..4));
    alerts.writer.as_ref().unwrap().set_len(0).unwrap();
    alerts.lines(100..120);
    let said = all(&mut follower);
    assert_eq!(said.lines, numbered(100..120));
    assert!(said.note("it was emptied"), "{said:?}");
}

#[test]
fn a_file_that_was_emptied_while_nobody_read_is_noticed() {
    let mut alerts = Alerts::new();
    alerts.lines(0..3);
    let position = alerts.follow(None).position();
    alerts.lines(3..5);
    alerts.copy_and_empty("alerts.json.1");
    alerts.lines(100..120);
    let said = all(&mut alerts.follow(Some(&position)));
    let mut expected = numbered(3..5);
    expected.extend(numbered(100..120));
    assert_eq!(said.lines, expected);
}

#[test]
fn an_inode_that_was_used_again_is_another_file() {
    let mut alerts = Alerts::new();
    alerts.lines(0..3);
    let position = alerts.follow(None).position();
    // The file is gone, and another has its number.
    alerts.writer.as_ref().unwrap().set_len(0).unwrap();
    alerts.lines(50..60);
    let meta = fs::metadata(alerts.path()).unwrap();
    assert_eq!((meta.dev(), meta.ino()), (position.device, position.inode));
    let said = all(&mut alerts.follow(Some(&position)));
    assert_eq!(said.lines, numbered(50..60));
    assert!(said.note("is not there any more"), "{said:?}");
}

#[test]
fn a_pipe_in_place_of_the_file_stops_nobody() {
    let alerts = Alerts::new();
    nix::unistd::mkfifo(&alerts.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut follower = alerts.follow(None);
    assert!(all(&mut follower).note("no regular file"));
}

/// Days of that kind.
const SEEDS: u32 = 5;

/// A day of a busy host: a reader that dies every few lines, a file that is rotated in
/// every way that there is.
#[test]
fn nothing_is_lost_or_read_twice_through_rotations_and_restarts() {
    (1..=SEEDS).for_each(busy_day);
}

fn busy_day(seed: u32) {
    let mut alerts = Alerts::new();
    alerts.next_day(1);
    let mut position = alerts.follow(None).position();
    let mut follower = alerts.follow(Some(&position));
    let mut random = seed;
    let mut choose = |from: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % from
    };
    let mut day = 1;
    let mut next = 0;
    let mut seen = Vec::new();
    for round in 0..300 {
        let more = choose(5);
        alerts.lines(next..next + more);
        next += more;
        match choose(12) {
            0 => {
                std::thread::sleep(Duration::from_millis(6));
                day += 1;
                alerts.next_day(day);
            }
            1 if more > 0 => {
                std::thread::sleep(Duration::from_millis(6));
                let name = format!("alerts.json.{round}");
                fs::rename(alerts.path(), alerts.beside(&name)).unwrap();
                alerts.reopen();
            }
            2..=4 => {
                // Killed: what was read behind the last position that was kept is lost.
                follower = alerts.follow(Some(&position));
            }
            5 | 6 => {}
            _ => {
                let said = all(&mut follower);
                seen.extend(said.lines);
                position = said.position.unwrap_or(position);
            }
        }
    }
    seen.extend(all(&mut follower).lines);
    let expected = numbered(0..next);
    let differs = (0..seen.len().max(expected.len())).find(|n| seen.get(*n) != expected.get(*n));
    assert_eq!(
        differs,
        None,
        "seed {seed}: {} of {} lines",
        seen.len(),
        expected.len()
    );
    assert!(next > 400 && day > 10, "{next} {day}");
}

// From a line to orders

/// An installation of which only the configuration is there.
struct Site {
    dir: TempDir,
}

const DROP: &str = "
<command><name>drop</name><executable>firewall-drop.sh</executable><expect>srcip</expect></command>
<command><name>disable</name><executable>disable-account.sh</executable><expect>username</expect></command>
<active-response><command>drop</command><location>local</location><level>6</level><timeout>600</timeout></active-response>
<active-response><command>disable</command><location>server</location><rules_id>5712</rules_id></active-response>
<active-response><command>drop</command><location>defined-agent</location><agent_id>002</agent_id><level>6</level></active-response>
";

impl Site {
    fn new(conf: &str, grants: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let site = Self { dir };
        site.file(
            "etc/ossec.conf",
            &format!("<ossec_config>{conf}</ossec_config>"),
        );
        site.file("retort/retort.toml", grants);
        site
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn watcher(&self) -> Watcher {
        let root = Root::new(self.dir.path());
        Watcher::read(&Premises::read(&root, None).unwrap())
    }
}

fn sample(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/alerts");
    serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap()
}

fn line(alert: &Value) -> Line {
    Line {
        bytes: alert.to_string().into_bytes(),
        place: None,
    }
}

/// An alert of this host itself.
fn local_alert() -> Value {
    let mut alert = sample("ossec/01-sshd-bruteforce-5712.json");
    alert["location"] = json!("/var/log/auth.log");
    alert["hostname"] = json!("srv1");
    alert
}

#[test]
fn an_alert_becomes_orders_for_this_host() {
    let site = Site::new(DROP, "");
    let mut watcher = site.watcher();
    let answer = watcher.hear(&line(&local_alert()), Instant::now());
    let [drop, disable] = answer.orders.as_slice() else {
        panic!("{answer:?}")
    };
    assert_eq!(drop.executable, "firewall-drop.sh");
    assert_eq!(drop.timeout, Some(Duration::from_secs(600)));
    assert_eq!(drop.request.timeout, Some(600));
    assert_eq!(drop.expect, Some(Expect::from([Field::Srcip])));
    assert_eq!(drop.request.action, Action::Add);
    assert_eq!(drop.request.dialect, Dialect::Ossec);
    assert_eq!(
        words(drop),
        "add - 203.0.113.9 1772446530.104965 5712 /var/log/auth.log -"
    );
    assert_eq!(disable.timeout, None);
    assert_eq!(
        words(disable),
        "add oracle - 1772446530.104965 5712 /var/log/auth.log -"
    );
    assert_eq!(answer.said.len(), 1, "the third block is for another host");
    assert!(answer.said[0].contains("on agent 002"), "{answer:?}");
    let counts = watcher.counts();
    assert_eq!(
        (counts.alerts, counts.orders, counts.undeliverable),
        (1, 2, 1)
    );
}

fn words(order: &Order) -> String {
    match &order.request.echo {
        Echo::Arguments(words) => words.join(" "),
        Echo::Message(json) => panic!("{json:?}"),
    }
}

#[test]
fn wazuhs_alert_is_passed_on_as_wazuhs_execd_passes_it() {
    let conf = "<command><name>drop</name><executable>firewall-drop</executable><extra_args>a b</extra_args></command>
        <active-response><command>drop</command><location>local</location><rules_group>sshd</rules_group><timeout>60</timeout></active-response>";
    let site = Site::new(
        conf,
        "dialect = \"wazuh4\"\n[response.firewall-drop]\nexpect = [\"srcip\"]\n",
    );
    let mut alert = sample("wazuh/01-sshd-bruteforce-5712.json");
    alert["agent"] = json!({"id": "000", "name": "mgr-01"});
    let answer = site.watcher().hear(&line(&alert), Instant::now());
    let [order] = answer.orders.as_slice() else {
        panic!("{answer:?}")
    };
    let Echo::Message(message) = &order.request.echo else {
        panic!()
    };
    let text = serde_json::to_string(message).unwrap();
    let read = message::from_line(text.as_bytes()).unwrap();
    assert_eq!((read.dialect, read.action), (Dialect::Wazuh4, Action::Add));
    assert_eq!(read.extra_args, ["a", "b"]);
    assert_eq!(read.extra_args, order.request.extra_args);
    assert_eq!(read.alert.json(), order.request.alert.json());
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["parameters"]["alert"], alert);
    assert_eq!(
        value["origin"],
        json!({"name": "node01", "module": "wazuh-execd"})
    );
    assert_eq!(
        value["parameters"]["program"],
        "active-response/bin/firewall-drop"
    );
    assert_eq!(order.expect, None, "its grants say");
}

#[test]
fn the_same_alert_is_the_same_order_after_a_restart() {
    let site = Site::new(DROP, "");
    let once = |alert: &Value| -> Vec<Option<String>> {
        let answer = site.watcher().hear(&line(alert), Instant::now());
        answer.orders.into_iter().map(|order| order.once).collect()
    };
    let alert = local_alert();
    let first = once(&alert);
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(Option::is_some));
    assert_ne!(first[0], first[1], "two blocks are two orders");
    assert_eq!(once(&alert), first);
    let mut other = alert.clone();
    other["id"] = json!("1772446530.104966");
    let others: BTreeSet<_> = once(&other).into_iter().chain(first.clone()).collect();
    assert_eq!(others.len(), 4);
    // A line above the blocks is no other block.
    site.file(
        "etc/ossec.conf",
        &format!("<!-- -->\n\n<ossec_config>{DROP}</ossec_config>"),
    );
    assert_eq!(once(&alert), first);
}

#[test]
fn an_alert_without_an_id_is_known_by_its_place() {
    let site = Site::new(DROP, "");
    let mut alerts = Alerts::new();
    alerts.reopen();
    let mut nameless = local_alert();
    nameless.as_object_mut().unwrap().remove("id");
    let mut follower = alerts.follow(None);
    let position = follower.position();
    alerts.write(&format!("{nameless}\n{nameless}\n"));
    let once = |follower: &mut Follower| {
        let mut watcher = site.watcher();
        let mut all = Vec::new();
        loop {
            match follower.next(Duration::ZERO) {
                Heard::Line(line) => {
                    let orders = watcher.hear(&line, Instant::now()).orders;
                    all.extend(orders.into_iter().map(|order| order.once.unwrap()));
                }
                Heard::Quiet => return all,
                _ => {}
            }
        }
    };
    let first = once(&mut follower);
    assert_eq!(
        first.iter().collect::<BTreeSet<_>>().len(),
        4,
        "two alerts, two blocks"
    );
    assert_eq!(once(&mut alerts.follow(Some(&position))), first);
    let piped = site.watcher().hear(&line(&nameless), Instant::now());
    assert!(piped.orders.iter().all(|order| order.once.is_none()));
}

#[test]
fn what_is_for_an_agent_is_said_once_a_minute_and_counted_always() {
    let site = Site::new(DROP, "");
    site.file("etc/client.keys", "001 web-01 10.0.0.5 k\n");
    let mut watcher = site.watcher();
    let start = Instant::now();
    let alert = sample("ossec/01-sshd-bruteforce-5712.json");
    let first = watcher.hear(&line(&alert), start);
    assert_eq!(first.orders.len(), 1, "the one for the server");
    assert_eq!(first.said.len(), 2, "{first:?}");
    assert!(first.said[0].contains("on agent 001 (web-01)"), "{first:?}");
    for _ in 0..100 {
        assert_eq!(watcher.hear(&line(&alert), start).said, [""; 0]);
    }
    let later = watcher.hear(&line(&alert), start + Duration::from_secs(61));
    assert!(later.said[0].contains("and 100 more"), "{later:?}");
    assert_eq!(watcher.counts().undeliverable, 204);
}

#[test]
fn the_installer_says_what_is_installed() {
    let site = Site::new("<command><name>c</name><executable>c</executable><expect/></command>
        <active-response><command>c</command><location>all</location><level>1</level></active-response>", "");
    let here = || {
        site.watcher()
            .hear(&line(&local_alert()), Instant::now())
            .orders
            .len()
    };
    assert_eq!(here(), 1, "a host by itself");
    site.file("etc/client.keys", "001 web-01 10.0.0.5 k\n");
    assert_eq!(here(), 0, "a manager");
    site.file("etc/ossec-init.conf", "TYPE=\"local\"\n");
    assert_eq!(here(), 1);
}

#[test]
fn what_is_no_alert_is_counted_and_delays_nothing() {
    let site = Site::new(DROP, "");
    let mut watcher = site.watcher();
    let bad: [&[u8]; 6] = [
        b"{",
        b"null",
        b"\xff\xfe",
        b"{\"rule\":{}}",
        b"[1]",
        b"{\"a\":1",
    ];
    let mut orders = 0;
    let mut said = 0;
    for bytes in bad.iter().cycle().take(600) {
        for bytes in [*bytes, local_alert().to_string().as_bytes(), b"", b"  "] {
            let line = Line {
                bytes: bytes.to_vec(),
                place: None,
            };
            let answer = watcher.hear(&line, Instant::now());
            orders += answer.orders.len();
            said += answer
                .said
                .iter()
                .filter(|s| s.contains("is no alert"))
                .count();
        }
    }
    assert_eq!(orders, 1200);
    assert_eq!(said, 1);
    let counts = watcher.counts();
    assert_eq!((counts.alerts, counts.malformed), (600, 600));
}

#[test]
fn what_does_not_run_says_why() {
    let site = Site::new(DROP, "");
    let mut watcher = site.watcher();
    let mut odd = local_alert();
    odd["srcip"] = json!("1.2.3.4;id");
    odd["srcuser"] = json!("-");
    let answer = watcher.hear(&line(&odd), Instant::now());
    assert_eq!(answer.orders.len(), 0);
    assert!(answer.said[0].contains("(1271)"), "{answer:?}");
    assert!(
        answer.said[1].contains("user is expected, but the alert has none"),
        "{answer:?}"
    );
    assert_eq!(watcher.counts().declined, 3);
    let mut own = local_alert();
    own["location"] = json!("/var/ossec/logs/active-responses.log");
    let answer = watcher.hear(&line(&own), Instant::now());
    assert_eq!((answer.orders.len(), answer.said.len()), (0, 0));
}

#[test]
fn a_host_that_is_disabled_runs_nothing_and_says_so() {
    let conf = format!("{DROP}<active-response><disabled>yes</disabled></active-response>");
    let answer = Site::new(&conf, "")
        .watcher()
        .hear(&line(&local_alert()), Instant::now());
    assert_eq!(answer.orders.len(), 0);
    assert!(
        answer.said[0].contains("disabled on this host"),
        "{answer:?}"
    );
}

#[test]
fn rules_that_cannot_be_read_are_findings() {
    let site = Site::new(
        &format!("{DROP}<rules><include>r.xml</include></rules>"),
        "",
    );
    let watcher = site.watcher();
    assert_eq!(watcher.findings().len(), 1);
    site.file(
        "rules/r.xml",
        "<group name=\"x\"><rule id=\"5712\" level=\"10\"><options>no_ar</options></rule></group>",
    );
    let mut watcher = site.watcher();
    assert_eq!(watcher.findings(), []);
    assert_eq!(
        watcher
            .hear(&line(&local_alert()), Instant::now())
            .orders
            .len(),
        0
    );
}

/// Killed between the order and its position: the alert comes again, as the same order.
#[test]
fn a_position_that_was_not_kept_repeats_an_order_that_is_known() {
    let site = Site::new(DROP, "");
    let journal = site.dir.path().join("retort/journal.db");
    let open = || Journal::open(&journal, Duration::from_secs(1)).unwrap();
    let mut alerts = Alerts::new();
    alerts.reopen();
    let path = alerts.path();
    let keep = |position: &Position| open().keep_position(&path, position).unwrap();
    keep(&alerts.follow(None).position());
    let mut all = Vec::new();
    for number in 0..6 {
        let mut alert = local_alert();
        alert["id"] = json!(format!("1.{number}"));
        alerts.write(&format!("{alert}\n"));
        let mut follower = alerts.follow(open().position(&path).unwrap().as_ref());
        let mut watcher = site.watcher();
        loop {
            match follower.next(Duration::ZERO) {
                Heard::Line(line) => {
                    let orders = watcher.hear(&line, Instant::now()).orders;
                    all.extend(orders.into_iter().map(|order| order.once.unwrap()));
                    if number % 2 == 1 {
                        keep(&line.place.unwrap().behind);
                    }
                }
                Heard::Quiet => break,
                _ => {}
            }
        }
    }
    let known: BTreeSet<_> = all.iter().collect();
    assert_eq!(known.len(), 12, "six alerts, two blocks");
    assert_eq!(all.len(), 18, "every other alert came twice");
}
