//! Copies of a journal, taken while it was written, its log cut in the middle of a frame:
//! what a machine that lost its power finds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::found::{self, a_minute_passes, held, is_undecided};
use crate::support::daemon::{Daemon, until};
use crate::support::root::Root;
use crate::{component, order, side_by_side};

/// Comes when the copy is in use.
const AFTERWARDS: &str = "203.0.113.254";

const FILES: [&str; 4] = ["journal.db", "journal.db-wal", "journal.db-shm", "owed"];

/// A frame of SQLite's log: this, then a page.
const FRAME: usize = 24;
/// What the log begins with.
const HEADER: usize = 32;

fn host() -> Root {
    let root = Root::with(&[("firewall-drop", component())], "ossec", "record");
    root.ar_conf("drop1 - firewall-drop.sh - 1\ndrop600 - firewall-drop.sh - 600\n");
    root
}

/// One moment of a daemon at work.
struct Moment {
    dir: TempDir,
    /// What it had been asked to block by then, and for how long at most.
    asked: BTreeSet<String>,
    /// What it said is blocked, for long.
    acknowledged: BTreeSet<String>,
}

/// Where the log of a copy is cut.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Nowhere,
    /// Of the last frame so many bytes are there.
    After(usize),
}

#[derive(Debug)]
struct Copied<'a> {
    of: &'a Path,
    at: usize,
    cut: Cut,
    /// Whether SQLite's index of the log is copied, too.
    with_index: bool,
}

fn address(n: usize) -> String {
    format!("203.0.{}.{}", 113 + n / 250, 1 + n % 250)
}

/// Every fourth block is over after a second.
fn is_short(n: usize) -> bool {
    n % 4 == 3
}

/// Takes copies of the journal while the daemon does orders as fast as they come.
fn moments(root: &Root, count: usize) -> Vec<Moment> {
    let daemon = Daemon::execd(root);
    let mut sent = 0;
    let mut moments = Vec::new();
    while moments.len() < count {
        for _ in 0..20 + 5 * moments.len() {
            let name = if is_short(sent) { "drop1" } else { "drop600" };
            daemon.send(&order(name, &address(sent)));
            sent += 1;
        }
        // A different moment of its work each time.
        std::thread::sleep(Duration::from_millis(11 * (moments.len() as u64 % 7)));
        moments.push(moment(root, &daemon, sent));
    }
    moments
}

fn moment(root: &Root, daemon: &Daemon, sent: usize) -> Moment {
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    assert!(until(Duration::from_secs(5), || is_stopped(pid)));
    let dir = TempDir::new().unwrap();
    for file in FILES {
        let _ = std::fs::copy(root.path().join("retort").join(file), dir.path().join(file));
    }
    let acknowledged = root.outcomes();
    kill(pid, Signal::SIGCONT).unwrap();
    let acknowledged = acknowledged.iter().filter_map(|line| {
        let (_, block) = line.split_once("add: ok; block ")?;
        Some(block.split_once("/32: done")?.0.to_owned())
    });
    let long: BTreeSet<String> = (0..sent).filter(|n| !is_short(*n)).map(address).collect();
    Moment {
        dir,
        asked: (0..sent).map(address).collect(),
        acknowledged: acknowledged
            .filter(|address| long.contains(address))
            .collect(),
    }
}

fn is_stopped(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let state = |thread: PathBuf| {
        let stat = std::fs::read_to_string(thread.join("stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.trim_start().to_owned()
    };
    threads
        .map(|thread| state(thread.unwrap().path()))
        .all(|state| state.starts_with('T'))
}

/// Where the last frame that counts begins: frames behind it are of the round before.
fn last_frame(log: &[u8]) -> Option<usize> {
    let word = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap()) as usize;
    let page = if log.len() < HEADER {
        return None;
    } else {
        word(8)
    };
    let frames = (HEADER..log.len()).step_by(FRAME + page);
    let whole = frames.take_while(|at| at + FRAME + page <= log.len());
    whole
        .take_while(|at| log[at + 8..at + 16] == log[16..24])
        .last()
}

/// A new installation with that journal.
fn restored(copied: &Copied<'_>) -> Root {
    let root = host();
    for file in FILES {
        if file.ends_with("-shm") && !copied.with_index {
            continue;
        }
        let into = root.path().join("retort").join(file);
        let _ = std::fs::remove_file(&into);
        let _ = std::fs::copy(copied.of.join(file), &into);
    }
    if let Cut::After(bytes) = copied.cut {
        let log = std::fs::read(copied.of.join("journal.db-wal")).unwrap();
        let at = last_frame(&log).unwrap();
        std::fs::write(
            root.path().join("retort/journal.db-wal"),
            &log[..at + bytes],
        )
        .unwrap();
    }
    root
}

/// Whether the last frame may be lost with the power: what was begun to be carried into
/// the database was on the disk before.
fn may_be_cut(copy: &Path) -> bool {
    let log = std::fs::read(copy.join("journal.db-wal")).unwrap();
    let Some(last) = last_frame(&log) else {
        return false;
    };
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let last = (last - HEADER) / (FRAME + page) + 1;
    let index = std::fs::read(copy.join("journal.db-shm")).unwrap();
    // SQLite's WalCkptInfo.nBackfillAttempted.
    let carried = u32::from_ne_bytes(index[128..132].try_into().unwrap()) as usize;
    last > carried
}

/// Starts a daemon on a copy: it has what was said to be done, and nothing besides what
/// was asked for; what is over by then is undone.
fn holds_what_was_done(copied: &Copied<'_>, moment: &Moment) {
    let root = restored(copied);
    let daemon = Daemon::execd(&root);
    // It is a journal like any other.
    daemon.send(&order("drop600", AFTERWARDS));
    assert!(
        until(Duration::from_secs(10), || found::held(&root)
            .contains(AFTERWARDS)),
        "{:?}",
        daemon.said()
    );
    let short: BTreeSet<String> = (0..moment.asked.len())
        .filter(|n| is_short(*n))
        .map(address)
        .collect();
    let undone = || held(&root).iter().all(|address| !short.contains(address));
    assert!(
        until(Duration::from_secs(10), undone),
        "{:?}\n{:?}",
        held(&root),
        daemon.said()
    );
    // What it had not noted as done is decided on, for those who were told so.
    a_minute_passes(&root);
    assert!(
        until(Duration::from_secs(10), || !is_undecided(&root)),
        "{:?}",
        daemon.said()
    );
    let held = held(&root);
    let lost: Vec<&String> = moment.acknowledged.difference(&held).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let asked = |address: &&String| moment.asked.contains(*address) || *address == AFTERWARDS;
    let invented: Vec<&String> = held.iter().filter(|address| !asked(address)).collect();
    assert!(invented.is_empty(), "invented: {invented:?}");
}

#[test]
fn a_copy_that_was_taken_while_the_journal_was_written_holds_what_was_done() {
    let root = host();
    let moments = moments(&root, 12);
    let most = moments.iter().map(|moment| moment.acknowledged.len()).max();
    assert!(most > Some(100), "{most:?}");
    let cuts = [
        Cut::Nowhere,
        Cut::After(0),
        Cut::After(13),
        Cut::After(FRAME + 1999),
        Cut::After(FRAME + 4095),
    ];
    let copies: Vec<Copied<'_>> = moments
        .iter()
        .enumerate()
        .flat_map(|(at, moment)| {
            let cuts = if may_be_cut(moment.dir.path()) {
                &cuts[..]
            } else {
                &cuts[..1]
            };
            cuts.iter().enumerate().map(move |(n, cut)| Copied {
                of: moment.dir.path(),
                at,
                cut: *cut,
                with_index: (at + n) % 2 == 0,
            })
        })
        .collect();
    println!("{} copies", copies.len());
    assert!(copies.len() > 30, "{copies:?}");
    side_by_side(&copies, |copied| {
        holds_what_was_done(copied, &moments[copied.at])
    });
}
