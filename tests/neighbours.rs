//! Hostile neighbours: processes of another user and of OSSEC's group try to replace
//! what is trusted. Refused or without effect, and `check` names it.

mod support;

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use support::guests;
use support::root::Root;

/// Real ids that no account needs to have.
const USER: u32 = 48_001;
const GROUP: u32 = 48_000;

/// An installation as OSSEC makes it: `etc`, `logs` and `var/run` are its group's.
fn root() -> Root {
    let root = Root::with(
        &[("firewall-drop", &guests::response("firewall-drop"))],
        "ossec",
        "record",
    );
    for folder in ["logs", "etc", "etc/shared"] {
        let path = root.path().join(folder);
        chown(&path, Some(0), Some(GROUP)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o770)).unwrap();
    }
    chown(root.bin(""), Some(0), Some(GROUP)).unwrap();
    std::fs::set_permissions(root.bin(""), std::fs::Permissions::from_mode(0o750)).unwrap();
    root
}

/// Whether the user of the group could do it.
fn as_neighbour(program: &str) -> bool {
    Command::new("/bin/sh")
        .args(["-c", program])
        .uid(USER)
        .gid(GROUP)
        .output()
        .unwrap()
        .status
        .success()
}

#[test]
fn what_is_trusted_is_out_of_reach() {
    let root = root();
    root.works();
    let path = root.path().display();
    assert!(
        as_neighbour(&format!("echo x > {path}/logs/mine")),
        "the neighbour is real"
    );
    for attempt in [
        format!("echo 'mode = \"observe\"' > {path}/retort/retort.toml"),
        format!("echo x > {path}/retort/journal.db"),
        format!("echo x > {path}/retort/cache/x"),
        format!("cat {path}/retort/retort.toml"),
        format!("ln -s /etc/passwd {path}/retort/control.sock"),
        format!("mv {path}/retort {path}/gone"),
        format!("echo x > {path}/active-response/bin/firewall-drop.wasm"),
        format!("rm {path}/active-response/bin/firewall-drop"),
        format!("ln -s /bin/true {path}/active-response/bin/other"),
        format!("exec 9> {path}/retort/lock; flock 9"),
    ] {
        assert!(!as_neighbour(&attempt), "{attempt}");
    }
    root.works();
}

#[test]
fn what_others_could_write_is_refused_and_named() {
    for (file, mode, owner) in [
        ("retort/retort.toml", 0o666, 0),
        ("retort/retort.toml", 0o600, USER),
        ("retort", 0o777, 0),
        ("active-response/bin/firewall-drop.wasm", 0o664, 0),
        ("active-response/bin/firewall-drop.wasm", 0o640, USER),
        ("active-response/bin", 0o775, 0),
    ] {
        let root = root();
        let path = root.path().join(file);
        chown(&path, Some(owner), None).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let answer = root.run(
            "firewall-drop",
            &json!({"action": "add", "srcip": "203.0.113.7"}),
        );
        let sentence = answer["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{file}: {answer}"));
        assert!(
            sentence.contains(file) && sentence.contains("mend it with"),
            "{file}: {sentence}"
        );
        let check = root.retort(&["check"]);
        assert!(!check.status.success());
        assert!(
            String::from_utf8_lossy(&check.stdout).contains(file),
            "{file}: {check:?}"
        );
    }
}

#[test]
fn the_log_leads_nowhere_else() {
    let root = root();
    let victim = root.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    // Protected hard links would hide that we refuse them ourselves: root makes it.
    let log = root.path().join("logs/active-responses.log");
    let link = |make: &dyn Fn(&Path, &Path)| {
        let _ = std::fs::remove_file(&log);
        make(&victim, &log);
        assert_eq!(
            root.call("firewall-drop", "add", "203.0.113.7"),
            0,
            "a log that leads elsewhere is no reason not to act"
        );
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
        let check = root.retort(&["check"]);
        assert!(!check.status.success());
        assert!(String::from_utf8_lossy(&check.stdout).contains("active-responses.log is"));
    };
    link(&|victim, log| {
        let made = as_neighbour(&format!("ln -s {} {}", victim.display(), log.display()));
        assert!(made, "the group can write logs/");
    });
    link(&|victim, log| std::fs::hard_link(victim, log).unwrap());
    let _ = std::fs::remove_file(&log);
    assert!(as_neighbour(&format!("mkfifo {}", log.display())));
    assert_eq!(
        root.call("firewall-drop", "add", "203.0.113.7"),
        0,
        "a pipe without a reader does not hang us"
    );
}

#[test]
fn ossec_conf_widens_nothing() {
    let root = root();
    let conf = root.path().join("etc/ossec.conf");
    // The group can write it, and asks for more than is granted.
    assert!(as_neighbour(&format!(
        "echo '<ossec_config><command><name>f</name><executable>firewall-drop</executable><expect>srcip,user,filename</expect></command></ossec_config>' > {}",
        conf.display()
    )));
    assert_eq!(root.call("firewall-drop", "add", "203.0.113.7"), 0);
    let history = root.json(&["history"]);
    assert_eq!(history[0]["event"]["srcip"], "203.0.113.7");
    assert_eq!(history[0]["event"]["filename"], json!(null));
    let check = root.retort(&["check"]);
    assert!(String::from_utf8_lossy(&check.stdout).contains("etc/ossec.conf"));
}

#[test]
fn a_flipped_byte_in_the_cache_is_compiled_anew() {
    let root = root();
    root.works();
    let file = root.compiled().remove(0);
    let whole = std::fs::read(&file).unwrap();
    for at in [0, 31, 32, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&file, &bytes).unwrap();
        root.works();
        assert!(
            std::fs::read(&file).unwrap() == whole,
            "byte {at}: it was not written anew"
        );
    }
}

/// A journal that others could have written is not believed, not even to let go.
#[test]
fn in_a_folder_that_others_can_write_nothing_is_believed() {
    let root = Root::firewall_drop("ossec");
    let call = |action: &str| root.call("firewall-drop", action, "203.0.113.7");
    assert_eq!(call("add"), 0);
    let own = root.path().join("retort");
    let mode =
        |mode| std::fs::set_permissions(&own, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    assert_eq!(call("delete"), 1);
    for arguments in [
        &["unblock", "203.0.113.7"][..],
        &["sweep"],
        &["blocks", "list"],
    ] {
        let output = root.retort(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("chmod go-w"),
            "{arguments:?}: {output:?}"
        );
    }
    mode(0o700);
    assert_eq!(root.blocked(), ["203.0.113.7"]);
    assert_eq!(call("delete"), 0);
}
