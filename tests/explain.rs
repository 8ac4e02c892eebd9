//! What a person on call asks: why is this address blocked, why is it not.

mod support;

use serde_json::json;
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
