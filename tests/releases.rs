//! A delete lets go whatever stands in its way: a component that is gone, broken or
//! no longer granted, a configuration that can't be read, a lock, a full disk, an end
//! in the middle. What can't be done at once is owed, and done later.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use support::execd::{self, Execd};
use support::guests;
use support::keeper::{self, Keeper};
use support::root::{RETORT, Root, ossec_words};

const ATTACKER: &str = "203.0.113.7";

/// What somebody may do to an installation between add and delete.
type Harm = (&'static str, fn(&Root));

#[test]
fn nothing_that_breaks_meanwhile_keeps_a_block_standing() {
    let harms: [Harm; 12] = [
        ("the component is gone", |root| {
            std::fs::remove_file(root.bin("firewall-drop.wasm")).unwrap();
        }),
        ("the component is junk", |root| {
            std::fs::write(root.bin("firewall-drop.wasm"), "junk").unwrap();
        }),
        ("others can write the component", |root| {
            mode(&root.bin("firewall-drop.wasm"), 0o666);
        }),
        ("others can write the folder", |root| {
            mode(&root.path().join("active-response/bin"), 0o777);
        }),
        ("its grant is gone", |root| {
            root.grant("[firewall]\nbackend = \"record\"\n[response.firewall-drop]\nexpect = [\"srcip\"]\n");
        }),
        ("it expects nothing any more", |root| {
            root.grant("[firewall]\nbackend = \"record\"\n[response.firewall-drop]\nexpect = []\nfirewall = {}\n");
        }),
        ("it expects something else", |root| {
            root.ossec_conf("<command><name>x</name><executable>firewall-drop</executable><expect>filename</expect></command>");
        }),
        ("the mode is observe", |root| {
            let path = root.path().join("retort/retort.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, format!("mode = \"observe\"\n{text}")).unwrap();
        }),
        ("the grants can't be read", |root| root.grant("modus = 1\n")),
        ("ossec.conf can't be read", |root| {
            std::fs::write(
                root.path().join("etc/ossec.conf"),
                "<ossec_config><active-response>",
            )
            .unwrap();
        }),
        ("ar.conf is a pipe", |root| {
            let path = root.path().join("etc/shared/ar.conf");
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
        ("ar.conf is enormous", |root| {
            root.ar_conf(&"x".repeat(2 << 20))
        }),
    ];
    for (harm, work) in harms {
        for by_sweep in [false, true] {
            let root = Root::firewall_drop("ossec");
            assert_eq!(
                root.call("firewall-drop", "add", ATTACKER),
                0,
                "{}",
                root.log()
            );
            assert_eq!(root.blocked(), [ATTACKER]);
            work(&root);
            if by_sweep {
                let output = root.retort(&["unblock", ATTACKER]);
                assert!(output.status.success(), "{harm}: {output:?}");
            } else {
                root.call("firewall-drop", "delete", ATTACKER);
            }
            assert!(root.blocked().is_empty(), "{harm}: {}", root.log());
        }
    }
}

#[test]
fn a_wazuh_delete_releases_by_its_alert_alone_too() {
    for event in [execd::alert as fn(&str) -> serde_json::Value, execd::event] {
        let root = Root::firewall_drop("wazuh4");
        let mut execd = Execd::start(root.path());
        let told = execd.wazuh("firewall-drop", &event(ATTACKER), &json!({"timeout": 600}));
        assert_eq!(told["status"], 0, "{}", root.log());
        let other = execd.wazuh("firewall-drop", &event("203.0.113.8"), &json!({}));
        assert_eq!(other["status"], 0, "{}", root.log());
        std::fs::remove_file(root.bin("firewall-drop.wasm")).unwrap();
        execd.terminate();
        assert_eq!(root.blocked(), ["203.0.113.8"], "{}", root.log());
        let last = root.outcomes().pop().unwrap();
        assert!(
            last.contains("not run") && last.contains("unblock 203.0.113.7/32: done"),
            "{last}"
        );
    }
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_delete_that_can_t_be_done_is_owed_and_done_by_the_next_run() {
    for script in [keeper::LOCK, keeper::JOURNAL] {
        for by_sweep in [false, true] {
            let root = Root::firewall_drop("ossec");
            root.wall("1 s");
            assert_eq!(root.call("firewall-drop", "add", ATTACKER), 0);
            assert_eq!(root.call("firewall-drop", "add", "203.0.113.8"), 0);
            let keeper = Keeper::of(&root, script);
            let started = Instant::now();
            assert_eq!(
                root.call("firewall-drop", "delete", ATTACKER),
                1,
                "{}",
                root.log()
            );
            assert!(started.elapsed() < Duration::from_millis(1500));
            drop(keeper);
            assert_eq!(root.blocked().len(), 2);
            if by_sweep {
                let output = root.retort(&["sweep"]);
                assert!(
                    String::from_utf8_lossy(&output.stdout).contains(ATTACKER),
                    "{output:?}"
                );
                assert_eq!(root.blocked(), ["203.0.113.8"]);
            } else {
                assert_eq!(root.call("firewall-drop", "add", "203.0.113.9"), 0);
                assert_eq!(root.blocked(), ["203.0.113.8", "203.0.113.9"]);
                assert!(
                    root.log().contains("a delete that was cut short"),
                    "{}",
                    root.log()
                );
            }
        }
    }
}

#[test]
fn what_is_blocked_anew_after_a_delete_that_was_cut_short_stays() {
    let root = Root::firewall_drop("ossec");
    root.wall("1 s");
    assert_eq!(root.call("firewall-drop", "add", ATTACKER), 0);
    let keeper = Keeper::of(&root, keeper::LOCK);
    assert_eq!(root.call("firewall-drop", "delete", ATTACKER), 1);
    drop(keeper);
    // The attacker is back before anybody swept: this block is not what was owed.
    assert_eq!(root.call("firewall-drop", "add", ATTACKER), 0);
    root.retort(&["sweep"]);
    assert_eq!(root.blocked(), [ATTACKER], "{}", root.log());
}

/// ossec-execd starts a delete and goes on; the next add of the same attacker runs
/// beside it, and from then on execd suppresses every further one.
#[test]
fn an_add_beside_an_older_delete_stays() {
    let root = Root::firewall_drop("ossec");
    for gap in [0, 1, 3] {
        for last in 1..=15 {
            let address = format!("203.0.113.{last}");
            assert_eq!(root.call("firewall-drop", "add", &address), 0);
            let start = |action: &str| {
                let mut command = Command::new(root.bin("firewall-drop"));
                command.args(ossec_words(action, &address)).spawn().unwrap()
            };
            let mut delete = start("delete");
            std::thread::sleep(Duration::from_millis(gap));
            let mut add = start("add");
            assert!(delete.wait().unwrap().success() && add.wait().unwrap().success());
        }
        assert_eq!(
            root.blocked().len(),
            15,
            "{gap} ms: {}",
            root.outcomes().join("\n")
        );
        for last in 1..=15 {
            root.call("firewall-drop", "delete", &format!("203.0.113.{last}"));
        }
        assert!(root.blocked().is_empty());
    }
}

#[test]
fn two_names_of_one_component_hold_for_themselves() {
    let root = Root::firewall_drop("ossec");
    assert_eq!(root.call("firewall-drop", "add", ATTACKER), 0);
    assert_eq!(root.call("firewall-drop.sh", "add", ATTACKER), 0);
    assert_eq!(root.call("firewall-drop", "delete", ATTACKER), 0);
    assert_eq!(root.blocked(), [ATTACKER]);
    assert_eq!(root.call("firewall-drop.sh", "delete", ATTACKER), 0);
    assert!(root.blocked().is_empty());
}

#[test]
fn the_hold_of_an_execd_that_died_at_once_ends_by_ar_conf() {
    let root = Root::firewall_drop("ossec");
    root.ar_conf("firewall-drop600 - firewall-drop - 600\n");
    let link = root.bin("firewall-drop");
    // Its parent is gone before it looks.
    let line = format!(
        "(sleep 0.3; exec {} add - {ATTACKER} 1.1 5712 x -) &",
        link.display()
    );
    Command::new("/bin/sh")
        .args(["-c", &line])
        .status()
        .unwrap();
    let held = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        let holds = root.json(&["blocks", "list"]);
        holds.as_array().unwrap().first().cloned()
    });
    let held = held.expect("it is blocked");
    let left = held["orphan_left_seconds"]
        .as_u64()
        .or(held["left_seconds"].as_u64());
    assert!(left.unwrap() <= 600, "{held}");
}

#[test]
fn a_delete_that_is_killed_in_the_middle_is_done_later() {
    let components = [
        ("hostile", guests::hostile()),
        ("firewall-drop", guests::response("firewall-drop")),
    ];
    let components: Vec<(&str, &[u8])> =
        components.iter().map(|(n, b)| (*n, b.as_slice())).collect();
    let root = Root::granted(
        &components,
        "[firewall]\nbackend = \"record\"\n[response.hostile]\nexpect = [\"srcip\"]\nfirewall = {}\nhostname = true\nprocess.true = { argv = [\"/bin/true\"] }\nprocess.slow = { argv = [\"/bin/sleep\", \"60\"], on = [\"delete\"] }\n[response.firewall-drop]\nexpect = [\"srcip\"]\nfirewall = {}\n",
    );
    let message = |command: &str, arguments: &[&str]| {
        let mut message = execd::alert(ATTACKER);
        message["command"] = json!(command);
        message["parameters"]["extra_args"] = json!(arguments);
        message
    };
    let mut execd = Execd::start(root.path());
    let told = execd.wazuh("hostile", &message("add", &["block"]), &json!({}));
    assert_eq!(told["status"], 0, "{}", root.log());
    assert_eq!(root.blocked(), [ATTACKER]);
    // On delete it waits for a helper that sleeps, and is killed with it.
    let mut child = Command::new(root.bin("hostile"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let line = format!("{}\n", message("delete", &["helper", "slow"]));
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), line.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(root.blocked(), [ATTACKER]);
    root.retort(&["sweep"]);
    assert!(root.blocked().is_empty(), "{}", root.log());
}

#[test]
fn an_abort_for_what_nobody_holds_blocks_it() {
    let root = Root::firewall_drop("wazuh4");
    let mut execd = Execd::start(root.path());
    let told = execd.wazuh(
        "firewall-drop",
        &execd::alert(ATTACKER),
        &json!({"reply": "abort"}),
    );
    assert_eq!(told["status"], 0, "{}", root.log());
    assert_eq!(root.blocked(), [ATTACKER]);
}

#[test]
fn the_orphan_of_a_wazuh_5_execd_ends_by_the_time_of_its_message() {
    let root = Root::firewall_drop("wazuh5");
    let mut execd = Execd::start(root.path());
    let mut event = execd::event(ATTACKER);
    event["wazuh"]["active_response"]["stateful_timeout"] = json!(1);
    let told = execd.wazuh("firewall-drop", &event, &json!({"timeout": 600}));
    assert_eq!(told["status"], 0, "{}", root.log());
    execd.kill();
    std::thread::sleep(Duration::from_millis(1100));
    root.retort(&["sweep"]);
    assert!(root.blocked().is_empty(), "{}", root.log());
}

#[test]
fn without_the_right_to_look_nobody_is_told_that_nothing_is_blocked() {
    let root = Root::firewall_drop("ossec");
    assert_eq!(root.call("firewall-drop", "add", ATTACKER), 0);
    for arguments in [
        &["blocks", "list"][..],
        &["history"],
        &["unblock", ATTACKER],
        &["sweep"],
    ] {
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(RETORT)
            .arg("--root")
            .arg(root.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
    }
    for arguments in [&["blocks", "list"][..], &["history"], &["sweep"]] {
        let output = Command::new(RETORT)
            .args(["--root", "/nonexistent"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
    }
    for file in ["journal.db", "journal.db-wal"] {
        std::fs::write(root.path().join("retort").join(file), "junk ".repeat(1000)).unwrap();
    }
    let output = root.retort(&["unblock", ATTACKER]);
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn too_few_descriptors_end_in_a_line_and_not_in_a_panic() {
    let root = Root::firewall_drop("ossec");
    for limit in 4..14 {
        let line = format!(
            "ulimit -n {limit}; exec {} add - {ATTACKER} 1.1 5712 x -",
            root.bin("firewall-drop").display()
        );
        let status = Command::new("/bin/sh")
            .args(["-c", &line])
            .status()
            .unwrap();
        let code = status.code().unwrap();
        assert!(code == 0 || code == 1, "{limit}: {status}");
        assert_eq!(
            root.blocked().is_empty(),
            code == 1,
            "{limit}: {}",
            root.log()
        );
        root.call("firewall-drop", "delete", ATTACKER);
    }
}
