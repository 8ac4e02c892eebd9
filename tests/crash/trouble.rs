//! Under the daemon the journal can't be written: somebody keeps it, the disk is full or
//! takes nothing. Attackers are blocked, loudly and not for long; and as soon as it can be
//! written again everything is as it has to be, without anybody's help.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::found::{Found, settled};
use crate::support::daemon::{Daemon, until};
use crate::support::keeper::{self, Keeper};
use crate::support::root::Root;
use crate::support::tiny::Tiny;
use crate::{apart, component, configure, order, root};

/// Blocked before, for ten minutes.
const STANDS: &str = "203.0.113.1";
/// Blocked before, for a second.
const DUE: &str = "203.0.113.2";

/// A block without the journal lasts as long at most.
const LONGEST: Duration = Duration::from_secs(600);

/// Threads that a daemon may have: guests yield, and waiting takes one.
const THREADS: usize = 40;

/// Those who come while the journal can't be written.
fn crowd() -> Vec<String> {
    (10..40).map(|last| format!("203.0.113.{last}")).collect()
}

fn threads(daemon: &Daemon) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid()));
    tasks.unwrap().count()
}

/// What a daemon does before, in and after the trouble.
fn weathers<T>(root: &Root, trouble: impl FnOnce(&Daemon) -> T) {
    weathers_with(root, |daemon| {
        let trouble = trouble(&daemon);
        (daemon, trouble)
    });
}

/// As [`weathers`], where the trouble may be another daemon's.
fn weathers_with<T>(root: &Root, trouble: impl FnOnce(Daemon) -> (Daemon, T)) {
    let daemon = Daemon::execd(root);
    for (name, address) in [("drop600", STANDS), ("drop1", DUE)] {
        daemon.send(&order(name, address));
        assert!(until(Duration::from_secs(10), || Found::at(root).blocks(address)));
    }
    let (daemon, trouble) = trouble(daemon);
    let over = || !Found::at(root).blocks(DUE);
    assert!(
        until(Duration::from_secs(3), over),
        "the kernel lets go by itself"
    );
    for address in crowd() {
        daemon.send(&order("drop600", &address));
    }
    daemon.send(&order("drop600", STANDS));
    let all_are_blocked = || {
        let found = Found::at(root);
        crowd().iter().all(|address| found.blocks(address))
    };
    assert!(
        until(Duration::from_secs(12), all_are_blocked),
        "{}\n{:?}",
        root.log(),
        daemon.said()
    );
    std::thread::sleep(Duration::from_secs(2));
    assert!(threads(&daemon) < THREADS, "{}", threads(&daemon));
    let found = Found::at(root);
    assert!(found.blocks(STANDS));
    for address in &found.unjournaled {
        assert!(found.kernel[address] <= LONGEST);
    }
    // Where the log is on the full disk, too, the daemon says it.
    let told = [root.outcomes(), daemon.said()].concat();
    let loud = told
        .iter()
        .filter(|line| line.contains("without the journal"))
        .count();
    assert!(
        !found.unjournaled.is_empty() && loud >= found.unjournaled.len(),
        "{loud}\n{}",
        root.log()
    );
    drop(trouble);
    let undone = || {
        let found = Found::at(root);
        found.pending(DUE).is_none() && found.hold(DUE).is_none()
    };
    assert!(
        until(Duration::from_secs(5), undone),
        "{}\n{:?}",
        root.log(),
        daemon.said()
    );
    assert!(
        root.log().contains("firewall-drop delete: ok"),
        "{}",
        root.log()
    );
    let found = settled(root);
    assert!(found.blocks(STANDS));
    // Who comes again is blocked with everything that belongs to it: also who was due.
    let again: Vec<String> = crowd().into_iter().chain([DUE.to_owned()]).collect();
    for address in &again {
        daemon.send(&order("drop600", address));
    }
    let journaled = || {
        let found = Found::at(root);
        let is = |address: &String| {
            let ip: IpAddr = address.parse().unwrap();
            found.pending(address).is_some()
                && found.hold(address).is_some()
                && !found.unjournaled.contains(&ip)
        };
        again.iter().all(is)
    };
    assert!(
        until(Duration::from_secs(10), journaled),
        "{}\n{:?}",
        root.log(),
        daemon.said()
    );
    settled(root);
}

#[test]
fn while_somebody_keeps_the_lock_attackers_are_blocked_and_then_everything_is_set_right() {
    apart(|| {
        let root = root();
        weathers(&root, |_| Keeper::of(&root, keeper::LOCK));
    });
}

#[test]
fn while_somebody_keeps_the_database_attackers_are_blocked_and_then_everything_is_set_right() {
    apart(|| {
        let root = root();
        weathers(&root, |_| Keeper::of(&root, keeper::JOURNAL));
    });
}

/// A file that takes all the room there is, and gives it back.
struct Rest<'a>(&'a Tiny);

impl<'a> Rest<'a> {
    fn of(tiny: &'a Tiny) -> Self {
        let full = std::fs::write(tiny.path.join("rest"), vec![0; 32 << 20]);
        assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        Self(tiny)
    }
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        std::fs::remove_file(self.0.path.join("rest")).unwrap();
    }
}

#[test]
fn on_a_full_disk_attackers_are_blocked_and_then_everything_is_set_right() {
    apart(|| {
        let tiny = Tiny::new(16 << 10);
        let root = Root::within(
            &tiny.path,
            &[("firewall-drop", component())],
            "ossec",
            "nftables",
        );
        configure(&root);
        weathers(&root, |_| Rest::of(&tiny));
    });
}

/// A folder that takes nothing, until this is dropped.
struct Sealed<'a>(&'a Path);

impl<'a> Sealed<'a> {
    fn of(folder: &'a Path) -> Self {
        mount(&["--bind"], &[folder, folder]);
        mount(&["-o", "remount,bind,ro"], &[folder]);
        Self(folder)
    }
}

impl Drop for Sealed<'_> {
    fn drop(&mut self) {
        mount(&["-o", "remount,bind,rw"], &[self.0]);
    }
}

fn mount(options: &[&str], on: &[&Path]) {
    let status = Command::new("mount").args(options).args(on).status();
    assert!(status.unwrap().success(), "{options:?}");
}

#[test]
fn a_daemon_that_starts_on_a_read_only_disk_blocks_attackers_and_then_sets_everything_right() {
    apart(|| {
        let root = root();
        let own = root.path().join("retort");
        weathers_with(&root, |daemon| {
            daemon.kill();
            let sealed = Sealed::of(&own);
            (Daemon::execd(&root), sealed)
        });
        let status = Command::new("umount").arg("-l").arg(&own).status();
        assert!(status.unwrap().success());
    });
}

/// A disk that fails under a daemon: every write is answered with EROFS.
struct Failing(Child);

impl Failing {
    fn under(daemon: &Daemon) -> Self {
        let mut strace = Command::new("strace");
        let writes = "pwrite64,ftruncate,fallocate";
        strace.args(["-f", "-qq", "-o", "/dev/null"]);
        strace.args(["-e", &format!("trace={writes}")]);
        strace.args(["-e", &format!("inject={writes}:error=EROFS")]);
        let strace = strace.args(["-p", &daemon.pid().to_string()]).spawn();
        let is_traced = |task: PathBuf| {
            let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        };
        let all_are_traced = || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid()));
            tasks.unwrap().all(|task| is_traced(task.unwrap().path()))
        };
        let failing = Self(strace.unwrap());
        assert!(until(Duration::from_secs(5), all_are_traced));
        failing
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        // It lets go of the daemon, and ends.
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn where_the_disk_fails_attackers_are_blocked_and_then_everything_is_set_right() {
    apart(|| {
        let root = root();
        weathers(&root, Failing::under);
    });
}
