//! Full disks, locks that others keep, files that are none, writers that are killed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;

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
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("PRAGMA user_version = 1").unwrap();
    drop(raw);
    let error = open().unwrap_err();
    assert!(matches!(error, Error::Older { found: 1, .. }), "{error:?}");
    assert!(
        error.to_string().contains("move it away with `mv "),
        "{error}"
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

    // Whoever waited in vain does not wait as long again, until it was free once.
    let started = Instant::now();
    let again = waiting.begin(&at(0), &invocation("drop", "k"));
    assert!(matches!(again, Err(Error::Busy { .. })), "{again:?}");
    assert!(started.elapsed() < budget, "{:?}", started.elapsed());
    holder.execute_batch("ROLLBACK").unwrap();
    waiting.begin(&at(0), &invocation("drop", "k")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let started = Instant::now();
    let later = waiting.begin(&at(0), &invocation("drop", "k"));
    assert!(matches!(later, Err(Error::Busy { .. })), "{later:?}");
    assert!(started.elapsed() >= budget, "{:?}", started.elapsed());
}

#[test]
fn the_latch_is_waited_for_once_and_by_one() {
    let desk = desk();
    let file = desk.dir.path().join("lock");
    let budget = Duration::from_millis(200);
    let (mut holder, mut latch) = (Latch::new(file.clone()), Latch::new(file));
    for round in 0..3 {
        let held = holder.take(budget).unwrap();
        let started = Instant::now();
        assert!(matches!(latch.take(budget), Err(Error::Busy { .. })));
        assert!(
            (budget..budget * 3).contains(&started.elapsed()),
            "{round}: {:?}",
            started.elapsed()
        );
        let started = Instant::now();
        for _ in 0..5 {
            assert!(matches!(latch.take(budget), Err(Error::Busy { .. })));
        }
        assert!(started.elapsed() < budget, "{:?}", started.elapsed());
        let waiting = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter(|task| {
                let name = task.as_ref().unwrap().path().join("comm");
                std::fs::read_to_string(name).is_ok_and(|name| name.trim() == "lock")
            });
        assert!(waiting.count() <= 1, "one waits for all");
        drop(held);
        drop(latch.take(budget).unwrap());
        // What the one that waited gets when nobody listens is given back.
        drop(holder.take(budget).unwrap());
    }
    // In the order of those who wait: it is handed over as soon as it is free.
    let held = holder.take(budget).unwrap();
    let waits = std::thread::spawn(move || latch.take(Duration::from_secs(10)).map(drop));
    std::thread::sleep(Duration::from_millis(50));
    drop(held);
    waits.join().unwrap().unwrap();
}

#[test]
fn a_journal_whose_file_is_another_one_by_now_is_opened_again() {
    let mut desk = desk();
    let path = desk.dir.path().join("journal.db");
    block(&mut desk.journal, &at(0), "drop", "192.0.2.1", 600);
    assert!(!desk.journal.is_stale());
    std::fs::rename(&path, desk.dir.path().join("journal.db.broken")).unwrap();
    assert!(desk.journal.is_stale());
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
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "journal::tests::trouble::what_a_killed_process_had_written_is_there",
                "--nocapture",
            ])
            .env(DIES, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // From its beginning on; a different moment each time.
        let mut heard = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("\nintended") {
            assert_ne!(
                heard.read_line(&mut text).unwrap(),
                0,
                "it never began: {text}"
            );
        }
        std::thread::sleep(Duration::from_millis(7 * round));
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        heard.read_to_string(&mut text).unwrap();

        let journal = Journal::open(&path, BUSY).unwrap();
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
        let open: std::collections::BTreeMap<String, usize> = journal
            .open_holds()
            .unwrap()
            .iter()
            .map(|hold| (hold.network.addr().to_string(), hold.state as usize))
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
