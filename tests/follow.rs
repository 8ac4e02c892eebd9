//! `retort watch` from outside: alerts are written, responses run, a restart neither
//! loses nor repeats one.

#[path = "support/mod.rs"]
mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use support::daemon::{Daemon, until};
use support::root::{RETORT, Root};

const CONF: &str = "<command><name>drop</name><executable>firewall-drop.sh</executable><expect>srcip</expect></command>
<active-response><command>drop</command><location>local</location><level>6</level><timeout>600</timeout></active-response>
<active-response><command>drop</command><location>defined-agent</location><agent_id>007</agent_id><rules_id>31103</rules_id></active-response>";

fn root() -> Root {
    let root = Root::firewall_drop("ossec");
    root.ossec_conf(CONF);
    std::fs::create_dir_all(root.path().join("logs/alerts")).unwrap();
    root
}

fn alert(n: u32, rule: u32, address: &str) -> String {
    let alert = json!({
        "rule": {"level": 10, "comment": "brute force", "sidid": rule, "group": "syslog,sshd,", "groups": ["syslog", "sshd"]},
        "id": format!("1795489577.{n}"), "srcip": address, "location": "/var/log/auth.log",
        "full_log": "x", "hostname": "web01"
    });
    format!("{alert}\n")
}

fn write(root: &Root, text: &str) {
    let path = root.path().join("logs/alerts/alerts.json");
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn watch(root: &Root) -> Daemon {
    let mut program = Command::new(RETORT);
    program.arg("--root").arg(root.path()).arg("watch");
    let daemon = Daemon::spawn(program, root.path().join("none"));
    assert!(daemon.says("Started"), "{:?}", daemon.said());
    daemon
}

fn gets_blocked(root: &Root, address: &str) -> bool {
    until(Duration::from_secs(10), || {
        root.blocked().iter().any(|b| b == address)
    })
}

fn adds(root: &Root) -> usize {
    root.outcomes()
        .iter()
        .filter(|line| line.contains("firewall-drop add: ok"))
        .count()
}

#[test]
fn an_alert_is_answered_for_its_timeout_and_old_ones_are_not() {
    let root = root();
    write(&root, &alert(1, 5712, "203.0.113.1"));
    let daemon = watch(&root);
    write(&root, &alert(2, 5712, "203.0.113.2"));
    assert!(
        gets_blocked(&root, "203.0.113.2"),
        "{:?} {}",
        daemon.said(),
        root.log()
    );
    let listed = root.json(&["blocks", "list"]);
    assert_eq!(
        root.blocked(),
        ["203.0.113.2"],
        "what stood there before is not answered"
    );
    assert!(
        (590..=600).contains(&listed[0]["left_seconds"].as_u64().unwrap()),
        "{listed}"
    );
    let answered = || root.json(&["status"])["daemon"]["alerts"]["orders"] == 1;
    assert!(until(Duration::from_secs(5), answered));
}

#[test]
fn a_killed_watch_goes_on_where_it_was() {
    let root = root();
    write(&root, "");
    let daemon = watch(&root);
    for n in 1..=30 {
        write(&root, &alert(n, 5712, &format!("203.0.113.{n}")));
    }
    assert!(gets_blocked(&root, "203.0.113.3"));
    daemon.kill();
    for n in 31..=60 {
        write(&root, &alert(n, 5712, &format!("203.0.113.{n}")));
    }
    // It is rotated, too, while nobody looks.
    let file = root.path().join("logs/alerts/alerts.json");
    std::fs::rename(&file, root.path().join("logs/alerts/alerts.json.1")).unwrap();
    write(&root, &alert(61, 5712, "203.0.113.61"));
    let daemon = watch(&root);
    assert!(
        until(Duration::from_secs(20), || root.blocked().len() == 61),
        "{} {:?}",
        root.blocked().len(),
        daemon.said()
    );
    daemon.stop();
    // Those that were under way when it was killed may have said nothing.
    let before = adds(&root);
    assert!(before <= 61, "{before}: none twice");
    let daemon = watch(&root);
    write(&root, &alert(62, 5712, "203.0.113.62"));
    assert!(gets_blocked(&root, "203.0.113.62"), "{:?}", daemon.said());
    assert!(adds(&root) <= before + 1, "nothing is done again");
}

#[test]
fn what_is_to_run_elsewhere_is_said_and_counted() {
    let root = root();
    write(&root, "");
    let _daemon = watch(&root);
    write(&root, &alert(1, 31103, "203.0.113.1"));
    assert!(gets_blocked(&root, "203.0.113.1"));
    let said = || {
        root.outcomes()
            .iter()
            .any(|line| line.contains("can't be delivered"))
    };
    assert!(until(Duration::from_secs(5), said), "{}", root.log());
    let counted = || root.json(&["status"])["daemon"]["alerts"]["undeliverable"] == 1;
    assert!(until(Duration::from_secs(5), counted));
}

#[test]
fn stdin_is_read_to_its_end_and_everything_in_it_is_done() {
    let root = root();
    let mut child = Command::new(RETORT)
        .arg("--root")
        .arg(root.path())
        .args(["watch", "--stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for n in 1..=20 {
        stdin
            .write_all(alert(n, 5712, &format!("203.0.113.{n}")).as_bytes())
            .unwrap();
    }
    stdin.write_all(b"nonsense\n").unwrap();
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(root.blocked().len(), 20);
}

#[test]
fn our_own_log_starts_nothing() {
    let root = root();
    write(&root, "");
    let daemon = watch(&root);
    let own = alert(1, 601, "203.0.113.1")
        .replace("/var/log/auth.log", "/var/ossec/logs/active-responses.log");
    write(&root, &own);
    write(&root, &alert(2, 5712, "203.0.113.2"));
    assert!(gets_blocked(&root, "203.0.113.2"), "{:?}", daemon.said());
    assert_eq!(root.blocked(), ["203.0.113.2"]);
}

#[test]
fn a_file_that_is_emptied_and_filled_to_its_old_length_is_read_again() {
    let root = root();
    write(&root, "");
    let daemon = watch(&root);
    write(&root, &alert(1, 5712, "203.0.113.1"));
    assert!(gets_blocked(&root, "203.0.113.1"));
    let path = root.path().join("logs/alerts/alerts.json");
    let next = alert(2, 5712, "203.0.113.2");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), next.len() as u64);
    std::fs::write(&path, next).unwrap();
    assert!(gets_blocked(&root, "203.0.113.2"), "{:?}", daemon.said());
}
