//! An execd that behaves as the real ones do, up to the day on which it is killed:
//! nothing hangs longer than the wall limit, and nothing stays blocked for ever.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::execd::{self, Execd};
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
