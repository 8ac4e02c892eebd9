//! One call of a link: what it takes, what it sheds, how long it lasts, what its exit
//! status says.

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::execd::{self, Execd};
use support::guests;
use support::keeper::{self, Keeper};
use support::root::Root;

const ATTACKER: &str = "203.0.113.7";

/// What a call may be late by when the machine is busy with the other tests.
const GRACE: Duration = Duration::from_millis(500);

#[test]
fn a_message_of_one_mebibyte_is_taken_and_a_larger_one_refused() {
    let root = Root::firewall_drop("wazuh4");
    let mut execd = Execd::start(root.path());
    let mut message = execd::alert(ATTACKER);
    let padding = (1 << 20) - message.to_string().len() - 20;
    message["parameters"]["alert"]["full_log"] = json!("x".repeat(padding));
    let told = execd.wazuh("firewall-drop", &message, &json!({}));
    assert_eq!(
        told["status"],
        0,
        "{}",
        &root.log()[..2000.min(root.log().len())]
    );
    assert_eq!(root.blocked(), [ATTACKER]);
}

#[test]
fn nothing_of_the_daemon_stays_with_a_response() {
    let root = Root::firewall_drop("wazuh4");
    let mut execd = Execd::start(root.path());
    let told = execd.wazuh(
        "firewall-drop",
        &execd::alert(ATTACKER),
        &json!({"look": true}),
    );
    let look = &told["look"];
    assert_eq!(look["leaked"], false, "{look}");
    assert_eq!(look["blocked"], "0000000000000000", "{look}");
    assert_eq!(look["umask"], "0027", "{look}");

    // What a helper sees is what is left: what was inherited, and nothing of ours.
    let root = Root::with(
        &[("makelists", &guests::response("makelists"))],
        "ossec",
        "record",
    );
    let seen = root.path().join("seen");
    let script = format!("env > {0}; ls -l /proc/self/fd >> {0}", seen.display());
    root.grant(&format!(
        "[response.makelists]\nhostname = true\nprocess.makelists = {{ argv = [\"/bin/sh\", \"-c\", \"{script}\"] }}\n"
    ));
    let mut execd = Execd::start(root.path());
    let told = execd.ossec("makelists", &[ATTACKER.to_owned()], 0);
    assert_eq!(told[0]["status"], 0, "{}", root.log());
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(
        !seen.contains("hunter2") && !seen.contains("attacker"),
        "{seen}"
    );
    for ours in [
        "socket:",
        "journal",
        "active-response",
        "cache",
        "eventfd",
        "pipe:",
    ] {
        assert!(!seen.contains(ours), "{ours}: {seen}");
    }
}

/// A lock that somebody else keeps: what can be undone by the kernel alone would be
/// done, the record backend can't, and in any case the answer comes in time.
#[test]
fn locks_that_others_hold_delay_nothing_beyond_the_wall() {
    let root = Root::firewall_drop("ossec");
    root.wall("1 s");
    let mut execd = Execd::start(root.path());
    // So that the journal exists.
    execd.ossec("firewall-drop", &["203.0.113.1".to_owned()], 0);
    for script in [keeper::LOCK, keeper::JOURNAL] {
        let keeper = Keeper::of(&root, script);
        let started = Instant::now();
        let told = execd.ossec("firewall-drop", &["203.0.113.2".to_owned()], 0);
        assert!(
            started.elapsed() < Duration::from_secs(1) + GRACE,
            "{told:?}"
        );
        assert_ne!(told[0]["status"], 0, "{}", root.log());
        let last = root.outcomes().pop().unwrap();
        assert!(last.contains("locked for longer than"), "{last}");
        drop(keeper);
        assert_eq!(root.blocked(), ["203.0.113.1"]);
    }
}

#[test]
fn a_guest_that_hangs_ends_at_the_wall_through_the_link_too() {
    let components = [
        ("clock", guests::wasip2("clock")),
        ("firewall-drop", guests::response("firewall-drop")),
    ];
    let components: Vec<(&str, &[u8])> =
        components.iter().map(|(n, b)| (*n, b.as_slice())).collect();
    let root = Root::with(&components, "ossec", "record");
    root.grant("[firewall]\nbackend = \"record\"\n[response.clock]\nlimits = { wall = \"1 s\" }\n[response.firewall-drop]\nfirewall = {}\nexpect = [\"srcip\"]\n");
    root.ossec_conf(
        "<command><name>clock</name><executable>clock</executable><expect>srcip</expect></command>",
    );
    let started = Instant::now();
    let status = std::process::Command::new(root.bin("clock"))
        .args(["add", "-", ATTACKER, "1.1", "5712", "wait", "-"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1), "{}", root.log());
    assert!(
        started.elapsed() < Duration::from_secs(1) + GRACE,
        "{:?}",
        started.elapsed()
    );
}

/// A helper that outlives the call is started, or the call says that it was not.
#[test]
fn a_detached_helper_that_can_t_start_is_not_called_started() {
    let root = Root::with(
        &[("restart-ossec", &guests::response("restart-ossec"))],
        "ossec",
        "record",
    );
    let control = root.path().join("bin/ossec-control");
    // By another process: a thread of ours that forks just now would keep it open, and
    // what is open for writing is not started.
    let write = |text: &str| {
        let status = std::process::Command::new("/bin/sh")
            .args([
                "-c",
                "rm -f \"$0\"; printf %s \"$1\" > \"$0\"; chmod 755 \"$0\"",
            ])
            .arg(&control)
            .arg(text)
            .status();
        assert!(status.unwrap().success());
    };
    let seen = root.path().join("seen");
    write(&format!(
        "#!/bin/sh\nsleep 0.5\necho \"$@\" > {}\n",
        seen.display()
    ));
    let started = Instant::now();
    assert_eq!(root.call("restart-ossec", "add", "-"), 0, "{}", root.log());
    assert!(
        started.elapsed() < Duration::from_millis(450),
        "it is not waited for"
    );
    let done = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        std::fs::read_to_string(&seen).is_ok_and(|text| text == "restart\n")
    });
    assert!(done, "it goes on by itself");
    for broken in ["#!/nonexistent/sh\n", "\u{1}garbage"] {
        write(broken);
        assert_eq!(root.call("restart-ossec", "add", "-"), 1, "{broken:?}");
        let last = root.outcomes().pop().unwrap();
        assert!(last.contains("can't start"), "{last}");
    }
}

#[test]
fn the_root_is_found_from_argv_0_whatever_the_working_directory() {
    use std::os::unix::process::CommandExt as _;
    let root = Root::firewall_drop("ossec");
    let call = |argv0: &str, cwd: &std::path::Path, address: &str| {
        let status = std::process::Command::new(root.bin("firewall-drop"))
            .arg0(argv0)
            .args(["add", "-", address, "1.1", "5712", "x", "-"])
            .current_dir(cwd)
            .status()
            .unwrap();
        status.code().unwrap()
    };
    let absolute = root.bin("firewall-drop");
    let bin = root.path().join("active-response/bin");
    let slash = std::path::Path::new("/");
    assert_eq!(call(absolute.to_str().unwrap(), slash, "203.0.113.1"), 0);
    assert_eq!(
        call(
            "active-response/bin/firewall-drop",
            root.path(),
            "203.0.113.2"
        ),
        0
    );
    assert_eq!(call("./firewall-drop", &bin, "203.0.113.3"), 0);
    assert_eq!(call("../bin/firewall-drop", &bin, "203.0.113.4"), 0);
    assert_eq!(root.blocked().len(), 4, "{}", root.log());
    // Without a folder, or from another place: nothing is done.
    assert_eq!(call("firewall-drop", slash, "203.0.113.5"), 1);
    assert_eq!(call("/usr/bin/firewall-drop", slash, "203.0.113.5"), 1);
    assert_eq!(
        call("active-response/bin/firewall-drop", slash, "203.0.113.5"),
        1
    );
    assert_eq!(root.blocked().len(), 4);
}

#[test]
fn the_exit_status_says_whether_it_was_done() {
    let root = Root::firewall_drop("ossec");
    let mut execd = Execd::start(root.path());
    // OSSEC's 1: refused, not an address, an unknown executable, an unknown action.
    for address in ["127.0.0.1", "not-an-address", "-", ""] {
        let told = execd.ossec("firewall-drop", &[address.to_owned()], 0);
        assert_eq!(told[0]["status"], 1, "{address}: {}", root.log());
    }
    // Wazuh's 255.
    for address in ["127.0.0.1", "not-an-address", ""] {
        let told = execd.wazuh("firewall-drop", &execd::alert(address), &json!({}));
        assert_eq!(told["status"], 255, "{address}: {}", root.log());
    }
    let told = execd.wazuh("firewall-drop", &json!({"command": "add"}), &json!({}));
    assert_eq!(told["status"], 255);
    assert!(root.blocked().is_empty());
    // A delete of what is not held is done: there is nothing to take back.
    let code = root.call("firewall-drop", "delete", ATTACKER);
    assert_eq!(code, 0, "{}", root.log());
}
