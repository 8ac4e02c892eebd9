//! The systemd units: what they say is understood, and what they leave is enough.

mod support;

use std::path::Path;
use std::process::Command;

use support::daemon::{Daemon, until};
use support::guests;
use support::netns::Netns;
use support::root::{RETORT, Root};

fn units() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

#[test]
fn systemd_takes_every_unit() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for unit in std::fs::read_dir(units()).unwrap() {
        let unit = unit.unwrap();
        let text = std::fs::read_to_string(unit.path()).unwrap();
        let text = text.replace("/usr/local/sbin/retort", RETORT);
        let path = dir.path().join(unit.file_name());
        std::fs::write(&path, text).unwrap();
        names.push(path);
    }
    assert_eq!(names.len(), 7);
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(&names)
        .output()
        .expect("systemd-analyze is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours = said.lines().filter(|line| line.contains("retort-"));
    assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(output.status.success(), "{said}");
}

/// `CapabilityBoundingSet` of a unit, as `setpriv` wants it.
fn capabilities(unit: &str) -> String {
    let text = std::fs::read_to_string(units().join(unit)).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .unwrap();
    let names = line
        .split(' ')
        .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()));
    format!("-all{}", names.collect::<String>())
}

/// As OSSEC has it: folders of its own users, closed to others.
fn closed() -> Root {
    let component = guests::response("firewall-drop");
    let root = Root::with(&[("firewall-drop", &component)], "ossec", "nftables");
    for folder in ["etc/shared", "logs"] {
        let path = root.path().join(folder);
        std::os::unix::fs::chown(&path, Some(48_001), Some(48_000)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
        std::fs::set_permissions(&path, mode).unwrap();
    }
    root
}

#[test]
fn what_their_units_leave_is_enough_for_sweep_and_check() {
    let root = closed();
    root.ar_conf("firewall-drop60 - firewall-drop - 60\n");
    let host = Netns::new("units");
    let event = root.path().join("event.json");
    std::fs::write(
        &event,
        r#"{"action": "add", "srcip": "203.0.113.7", "timeout": 1}"#,
    )
    .unwrap();
    let retort = |capabilities: Option<&str>, arguments: &[&str]| {
        let mut command = host.command("setpriv");
        if let Some(capabilities) = capabilities {
            command.args([
                "--bounding-set",
                capabilities,
                "--inh-caps",
                "-all",
                "--no-new-privs",
            ]);
        }
        let output = command
            .arg(RETORT)
            .arg("--root")
            .arg(root.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    retort(
        None,
        &["run", "firewall-drop", "--event", event.to_str().unwrap()],
    );
    assert!(host.sh("nft list ruleset").contains("203.0.113.7"));
    retort(Some(&capabilities("retort-check.service")), &["check"]);
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let said = retort(Some(&capabilities("retort-sweep.service")), &["sweep"]);
    assert!(said.contains("unblock 203.0.113.7"), "{said}");
    assert!(root.blocked().is_empty());
}

#[test]
fn what_its_unit_leaves_is_enough_for_the_daemon() {
    let root = closed();
    root.ar_conf("firewall-drop1 - firewall-drop - 1\n");
    let host = Netns::new("unit");
    let mut program = host.command("setpriv");
    let capabilities = capabilities("retort-execd.service");
    program.args([
        "--bounding-set",
        &capabilities,
        "--inh-caps",
        "-all",
        "--no-new-privs",
        RETORT,
    ]);
    let daemon = Daemon::start(&root, program, "queue/alerts/execq");
    daemon.send("firewall-drop1 - 203.0.113.7 1.1 5712 x -");
    let has = || host.sh("nft list ruleset").contains("203.0.113.7");
    let patience = std::time::Duration::from_secs(10);
    assert!(until(patience, has), "{:?} {}", daemon.said(), root.log());
    assert!(
        until(patience, || !has() && root.blocked().is_empty()),
        "{}",
        root.log()
    );
}
