//! A daemon, killed between its first order and its last undo.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use retort::journal::Now;

use crate::found::{Found, decided, settled};
use crate::support::daemon::{Daemon, until};
use crate::support::inject::{self, Point};
use crate::support::root::{RETORT, Root};
use crate::{apart, order, root, side_by_side};

/// Blocked before anything else, for ten minutes.
const STANDS: &str = "203.0.113.1";
/// Blocked for ten minutes, and once more while that stands: for half an hour.
const AGAIN: &str = "203.0.113.2";
/// Blocked for a second.
const DUE: &str = "203.0.113.3";

/// What is due is gone after that, even where the daemon has to be started first.
const SOON: Duration = Duration::from_secs(1);

/// Sends orders and waits for each; false as soon as the daemon is dead.
fn survives(daemon: &mut Daemon, root: &Root, orders: &[(&str, &str)]) -> bool {
    for (name, address) in orders {
        let before = root.outcomes().len();
        if daemon.try_send(&order(name, address)).is_err() {
            return false;
        }
        let answered = || root.outcomes().len() > before;
        while !answered() {
            if !daemon.lives() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    true
}

/// Block, extend and, after a second, release; whether the daemon survives that.
fn survives_the_sequence(daemon: &mut Daemon, root: &Root) -> bool {
    let orders = [("drop600", AGAIN), ("drop1", DUE), ("drop600", AGAIN)];
    if !survives(daemon, root, &orders) {
        return false;
    }
    let undone = || root.log().contains("firewall-drop delete: ");
    while daemon.lives() && !undone() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // The last note of it comes after the line.
    std::thread::sleep(Duration::from_millis(100));
    daemon.lives()
}

/// Starts the daemon, to be killed before it does `at`.
fn traced(root: &Root, trace: &Path, at: Option<&Point>) -> Daemon {
    let mut program = inject::traced(trace, at);
    program.arg(RETORT);
    Daemon::start(root, program, "queue/alerts/execq")
}

/// What the daemon changes during the sequence, in order.
fn points(root: &Root) -> Vec<Point> {
    let trace = root.path().join("trace");
    let mut daemon = traced(root, &trace, None);
    assert!(survives(&mut daemon, root, &[("drop600", STANDS)]));
    let before = inject::changes(&trace).len();
    assert!(survives_the_sequence(&mut daemon, root), "{}", root.log());
    let mut changes = inject::changes(&trace);
    changes.split_off(before)
}

/// What the log says is done, and for how long.
fn acknowledged(root: &Root) -> BTreeMap<String, Duration> {
    let mut told = BTreeMap::new();
    for line in root.outcomes() {
        let Some((_, block)) = line.split_once("; block ") else {
            continue;
        };
        let (address, rest) = block.split_once("/32: ").unwrap();
        let (_, lasts) = rest.split_once(", for ").unwrap();
        let lasts = lasts.split(' ').next().unwrap();
        told.insert(
            address.to_owned(),
            humantime::parse_duration(lasts).unwrap(),
        );
    }
    told
}

/// Kills a daemon there; whether it came that far.
fn dies_at(at: &Point) -> bool {
    let root = root();
    let mut daemon = traced(&root, &root.path().join("trace"), Some(at));
    assert!(survives(&mut daemon, &root, &[("drop600", STANDS)]));
    let survived = survives_the_sequence(&mut daemon, &root);
    drop(daemon);
    let dead = Found::at(&root);
    dead.has_a_record_of_each_effect().unwrap();
    for (address, lasts) in acknowledged(&root) {
        let over = dead
            .pending(&address)
            .is_none_or(|p| p.left(&dead.now).is_zero());
        let hold = dead.hold(&address);
        assert!(
            (over && address == DUE) || hold.is_some_and(|hold| hold.lasts >= lasts),
            "{address} is told to be blocked for {lasts:?}: {hold:?}\n{}",
            root.log()
        );
    }
    let daemon = Daemon::execd(&root);
    keeps_the_deadline(&root, &dead);
    let found = settled(&root);
    for address in [STANDS, AGAIN] {
        let due = |found: &Found| {
            found
                .pending(address)
                .map(|p| found.now.boot + p.left(&found.now))
        };
        let (then, now) = (due(&dead), due(&found));
        let kept = match (then, now) {
            (Some(then), Some(now)) => then.abs_diff(now) < Duration::from_millis(10),
            (then, now) => then.is_none() && now.is_none(),
        };
        assert!(
            kept,
            "{address}: due {then:?}, then {now:?}\n{}",
            root.log()
        );
    }
    let found = decided(&root);
    assert!(found.blocks(STANDS), "{}", root.log());
    // Whoever comes again is blocked again, however far the first time went.
    let mut daemon = daemon;
    assert!(survives(
        &mut daemon,
        &root,
        &[("drop600", AGAIN), ("drop600", DUE)]
    ));
    let found = settled(&root);
    for address in [STANDS, AGAIN, DUE] {
        assert!(
            found.blocks(address) && found.pending(address).is_some(),
            "{address}\n{}",
            root.log()
        );
    }
    !survived
}

/// What is due goes when it is due, and not before.
fn keeps_the_deadline(root: &Root, dead: &Found) {
    let Some(pending) = dead.pending(DUE) else {
        return;
    };
    let left = pending.left(&dead.now);
    let late = Now::read().unwrap().boot.saturating_sub(dead.now.boot);
    let due = Instant::now() + left.saturating_sub(late);
    let stands = dead.blocks(DUE) && !pending.undoing;
    while Instant::now() + Duration::from_millis(20) < due {
        let found = Found::at(root);
        let still = found.now.boot < dead.now.boot + left;
        assert!(
            !stands || !still || found.blocks(DUE),
            "{left:?} early\n{}",
            root.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let gone = || {
        let found = Found::at(root);
        found.pending(DUE).is_none() && found.hold(DUE).is_none() && !found.blocks(DUE)
    };
    assert!(until(SOON, gone), "{DUE} is over\n{}", root.log());
}

#[test]
fn a_daemon_that_is_killed_at_any_write_or_call_keeps_what_it_held_and_undoes_what_is_due() {
    let points = apart(|| points(&root()));
    let of = |call: &str| points.iter().filter(|point| point.call == call).count();
    println!(
        "{} points: {} pwrite64, {} fsync, {} sendto",
        points.len(),
        of("pwrite64"),
        of("fsync"),
        of("sendto")
    );
    assert!(
        of("pwrite64") > 50 && of("fsync") > 3 && of("sendto") > 20,
        "{points:?}"
    );
    let missed = AtomicUsize::new(0);
    side_by_side(&points, |at| {
        if !dies_at(at) {
            missed.fetch_add(1, Ordering::Relaxed);
            println!("not reached: {at:?}");
        }
    });
    assert!(missed.into_inner() < 10);
}
