//! Whatever somebody does to the firewall, with `nft` as the somebody.
//!
//! More than 400 lines: one scene that all cases share, and case after case.

use std::time::Duration;

use super::*;
use crate::backend::nftables::table_name;
use crate::backend::nftables::tests::{in_a_namespace, nft};
use crate::effect::desk::Word;
use crate::effect::tests::{Bench, NETWORKS, bench_on, run};
use crate::effect::{Done, Effect};
use crate::journal::{Debt, Now};
use crate::sweep;

const HELD: [&str; 5] = [
    "203.0.113.7/32",
    "203.0.113.8/32",
    "2001:db8::7/128",
    "198.51.100.0/24",
    "2001:db8:1::/48",
];

struct Desk {
    bench: Bench,
    table: String,
}

/// A bench with all of [`HELD`].
fn desk() -> Desk {
    let mut bench = bench_on("nftables", NETWORKS);
    for network in HELD {
        let network: IpNet = network.parse().unwrap();
        let id = bench.begin(run(&network.addr().to_string()));
        bench.perform(id, Effect::Block { network }).unwrap();
    }
    let table = table_name(bench._dir.path());
    Desk { bench, table }
}

impl Desk {
    fn reconcile(&mut self) -> Repairs {
        self.bench.broker.reconcile().unwrap()
    }

    fn nft(&self, line: &str) {
        nft(&line.replace("TABLE", &format!("inet {}", self.table)));
    }

    /// What the kernel has, in order, with the seconds of each host.
    fn kernel(&mut self) -> Vec<(String, Option<u64>)> {
        let backend = self.bench.broker.backend(BackendName::Nftables).unwrap();
        let mut all: Vec<(String, Option<u64>)> = backend
            .list()
            .unwrap()
            .into_iter()
            .map(|(address, seen)| (address.to_string(), seen.expires_in.map(|e| e.as_secs())))
            .collect();
        let networks = backend.networks().unwrap();
        all.extend(networks.iter().map(|n| (n.to_string(), None)));
        all.sort();
        all
    }

    fn is_as_held(&mut self, after: &str) {
        let kernel = self.kernel();
        let names: Vec<&str> = kernel.iter().map(|(name, _)| name.as_str()).collect();
        let mut held: Vec<&str> = HELD
            .iter()
            .map(|n| {
                n.strip_suffix("/32")
                    .or(n.strip_suffix("/128"))
                    .unwrap_or(n)
            })
            .collect();
        held.sort_unstable();
        assert_eq!(names, held, "{after}");
        for (name, left) in &kernel {
            let expected = if name.contains('/') { None } else { Some(90) };
            let close = match (left, expected) {
                (Some(left), Some(expected)) => left.abs_diff(expected) <= 5,
                (left, expected) => *left == expected,
            };
            assert!(close, "{after}: {name} has {left:?}");
        }
        let whole = nft(&format!("list table inet {}", self.table));
        assert!(
            whole.contains("@blocked4 drop") && whole.contains("@networks6 drop"),
            "{after}: {whole}"
        );
        assert!(!whole.contains("dormant"), "{after}: {whole}");
    }
}

fn counts(repairs: &Repairs) -> [usize; 4] {
    [
        repairs.put_back,
        repairs.removed,
        repairs.retimed,
        repairs.tables,
    ]
}

#[test]
fn whatever_somebody_does_is_put_right_once() {
    in_a_namespace(|| {
        let mut desk = desk();
        assert_eq!(desk.reconcile(), Repairs::default());
        for (harm, expected) in [
            ("flush ruleset", [5, 0, 0, 1]),
            ("delete table TABLE", [5, 0, 0, 1]),
            ("flush table TABLE", [0, 0, 0, 1]),
            ("flush chain TABLE early", [0, 0, 0, 1]),
            ("delete chain TABLE early", [0, 0, 0, 1]),
            ("insert rule TABLE early accept", [0, 0, 0, 1]),
            ("add table TABLE { flags dormant ; }", [0, 0, 0, 1]),
            ("flush set TABLE blocked4", [2, 0, 0, 0]),
            ("flush set TABLE networks6", [1, 0, 0, 0]),
            (
                "delete element TABLE blocked4 { 203.0.113.7 }",
                [1, 0, 0, 0],
            ),
            (
                "delete element TABLE blocked6 { 2001:db8::7 }",
                [1, 0, 0, 0],
            ),
            (
                "delete element TABLE networks4 { 198.51.100.0/24 }",
                [1, 0, 0, 0],
            ),
            ("add element TABLE blocked4 { 203.0.113.99 }", [0, 1, 0, 0]),
            (
                "add element TABLE blocked4 { 203.0.113.99 timeout 5m }",
                [0, 1, 0, 0],
            ),
            (
                "add element TABLE blocked6 { 2001:db8::99 timeout 30d }",
                [0, 1, 0, 0],
            ),
            (
                "add element TABLE networks4 { 198.51.101.0/24 }",
                [0, 1, 0, 0],
            ),
            (
                "add element TABLE networks6 { 2001:db9::-2001:db9::5 }",
                [0, 2, 0, 0],
            ),
        ] {
            desk.nft(harm);
            let repairs = desk.reconcile();
            assert_eq!(counts(&repairs), expected, "{harm}: {repairs:?}");
            assert!(!repairs.said.is_empty(), "{harm}");
            desk.is_as_held(harm);
            assert_eq!(desk.reconcile(), Repairs::default(), "{harm}");
        }
    });
}

#[test]
fn a_time_that_is_not_that_of_the_holds_is_set_right() {
    in_a_namespace(|| {
        let mut desk = desk();
        for timeout in [
            "",
            "timeout 10s",
            "timeout 1h",
            "timeout 80s",
            "timeout 100s",
        ] {
            desk.nft("delete element TABLE blocked4 { 203.0.113.7 }");
            desk.nft(&format!(
                "add element TABLE blocked4 {{ 203.0.113.7 {timeout} }}"
            ));
            let repairs = desk.reconcile();
            assert_eq!(counts(&repairs), [0, 0, 1, 0], "{timeout}: {repairs:?}");
            assert!(repairs.said[0].contains("203.0.113.7"), "{repairs:?}");
            desk.is_as_held(timeout);
        }
    });
}

/// The longest of several holds counts, and what is only about to go counts for nothing.
#[test]
fn each_host_has_the_time_of_its_longest_hold() {
    let left = |seconds| Duration::from_secs(seconds);
    let standing = |hold, network: &str, seconds, releasing| Standing {
        hold,
        network: network.parse().unwrap(),
        releasing,
        left: left(seconds),
    };
    let all = [
        standing(1, "203.0.113.7/32", 50, false),
        standing(2, "203.0.113.7/32", 300, false),
        standing(3, "203.0.113.7/32", 100, false),
        standing(4, "203.0.113.8/32", 100, true),
        standing(5, "203.0.113.9/32", 0, false),
        standing(6, "203.0.113.10/32", 100, false),
        standing(7, "198.51.100.0/24", 100, true),
        standing(8, "198.51.101.0/24", 0, false),
    ];
    let books = Books::of(&all, &BTreeSet::from([6]), Instant::now());
    let (correction, repairs) = books.judge(&Found::default());
    let set: Vec<(String, u64)> = correction
        .set
        .iter()
        .map(|e| {
            (
                e.address.to_string(),
                e.timeout.as_secs_f64().round() as u64,
            )
        })
        .collect();
    assert_eq!(set, [("203.0.113.7".to_owned(), 300)]);
    assert_eq!(correction.networks, None);
    assert_eq!(counts(&repairs), [1, 0, 0, 0]);

    // What goes, and is there still, is nobody's mistake.
    let seen = |seconds| Seen {
        expires_in: Some(left(seconds)),
        unjournaled: false,
    };
    let found = Found {
        hosts: vec![
            ([203, 0, 113, 7].into(), seen(299)),
            ([203, 0, 113, 8].into(), seen(100)),
            ([203, 0, 113, 9].into(), seen(1)),
            ([203, 0, 113, 10].into(), seen(100)),
        ],
        networks: vec!["198.51.100.0/23".parse().unwrap()],
    };
    let (correction, repairs) = books.judge(&found);
    assert!(correction.is_none(), "{correction:?}");
    assert_eq!(repairs, Repairs::default());
}

#[test]
fn what_was_blocked_without_the_journal_ends_by_itself() {
    in_a_namespace(|| {
        let mut desk = desk();
        let journal = desk.bench._dir.path().join("retort/journal.db");
        let holder = rusqlite::Connection::open(&journal).unwrap();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        // One that nobody holds, and one that is held for less.
        for address in ["203.0.113.50", "203.0.113.7"] {
            let done = desk.bench.block(address).unwrap();
            let Done::Blocked {
                warning: Some(warning),
                ..
            } = done
            else {
                panic!("{done:?}");
            };
            assert!(warning.contains("without the journal"), "{warning}");
        }
        holder.execute_batch("ROLLBACK").unwrap();
        assert_eq!(desk.reconcile(), Repairs::default());
        let times: Vec<(String, Option<u64>)> = desk.kernel();
        for address in ["203.0.113.50", "203.0.113.7"] {
            let (_, left) = times.iter().find(|(name, _)| name == address).unwrap();
            assert!(left.is_some_and(|left| left > 590), "{times:?}");
        }
        let table = nft(&format!("list table inet {}", desk.table));
        assert!(
            table.contains("comment \"blocked without the journal\""),
            "{table}"
        );
    });
}

/// A release whose journal was locked: the address is out, its hold stands, and it is not
/// put back by anything.
#[test]
fn what_was_let_go_while_the_journal_could_not_note_it_stays_out() {
    in_a_namespace(|| {
        for (network, other) in [
            ("203.0.113.7/32", "203.0.113.60"),
            ("198.51.100.0/24", "198.51.102.0"),
        ] {
            let mut desk = desk();
            let network: IpNet = network.parse().unwrap();
            let spelled = address::spell(network);
            let hold = desk.bench.holds();
            let hold = hold.iter().find(|hold| hold.network == network).unwrap();
            let journal = desk.bench._dir.path().join("retort/journal.db");
            let holder = rusqlite::Connection::open(&journal).unwrap();
            holder.execute_batch("BEGIN IMMEDIATE").unwrap();
            let record = desk.bench.broker.release(hold, "a test");
            let why = record.answer.unwrap_err().reason;
            assert!(why.contains("could not note it"), "{why}");
            holder.execute_batch("ROLLBACK").unwrap();
            let is_in = |desk: &mut Desk| desk.kernel().iter().any(|(name, _)| *name == spelled);
            assert!(!is_in(&mut desk));
            assert_eq!(desk.reconcile(), Repairs::default());
            // Nor by another block beside it.
            let beside = IpNet::new(other.parse().unwrap(), network.prefix_len()).unwrap();
            let id = desk.bench.begin(run(other));
            desk.bench
                .perform(id, Effect::Block { network: beside })
                .unwrap();
            assert!(!is_in(&mut desk));
            desk.nft("flush ruleset");
            desk.reconcile();
            assert!(!is_in(&mut desk));
            assert_eq!(desk.bench.holds().len(), HELD.len() + 1);
            // The sweep closes the books, and nothing is owed then.
            let swept = sweep::sweep(&mut desk.bench.broker, sweep::AT_ONCE).unwrap();
            assert_eq!(swept.len(), 1, "{swept:?}");
            assert_eq!(desk.bench.holds().len(), HELD.len());
            assert!(desk.bench.broker.owed().unwrap().all().unwrap().is_empty());
            // Who comes again is blocked again, and put back again.
            let id = desk.bench.begin(run(&network.addr().to_string()));
            desk.bench.perform(id, Effect::Block { network }).unwrap();
            desk.nft("flush ruleset");
            desk.reconcile();
            assert!(is_in(&mut desk));
        }
    });
}

/// A delete that was begun and not ended, by a process that lives on.
#[test]
fn a_delete_in_progress_is_left_alone_and_a_failed_one_done_by_the_next_sweep() {
    in_a_namespace(|| {
        let mut desk = desk();
        let mut delete = run("203.0.113.7");
        delete.event.action = crate::event::Action::Delete;
        let id = desk.bench.begin(delete);
        desk.nft("delete element TABLE blocked4 { 203.0.113.7 }");
        assert_eq!(desk.reconcile(), Repairs::default());
        let swept = sweep::sweep(&mut desk.bench.broker, sweep::AT_ONCE).unwrap();
        assert!(swept.is_empty(), "{swept:?}");
        desk.bench.records(Word::Finish {
            id,
            verdict: "wall".into(),
            used: serde_json::Value::Null,
        });
        let swept = sweep::sweep(&mut desk.bench.broker, sweep::AT_ONCE).unwrap();
        assert_eq!(swept.len(), 1, "{swept:?}");
        assert_eq!(desk.bench.holds().len(), HELD.len() - 1);
    });
}

/// The process of a daemon takes a hold anew after it failed to give it up.
#[test]
fn a_hold_that_was_taken_since_is_not_owed() {
    in_a_namespace(|| {
        let mut desk = desk();
        let hold = desk.bench.holds().remove(0);
        let now = Now::read().unwrap();
        let block = Debt::new(&now, &hold.response, &hold.key, "", None).unwrap();
        let debts = [
            block,
            Debt::of_hold(&now, &hold).unwrap(),
            Debt::of_network(&now, hold.network).unwrap(),
        ];
        for debt in &debts {
            assert!(debt.is_for(&hold), "{debt:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
        desk.bench.block("203.0.113.7").unwrap();
        let again = desk.bench.holds().remove(0);
        assert_eq!(again.id, hold.id);
        for debt in &debts {
            assert!(!debt.is_for(&again), "{debt:?}");
        }
    });
}

#[test]
fn two_roots_on_one_kernel_leave_each_other_alone() {
    in_a_namespace(|| {
        let (mut one, mut other) = (desk(), desk());
        let mut nothing_held = bench_on("nftables", NETWORKS);
        assert_eq!(nothing_held.broker.reconcile().unwrap(), Repairs::default());
        let tables = nft("list tables");
        assert_eq!(
            tables.lines().count(),
            2,
            "none is made for nothing: {tables}"
        );
        one.nft("flush table TABLE");
        one.nft("flush set TABLE blocked4");
        assert_eq!(other.reconcile(), Repairs::default());
        assert_eq!(counts(&one.reconcile()), [2, 0, 0, 1]);
        one.is_as_held("the own");
        other.is_as_held("the other's");
        nft("flush ruleset");
        assert_eq!(counts(&one.reconcile()), [5, 0, 0, 1]);
        assert_eq!(nft("list tables").lines().count(), 1);
        assert_eq!(counts(&other.reconcile()), [5, 0, 0, 1]);
    });
}

/// What changes between look and transaction is looked at again.
#[test]
fn a_change_meanwhile_is_judged_again() {
    in_a_namespace(|| {
        let mut desk = desk();
        let table = desk.table.clone();
        let backend = desk.bench.broker.backend(BackendName::Nftables).unwrap();
        let mut looks = 0;
        let remove = vec![[203, 0, 113, 7].into()];
        backend
            .correct(|found| {
                looks += 1;
                if looks == 1 {
                    nft(&format!(
                        "add element inet {table} blocked4 {{ 203.0.113.70 }}"
                    ));
                }
                let there = found.hosts.len();
                assert_eq!(there, if looks == 1 { 3 } else { 4 });
                Correction {
                    remove: remove.clone(),
                    ..Correction::default()
                }
            })
            .unwrap();
        assert_eq!(looks, 2);
        // A storm has its end.
        let mut looks = 0_u8;
        let torn = backend.correct(|_| {
            looks += 1;
            nft(&format!(
                "add element inet {table} blocked4 {{ 203.0.113.{looks} }}"
            ));
            Correction {
                remove: vec![[203, 0, 113, 8].into()],
                ..Correction::default()
            }
        });
        assert!(torn.is_err());
        assert!((2..20).contains(&looks), "{looks}");
    });
}

#[test]
fn a_journal_or_table_that_can_not_be_read_changes_nothing() {
    in_a_namespace(|| {
        let desk = desk();
        desk.nft("add element TABLE blocked4 { 203.0.113.99 }");
        let before = nft("list ruleset");
        let mut broken = bench_on("nftables", NETWORKS);
        std::fs::create_dir(broken._dir.path().join("retort/journal.db")).unwrap();
        assert!(broken.broker.reconcile().is_err());
        let foreign = table_name(broken._dir.path());
        nft(&format!("add table inet {foreign}"));
        std::fs::remove_dir(broken._dir.path().join("retort/journal.db")).unwrap();
        assert!(
            broken.broker.reconcile().is_err(),
            "a table that is not ours"
        );
        nft(&format!("delete table inet {foreign}"));
        let without_times = |text: &str| {
            let words = text.split_whitespace();
            words
                .filter(|word| !word.ends_with("ms") && !word.ends_with("ms,"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(without_times(&nft("list ruleset")), without_times(&before));
    });
}

/// As many holds as a host may have, straight into the journal.
fn hold_many(bench: &Bench, many: u32) {
    let journal = bench._dir.path().join("retort/journal.db");
    let journal = rusqlite::Connection::open(journal).unwrap();
    journal
        .execute_batch(&format!(
            "INSERT INTO hold (run, response, key, network, backend, state, boot_id, began_boot,
             began_wall, lasts, due_boot, due_wall)
             WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < {many})
             SELECT run, response, '11.' || (n >> 16 & 255) || '.' || (n >> 8 & 255) || '.' || (n & 255),
             '11.' || (n >> 16 & 255) || '.' || (n >> 8 & 255) || '.' || (n & 255),
             backend, 'done', boot_id, began_boot, began_wall, 3600, began_boot + 3600,
             began_wall + 3600 FROM hold, n WHERE hold.id = 1"
        ))
        .unwrap();
}

#[test]
fn a_hundred_thousand_are_compared_in_a_moment() {
    in_a_namespace(|| {
        const MANY: u32 = 100_000;
        let mut desk = desk();
        hold_many(&desk.bench, MANY);
        assert_eq!(counts(&desk.reconcile()), [MANY as usize, 0, 0, 0]);
        let started = Instant::now();
        assert_eq!(desk.reconcile(), Repairs::default());
        let compared = started.elapsed();
        desk.nft("flush ruleset");
        let started = Instant::now();
        assert_eq!(
            counts(&desk.reconcile()),
            [MANY as usize + HELD.len(), 0, 0, 1]
        );
        let rebuilt = started.elapsed();
        // A program that is not optimised is ten times slower than one that is.
        assert!(compared < Duration::from_secs(4), "{compared:?}");
        assert!(rebuilt < Duration::from_secs(8), "{rebuilt:?}");
    });
}
