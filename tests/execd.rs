//! An execd that behaves as the real ones do, up to the day on which it is killed:
//! nothing hangs longer than the wall limit, and nothing stays blocked for ever.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::execd::{self, Execd};
use support::guests;
use support::keeper::{self, Keeper};
use support::root::Root;

const ATTACKER: &str = "203.0.113.7";

/// What a call may be late by when the machine is busy with the other tests.
const GRACE: Duration = Duration::from_millis(500);

/// The default wall limit.
const WALL: Duration = Duration::from_secs(5);

fn took(told: &Value) -> Duration {
    Duration::from_secs_f64(told["seconds"].as_f64().unwrap())
}

/// When each hold of the journal began.
fn began(root: &Root) -> Vec<String> {
    let holds = root.json(&["blocks", "list"]);
    let since = |hold: &Value| hold["since"].as_str().unwrap().to_owned();
    holds.as_array().unwrap().iter().map(since).collect()
}

#[test]
fn wazuh_adds_extends_and_deletes() {
    let root = Root::firewall_drop("wazuh4");
    let mut execd = Execd::start(root.path());
    let message = execd::alert(ATTACKER);
    let timed = json!({"timeout": 1});

    let told = execd.wazuh("firewall-drop", &message, &timed);
    assert_eq!(
        told["line"],
        "{\"version\":1,\"origin\":{\"name\":\"firewall-drop\",\"module\":\"active-response\"},\"command\":\"check_keys\",\"parameters\":{\"keys\":[\"203.0.113.7\"]}}\n"
    );
    assert_eq!(
        (&told["reply"], &told["status"]),
        (&json!("continue"), &json!(0))
    );
    assert_eq!(root.blocked(), [ATTACKER], "{}", root.log());
    let first = began(&root);

    let told = execd.wazuh("firewall-drop", &message, &timed);
    assert_eq!(
        (&told["reply"], &told["status"]),
        (&json!("abort"), &json!(0))
    );
    assert_eq!(root.blocked(), [ATTACKER], "still one hold");
    assert!(
        began(&root) > first,
        "its deadline starts anew, as execd's does"
    );

    assert!(execd.tick().is_empty(), "not over yet");
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(execd.tick(), [json!(0)]);
    assert!(root.blocked().is_empty());

    // The lines of the original, in its order.
    let log = root.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| !line.contains(" retort: "))
        .collect();
    let ends: Vec<&str> = lines
        .iter()
        .map(|line| line.split_once(": ").unwrap().1)
        .map(|text| match text {
            "Starting" | "Ended" | "Aborted" => text,
            text => [
                "\"add\"",
                "check_keys",
                "\"continue\"",
                "\"abort\"",
                "\"delete\"",
            ]
            .into_iter()
            .find(|word| text.contains(word))
            .unwrap_or("?"),
        })
        .collect();
    assert_eq!(
        ends,
        [
            "Starting",
            "\"add\"",
            "check_keys",
            "\"continue\"",
            "Ended", //
            "Starting",
            "\"add\"",
            "check_keys",
            "\"abort\"",
            "Aborted", //
            "Starting",
            "\"delete\"",
            "Ended",
        ],
        "{log}"
    );
    assert_eq!(root.outcomes().len(), 3, "{log}");
}

#[test]
fn wazuh_5_enables_and_disables() {
    let root = Root::firewall_drop("wazuh5");
    let mut execd = Execd::start(root.path());
    let told = execd.wazuh(
        "firewall-drop",
        &execd::event(ATTACKER),
        &json!({"timeout": 1}),
    );
    assert_eq!(told["status"], 0, "{}", root.log());
    assert_eq!(root.blocked(), [ATTACKER]);
    execd.terminate();
    assert!(root.blocked().is_empty(), "{}", root.log());
}

#[test]
fn a_clean_stop_of_wazuh_takes_everything_back() {
    let root = Root::firewall_drop("wazuh4");
    let mut execd = Execd::start(root.path());
    for last in 1..=5 {
        let message = execd::alert(&format!("203.0.113.{last}"));
        let told = execd.wazuh("firewall-drop", &message, &json!({"timeout": 600}));
        assert_eq!(told["status"], 0, "{}", root.log());
    }
    assert_eq!(root.blocked().len(), 5);
    execd.terminate();
    assert!(root.blocked().is_empty(), "{}", root.log());
}

#[test]
fn ossec_adds_and_a_clean_stop_takes_everything_back() {
    let root = Root::firewall_drop("ossec");
    let mut execd = Execd::start(root.path());
    let addresses: Vec<String> = (1..=5).map(|last| format!("203.0.113.{last}")).collect();
    for told in execd.ossec("firewall-drop.sh", &addresses, 600) {
        assert_eq!(told["status"], 0, "{told}: {}", root.log());
    }
    assert_eq!(root.blocked().len(), 5);
    // The same again runs nothing in OSSEC.
    assert!(execd.ossec("firewall-drop.sh", &addresses, 600).is_empty());
    let line = root
        .log()
        .lines()
        .find(|line| !line.contains(" retort: "))
        .unwrap()
        .to_owned();
    let (date, rest) =
        line.split_at(line.find("UTC").expect("a zone in letters") + "UTC 2026".len());
    assert!(date.split_whitespace().count() == 6, "{line}");
    let program = root.bin("firewall-drop.sh");
    let (program, words) = rest
        .trim_start()
        .split_once(' ')
        .map(|(p, w)| (p == program.to_str().unwrap(), w))
        .unwrap();
    assert!(program, "{line}");
    assert!(
        words.starts_with("add - 203.0.113.") && words.ends_with(" 1795489577.1 5712"),
        "{line}"
    );
    execd.terminate();
    assert!(root.blocked().is_empty(), "{}", root.log());
}

/// An execd that is killed knows nothing afterwards; the holds it asked for end at
/// their start plus the longest timeout that `ar.conf` has for the executable.
#[test]
fn a_killed_execd_leaves_nothing_behind_for_ever() {
    for dialect in ["ossec", "wazuh4"] {
        let root = Root::firewall_drop(dialect);
        root.ar_conf("firewall-drop1 - firewall-drop - 1\nfirewall-drop2 - firewall-drop - 2\nother600 - other - 600\n");
        let add = |execd: &mut Execd| {
            if dialect == "ossec" {
                let told = execd.ossec("firewall-drop", &[ATTACKER.to_owned()], 2);
                assert_eq!(told[0]["status"], 0, "{}", root.log());
            } else {
                let told = execd.wazuh(
                    "firewall-drop",
                    &execd::alert(ATTACKER),
                    &json!({"timeout": 2}),
                );
                assert_eq!(told["status"], 0, "{}", root.log());
            }
        };
        let mut execd = Execd::start(root.path());
        add(&mut execd);
        std::thread::sleep(Duration::from_millis(2100));
        root.retort(&["sweep"]);
        assert_eq!(
            root.blocked(),
            [ATTACKER],
            "{dialect}: its execd lives, and may be late"
        );
        execd.kill();
        root.retort(&["sweep"]);
        assert!(root.blocked().is_empty(), "{dialect}: {}", root.log());

        let mut execd = Execd::start(root.path());
        add(&mut execd);
        execd.kill();
        root.retort(&["sweep"]);
        assert_eq!(root.blocked(), [ATTACKER], "{dialect}: it is not over yet");
        std::thread::sleep(Duration::from_millis(2100));
        // The next run does it, whatever that run is about.
        let mut execd = Execd::start(root.path());
        execd.ossec("firewall-drop", &["203.0.113.200".to_owned()], 0);
        assert_eq!(
            root.blocked(),
            ["203.0.113.200"],
            "{dialect}: {}",
            root.log()
        );
        assert!(root.log().contains("its execd is gone"), "{}", root.log());
    }
}

#[test]
fn bursts_at_the_default_limits_lose_neither_block_nor_release() {
    let root = Root::firewall_drop("ossec");
    let mut execd = Execd::start(root.path());
    let addresses = addresses(200);
    let mut expected = addresses.clone();
    expected.sort();
    let told = execd.ossec("firewall-drop", &addresses, 0);
    none_failed(&told, &root);
    let mut blocked = root.blocked();
    blocked.sort();
    assert_eq!(blocked, expected);
    let deletes: Vec<Value> = addresses
        .iter()
        .map(|address| {
            let mut words = execd::words(address);
            words[0] = json!("delete");
            words
        })
        .collect();
    let order = json!({"op": "ossec", "executable": "firewall-drop", "messages": deletes});
    let told = execd.order(&order);
    none_failed(told.as_array().unwrap(), &root);
    assert!(root.blocked().is_empty(), "{:?}", root.blocked());
    let lines = root.outcomes();
    let odd: Vec<&String> = lines
        .iter()
        .filter(|line| !line.contains(": ok;"))
        .collect();
    assert!(
        lines.len() == 400 && odd.is_empty(),
        "{} lines: {odd:#?}",
        lines.len()
    );
}

#[test]
fn five_hundred_at_once_lose_none() {
    let root = Root::firewall_drop("ossec");
    // Five hundred unoptimised processes on a busy machine: the limit allows for it.
    root.wall("60 s");
    let mut execd = Execd::start(root.path());
    let addresses = addresses(500);
    let told = execd.ossec("firewall-drop", &addresses, 600);
    none_failed(&told, &root);
    let slowest = told.iter().map(took).max().unwrap();
    assert!(slowest < Duration::from_secs(60), "{slowest:?}");
    let mut blocked = root.blocked();
    blocked.sort();
    let mut expected = addresses;
    expected.sort();
    assert_eq!(blocked, expected);
    assert_eq!(root.outcomes().len(), 500, "one line each");
    println!("500 at once: the slowest took {slowest:?}");
}

fn addresses(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("203.0.{}.{}", 113 + n / 250, 1 + n % 250))
        .collect()
}

fn none_failed(told: &[Value], root: &Root) {
    let failed: Vec<&Value> = told.iter().filter(|told| told["status"] != 0).collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed: {:?}\n{}",
        failed.len(),
        told.len(),
        failed.first(),
        root.outcomes().join("\n")
    );
}

#[test]
fn under_a_wall_that_is_too_short_nobody_is_told_done_who_is_not() {
    let root = Root::firewall_drop("ossec");
    root.wall("400 ms");
    let mut execd = Execd::start(root.path());
    let addresses: Vec<String> = (0..120).map(|n| format!("203.0.113.{}", 1 + n)).collect();
    let told = execd.ossec("firewall-drop", &addresses, 0);
    assert_eq!(told.len(), 120);
    let blocked = root.blocked();
    for told in &told {
        let address = told["srcip"].as_str().unwrap().to_owned();
        assert!(
            told["status"] != 0 || blocked.contains(&address),
            "{address}: {}",
            root.log()
        );
        // The processes themselves wait for a core; the wall counts from their start.
        assert!(took(told) < Duration::from_secs(30), "{told}");
    }
}

#[test]
fn a_reply_that_never_comes_ends_at_the_wall_and_blocks_nothing() {
    let root = Root::firewall_drop("wazuh4");
    root.wall("1 s");
    let mut execd = Execd::start(root.path());
    let message = execd::alert(ATTACKER);
    for (reply, slow) in [
        ("silence", true),
        ("close", false),
        ("garbage", false),
        ("add", false),
        ("delete", false),
        ("check_keys", false),
    ] {
        let told = execd.wazuh("firewall-drop", &message, &json!({"reply": reply}));
        assert_eq!(told["status"], 255, "{reply}");
        assert!(root.blocked().is_empty(), "{reply}");
        let took = took(&told);
        assert!(took < Duration::from_secs(1) + GRACE, "{reply}: {took:?}");
        assert_eq!(took > Duration::from_millis(900), slow, "{reply}: {took:?}");
        let last = root.outcomes().pop().unwrap_or_default();
        assert!(
            last.contains("the execd did not answer to the keys"),
            "{reply}: {last}"
        );
    }
}

#[test]
fn a_message_that_never_comes_ends_at_the_wall() {
    let root = Root::firewall_drop("wazuh4");
    let mut execd = Execd::start(root.path());
    let told = execd.wazuh("firewall-drop", &json!({}), &json!({"write": false}));
    assert_eq!((&told["status"], &told["line"]), (&json!(255), &json!("")));
    assert!(took(&told) < WALL + GRACE, "{told}");
    assert!(
        root.log().contains("no line came within the wall limit"),
        "{}",
        root.log()
    );
}

#[test]
fn a_message_of_one_mebibyte_is_taken_and_a_larger_one_refused() {
    let root = Root::firewall_drop("wazuh4");
    let mut execd = Execd::start(root.path());
    let mut message = execd::alert(ATTACKER);
    let padding = (1 << 20) - message.to_string().len() - 20;
    message["parameters"]["alert"]["full_log"] = json!("x".repeat(padding));
    let told = execd.wazuh("firewall-drop", &message, &json!({}));
    assert_eq!(
        told["status"],
        0,
        "{}",
        &root.log()[..2000.min(root.log().len())]
    );
    assert_eq!(root.blocked(), [ATTACKER]);
}

#[test]
fn nothing_of_the_daemon_stays_with_a_response() {
    let root = Root::firewall_drop("wazuh4");
    let mut execd = Execd::start(root.path());
    let told = execd.wazuh(
        "firewall-drop",
        &execd::alert(ATTACKER),
        &json!({"look": true}),
    );
    let look = &told["look"];
    assert_eq!(look["leaked"], false, "{look}");
    assert_eq!(look["blocked"], "0000000000000000", "{look}");
    assert_eq!(look["umask"], "0027", "{look}");

    // What a helper sees is what is left: what was inherited, and nothing of ours.
    let root = Root::with(
        &[("makelists", &guests::response("makelists"))],
        "ossec",
        "record",
    );
    let seen = root.path().join("seen");
    let script = format!("env > {0}; ls -l /proc/self/fd >> {0}", seen.display());
    root.grant(&format!(
        "[response.makelists]\nhostname = true\nprocess.makelists = {{ argv = [\"/bin/sh\", \"-c\", \"{script}\"] }}\n"
    ));
    let mut execd = Execd::start(root.path());
    let told = execd.ossec("makelists", &[ATTACKER.to_owned()], 0);
    assert_eq!(told[0]["status"], 0, "{}", root.log());
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(
        !seen.contains("hunter2") && !seen.contains("attacker"),
        "{seen}"
    );
    for ours in [
        "socket:",
        "journal",
        "active-response",
        "cache",
        "eventfd",
        "pipe:",
    ] {
        assert!(!seen.contains(ours), "{ours}: {seen}");
    }
}

/// A lock that somebody else keeps: what can be undone by the kernel alone would be
/// done, the record backend can't, and in any case the answer comes in time.
#[test]
fn locks_that_others_hold_delay_nothing_beyond_the_wall() {
    let root = Root::firewall_drop("ossec");
    root.wall("1 s");
    let mut execd = Execd::start(root.path());
    // So that the journal exists.
    execd.ossec("firewall-drop", &["203.0.113.1".to_owned()], 0);
    for script in [keeper::LOCK, keeper::JOURNAL] {
        let keeper = Keeper::of(&root, script);
        let started = Instant::now();
        let told = execd.ossec("firewall-drop", &["203.0.113.2".to_owned()], 0);
        assert!(
            started.elapsed() < Duration::from_secs(1) + GRACE,
            "{told:?}"
        );
        assert_ne!(told[0]["status"], 0, "{}", root.log());
        let last = root.outcomes().pop().unwrap();
        assert!(last.contains("locked for longer than"), "{last}");
        drop(keeper);
        assert_eq!(root.blocked(), ["203.0.113.1"]);
    }
}

#[test]
fn a_guest_that_hangs_ends_at_the_wall_through_the_link_too() {
    let components = [
        ("clock", guests::wasip2("clock")),
        ("firewall-drop", guests::response("firewall-drop")),
    ];
    let components: Vec<(&str, &[u8])> =
        components.iter().map(|(n, b)| (*n, b.as_slice())).collect();
    let root = Root::with(&components, "ossec", "record");
    root.grant("[firewall]\nbackend = \"record\"\n[response.clock]\nlimits = { wall = \"1 s\" }\n[response.firewall-drop]\nfirewall = {}\nexpect = [\"srcip\"]\n");
    root.ossec_conf(
        "<command><name>clock</name><executable>clock</executable><expect>srcip</expect></command>",
    );
    let started = Instant::now();
    let status = std::process::Command::new(root.bin("clock"))
        .args(["add", "-", ATTACKER, "1.1", "5712", "wait", "-"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1), "{}", root.log());
    assert!(
        started.elapsed() < Duration::from_secs(1) + GRACE,
        "{:?}",
        started.elapsed()
    );
}

/// A helper that outlives the call is started, or the call says that it was not.
#[test]
fn a_detached_helper_that_can_t_start_is_not_called_started() {
    let root = Root::with(
        &[("restart-ossec", &guests::response("restart-ossec"))],
        "ossec",
        "record",
    );
    let control = root.path().join("bin/ossec-control");
    let write = |text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let _ = std::fs::remove_file(&control);
        std::fs::write(&control, text).unwrap();
        std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let seen = root.path().join("seen");
    write(&format!(
        "#!/bin/sh\nsleep 0.5\necho \"$@\" > {}\n",
        seen.display()
    ));
    let started = Instant::now();
    assert_eq!(root.call("restart-ossec", "add", "-"), 0, "{}", root.log());
    assert!(
        started.elapsed() < Duration::from_millis(450),
        "it is not waited for"
    );
    let done = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        std::fs::read_to_string(&seen).is_ok_and(|text| text == "restart\n")
    });
    assert!(done, "it goes on by itself");
    for broken in ["#!/nonexistent/sh\n", "\u{1}garbage"] {
        write(broken);
        assert_eq!(root.call("restart-ossec", "add", "-"), 1, "{broken:?}");
        let last = root.outcomes().pop().unwrap();
        assert!(last.contains("can't start"), "{last}");
    }
}

#[test]
fn the_root_is_found_from_argv_0_whatever_the_working_directory() {
    use std::os::unix::process::CommandExt as _;
    let root = Root::firewall_drop("ossec");
    let call = |argv0: &str, cwd: &std::path::Path, address: &str| {
        let status = std::process::Command::new(root.bin("firewall-drop"))
            .arg0(argv0)
            .args(["add", "-", address, "1.1", "5712", "x", "-"])
            .current_dir(cwd)
            .status()
            .unwrap();
        status.code().unwrap()
    };
    let absolute = root.bin("firewall-drop");
    let bin = root.path().join("active-response/bin");
    let slash = std::path::Path::new("/");
    assert_eq!(call(absolute.to_str().unwrap(), slash, "203.0.113.1"), 0);
    assert_eq!(
        call(
            "active-response/bin/firewall-drop",
            root.path(),
            "203.0.113.2"
        ),
        0
    );
    assert_eq!(call("./firewall-drop", &bin, "203.0.113.3"), 0);
    assert_eq!(call("../bin/firewall-drop", &bin, "203.0.113.4"), 0);
    assert_eq!(root.blocked().len(), 4, "{}", root.log());
    // Without a folder, or from another place: nothing is done.
    assert_eq!(call("firewall-drop", slash, "203.0.113.5"), 1);
    assert_eq!(call("/usr/bin/firewall-drop", slash, "203.0.113.5"), 1);
    assert_eq!(
        call("active-response/bin/firewall-drop", slash, "203.0.113.5"),
        1
    );
    assert_eq!(root.blocked().len(), 4);
}

#[test]
fn the_exit_status_says_whether_it_was_done() {
    let root = Root::firewall_drop("ossec");
    let mut execd = Execd::start(root.path());
    // OSSEC's 1: refused, not an address, an unknown executable, an unknown action.
    for address in ["127.0.0.1", "not-an-address", "-", ""] {
        let told = execd.ossec("firewall-drop", &[address.to_owned()], 0);
        assert_eq!(told[0]["status"], 1, "{address}: {}", root.log());
    }
    // Wazuh's 255.
    for address in ["127.0.0.1", "not-an-address", ""] {
        let told = execd.wazuh("firewall-drop", &execd::alert(address), &json!({}));
        assert_eq!(told["status"], 255, "{address}: {}", root.log());
    }
    let told = execd.wazuh("firewall-drop", &json!({"command": "add"}), &json!({}));
    assert_eq!(told["status"], 255);
    assert!(root.blocked().is_empty());
    // A delete of what is not held is done: there is nothing to take back.
    let code = root.call("firewall-drop", "delete", ATTACKER);
    assert_eq!(code, 0, "{}", root.log());
}
