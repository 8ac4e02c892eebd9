//! A running daemon is asked: by the command line, and by links that an execd starts.

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::daemon::{Daemon, until};
use support::execd::{Execd, alert};
use support::guests;
use support::keeper::Keeper;
use support::root::{RETORT, Root};

fn root() -> Root {
    let root = Root::firewall_drop("ossec");
    root.ar_conf("firewall-drop600 - firewall-drop - 600\n");
    root
}

fn order(address: &str) -> String {
    format!("firewall-drop600 - {address} 1795489577.1 5712 (web01) 10.0.0.5->/var/log/auth.log -")
}

fn runs(root: &Root) -> Value {
    root.json(&["status"])["daemon"]["counts"]["runs"].clone()
}

#[test]
fn its_status_counts_and_never_names_an_address() {
    let root = root();
    let without = root.json(&["status"]);
    assert!(without["daemon"].is_null(), "{without}");
    let daemon = Daemon::execd(&root);
    daemon.send(&order("203.0.113.9"));
    daemon.send(&order("127.0.0.1"));
    daemon.send("nonsense");
    assert!(until(
        Duration::from_secs(10),
        || runs(&root)["firewall-drop"]["ok"] == 1 && runs(&root)["firewall-drop"]["error"] == 1
    ));
    let status = root.json(&["status"]);
    assert_eq!(status["daemon"]["pid"], daemon.pid());
    assert_eq!(status["daemon"]["counts"]["malformed"], 1);
    assert_eq!(status["daemon"]["counts"]["denied"]["firewall-drop"], 1);
    assert_eq!(status["journal"]["holds"]["firewall-drop"], 1);
    assert_eq!(status["journal"]["pending"], 2, "{status}");
    let page = root.retort(&["--output", "prometheus", "status"]).stdout;
    let page = String::from_utf8(page).unwrap();
    assert!(
        page.contains("retort_invocations_total{response=\"firewall-drop\",verdict=\"ok\"} 1\n"),
        "{page}"
    );
    assert!(page.contains("retort_malformed_total 1\n"), "{page}");
    assert!(!page.contains("203.0.113"), "{page}");
}

#[test]
fn the_file_for_the_node_exporter_is_written() {
    let root = root();
    let file = root.path().join("retort.prom");
    let grants = std::fs::read_to_string(root.path().join("retort/retort.toml")).unwrap();
    root.grant(&format!(
        "{grants}\n[metrics]\ntextfile = \"{}\"\n",
        file.display()
    ));
    let _daemon = Daemon::execd(&root);
    let written = || std::fs::read_to_string(&file).unwrap_or_default();
    assert!(until(Duration::from_secs(10), || written()
        .contains("retort_up 1\n")));
}

#[test]
fn a_block_by_hand_stands_for_its_time_and_nothing_protected_is_blocked() {
    let root = root();
    for with_daemon in [false, true] {
        let daemon = with_daemon.then(|| Daemon::execd(&root));
        let added = root.json(&["blocks", "add", "203.0.113.0/28", "--for", "10m"]);
        assert!(added[0]["answer"]["Ok"].is_object(), "{added}");
        let listed = root.json(&["blocks", "list"]);
        assert_eq!(listed[0]["address"], "203.0.113.0/28");
        assert!(
            (590..=600).contains(&listed[0]["left_seconds"].as_u64().unwrap()),
            "{listed}"
        );
        // Asked for again it stands for the new time.
        root.json(&["blocks", "add", "203.0.113.0/28", "--for", "1h"]);
        let left = root.json(&["blocks", "list"])[0]["left_seconds"]
            .as_u64()
            .unwrap();
        assert!((3590..=3600).contains(&left), "{left}");
        let refused = root.retort(&["blocks", "add", "127.0.0.0/8"]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert_eq!(root.blocked(), ["203.0.113.0/28"]);
        let gone = root.retort(&["blocks", "delete", "203.0.113.0/28"]);
        assert_eq!(gone.status.code(), Some(0), "{gone:?}");
        assert!(root.blocked().is_empty());
        assert_eq!(root.json(&["status"])["journal"]["pending"], 0);
        drop(daemon);
    }
    let daemon = Daemon::execd(&root);
    root.json(&["blocks", "add", "203.0.113.7", "--for", "1s"]);
    assert!(
        until(Duration::from_secs(3), || root.blocked().is_empty()),
        "{:?}",
        daemon.said()
    );
}

#[test]
fn protect_check_says_what_protects_an_address() {
    let root = root();
    let answer = root.retort(&["protect", "check", "127.0.0.1"]);
    assert_eq!(answer.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&answer.stdout).contains("loopback"),
        "{answer:?}"
    );
    assert_eq!(
        root.retort(&["protect", "check", "203.0.113.0/24"])
            .status
            .code(),
        Some(0)
    );
    assert_eq!(root.retort(&["protect", "list"]).status.code(), Some(0));
}

#[test]
fn a_link_hands_its_call_to_the_daemon_and_does_it_itself_where_there_is_none() {
    let root = root();
    let daemon = Daemon::execd(&root);
    assert_eq!(root.call("firewall-drop", "add", "203.0.113.9"), 0);
    assert_eq!(runs(&root)["firewall-drop"]["ok"], 1);
    assert_eq!(root.blocked(), ["203.0.113.9"]);
    assert_eq!(root.call("firewall-drop", "delete", "203.0.113.9"), 0);
    assert_eq!(runs(&root)["firewall-drop"]["ok"], 2);
    assert!(root.blocked().is_empty());
    assert_eq!(
        root.call("firewall-drop", "add", "127.0.0.1"),
        1,
        "a refused block is a failure"
    );
    daemon.stop();
    assert_eq!(root.call("firewall-drop", "add", "203.0.113.9"), 0);
    assert_eq!(root.blocked(), ["203.0.113.9"]);
}

#[test]
fn the_handshake_of_wazuh_goes_through_the_daemon_too() {
    let root = Root::firewall_drop("wazuh4");
    let _daemon = Daemon::execd(&root);
    let mut execd = Execd::start(root.path());
    let told = execd.wazuh(
        "firewall-drop",
        &alert("203.0.113.9"),
        &serde_json::json!({"timeout": 600}),
    );
    assert_eq!(told["keys"], serde_json::json!(["203.0.113.9"]), "{told}");
    assert_eq!(runs(&root)["firewall-drop"]["ok"], 1, "{}", root.log());
    let listed = root.json(&["blocks", "list"]);
    assert_eq!(
        listed[0]["owner_alive"], true,
        "the execd owns it: {listed}"
    );
    // The execd has it already: it says abort, and the block is renewed.
    execd.wazuh(
        "firewall-drop",
        &alert("203.0.113.9"),
        &serde_json::json!({"timeout": 600}),
    );
    assert_eq!(runs(&root)["firewall-drop"]["renewed"], 1, "{}", root.log());
    execd.terminate();
    assert!(until(Duration::from_secs(5), || root.blocked().is_empty()));
}

#[test]
fn a_daemon_that_hangs_keeps_no_link_waiting() {
    let root = root();
    let daemon = Daemon::execd(&root);
    // Not while it writes the journal: whoever has the lock then keeps it.
    std::thread::sleep(Duration::from_millis(700));
    kill(
        Pid::from_raw(i32::try_from(daemon.pid()).unwrap()),
        Signal::SIGSTOP,
    )
    .unwrap();
    let began = Instant::now();
    assert_eq!(
        root.call("firewall-drop", "add", "203.0.113.9"),
        0,
        "{}",
        root.log()
    );
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(root.blocked(), ["203.0.113.9"]);
    kill(
        Pid::from_raw(i32::try_from(daemon.pid()).unwrap()),
        Signal::SIGCONT,
    )
    .unwrap();
}

#[test]
fn only_root_is_heard() {
    let root = root();
    let _daemon = Daemon::execd(&root);
    let socket = root.path().join("retort/control.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    // Even where somebody opens the folder.
    for path in [root.path().join("retort"), socket.clone()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let ask = "import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b'{\"ask\":\"status\"}\\n')
sys.stdout.write(str(len(s.recv(10))))";
    let output = Command::new("/usr/bin/python3")
        .args(["-c", ask])
        .arg(&socket)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let heard = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(heard == "0" || !output.status.success(), "{output:?}");
}

#[test]
fn nonsense_on_the_socket_harms_nobody() {
    let root = root();
    let _daemon = Daemon::execd(&root);
    let socket = root.path().join("retort/control.sock");
    for nonsense in [
        &b"\n"[..],
        b"{}\n",
        b"[1,2\n",
        b"{\"ask\":\"consent\",\"goes_on\":true}\n",
        &[0xff; 100_000],
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let _ = stream.write_all(nonsense);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(root.json(&["status"])["daemon"]["pid"].is_number());
}

#[test]
fn a_call_of_a_missing_response_is_refused_as_the_link_itself_refuses_it() {
    let root = root();
    let daemon = Daemon::execd(&root);
    std::fs::remove_file(root.bin("firewall-drop.wasm")).unwrap();
    assert_eq!(root.call("firewall-drop", "add", "203.0.113.9"), 1);
    assert!(
        root.outcomes()
            .iter()
            .any(|line| line.contains("there is no component for `firewall-drop`")),
        "{}",
        root.log()
    );
    drop(daemon);
}

#[test]
fn history_follows_what_runs() {
    let root = root();
    let daemon = Daemon::execd(&root);
    let mut child = Command::new(RETORT)
        .arg("--root")
        .arg(root.path())
        .args(["history", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    std::thread::sleep(Duration::from_millis(500));
    daemon.send(&order("203.0.113.9"));
    let first = lines.lines().next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(first.contains("firewall-drop add: ok"), "{first}");
}

#[test]
fn an_overwritten_link_is_said_loudly() {
    let root = Root::with(
        &[("firewall-drop", &guests::response("firewall-drop"))],
        "ossec",
        "record",
    );
    assert_eq!(root.retort(&["status"]).status.code(), Some(0));
    let link = root.bin("firewall-drop");
    std::fs::remove_file(&link).unwrap();
    std::fs::write(&link, "#!/bin/sh\n").unwrap();
    let status = root.retort(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&status.stdout).contains("OVERWRITTEN"),
        "{status:?}"
    );
}

#[test]
fn what_is_protected_by_now_is_not_blocked_by_hand() {
    let root = root();
    let daemon = Daemon::execd(&root);
    root.json(&["blocks", "add", "203.0.113.7"]);
    let grants = std::fs::read_to_string(root.path().join("retort/retort.toml")).unwrap();
    root.grant(&grants.replace("protect = []", "protect = [\"203.0.113.0/24\"]"));
    let refused = root.retort(&["blocks", "add", "203.0.113.8"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    // And what stood is lifted.
    assert!(
        until(Duration::from_secs(3), || root.blocked().is_empty()),
        "{:?}",
        daemon.said()
    );
}

#[test]
fn a_locked_journal_keeps_no_attacker_out_of_the_firewall() {
    let netns = support::netns::Netns::new("locked");
    let component = guests::response("firewall-drop");
    let root = Root::with(&[("firewall-drop", &component)], "ossec", "nftables");
    root.ar_conf("firewall-drop600 - firewall-drop - 600\nfirewall-drop60 - firewall-drop - 60\n");
    let daemon = Daemon::start(&root, netns.command(RETORT), "queue/alerts/execq");
    daemon.send(&order("203.0.113.1"));
    let has = |address: &str| {
        netns
            .sh("nft list ruleset")
            .contains(&format!("{address} "))
    };
    assert!(until(Duration::from_secs(10), || has("203.0.113.1")));
    let keeper = Keeper::of(&root, support::keeper::JOURNAL);
    for last in 2..=9 {
        daemon.send(&format!("firewall-drop60 - 203.0.113.{last} 1.1 5712 x -"));
    }
    let began = Instant::now();
    let all = || (2..=9).all(|last| has(&format!("203.0.113.{last}")));
    assert!(
        until(Duration::from_secs(5), all),
        "{:?} {}",
        began.elapsed(),
        root.log()
    );
    let loud = || {
        root.outcomes()
            .iter()
            .filter(|l| l.contains("WARNING: blocked without the journal"))
            .count()
            == 8
    };
    assert!(until(Duration::from_secs(5), loud), "{}", root.log());
    // For no longer than they were meant to stand.
    assert!(
        !netns.sh("nft list ruleset").contains("timeout 10m comment"),
        "{}",
        netns.sh("nft list ruleset")
    );
    drop(keeper);
    daemon.send(&order("203.0.113.20"));
    let held = || {
        root.blocked()
            .iter()
            .any(|blocked| blocked == "203.0.113.20")
    };
    assert!(until(Duration::from_secs(10), held), "{}", root.log());
}
