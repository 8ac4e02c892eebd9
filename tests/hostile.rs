//! Hostile guests: the named verdict within the limit, an unchanged world, and the
//! next good response fine.

mod support;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::guests;
use support::root::Root;

const ATTACKER: &str = "203.0.113.7";

/// What a limit may be late by.
const GRACE: Duration = Duration::from_millis(50);

/// The wall limit of these tests: short, so that they are.
const WALL: Duration = Duration::from_secs(1);

/// What a whole command line may take besides: start, compile from the cache, report.
const AROUND: Duration = Duration::from_secs(4);

const GRANTS: &str = r#"
[firewall]
backend = "record"
protect = ["198.51.100.0/24"]
[limits]
wall = "1 s"
[response.hostile]
expect = ["srcip"]
firewall = { target = "any" }
hostname = true
process.true = { argv = ["/bin/true"] }
process.false = { argv = ["/bin/false"] }
process.add-only = { argv = ["/bin/true"], on = ["add"] }
process.slow = { argv = ["/bin/sleep", "60"] }
process.of-user = { argv = ["/bin/true", "{user}"] }
[response.clock]
[response.firewall-drop]
expect = ["srcip"]
firewall = { target = "srcip" }
"#;

fn root() -> &'static Root {
    static ROOT: OnceLock<Root> = OnceLock::new();
    ROOT.get_or_init(|| {
        let components = [
            ("hostile", guests::hostile()),
            ("firewall-drop", guests::response("firewall-drop")),
            ("clock", guests::wasip2("clock")),
            ("start-loop", guests::core("start-loop")),
            ("table-growth", guests::core("table-growth")),
            ("huge-memory", guests::core("huge-memory")),
            ("huge-table", guests::core("huge-table")),
            ("bad-pointer", guests::core("bad-pointer")),
        ];
        let components: Vec<(&str, &[u8])> = components
            .iter()
            .map(|(name, bytes)| (*name, bytes.as_slice()))
            .collect();
        Root::granted(&components, GRANTS)
    })
}

fn event(action: &str, arguments: &[&str]) -> Value {
    json!({"action": action, "srcip": ATTACKER, "extra_args": arguments})
}

/// Runs it; the world has to be as before, and the host has to be alive.
fn verdict(response: &str, arguments: &[&str]) -> (String, Value) {
    let root = root();
    let started = Instant::now();
    let outcome = root.run(response, &event("add", arguments));
    assert!(
        started.elapsed() < WALL + AROUND,
        "{arguments:?}: {:?}",
        started.elapsed()
    );
    let wall = &outcome["used"]["wall"];
    let wall = Duration::new(
        wall["secs"].as_u64().unwrap(),
        wall["nanos"].as_u64().unwrap() as u32,
    );
    assert!(wall <= WALL + GRACE, "{arguments:?}: the run took {wall:?}");
    (
        outcome["verdict"]["verdict"]
            .as_str()
            .unwrap_or("none")
            .to_owned(),
        outcome,
    )
}

/// A good response still works, and what it did is all that was done.
fn the_next_good_response_is_fine() {
    let address = "203.0.113.99";
    let add = json!({"action": "add", "srcip": address});
    let outcome = root().run("firewall-drop", &add);
    assert_eq!(outcome["verdict"]["verdict"], "ok", "{outcome}");
    let delete = json!({"action": "delete", "srcip": address});
    assert_eq!(
        root().run("firewall-drop", &delete)["verdict"]["verdict"],
        "ok"
    );
}

#[test]
fn every_bound_has_its_own_verdict() {
    for (response, arguments, expected) in [
        ("hostile", &["endless-loop"][..], "out-of-fuel"),
        ("hostile", &["recursion"], "stack"),
        ("hostile", &["memory-growth"], "memory"),
        ("hostile", &["four-gib"], "memory"),
        ("hostile", &["log-flood"], "log-bytes"),
        ("hostile", &["log-line"], "host-bytes"),
        ("hostile", &["host-call-flood"], "host-calls"),
        ("hostile", &["hostname-flood"], "host-calls"),
        ("hostile", &["huge-string"], "host-bytes"),
        ("hostile", &["panic"], "trapped"),
        ("hostile", &["trap"], "trapped"),
        ("hostile", &["error-denied"], "error"),
        ("hostile", &["error-invalid"], "error"),
        ("hostile", &["error-unavailable"], "error"),
        ("hostile", &["error-failed"], "error"),
        ("hostile", &["ok"], "ok"),
        ("clock", &["wait"], "wall"),
        ("clock", &["exit"], "exit"),
        ("clock", &["print"], "ok"),
        ("clock", &["handles"], "handles"),
        ("start-loop", &[], "out-of-fuel"),
        ("table-growth", &[], "table"),
        ("huge-memory", &[], "memory"),
        ("huge-table", &[], "table"),
        ("bad-pointer", &[], "trapped"),
    ] {
        let (verdict, outcome) = verdict(response, arguments);
        assert_eq!(verdict, expected, "{response} {arguments:?}: {outcome}");
        assert!(
            !root().blocked().contains(&ATTACKER.to_owned()),
            "{arguments:?}"
        );
    }
    the_next_good_response_is_fine();
}

#[test]
fn a_panic_says_what_and_where_and_forges_no_line() {
    let (_, outcome) = verdict("hostile", &["panic"]);
    let text = outcome["lines"].to_string();
    assert!(
        text.contains("a panic") && text.contains("src/lib.rs"),
        "{text}"
    );
    let printed = root().retort(&["history", "--last", "5"]);
    assert!(!String::from_utf8_lossy(&printed.stdout).contains("\nwith a second line"));
}

#[test]
fn what_was_used_is_reported() {
    let (_, outcome) = verdict("hostile", &["endless-loop"]);
    assert_eq!(outcome["used"]["fuel"], 10_000_000);
    let (_, outcome) = verdict("hostile", &["memory-growth"]);
    let memory = outcome["used"]["memory"].as_u64().unwrap();
    assert!(memory > 8 << 20 && memory <= 16 << 20, "{memory}");
    let (_, outcome) = verdict("hostile", &["host-call-flood"]);
    assert_eq!(outcome["used"]["host_calls"], 64);
}

fn refusal(outcome: &Value) -> (String, String) {
    let refusal = &outcome["records"][0]["answer"]["Err"];
    let text = |key: &str| refusal[key].as_str().unwrap_or_default().to_owned();
    (text("kind"), text("reason"))
}

#[test]
fn no_guest_blocks_what_it_must_not() {
    for (arguments, kind, words) in [
        (
            &["block-other", "198.51.100.7"][..],
            "denied",
            "retort.toml protects",
        ),
        (&["block-other", "127.0.0.1"], "denied", "loopback"),
        (
            &["block-other", "::ffff:198.51.100.7"],
            "denied",
            "retort.toml protects",
        ),
        (
            &["block-other", "64:ff9b::c633:6407"],
            "denied",
            "retort.toml protects",
        ),
        (
            &["block-other", "2002:c633:6407::1"],
            "denied",
            "retort.toml protects",
        ),
        (&["block-other", "224.0.0.1"], "denied", "multicast"),
        (&["block-all4"], "denied", "wider than /32"),
        (&["block-all6"], "denied", "wider than /128"),
    ] {
        let (verdict, outcome) = verdict("hostile", arguments);
        assert_eq!(verdict, "error", "{arguments:?}");
        let (told, reason) = refusal(&outcome);
        assert_eq!(told, kind, "{arguments:?}: {reason}");
        assert!(reason.contains(words), "{arguments:?}: {reason}");
        assert!(
            root()
                .blocked()
                .iter()
                .all(|address| address == "203.0.113.99"),
            "{arguments:?}"
        );
    }
    let (_, outcome) = verdict("hostile", &["block-nonsense"]);
    assert_eq!(outcome["verdict"]["kind"], "invalid");
    the_next_good_response_is_fine();
}

#[test]
fn the_usual_grant_opens_the_events_own_address_alone() {
    let root = Root::granted(
        &[("hostile", &guests::hostile())],
        "[firewall]\nbackend = \"record\"\n[response.hostile]\nexpect = [\"srcip\"]\nfirewall = {}\nhostname = true\nprocess.true = { argv = [\"/bin/true\"] }\n",
    );
    let outcome = root.run("hostile", &event("add", &["block-other", "203.0.113.8"]));
    let (kind, reason) = refusal(&outcome);
    assert_eq!(kind, "denied", "{reason}");
    assert!(reason.contains("not the srcip of this event"), "{reason}");
    assert!(root.blocked().is_empty());
    let outcome = root.run("hostile", &event("add", &["block"]));
    assert_eq!(outcome["verdict"]["verdict"], "ok", "{outcome}");
    assert_eq!(root.blocked(), [ATTACKER]);
    // During delete a guest can only release, and the host makes sure.
    let outcome = root.run("hostile", &event("delete", &["block"]));
    let (kind, reason) = refusal(&outcome);
    assert_eq!(kind, "denied");
    assert!(reason.contains("only release during delete"), "{reason}");
    assert!(root.blocked().is_empty());
}

#[test]
fn a_helper_runs_only_as_it_is_granted() {
    for (helper, kind, words) in [
        ("nothing", "denied", "no helper"),
        ("../../bin/sh", "invalid", "helper name"),
        ("of-user", "invalid", "no user"),
        ("slow", "failed", "was ended"),
    ] {
        let (_, outcome) = verdict("hostile", &["helper", helper]);
        let (told, reason) = refusal(&outcome);
        assert_eq!(told, kind, "{helper}: {reason}");
        assert!(reason.contains(words), "{helper}: {reason}");
    }
    let (verdict, _) = verdict("hostile", &["helper", "true"]);
    assert_eq!(verdict, "ok");
    let outcome = root().run("hostile", &event("delete", &["helper", "add-only"]));
    let (kind, reason) = refusal(&outcome);
    assert_eq!(kind, "denied", "{reason}");
}

#[test]
fn what_a_dying_guest_did_is_known_and_taken_back_without_it() {
    let root = Root::granted(
        &[("hostile", &guests::hostile())],
        "[firewall]\nbackend = \"record\"\n[response.hostile]\nexpect = [\"srcip\"]\nfirewall = {}\nhostname = true\nprocess.true = { argv = [\"/bin/true\"] }\n",
    );
    for manner in ["block-then-panic", "block-then-loop", "block-twice"] {
        root.run("hostile", &event("add", &[manner]));
        assert_eq!(root.blocked(), [ATTACKER], "{manner}");
        // On delete it panics before it does anything.
        let outcome = root.run("hostile", &event("delete", &["panic"]));
        assert_eq!(outcome["verdict"]["verdict"], "trapped");
        assert!(root.blocked().is_empty(), "{manner}: {outcome}");
    }
}

#[test]
fn a_hand_written_event_is_masked_as_an_alert_is() {
    let root = Root::firewall_drop("ossec");
    let event = json!({"action": "add", "srcip": ATTACKER, "user": "root", "filename": "/x"});
    let outcome = root.run("firewall-drop", &event);
    assert_eq!(outcome["verdict"]["verdict"], "ok", "{outcome}");
    assert_eq!(
        (&outcome["event"]["user"], &outcome["event"]["filename"]),
        (&Value::Null, &Value::Null)
    );
    let outcome = root.run("firewall-drop", &json!({"action": "add", "user": "root"}));
    let error = outcome["error"].as_str().unwrap_or_default();
    assert!(error.contains("srcip is expected"), "{outcome}");
}

#[test]
fn a_guest_that_shrugs_at_a_refusal_does_not_make_it_done() {
    let root = Root::granted(
        &[("hostile", &guests::hostile())],
        "[firewall]\nbackend = \"record\"\n[response.hostile]\nexpect = [\"srcip\"]\nfirewall = {}\nhostname = true\nprocess.true = { argv = [\"/bin/true\"] }\n",
    );
    let file = root.path().join("event.json");
    std::fs::write(&file, event("add", &["shrug"]).to_string()).unwrap();
    let output = root.retort(&["run", "hostile", "--event", file.to_str().unwrap()]);
    assert!(!output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        told.contains("hostile add: ok") && told.contains("denied"),
        "{told}"
    );
    let history = root.retort(&["history"]);
    let told = String::from_utf8_lossy(&history.stdout);
    assert!(told.contains("not the srcip of this event"), "{told}");
}

#[test]
fn a_busy_guest_does_not_hold_the_wall_clock_up() {
    let root = Root::granted(
        &[("hostile", &guests::hostile())],
        "[ceilings]\nfuel = 1_000_000_000_000\n[firewall]\nbackend = \"record\"\n[response.hostile]\nexpect = [\"srcip\"]\nfirewall = {}\nhostname = true\nprocess.true = { argv = [\"/bin/true\"] }\nlimits = { fuel = 1_000_000_000_000, wall = \"500 ms\" }\n",
    );
    let started = Instant::now();
    let outcome = root.run("hostile", &event("add", &["endless-loop"]));
    assert_eq!(outcome["verdict"]["verdict"], "wall", "{outcome}");
    assert!(started.elapsed() < Duration::from_secs(3));
    let nanos = outcome["used"]["wall"]["nanos"].as_u64().unwrap();
    assert!(nanos <= 550_000_000, "{outcome}");
}
