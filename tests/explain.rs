//! What a person on call asks: why is this address blocked, why is it not.

mod support;

use std::time::Duration;

use serde_json::json;
use support::daemon::{Daemon, until};
use support::root::Root;

const ATTACKER: &str = "203.0.113.7";

fn said(root: &Root, arguments: &[&str]) -> String {
    let output = root.retort(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_address_is_explained_by_what_stands_and_what_was() {
    let root = Root::firewall_drop("ossec");
    let explain = || said(&root, &["explain", ATTACKER]);
    let before = explain();
    assert!(before.contains("nothing protects it"), "{before}");
    assert!(before.contains("no response has seen it"), "{before}");

    root.run(
        "firewall-drop",
        &json!({"action": "add", "srcip": ATTACKER, "timeout": 600}),
    );
    root.run(
        "firewall-drop",
        &json!({"action": "add", "srcip": "203.0.113.8"}),
    );
    let during = explain();
    assert!(
        during.contains("held by firewall-drop (record), 9m"),
        "{during}"
    );
    assert!(during.contains("firewall-drop add: ok"), "{during}");
    assert!(!during.contains("203.0.113.8"), "{during}");
    let json = root.json(&["explain", ATTACKER]);
    assert_eq!(json["holds"].as_array().unwrap().len(), 1);
    assert_eq!(json["history"].as_array().unwrap().len(), 1);
    assert_eq!(json["protected"], json!(null));

    root.run(
        "firewall-drop",
        &json!({"action": "delete", "srcip": ATTACKER}),
    );
    let after = explain();
    assert!(after.contains("firewall-drop delete: ok"), "{after}");
    assert!(!after.contains("held by"), "{after}");
}

#[test]
fn what_protects_an_address_is_said_in_whatever_spelling() {
    let root = Root::firewall_drop("ossec");
    let path = root.path().join("retort/retort.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        path,
        text.replace("protect = []", "protect = [\"198.51.100.0/24\"]"),
    )
    .unwrap();
    for spelling in ["198.51.100.5", "::ffff:198.51.100.5", "2002:c633:6405::1"] {
        let told = said(&root, &["explain", spelling]);
        assert!(
            told.contains("retort.toml protects 198.51.100.0/24"),
            "{told}"
        );
    }
    assert!(said(&root, &["explain", "127.0.0.1"]).contains("loopback"));
    let listed = said(&root, &["protect"]);
    assert!(
        listed.contains("198.51.100.0/24") && listed.contains("this host's own address"),
        "{listed}"
    );
    let refused = root.retort(&["explain", "10.1"]);
    assert!(!refused.status.success());
}

const CONF: &str = "
<command><name>drop</name><executable>firewall-drop.sh</executable><expect>srcip</expect></command>
<command><name>gone</name><executable>host-deny.sh</executable><expect>srcip</expect></command>
<active-response><command>drop</command><location>local</location><level>6</level><timeout>600</timeout></active-response>
<active-response><command>drop</command><location>server</location><rules_group>web</rules_group></active-response>
<active-response><command>gone</command><location>all</location><rules_id>5712</rules_id></active-response>
<active-response><disabled>yes</disabled><command>gone</command><location>all</location><level>1</level></active-response>
";

#[test]
fn an_alert_is_explained_block_by_block() {
    let root = Root::firewall_drop("ossec");
    root.ossec_conf(CONF);
    let alerts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/alerts");
    for alert in [
        "wazuh/01-sshd-bruteforce-5712.json",
        "ossec/01-sshd-bruteforce-5712.json",
    ] {
        let file = alerts.join(alert);
        let told = said(&root, &["explain", file.to_str().unwrap()]);
        for words in [
            "rule 5712, level 10",
            "drop (firewall-drop.sh)\n  fires: level 10 is 6 or higher\n  runs where the event was seen, for 600 s",
            "does not fire: the rule is in none of web",
            "ossec.conf:8 gone\n  does not fire: it is disabled",
            "fires: rule 5712 is named\n  runs on every agent\n  that is on this host\n  sees srcip 203.0.113.9\n  but there is no component for host-deny.sh",
            "in the dialect ossec: level, group and id each fire",
        ] {
            assert!(told.contains(words), "{alert}: {words}: {told}");
        }
    }
    let file = alerts.join("wazuh/07-fim-modified-550.json");
    let told = said(&root, &["explain", file.to_str().unwrap()]);
    assert!(
        told.contains("but it does not run: srcip is expected"),
        "{told}"
    );
    let json = root.json(&["explain", file.to_str().unwrap()]);
    let blocks = json.as_array().unwrap();
    let of = |member: &str| {
        blocks
            .iter()
            .map(|block| block[member].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("line"), [5, 6, 7, 8]);
    assert_eq!(of("fires"), [true, false, false, false]);
    assert_eq!(of("cause"), ["absent", "selector", "selector", "disabled"]);
    assert_eq!(of("executable")[3], "host-deny.sh");
}

#[test]
fn an_alert_is_explained_by_the_place_of_its_response() {
    let root = Root::firewall_drop("ossec");
    root.ossec_conf(
        "<rules><include>r.xml</include></rules>
<global><white_list>198.51.100.0/24</white_list></global>
<command><name>drop</name><executable>firewall-drop.sh</executable><expect>srcip</expect></command>
<active-response><command>drop</command><location>local</location><level>1</level></active-response>
<active-response><command>drop</command><location>server</location><level>1</level></active-response>",
    );
    std::fs::write(
        root.path().join("etc/client.keys"),
        "001 web-01 10.0.0.5 k\n",
    )
    .unwrap();
    let explain = |alert: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = folder.join("../tests/data/alerts/ossec").join(alert);
        let file = file.to_str().unwrap().to_owned();
        (
            said(&root, &["explain", &file]),
            root.json(&["explain", &file]),
        )
    };
    let (told, json) = explain("01-sshd-bruteforce-5712.json");
    assert!(
        told.contains("not looked at: "),
        "the rules are not there: {told}"
    );
    assert!(
        told.contains("but it can't be delivered on agent 001 (web-01)"),
        "{told}"
    );
    assert_eq!(json[0]["places"], json!(["on agent 001 (web-01)"]));
    assert_eq!(json[1]["places"], json!(["on this host"]));
    assert_eq!(json[1]["fields"], json!({"srcip": "203.0.113.9"}));
    assert_eq!(json[1]["obstacles"], json!([]));

    let (told, json) = explain("02-sshd-failed-password-5716.json");
    assert_eq!(json[0]["cause"], "white-list");
    assert!(
        told.contains("but 198.51.100.23: the white list has 198.51.100.0/24"),
        "{told}"
    );

    std::fs::create_dir(root.path().join("rules")).unwrap();
    std::fs::write(
        root.path().join("rules/r.xml"),
        "<group name=\"x\">\n<rule id=\"5712\" level=\"10\"><options>no_ar</options></rule></group>",
    )
    .unwrap();
    let (told, json) = explain("01-sshd-bruteforce-5712.json");
    assert!(!told.contains("not looked at"), "{told}");
    assert!(
        told.contains("r.xml:2 has <options>no_ar</options>"),
        "{told}"
    );
    assert_eq!(json[1]["cause"], "rule");

    let (_, json) = explain("10-active-response-601.json");
    assert_eq!(json[1]["cause"], "own-log");
}

#[test]
fn the_step_of_an_offender_and_a_spent_budget_are_told() {
    let root = Root::firewall_drop("ossec");
    root.ossec_conf("<command><name>drop</name><executable>firewall-drop</executable><expect>srcip</expect></command>
<active-response><command>drop</command><location>local</location><level>6</level><timeout>600</timeout></active-response>
<active-response><repeated_offenders>30,60</repeated_offenders></active-response>");
    root.ar_conf("drop600 - firewall-drop - 600\n");
    let grants = std::fs::read_to_string(root.path().join("retort/retort.toml")).unwrap();
    let grants = grants.replace("[firewall]", "[firewall]\nper_minute = 2");
    root.grant(&grants);
    let alert = root.path().join("alert.json");
    std::fs::write(&alert, json!({"rule": {"level": 10, "sidid": 5712, "groups": []}, "id": "1.1", "srcip": ATTACKER, "location": "/var/log/auth.log"}).to_string()).unwrap();
    let alert = alert.to_str().unwrap();
    let explained = || said(&root, &["explain", alert]);
    assert!(!explained().contains("offender"), "{}", explained());
    let daemon = Daemon::execd(&root);
    for _ in 0..2 {
        daemon.send(&format!("drop600 - {ATTACKER} 1.1 5712 x -"));
    }
    assert!(
        until(Duration::from_secs(10), || explained()
            .contains("on step 2 of the ladder: for 1h")),
        "{}",
        explained()
    );
    daemon.send("drop600 - 203.0.113.8 1.1 5712 x -");
    let spent = || explained().contains("the budget is spent (2 of");
    assert!(until(Duration::from_secs(10), spent), "{}", explained());
}
