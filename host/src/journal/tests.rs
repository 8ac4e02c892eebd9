use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::*;

const BUSY: Duration = Duration::from_secs(2);

struct Desk {
    dir: TempDir,
    journal: Journal,
}

fn desk() -> Desk {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(&dir.path().join("journal.db"), BUSY).unwrap();
    Desk { dir, journal }
}

fn at(seconds: u64) -> Now {
    Now {
        boot_id: "this boot".into(),
        boot: Duration::from_secs(seconds),
        wall: Duration::from_secs(1_000_000 + seconds),
    }
}

fn invocation(response: &str, key: &str) -> Invocation {
    Invocation {
        response: response.into(),
        digest: "d".repeat(64),
        dialect: Dialect::Ossec,
        event: serde_json::from_str(r#"{"action": "add"}"#).unwrap(),
        key: key.into(),
        origin: String::new(),
        owner: None,
        dry_run: false,
    }
}

fn intent(address: &str, seconds: u64) -> Intent {
    Intent {
        address: address.parse().unwrap(),
        backend: "record".into(),
        lasts: Duration::from_secs(seconds),
        orphan_lasts: None,
    }
}

/// A block of `response` on `address`, carried out.
fn block(
    journal: &mut Journal,
    now: &Now,
    response: &str,
    address: &str,
    seconds: u64,
) -> Intended {
    let run = journal.begin(now, &invocation(response, address)).unwrap();
    let intended = journal
        .intend(now, Run::Known(run), &intent(address, seconds))
        .unwrap();
    journal
        .done(intended.hold, Some(Duration::from_secs(seconds)))
        .unwrap();
    intended
}

fn left(journal: &Journal, now: &Now) -> Vec<u64> {
    let holds = journal.open_holds().unwrap();
    holds.iter().map(|hold| hold.left(now).as_secs()).collect()
}

#[test]
fn a_hold_is_written_before_it_is_done_and_open_until_it_is_gone() {
    let mut desk = desk();
    let journal = &mut desk.journal;
    let run = journal.begin(&at(0), &invocation("drop", "k")).unwrap();
    assert!(journal.open_holds().unwrap().is_empty());
    let intended = journal
        .intend(&at(0), Run::Known(run), &intent("192.0.2.1", 60))
        .unwrap();
    let state = |journal: &Journal| journal.open_holds().unwrap()[0].state;
    assert_eq!((intended.renewed, state(journal)), (false, State::Intended));
    journal.done(intended.hold, None).unwrap();
    assert_eq!(state(journal), State::Done);
    journal.releasing(intended.hold).unwrap();
    assert_eq!(state(journal), State::Releasing);
    journal.released(&at(9), intended.hold, "test").unwrap();
    assert!(journal.open_holds().unwrap().is_empty());
    let past = journal.history(10).unwrap();
    assert!(
        matches!(&past[0].effects[..], [Effected::Hold { how: Some(how), .. }] if how == "released: test"),
        "{past:?}"
    );
    assert_eq!(past[0].verdict, None, "the run was cut off");
}

#[test]
fn the_same_claim_is_the_same_hold_with_a_new_deadline() {
    let mut desk = desk();
    let first = block(&mut desk.journal, &at(0), "drop", "192.0.2.1", 60);
    let again = block(&mut desk.journal, &at(50), "drop", "192.0.2.1", 60);
    assert_eq!((again.hold, again.renewed), (first.hold, true));
    assert_eq!(left(&desk.journal, &at(60)), [50]);
}

#[test]
fn a_renewal_that_fails_leaves_the_hold_as_it_was() {
    let mut desk = desk();
    let first = block(&mut desk.journal, &at(0), "drop", "192.0.2.1", 60);
    let run = desk
        .journal
        .begin(&at(50), &invocation("drop", "192.0.2.1"))
        .unwrap();
    desk.journal
        .intend(&at(50), Run::Known(run), &intent("192.0.2.1", 60))
        .unwrap();
    assert_eq!(left(&desk.journal, &at(50)), [60]);
    desk.journal
        .failed(&at(50), first.hold, "the kernel is away")
        .unwrap();
    assert_eq!(left(&desk.journal, &at(50)), [10]);
    assert_eq!(desk.journal.open_holds().unwrap()[0].state, State::Done);
}

#[test]
fn a_block_that_fails_is_no_hold() {
    let mut desk = desk();
    let run = desk
        .journal
        .begin(&at(0), &invocation("drop", "k"))
        .unwrap();
    let intended = desk
        .journal
        .intend(&at(0), Run::Known(run), &intent("192.0.2.1", 60))
        .unwrap();
    desk.journal
        .failed(&at(0), intended.hold, "the kernel is away")
        .unwrap();
    assert!(desk.journal.open_holds().unwrap().is_empty());
}

#[test]
fn two_responses_hold_one_address_each_for_itself() {
    let mut desk = desk();
    let one = block(&mut desk.journal, &at(0), "one", "192.0.2.1", 60);
    let two = block(&mut desk.journal, &at(0), "two", "192.0.2.1", 600);
    assert_ne!(one.hold, two.hold);
    let address = "192.0.2.1".parse().unwrap();
    assert_eq!(desk.journal.holds_on(address, "record").unwrap().len(), 2);
    assert!(
        desk.journal
            .holds_on(address, "nftables")
            .unwrap()
            .is_empty()
    );
    desk.journal.released(&at(1), two.hold, "test").unwrap();
    let rest = desk.journal.holds_on(address, "record").unwrap();
    assert_eq!(
        rest.iter().map(|hold| hold.id).collect::<Vec<_>>(),
        [one.hold]
    );
    assert_eq!(
        desk.journal.holds_of("one", "192.0.2.1", "").unwrap().len(),
        1
    );
    assert!(
        desk.journal
            .holds_of("one", "192.0.2.2", "")
            .unwrap()
            .is_empty()
    );
}

#[test]
fn an_abort_restarts_every_deadline_of_its_block() {
    let mut desk = desk();
    block(&mut desk.journal, &at(0), "drop", "192.0.2.1", 60);
    block(&mut desk.journal, &at(0), "drop", "192.0.2.2", 60);
    let renewed = desk
        .journal
        .renew(&at(30), "drop", "192.0.2.1", Duration::from_secs(90))
        .unwrap();
    assert_eq!(renewed.len(), 1);
    assert_eq!(left(&desk.journal, &at(30)), [90, 30]);
}

#[test]
fn no_clock_frees_an_attacker_or_keeps_a_block() {
    let mut desk = desk();
    block(&mut desk.journal, &at(100), "drop", "192.0.2.1", 60);
    let left = |boot_id: &str, boot: u64, wall: u64| {
        let now = Now {
            boot_id: boot_id.into(),
            boot: Duration::from_secs(boot),
            wall: Duration::from_secs(wall),
        };
        left(&desk.journal, &now)[0]
    };
    // Within the boot the wall clock may say what it likes.
    for wall in [0, 1_000_130, u64::from(u32::MAX)] {
        assert_eq!(left("this boot", 130, wall), 30, "{wall}");
    }
    assert_eq!(
        left("this boot", 99, 1_000_100),
        60,
        "never more than it began with"
    );
    assert_eq!(left("this boot", 161, 1_000_100), 0);
    // After a reboot the wall clock counts, and 1970 keeps what was left at most.
    for (wall, expected) in [(1_000_130, 30), (0, 60), (1_000_099, 60), (1_000_161, 0)] {
        assert_eq!(left("the next", 5, wall), expected, "{wall}");
    }
}

#[test]
fn what_may_be_due_is_found_and_nothing_else() {
    let mut desk = desk();
    block(&mut desk.journal, &at(0), "long", "192.0.2.1", 600);
    let short = block(&mut desk.journal, &at(0), "short", "192.0.2.2", 10);
    let run = desk
        .journal
        .begin(&at(0), &invocation("half", "k"))
        .unwrap();
    let half = desk
        .journal
        .intend(&at(0), Run::Known(run), &intent("192.0.2.3", 600))
        .unwrap();
    let run = desk
        .journal
        .begin(&at(0), &invocation("orphan", "k"))
        .unwrap();
    let orphan = Intent {
        orphan_lasts: Some(Duration::from_secs(20)),
        ..intent("192.0.2.4", 600)
    };
    let orphan = desk
        .journal
        .intend(&at(0), Run::Known(run), &orphan)
        .unwrap();
    desk.journal.done(orphan.hold, None).unwrap();

    let due = |now: &Now, limit: u32| -> Vec<i64> {
        let holds = desk.journal.maybe_due(now, limit).unwrap();
        holds.iter().map(|hold| hold.id).collect()
    };
    assert_eq!(due(&at(9), 9), [half.hold]);
    assert_eq!(due(&at(11), 9), [short.hold, half.hold]);
    assert_eq!(due(&at(21), 9), [short.hold, half.hold, orphan.hold]);
    assert_eq!(due(&at(21), 2).len(), 2);
    let rebooted = Now {
        boot_id: "the next".into(),
        ..at(0)
    };
    assert_eq!(due(&rebooted, 9).len(), 4);
}

#[test]
fn budgets_count_new_blocks_of_the_last_minute() {
    let mut desk = desk();
    let minute = Duration::from_secs(60);
    for (second, response, address) in [
        (0, "one", "192.0.2.1"),
        (50, "one", "192.0.2.2"),
        (55, "one", "192.0.2.2"),
        (59, "two", "192.0.2.3"),
    ] {
        block(&mut desk.journal, &at(second), response, address, 600);
    }
    let count = |second, response| {
        desk.journal
            .recent_blocks(&at(second), response, minute)
            .unwrap()
    };
    assert_eq!(
        (count(59, Some("one")), count(59, None)),
        (2, 3),
        "a renewal is no new block"
    );
    assert_eq!((count(61, Some("one")), count(61, None)), (1, 2));
    assert_eq!(count(200, None), 0);
}

#[test]
fn the_history_forgets_but_never_what_stands() {
    let mut desk = desk();
    block(&mut desk.journal, &at(0), "stands", "192.0.2.1", 600);
    let gone = block(&mut desk.journal, &at(0), "gone", "192.0.2.2", 600);
    desk.journal.released(&at(1), gone.hold, "test").unwrap();
    // As if a hundred thousand runs had been since.
    desk.journal
        .connection
        .execute(
            "UPDATE sqlite_sequence SET seq = 200000 WHERE name = 'run'",
            [],
        )
        .unwrap();
    let run = desk.journal.begin(&at(2), &invocation("new", "k")).unwrap();
    desk.journal
        .finish(&at(2), run, "ok", &serde_json::Value::Null)
        .unwrap();
    let past = desk.journal.history(10).unwrap();
    let names: Vec<&str> = past.iter().map(|run| run.response.as_str()).collect();
    assert_eq!(names, ["new", "stands"]);
    assert_eq!(desk.journal.open_holds().unwrap().len(), 1);
}

#[test]
fn names_keep_what_they_stood_for() {
    let mut desk = desk();
    let addresses = |journal: &Journal| journal.addresses_of("manager").unwrap();
    assert!(addresses(&desk.journal).is_empty());
    for now in [
        vec!["192.0.2.1".parse().unwrap()],
        vec!["2001:db8::1".parse().unwrap()],
    ] {
        desk.journal.remember_name(&at(0), "manager", &now).unwrap();
        assert_eq!(addresses(&desk.journal), now);
    }
}

#[test]
fn what_is_no_journal_is_named_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("journal.db");
    let open = || Journal::open(&path, BUSY).map(drop);

    std::fs::write(
        &path,
        "this was never a database, it is a text of some length\n".repeat(40),
    )
    .unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(open(), Err(Error::Corrupt { .. })), "{:?}", open());
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(open(), Err(Error::Corrupt { .. })), "{:?}", open());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(open(), Err(Error::Corrupt { .. })), "{:?}", open());
    std::fs::remove_dir(&path).unwrap();

    open().unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(raw);
    assert!(
        matches!(open(), Err(Error::Newer { found: 99, .. })),
        "{:?}",
        open()
    );
}

#[test]
fn it_is_roots_alone_from_its_first_byte() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = desk();
    for file in std::fs::read_dir(desk.dir.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file:?}: {mode:o}");
    }
}

#[test]
fn a_lock_is_waited_for_as_long_as_the_budget_and_no_longer() {
    let desk = desk();
    let path = desk.dir.path().join("journal.db");
    let holder = rusqlite::Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let budget = Duration::from_millis(200);
    let mut waiting = Journal::open(&path, budget).unwrap();
    let started = Instant::now();
    let answer = waiting.begin(&at(0), &invocation("drop", "k"));
    assert!(matches!(answer, Err(Error::Busy { .. })), "{answer:?}");
    assert!(
        (budget..budget * 3).contains(&started.elapsed()),
        "{:?}",
        started.elapsed()
    );

    let file = desk.dir.path().join("lock");
    let held = lock(&file, budget).unwrap();
    let started = Instant::now();
    assert!(matches!(lock(&file, budget), Err(Error::Busy { .. })));
    assert!(
        (budget..budget * 3).contains(&started.elapsed()),
        "{:?}",
        started.elapsed()
    );
    drop(held);
    lock(&file, budget).unwrap();
}

#[test]
fn many_write_at_once_and_none_is_lost() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("journal.db");
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let path = &path;
            scope.spawn(move || {
                for n in 0..10 {
                    // Each opens it anew, as each drop-in does.
                    let mut journal = Journal::open(path, Duration::from_secs(30)).unwrap();
                    block(
                        &mut journal,
                        &at(0),
                        "drop",
                        &format!("192.0.{thread}.{n}"),
                        600,
                    );
                }
            });
        }
    });
    let journal = Journal::open(&path, BUSY).unwrap();
    assert_eq!(journal.open_holds().unwrap().len(), 160);
}

/// A file system of `kib` KiB, gone with the test.
struct Tiny(TempDir);

impl Tiny {
    fn new(kib: u32) -> Self {
        let tiny = Self(TempDir::new().unwrap());
        tiny.mount(&format!("size={kib}k"));
        tiny
    }

    fn mount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(self.0.path())
            .status()
            .unwrap();
        assert!(
            status.success(),
            "mount {options} (these tests run as root)"
        );
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_and_a_read_only_one_are_told_apart_and_lose_nothing() {
    let tiny = Tiny::new(512);
    let path = tiny.0.path().join("journal.db");
    let mut journal = Journal::open(&path, BUSY).unwrap();
    block(&mut journal, &at(0), "drop", "192.0.2.1", 600);
    // The rest of the disk is taken, and more is written until none is left.
    let rest = std::fs::write(tiny.0.path().join("rest"), vec![0; 1 << 20]);
    assert_eq!(rest.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let mut written = 1;
    let full = loop {
        let run = journal.begin(&at(0), &invocation("drop", &format!("k{written}")));
        let run = match run {
            Ok(run) => run,
            Err(error) => break error,
        };
        match journal.intend(
            &at(0),
            Run::Known(run),
            &intent(&format!("192.0.3.{written}"), 600),
        ) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 250, "the disk is never full");
    };
    assert!(matches!(full, Error::Full { .. }), "{full:?}");
    assert_eq!(journal.open_holds().unwrap().len(), written);
    std::fs::remove_file(tiny.0.path().join("rest")).unwrap();
    block(&mut journal, &at(1), "drop", "192.0.2.9", 600);
    drop(journal);

    tiny.mount("remount,ro");
    let refused = Journal::open(&path, BUSY)
        .and_then(|mut journal| journal.begin(&at(0), &invocation("drop", "k")).map(drop));
    assert!(
        matches!(refused, Err(Error::ReadOnly { .. })),
        "{refused:?}"
    );
}

const DIES: &str = "RETORT_TEST_JOURNAL_OF_THE_DYING";

/// Blocks one address after another and says so after each durable step, until it is
/// killed.
fn write_until_killed(path: &Path) {
    let mut journal = Journal::open(path, BUSY).unwrap();
    for n in 0_u32.. {
        let address = format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255);
        let run = journal
            .begin(&at(0), &invocation("drop", &address))
            .unwrap();
        let hold = journal
            .intend(&at(0), Run::Known(run), &intent(&address, 600))
            .unwrap()
            .hold;
        println!("\nintended {address}");
        journal.done(hold, None).unwrap();
        println!("\ndone {address}");
        if n % 3 == 0 {
            journal.releasing(hold).unwrap();
            println!("\nreleasing {address}");
            journal.released(&at(0), hold, "test").unwrap();
            println!("\nreleased {address}");
        }
    }
}

#[test]
fn what_a_killed_process_had_written_is_there() {
    // This test starts itself once more, as the process that is killed.
    if let Some(path) = std::env::var_os(DIES) {
        write_until_killed(Path::new(&path));
    }
    for round in 0..8_u64 {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("journal.db");
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "journal::tests::what_a_killed_process_had_written_is_there",
                "--nocapture",
            ])
            .env(DIES, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Long enough for it to begin; a different moment each time.
        std::thread::sleep(Duration::from_millis(60 + 7 * round));
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(9));

        let journal = Journal::open(&path, BUSY).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut told = std::collections::BTreeMap::new();
        // The last line may be cut; it was not heard, then.
        let heard = text.rsplit_once('\n').map_or("", |(heard, _)| heard);
        for (step, address) in heard.lines().filter_map(|line| line.split_once(' ')) {
            let rank = ["intended", "done", "releasing", "released"]
                .iter()
                .position(|s| *s == step);
            if let Some(rank) = rank {
                told.insert(address.to_owned(), rank);
            }
        }
        assert!(!told.is_empty(), "it never began: {text}");
        let open: std::collections::BTreeMap<String, usize> = journal
            .open_holds()
            .unwrap()
            .iter()
            .map(|hold| (hold.address.to_string(), hold.state as usize))
            .collect();
        for (address, rank) in &told {
            let found = open.get(address).copied();
            // It may be one step further than it was heard to be, never behind.
            let fits = match found {
                Some(state) => state == *rank || state == rank + 1,
                None => *rank >= 2,
            };
            assert!(fits, "{address}: told {rank}, found {found:?}");
        }
        assert!(open.len() <= told.len() + 1, "holds that nobody asked for");
    }
}

#[test]
fn an_owner_is_a_process_and_not_its_number() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let owner = Owner::of(child.id().try_into().unwrap()).unwrap();
    assert!(owner.alive());
    let later = Owner {
        start_time: owner.start_time + 1,
        ..owner.clone()
    };
    assert!(!later.alive(), "another process of that number");
    let before = Owner {
        boot_id: "another".into(),
        ..owner.clone()
    };
    assert!(!before.alive(), "of another boot");
    child.kill().unwrap();
    let gone = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        !owner.alive()
    });
    assert!(gone, "a zombie sends no delete");
    child.wait().unwrap();
    assert!(!owner.alive());
    assert_eq!(Owner::of(owner.pid), None);
}
