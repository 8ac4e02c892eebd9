//! Punctual, however much is pending.

mod support;

use std::time::{Duration, Instant};

use support::daemon::{Daemon, until};
use support::root::Root;

const PENDING: u32 = 100_000;

/// Undone within that after the deadline.
const PUNCTUAL: Duration = Duration::from_millis(100);

fn order(name: &str, address: &str) -> String {
    format!("{name} - {address} 1795489577.1 5712 (web01) 10.0.0.5->/var/log/auth.log -\0")
}

fn journal(root: &Root) -> rusqlite::Connection {
    let journal = rusqlite::Connection::open(root.path().join("retort/journal.db")).unwrap();
    journal.busy_timeout(Duration::from_secs(10)).unwrap();
    journal
}

/// Copies the one block that stands, for as many other attackers, each with its own end
/// in some hours.
fn many(root: &Root) {
    let copy = format!(
        "BEGIN;
         CREATE TEMP TABLE n AS WITH RECURSIVE n (n) AS
            (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {PENDING}) SELECT n, '10.' || (n / 65536)
            || '.' || (n / 256 % 256) || '.' || (n % 256) AS address FROM n;
         INSERT INTO run (id, response, digest, dialect, event, key, origin, dry, began, verdict)
            SELECT run.id + n, response, digest, dialect, json_set(event, '$.srcip', address),
            json_set(key, '$.srcip', address), origin || n, dry, began, verdict FROM run, n;
         INSERT INTO hold (run, response, key, network, backend, state, boot_id, began_boot,
            began_wall, lasts, due_boot, due_wall, expires_in)
            SELECT hold.run + n, response, json_set(key, '$.srcip', address), address, backend, state,
            boot_id, began_boot, began_wall, lasts + n * 0.1, due_boot + n * 0.1, due_wall + n * 0.1,
            expires_in FROM hold, n;
         INSERT INTO pending (run, response, key, executable, state, boot_id, began_boot,
            began_wall, lasts, due_boot)
            SELECT pending.run + n, response, json_set(key, '$.srcip', address), executable, state,
            boot_id, began_boot, began_wall, lasts + n * 0.1, due_boot + n * 0.1 FROM pending, n;
         COMMIT;"
    );
    journal(root).execute_batch(&copy).unwrap();
}

/// A number out of `/proc/<pid>/status`, in KiB.
fn resident(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// The processor time that the daemon has used.
fn used(daemon: &Daemon) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

#[test]
fn what_is_due_goes_within_a_tenth_of_a_second_beside_a_hundred_thousand_others() {
    let root = Root::firewall_drop("ossec");
    root.ar_conf("drop1 - firewall-drop.sh - 1\ndrop2 - firewall-drop.sh - 2\ndrop7200 - firewall-drop.sh - 7200\n");
    let daemon = Daemon::execd(&root);
    daemon.send(&order("drop7200", "203.0.113.1"));
    assert!(until(Duration::from_secs(10), || root.blocked().len() == 1));
    daemon.kill();
    many(&root);

    let started = Instant::now();
    let daemon = Daemon::execd(&root);
    let start = started.elapsed();
    let fresh = resident(&daemon);
    for last in 2..62 {
        let name = if last % 2 == 0 { "drop1" } else { "drop2" };
        daemon.send(&order(name, &format!("203.0.113.{last}")));
        std::thread::sleep(Duration::from_millis(20));
    }
    // The deadline counts from when the block was called for.
    let late = "SELECT closed - (run.began + lasts) FROM hold JOIN run ON run.id = hold.run
        WHERE closed IS NOT NULL ORDER BY 1";
    let late = || -> Vec<f64> {
        let journal = journal(&root);
        let mut late = journal.prepare(late).unwrap();
        let late = late.query_map([], |row| row.get(0)).unwrap();
        late.collect::<Result<_, _>>().unwrap()
    };
    assert!(
        until(Duration::from_secs(20), || late().len() == 60),
        "{}",
        late().len()
    );
    let late = late();
    let before = used(&daemon);
    std::thread::sleep(Duration::from_secs(2));
    let idle = used(&daemon) - before;
    println!(
        "{PENDING} pending: started in {start:?}, {} KiB, then {} KiB; late by {:.1} ms, 9 of 10 by {:.1} ms, the latest by {:.1} ms; {idle:?} of 2 s while nothing is due",
        fresh,
        resident(&daemon),
        late[30] * 1e3,
        late[53] * 1e3,
        late[59] * 1e3
    );
    // By another clock than deadlines are counted by, which may be set right meanwhile.
    assert!(late[0] > -0.01, "early by {} s", -late[0]);
    // The machine may be busy with something else for a moment.
    assert!(late[53] < PUNCTUAL.as_secs_f64(), "{late:?}");
    assert!(idle < Duration::from_millis(400), "{idle:?}");
    assert!(start < Duration::from_secs(5), "{start:?}");
}
