//! The broker's decisions, with the record backend: what a session may do, what the
//! journal then says, and what a budget, a mode or a dead execd make of it.
//!
//! More than 400 lines: one scene that all cases share, and case after case.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::broker::{Broker, World};
use super::desk::{Reply, Run, Word};
use super::sessions::Records;
use ipnet::IpNet;

use super::{Answer, Done, Effect, Kind, Record, Refusal};
use crate::address;
use crate::conf::white_list::WhiteList;
use crate::conf::{ar, grants};
use crate::event::{Dialect, Event};
use crate::journal::{Clock, Hold, Now, Owner, State};
use crate::root::Root;
use crate::sweep;

pub(super) struct Bench {
    pub(super) _dir: TempDir,
    pub(super) broker: Broker,
    next: u64,
}

fn bench(grants: &str) -> Bench {
    bench_on("record", grants)
}

pub(super) fn bench_on(backend: &str, grants: &str) -> Bench {
    let dir = TempDir::new().unwrap();
    let root = Root::new(dir.path());
    std::fs::create_dir(root.own()).unwrap();
    let text = format!("[firewall]\nbackend = \"{backend}\"\n{grants}");
    let broker = Broker::new(World {
        grants: grants::parse(&text, Path::new("retort.toml")).unwrap(),
        white_list: WhiteList::default(),
        servers: Vec::new(),
        ar: ar::parse(b"drop60 - drop.sh - 60\ndrop90 - drop.sh - 90\n"),
        retort: "/nonexistent".into(),
        budget: Duration::from_secs(1),
        clock: Clock::System,
        root,
    });
    Bench {
        _dir: dir,
        broker,
        next: 0,
    }
}

impl Bench {
    pub(super) fn begin(&mut self, run: Run) -> u64 {
        self.next += 1;
        let word = Word::Begin {
            id: self.next,
            run: Box::new(run),
        };
        self.broker.hear(word);
        self.next
    }

    pub(super) fn perform(&mut self, id: u64, effect: Effect) -> Answer {
        match self.broker.hear(Word::Perform { id, effect }) {
            Reply::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn records(&mut self, word: Word) -> Vec<Record> {
        match self.broker.hear(word) {
            Reply::Records(records) => records,
            other => panic!("{other:?}"),
        }
    }

    /// One run of `drop` that blocks its own address.
    pub(super) fn block(&mut self, srcip: &str) -> Answer {
        let id = self.begin(run(srcip));
        self.perform(id, block(srcip))
    }

    pub(super) fn holds(&mut self) -> Vec<Hold> {
        self.broker.journal().unwrap().open_holds().unwrap()
    }
}

pub(super) fn run(srcip: &str) -> Run {
    let srcip = address::parse(srcip).unwrap();
    let event = json!({"action": "add", "srcip": srcip});
    Run {
        response: "drop".into(),
        digest: "d".repeat(64),
        executable: "drop.sh".into(),
        dialect: Dialect::Ossec,
        event: serde_json::from_value::<Event>(event).unwrap(),
        key: srcip.to_string(),
        origin: String::new(),
        owner: None,
        dry_run: false,
        left: Duration::from_secs(5),
        term: None,
        message: None,
    }
}

fn block(address: &str) -> Effect {
    Effect::Block {
        network: address::host(address.parse().unwrap()),
    }
}

fn left(hold: &Hold) -> u64 {
    hold.left(&Now::read().unwrap()).as_secs_f64().round() as u64
}

const GRANTED: &str = "longest = \"1 h\"\n[response.drop]\nfirewall = {}\n";

#[test]
fn an_unknown_response_may_nothing() {
    let mut bench = bench("[response.other]\nfirewall = {}\n");
    let refusal = bench.block("203.0.113.1").unwrap_err();
    assert_eq!(refusal.kind, Kind::Denied, "{refusal:?}");
    assert!(bench.holds().is_empty());
}

#[test]
fn a_hold_lasts_as_long_as_was_asked_and_no_longer_than_the_longest() {
    for (timeout, expected) in [
        (None, 90),
        (Some(0), 90),
        (Some(60), 60),
        (Some(90_000), 3600),
    ] {
        let mut bench = bench(GRANTED);
        let mut run = run("203.0.113.1");
        run.event.timeout = timeout;
        let id = bench.begin(run);
        bench.perform(id, block("203.0.113.1")).unwrap();
        assert_eq!(left(&bench.holds()[0]), expected, "{timeout:?}");
    }
}

#[test]
fn the_hold_of_an_execd_ends_by_its_delete_or_without_it_by_ar_conf() {
    // Wazuh 5 has no ar.conf: its message says the time.
    for (timeout, expected) in [(None, 90), (Some(5), 5)] {
        let mut bench = bench(GRANTED);
        let mut run = run("203.0.113.1");
        run.owner = Owner::of(std::process::id().try_into().unwrap());
        run.event.timeout = timeout;
        let id = bench.begin(run);
        bench.perform(id, block("203.0.113.1")).unwrap();
        let hold = bench.holds().remove(0);
        assert_eq!(left(&hold), 3600, "its execd may come late");
        let orphan = hold.orphan_left(&Now::read().unwrap()).unwrap();
        assert_eq!(orphan.as_secs_f64().round() as u64, expected);
    }
}

#[test]
fn above_the_budget_blocks_are_short_and_loud_and_never_absent() {
    for (grants, who) in [
        (
            "[response.drop]\nfirewall = { per_minute = 2 }\n",
            "2 of 2 blocks a minute for drop",
        ),
        (
            "per_minute = 2\n[response.drop]\nfirewall = {}\n",
            "2 of 2 in all",
        ),
    ] {
        let mut bench = bench(grants);
        for last in 1..=2 {
            let done = bench.block(&format!("203.0.113.{last}")).unwrap();
            assert!(
                matches!(done, Done::Blocked { warning: None, .. }),
                "{done:?}"
            );
        }
        let Done::Blocked {
            warning: Some(warning),
            ..
        } = bench.block("203.0.113.3").unwrap()
        else {
            panic!("it is blocked in silence");
        };
        assert!(warning.contains(who), "{warning}");
        let holds = bench.holds();
        assert_eq!(holds.len(), 3);
        assert_eq!(left(&holds[2]), 60);
        // Extending what stands is never rationed.
        let again = bench.block("203.0.113.1").unwrap();
        assert!(
            matches!(
                again,
                Done::Blocked {
                    renewed: true,
                    warning: None,
                    ..
                }
            ),
            "{again:?}"
        );
        assert!(left(&bench.holds()[0]) > 60);
    }
}

#[test]
fn an_observer_changes_nothing_and_says_so() {
    let observes = "[response.drop]\nmode = \"observe\"\nfirewall = {}\n";
    for (grants, dry_run) in [(observes, false), (GRANTED, true)] {
        let mut bench = bench(grants);
        let mut run = run("203.0.113.1");
        run.dry_run = dry_run;
        let id = bench.begin(run);
        assert_eq!(bench.perform(id, block("203.0.113.1")), Ok(Done::Observed));
        // What would be refused is refused here, too.
        let refused = bench.perform(id, block("127.0.0.1")).unwrap_err();
        assert_eq!(refused.kind, Kind::Denied);
        assert!(bench.records(Word::Release { id }).is_empty());
        bench.records(Word::Finish {
            id,
            verdict: "ok".into(),
            used: json!({}),
        });
        assert!(bench.holds().is_empty());
        let past = bench.broker.journal().unwrap().history(1, None).unwrap();
        assert!(past[0].dry_run && past[0].effects.is_empty(), "{past:?}");
    }
}

#[test]
fn what_names_stand_for_is_protected() {
    let mut bench = bench("protect = [\"db.example.com\"]\n[response.drop]\nfirewall = {}\n");
    assert_eq!(bench.broker.names(), ["db.example.com"]);
    bench.block("198.51.100.5").unwrap();
    bench
        .broker
        .remember("db.example.com", &["198.51.100.5".parse().unwrap()])
        .unwrap();
    for spelling in ["198.51.100.5", "::ffff:198.51.100.5", "2002:c633:6405::1"] {
        let refusal = bench.block(spelling).unwrap_err();
        assert!(
            refusal.reason.contains("db.example.com"),
            "{spelling}: {refusal:?}"
        );
    }
    // What was blocked before goes.
    let lifted = sweep::lift_protected(&mut bench.broker).unwrap();
    assert_eq!(lifted.len(), 1, "{lifted:?}");
    assert!(bench.holds().is_empty());
}

/// A bench whose admins are the members of `wheel`, and a session of one of them.
fn bench_with_admin(from: &str, since: u64) -> Bench {
    let mut bench = bench(
        "protect_admin_sessions = \"wheel\"\n[response.drop]\nfirewall = { target = \"any\", widest = { ipv4 = 24 } }\n",
    );
    let at = |name: &str| bench._dir.path().join(name);
    std::fs::write(at("group"), "wheel:x:10:alice\n").unwrap();
    std::fs::write(at("passwd"), "alice:x:1000:1000::/:/bin/sh\n").unwrap();
    std::fs::create_dir(at("sessions")).unwrap();
    let session = format!(
        "USER=alice\nCLASS=user\nSTATE=active\nREMOTE_HOST={from}\nREALTIME={since}000000\n"
    );
    std::fs::write(at("sessions/1"), session).unwrap();
    bench.broker.records = Records {
        logind: at("sessions"),
        utmp: at("utmp"),
        groups: at("group"),
        accounts: at("passwd"),
    };
    bench
}

#[test]
fn an_admin_who_was_logged_in_before_the_alert_stays() {
    let mut bench = bench_with_admin("203.0.113.9", 1_700_000_000);
    for (alert, network, blocked) in [
        (Some("1700000001.77"), "203.0.113.9/32", false),
        (Some("1700000001.77"), "203.0.113.0/24", false),
        (Some("1700000001.77"), "203.0.113.10/32", true),
        // Who guessed the password after all raised the alert before.
        (Some("1700000000.1"), "203.0.113.9/32", true),
        (Some("1699999999.1"), "203.0.113.9/32", true),
    ] {
        let mut run = run("203.0.113.9");
        run.event.alert_id = alert.map(str::to_owned);
        let id = bench.begin(run);
        let network = network.parse().unwrap();
        let answer = bench.perform(id, Effect::Block { network });
        assert_eq!(answer.is_ok(), blocked, "{alert:?}, {network}: {answer:?}");
        if let Err(refusal) = answer {
            assert!(
                refusal
                    .reason
                    .contains("alice is logged in from 203.0.113.9"),
                "{refusal:?}"
            );
        }
    }
    // Without the alert's time, that of the call counts; a later one is a lie.
    for alert in [None, Some("junk"), Some("99999999999.1")] {
        let mut run = run("203.0.113.9");
        run.event.alert_id = alert.map(str::to_owned);
        let id = bench.begin(run);
        assert!(
            bench.perform(id, block("203.0.113.9")).is_err(),
            "{alert:?}"
        );
    }
    let future = Now::read().unwrap().wall.as_secs() + 60;
    let mut bench = bench_with_admin("203.0.113.9", future);
    let mut run = run("203.0.113.9");
    run.event.alert_id = Some("99999999999.1".into());
    let id = bench.begin(run);
    bench.perform(id, block("203.0.113.9")).unwrap();
    // The younger session does not lift what the older alert blocked, either.
    assert!(sweep::lift_protected(&mut bench.broker).unwrap().is_empty());
}

/// The list is read again when it is told to, and after a moment by itself.
#[test]
fn who_logs_out_is_protected_no_longer() {
    let mut bench = bench_with_admin("203.0.113.9", 1_700_000_000);
    assert!(bench.block("203.0.113.9").is_err());
    std::fs::remove_file(bench._dir.path().join("sessions/1")).unwrap();
    bench.broker.look_around();
    bench.block("203.0.113.9").unwrap();
}

#[test]
fn where_it_is_not_written_down_who_is_logged_in_blocks_say_so() {
    let mut bench = bench_with_admin("203.0.113.9", 1_700_000_000);
    std::fs::remove_dir_all(bench._dir.path().join("sessions")).unwrap();
    let done = bench.block("203.0.113.9").unwrap();
    let Done::Blocked {
        warning: Some(warning),
        ..
    } = done
    else {
        panic!("{done:?}");
    };
    assert!(
        warning.contains("no session of wheel is protected"),
        "{warning}"
    );
}

#[test]
fn a_session_gives_up_its_own_block_and_no_other() {
    let mut bench = bench(GRANTED);
    bench.block("203.0.113.1").unwrap();
    bench.block("203.0.113.2").unwrap();
    let id = bench.begin(run("203.0.113.1"));
    let network = address::host("203.0.113.2".parse().unwrap());
    assert_eq!(
        bench.perform(id, Effect::Unblock { network }),
        Ok(Done::Unblocked { holds: 0 })
    );
    let network = address::host("203.0.113.1".parse().unwrap());
    assert_eq!(
        bench.perform(id, Effect::Unblock { network }),
        Ok(Done::Unblocked { holds: 1 })
    );
    assert_eq!(bench.holds().len(), 1);
}

#[test]
fn what_is_said_after_the_end_is_not_done() {
    let mut bench = bench(GRANTED);
    let id = bench.begin(run("203.0.113.1"));
    bench.records(Word::Finish {
        id,
        verdict: "ok".into(),
        used: json!({}),
    });
    let refusal = bench.perform(id, block("203.0.113.1")).unwrap_err();
    assert_eq!(refusal.kind, Kind::Unavailable);
    assert!(bench.holds().is_empty());
}

#[test]
fn a_sweep_takes_back_what_is_over_and_leaves_the_rest() {
    let mut bench = bench(GRANTED);
    for (address, seconds) in [("203.0.113.1", 1), ("203.0.113.2", 600)] {
        let mut run = run(address);
        run.event.timeout = Some(seconds);
        let id = bench.begin(run);
        bench.perform(id, block(address)).unwrap();
    }
    assert!(
        sweep::sweep(&mut bench.broker, sweep::AT_ONCE)
            .unwrap()
            .is_empty()
    );
    std::thread::sleep(Duration::from_millis(1100));
    let swept = sweep::sweep(&mut bench.broker, sweep::AT_ONCE).unwrap();
    assert_eq!(swept.len(), 1, "{swept:?}");
    let holds = bench.holds();
    assert_eq!(holds.len(), 1);
    assert_eq!(address::spell(holds[0].network), "203.0.113.2");
}

pub(super) const NETWORKS: &str =
    "[response.drop]\nfirewall = { target = \"any\", widest = { ipv4 = 16, ipv6 = 48 } }\n";

#[test]
fn an_intent_that_was_cut_off_is_done_where_the_journal_alone_knows() {
    let mut bench = bench(GRANTED);
    bench.block("203.0.113.1").unwrap();
    let mut then = Now::read().unwrap();
    then.boot -= Duration::from_secs(120);
    let journal = bench.broker.journal().unwrap();
    let lasts = Duration::from_secs(3600);
    journal.renew(&then, "drop", "203.0.113.1", lasts).unwrap();
    assert_eq!(bench.holds()[0].state, State::Intended);
    assert!(
        sweep::sweep(&mut bench.broker, sweep::AT_ONCE)
            .unwrap()
            .is_empty()
    );
    let holds = bench.holds();
    assert_eq!((holds[0].state, left(&holds[0])), (State::Done, 3480));
}

#[test]
fn networks_are_held_as_far_as_they_are_granted() {
    let mut bench = bench(NETWORKS);
    let id = bench.begin(run("203.0.113.1"));
    for (text, denied) in [
        ("203.0.113.0/24", None),
        ("198.51.0.0/16", None),
        ("2001:db8::/48", None),
        ("::ffff:203.0.113.0/120", None),
        ("203.0.0.0/15", Some("wider than /16")),
        ("2001:db8::/47", Some("wider than /48")),
        ("127.0.0.0/24", Some("loopback")),
        ("0.0.0.0/0", Some("wider than /16")),
        ("203.0.113.1/24", Some("bits set behind its prefix")),
    ] {
        let network = text.parse().unwrap();
        let answer = bench.perform(id, Effect::Block { network });
        match denied {
            None => assert!(
                matches!(answer, Ok(Done::Blocked { .. })),
                "{text}: {answer:?}"
            ),
            Some(why) => {
                let refusal = answer.unwrap_err();
                assert!(refusal.reason.contains(why), "{text}: {refusal:?}");
            }
        }
    }
    let held: Vec<String> = bench
        .holds()
        .iter()
        .map(|h| address::spell(h.network))
        .collect();
    assert_eq!(held, ["203.0.113.0/24", "198.51.0.0/16", "2001:db8::/48"]);
    let mut blocked = |text: &str| {
        let network = text.parse().unwrap();
        bench.perform(id, Effect::IsBlocked { network })
    };
    for (text, expected) in [
        ("203.0.113.9/32", true),
        ("203.0.113.0/25", true),
        ("203.0.112.0/23", false),
        ("203.0.114.1/32", false),
        ("2001:db8::1/128", true),
    ] {
        assert_eq!(
            blocked(text),
            Ok(Done::IsBlocked { blocked: expected }),
            "{text}"
        );
    }
}

/// Sixty-four hosts of a /64 are held each for itself; then the /64 is.
#[test]
fn a_crowd_in_one_64_is_held_by_its_prefix() {
    let block_all = |grants: &str, many: u16| {
        let mut bench = bench(grants);
        let mut answers = Vec::new();
        for n in 0..many {
            answers.push(bench.block(&format!("2001:db8:bad:1::{n:x}")).unwrap());
            bench
                .block(&format!("2001:db8:bad:{:x}::1", n + 0x100))
                .unwrap();
        }
        let held = bench.holds().into_iter().map(|hold| hold.network);
        let wide = held.filter(|network| address::only(*network).is_none());
        (wide.collect::<Vec<IpNet>>(), answers, bench)
    };
    let wide = "[response.drop]\nfirewall = { widest = { ipv6 = 64 } }\n";
    let (networks, _, _) = block_all(wide, 65);
    assert!(networks.is_empty(), "{networks:?}");
    let (networks, answers, mut bench) = block_all(wide, 66);
    let network: IpNet = "2001:db8:bad:1::/64".parse().unwrap();
    assert_eq!(networks, [network]);
    let Some(Done::Blocked {
        warning: Some(warning),
        ..
    }) = answers.last()
    else {
        panic!("{:?}", answers.last());
    };
    assert!(
        warning.contains("65 hosts of 2001:db8:bad:1::/64 were blocked within a minute"),
        "{warning}"
    );
    // Each run's delete takes back what it took, whatever that was.
    let again = bench.block("2001:db8:bad:1::41").unwrap();
    assert!(
        matches!(again, Done::Blocked { renewed: true, .. }),
        "{again:?}"
    );
    let count = bench.holds().len();
    let mut delete = run("2001:db8:bad:1::41");
    delete.event.action = crate::event::Action::Delete;
    let id = bench.begin(delete);
    let released = bench.records(Word::Release { id });
    assert_eq!(released.len(), 1, "{released:?}");
    assert_eq!(bench.holds().len(), count - 1);
    // What is held for itself is renewed as it is.
    bench.block("2001:db8:bad:1::1").unwrap();
    assert_eq!(bench.holds().len(), count - 1);

    // Neither a narrower grant nor something protected is stepped over.
    let (networks, _, _) = block_all("[response.drop]\nfirewall = {}\n", 70);
    assert!(networks.is_empty(), "{networks:?}");
    let protects = format!("protect = [\"2001:db8:bad:1:ffff::1\"]\n{wide}");
    let (networks, _, _) = block_all(&protects, 70);
    assert!(networks.is_empty(), "{networks:?}");
}

/// Nothing but the journal's deadline would take a network back.
#[test]
fn without_the_journal_no_network_is_blocked() {
    let mut bench = bench(NETWORKS);
    std::fs::create_dir(bench._dir.path().join("retort/journal.db")).unwrap();
    let id = bench.begin(run("203.0.113.1"));
    let network = "203.0.113.0/24".parse().unwrap();
    let refusal = bench.perform(id, Effect::Block { network }).unwrap_err();
    assert_eq!(refusal.kind, Kind::Unavailable);
    assert!(refusal.reason.contains("would undo it"), "{refusal:?}");
}

#[test]
fn effects_and_answers_survive_the_seam() {
    let network: IpNet = "203.0.113.1/32".parse().unwrap();
    let wide: IpNet = "2001:db8::/64".parse().unwrap();
    let effects = [
        Effect::Block { network },
        Effect::Unblock { network: wide },
        Effect::IsBlocked { network },
        Effect::Release,
        Effect::Run {
            helper: "restart".into(),
        },
    ];
    let answers: [Answer; 9] = [
        Ok(Done::Blocked {
            expires_in: Some(Duration::from_millis(1500)),
            renewed: true,
            warning: Some("short".into()),
        }),
        Ok(Done::Blocked {
            expires_in: None,
            renewed: false,
            warning: None,
        }),
        Ok(Done::Unblocked { holds: 2 }),
        Ok(Done::IsBlocked { blocked: true }),
        Ok(Done::Exited { code: -3 }),
        Ok(Done::Started),
        Ok(Done::Observed),
        Err(Refusal::denied("no")),
        Err(Refusal::unavailable("later")),
    ];
    for effect in &effects {
        for answer in &answers {
            let record = Record {
                effect: effect.clone(),
                answer: answer.clone(),
            };
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(
                serde_json::from_str::<Record>(&text).unwrap(),
                record,
                "{text}"
            );
        }
    }
}
