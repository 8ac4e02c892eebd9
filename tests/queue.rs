//! `retort execd` from outside: a daemon at the original's queue.

#[path = "support/mod.rs"]
mod support;

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use support::daemon::{Daemon, until};
use support::guests;
use support::root::{RETORT, Root};

const AR_CONF: &str = "restart-ossec0 - restart-ossec.sh - 0\nfirewall-drop2 - firewall-drop.sh - 2\nfirewall-drop600 - firewall-drop.sh - 600\nhostile600 - hostile - 600\n";

fn root() -> Root {
    let root = Root::firewall_drop("ossec");
    root.ar_conf(AR_CONF);
    root.ossec_conf("<active-response><disabled>no</disabled></active-response>");
    root
}

fn order(name: &str, address: &str) -> String {
    format!("{name} - {address} 1795489577.1 5712 (web01) 10.0.0.5->/var/log/auth.log -\0")
}

/// An order of Wazuh 4.
fn wazuh(name: &str, extra_args: &[&str], address: &str) -> String {
    serde_json::json!({
        "version": 1, "origin": {"name": "node01", "module": "wazuh-analysisd"}, "command": name,
        "parameters": {"extra_args": extra_args, "alert": {"data": {"srcip": address}}}
    })
    .to_string()
}

fn blocked(root: &Root, address: &str) -> bool {
    root.blocked().iter().any(|blocked| blocked == address)
}

/// Whether it is blocked within a few seconds.
fn gets_blocked(root: &Root, address: &str) -> bool {
    until(Duration::from_secs(10), || blocked(root, address))
}

fn gets_free(root: &Root, address: &str) -> bool {
    until(Duration::from_secs(10), || !blocked(root, address))
}

#[test]
fn an_order_blocks_and_its_timeout_calls_the_guest_and_lets_go() {
    let root = root();
    let daemon = Daemon::execd(&root);
    daemon.send(&order("firewall-drop2", "203.0.113.9"));
    assert!(gets_blocked(&root, "203.0.113.9"), "{:?}", daemon.said());
    let began = Instant::now();
    assert!(gets_free(&root, "203.0.113.9"), "{}", root.log());
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    let outcomes = root.outcomes();
    assert!(
        outcomes
            .iter()
            .any(|line| line.contains("firewall-drop add: ok; block 203.0.113.9/32: done, for 2s")),
        "{outcomes:?}"
    );
    assert!(outcomes.iter().any(|line| line.contains("firewall-drop delete: ok; unblock 203.0.113.9/32: done (1)")), "{outcomes:?}");
    // The original's line, so that its rules keep firing.
    assert!(
        root.log()
            .contains("active-response/bin/firewall-drop.sh add - 203.0.113.9 1795489577.1 5712"),
        "{}",
        root.log()
    );
}

#[test]
fn the_queue_is_the_originals_and_gone_with_the_daemon() {
    let root = root();
    let folder = root.path().join("queue/alerts");
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(0), Some(12)).unwrap();
    // A name that a daemon left when it was killed is taken over.
    let path = folder.join("execq");
    drop(UnixDatagram::bind(&path).unwrap());
    let daemon = Daemon::execd(&root);
    let meta = std::fs::symlink_metadata(&path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o7777, 0o660);
    assert_eq!((meta.uid(), meta.gid()), (0, 12));
    assert_eq!(daemon.stop(), Some(0));
    assert!(!path.exists());
}

#[test]
fn a_killed_daemon_forgets_nothing() {
    let root = root();
    let daemon = Daemon::execd(&root);
    daemon.send(&order("firewall-drop600", "203.0.113.8"));
    daemon.send(&order("firewall-drop2", "203.0.113.9"));
    assert!(gets_blocked(&root, "203.0.113.8") && gets_blocked(&root, "203.0.113.9"));
    daemon.kill();
    std::thread::sleep(Duration::from_millis(2500));
    let daemon = Daemon::execd(&root);
    // What became due while nobody was there goes at once, with its guest.
    assert!(gets_free(&root, "203.0.113.9"), "{:?}", daemon.said());
    assert!(
        blocked(&root, "203.0.113.8"),
        "a restart keeps what is not due"
    );
    // It is said a moment after it is done.
    let said = || root.log().contains("firewall-drop delete: ok");
    assert!(until(Duration::from_secs(10), said), "{}", root.log());
    daemon.stop();
    assert!(blocked(&root, "203.0.113.8"), "a stop keeps it, too");
}

#[test]
fn on_stop_release_lets_everything_go_with_its_guest() {
    let root = root();
    let grants = std::fs::read_to_string(root.path().join("retort/retort.toml")).unwrap();
    root.grant(&format!("on_stop = \"release\"\n{grants}"));
    let daemon = Daemon::execd(&root);
    for last in 1..=40 {
        daemon.send(&order("firewall-drop600", &format!("203.0.113.{last}")));
    }
    assert!(until(Duration::from_secs(10), || root.blocked().len() == 40));
    daemon.stop();
    assert!(root.blocked().is_empty(), "{:?}", root.blocked());
    let deletes = root.outcomes();
    let deletes = deletes
        .iter()
        .filter(|line| line.contains("firewall-drop delete: ok"));
    assert_eq!(deletes.count(), 40);
}

#[test]
fn a_repeat_renews_and_climbs_the_ladder_also_after_a_restart() {
    let root = root();
    root.ossec_conf(
        "<active-response><repeated_offenders>30,60</repeated_offenders></active-response>",
    );
    let left = || {
        let listed = root.json(&["blocks", "list"]);
        listed[0]["left_seconds"].as_u64().unwrap_or_default()
    };
    let daemon = Daemon::execd(&root);
    let again = order("firewall-drop600", "203.0.113.9");
    for (minutes, daemon_is_new) in [(10, false), (30, false), (60, true), (60, false)] {
        let daemon = if daemon_is_new { None } else { Some(&daemon) };
        let at = |minutes: u64| (minutes * 60 - 30..=minutes * 60).contains(&left());
        match daemon {
            Some(daemon) => daemon.send(&again),
            None => {
                // Another daemon knows the offender, too.
                let second = Command::new(RETORT)
                    .arg("--root")
                    .arg(root.path())
                    .args(["execd", "-f"])
                    .output()
                    .unwrap();
                assert_eq!(second.status.code(), Some(1));
                daemon_send(&root, &again);
            }
        }
        assert!(
            until(Duration::from_secs(10), || at(minutes)),
            "{minutes}: {}",
            left()
        );
    }
    daemon.kill();
    let daemon = Daemon::execd(&root);
    daemon.send(&order("firewall-drop600", "203.0.113.9"));
    assert!(daemon.says("Started"));
    assert!(
        until(Duration::from_secs(10), || left() > 59 * 60),
        "{}",
        left()
    );
}

fn daemon_send(root: &Root, datagram: &str) {
    let socket = UnixDatagram::unbound().unwrap();
    socket
        .send_to(datagram.as_bytes(), root.path().join("queue/alerts/execq"))
        .unwrap();
}

#[test]
fn a_second_daemon_refuses_and_says_why() {
    let root = root();
    let first = Daemon::execd(&root);
    let output = root.retort(&["execd", "-f"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains(&format!(
            "retort execd (pid {}) serves this installation already",
            first.pid()
        )),
        "{said}"
    );
}

#[test]
fn the_queue_of_a_running_original_is_taken_only_where_the_grants_say_so() {
    let root = root();
    let folder = root.path().join("queue/alerts");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir_all(root.path().join("var/run")).unwrap();
    let original = UnixDatagram::bind(folder.join("execq")).unwrap();
    let output = root.retort(&["execd", "-f"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("write own_queue = true under [execd]"),
        "{said}"
    );
    let grants = std::fs::read_to_string(root.path().join("retort/retort.toml")).unwrap();
    root.grant(&format!("{grants}\n[execd]\nown_queue = true\n"));
    let daemon = Daemon::execd(&root);
    assert!(daemon.says("the queue was taken from ossec-execd"));
    // The original's control program looks for this file, and finds a living process.
    let pid_file = root
        .path()
        .join(format!("var/run/ossec-execd-{}.pid", daemon.pid()));
    assert_eq!(
        std::fs::read_to_string(&pid_file).unwrap().trim(),
        daemon.pid().to_string()
    );
    daemon.send(&order("firewall-drop600", "203.0.113.9"));
    assert!(gets_blocked(&root, "203.0.113.9"));
    daemon.stop();
    assert!(!pid_file.exists());
    drop(original);
}

/// Who has written that he serves the installation.
fn serving(root: &Root) -> Option<i32> {
    let text = std::fs::read_to_string(root.path().join("retort/daemon")).ok()?;
    let (_, pid) = text.trim().rsplit_once(' ')?;
    pid.strip_suffix(')')?.parse().ok()
}

/// SIGTERM to whoever serves the installation.
fn stop_serving(root: &Root) -> i32 {
    let pid = serving(root).unwrap();
    let term = nix::sys::signal::Signal::SIGTERM;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), term).unwrap();
    pid
}

#[test]
fn a_queue_that_the_service_manager_keeps_outlives_the_daemon() {
    let root = root();
    let folder = root.path().join("queue/alerts");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("execq");
    // What systemd does: the socket is descriptor 3 of the daemon, and stays open here.
    let manager = "import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        os.environ['LISTEN_FDS'] = '1'
        os.environ['LISTEN_PID'] = str(os.getpid())
        os.execv(sys.argv[2], sys.argv[2:])
    os.waitpid(pid, 0)
";
    let mut program = Command::new("python3");
    program.args(["-c", manager]).arg(&path).arg(RETORT);
    let daemon = Daemon::start(&root, program, "queue/alerts/execq");
    daemon.send(&order("firewall-drop600", "203.0.113.7"));
    assert!(gets_blocked(&root, "203.0.113.7"), "{:?}", daemon.said());
    let first = stop_serving(&root);
    // Sent while no daemon is there, or the next one is on its way: nothing is lost.
    daemon.send(&order("firewall-drop600", "203.0.113.8"));
    assert!(gets_blocked(&root, "203.0.113.8"), "{:?}", daemon.said());
    assert!(path.exists());
    // The first one may have done that before it ended.
    let second = || serving(&root).is_some_and(|pid| pid != first);
    assert!(until(Duration::from_secs(10), second));
    stop_serving(&root);
    assert_eq!(daemon.end(), Some(0));
}

#[test]
fn one_response_that_hangs_delays_no_other() {
    let hostile = guests::hostile();
    let drop = guests::response("firewall-drop");
    let root = Root::granted(
        &[("firewall-drop", &drop), ("hostile", &hostile)],
        "dialect = \"wazuh4\"\n[limits]\nfuel = 1_000_000_000\nwall = \"4 s\"\n[firewall]\nbackend = \"record\"\n[response.firewall-drop]\nexpect = [\"srcip\"]\nfirewall = {}\n[response.hostile]\nexpect = [\"srcip\"]\nfirewall = {}\nhostname = true\nprocess.sleep = { argv = [\"/bin/sleep\", \"4\"] }\n",
    );
    root.ar_conf(AR_CONF);
    let daemon = Daemon::execd(&root);
    for last in 1..=30 {
        for how in ["endless-loop", "helper"] {
            daemon.send(&wazuh(
                "hostile600",
                &[how, "sleep"],
                &format!("203.0.113.{last}"),
            ));
        }
    }
    let began = Instant::now();
    daemon.send(&wazuh("firewall-drop600", &[], "203.0.113.200"));
    assert!(gets_blocked(&root, "203.0.113.200"), "{:?}", daemon.said());
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_flood_of_what_is_no_order_costs_the_good_ones_nothing() {
    let root = root();
    let daemon = Daemon::execd(&root);
    for n in 0..2000 {
        daemon.send(&format!("nonsense{n}"));
        if n % 100 == 0 {
            daemon.send(&order(
                "firewall-drop600",
                &format!("203.0.113.{}", n / 100 + 1),
            ));
        }
    }
    assert!(
        until(Duration::from_secs(20), || root.blocked().len() == 20),
        "{:?}",
        root.blocked()
    );
    assert!(
        daemon.said().len() < 100,
        "a flood is said in part: {}",
        daemon.said().len()
    );
}

#[test]
fn a_changed_configuration_counts_at_once_and_a_broken_one_stops_nothing() {
    let root = root();
    let daemon = Daemon::execd(&root);
    root.ar_conf("new600 - firewall-drop - 600\n");
    daemon.send(&order("new600", "203.0.113.5"));
    assert!(gets_blocked(&root, "203.0.113.5"), "{:?}", daemon.said());
    root.ossec_conf("<bogus>");
    daemon.send(&order("new600", "203.0.113.6"));
    assert!(gets_blocked(&root, "203.0.113.6"), "{:?}", daemon.said());
    assert!(daemon.says("the configuration was changed and can't be read"));
}

#[test]
fn a_replaced_a_broken_and_a_missing_component_still_let_go() {
    for (what, replacement) in [("missing", None), ("broken", Some(&b"\0asm"[..]))] {
        let root = root();
        let daemon = Daemon::execd(&root);
        daemon.send(&order("firewall-drop2", "203.0.113.9"));
        assert!(gets_blocked(&root, "203.0.113.9"), "{what}");
        let component = root.bin("firewall-drop.wasm");
        std::fs::remove_file(&component).unwrap();
        if let Some(bytes) = replacement {
            std::fs::write(&component, bytes).unwrap();
        }
        assert!(gets_free(&root, "203.0.113.9"), "{what}: {}", root.log());
        let said = || {
            let outcomes = root.outcomes();
            outcomes
                .iter()
                .any(|line| line.contains("delete: not run ("))
        };
        assert!(
            until(Duration::from_secs(5), said),
            "{what}: {}",
            root.log()
        );
    }
}

#[test]
fn a_program_without_a_component_is_refused_unless_the_grants_allow_it() {
    let root = root();
    root.ar_conf("old600 - old.sh - 600\n");
    let program = root.bin("old.sh");
    let text = format!("#!/bin/sh\necho \"$@\" >> {}/ran\n", root.path().display());
    std::fs::write(root.path().join("old.text"), text).unwrap();
    let copied = Command::new("cp")
        .arg(root.path().join("old.text"))
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = Daemon::execd(&root);
    daemon.send(&order("old600", "203.0.113.9"));
    let refused = || {
        root.outcomes()
            .iter()
            .any(|line| line.contains("write allow = [\"old.sh\"] under [legacy]"))
    };
    assert!(until(Duration::from_secs(10), refused), "{}", root.log());
    assert!(!root.path().join("ran").exists());
    let grants = std::fs::read_to_string(root.path().join("retort/retort.toml")).unwrap();
    root.grant(&format!("{grants}\n[legacy]\nallow = [\"old.sh\"]\n"));
    daemon.send(&order("old600", "203.0.113.9"));
    let ran = || std::fs::read_to_string(root.path().join("ran")).unwrap_or_default();
    assert!(
        until(Duration::from_secs(10), || ran()
            .starts_with("add - 203.0.113.9 ")),
        "{}",
        root.log()
    );
    assert!(
        until(Duration::from_secs(10), || root
            .outcomes()
            .iter()
            .any(|line| line.contains("old.sh add: UNSEALED"))),
        "{}",
        root.log()
    );
}

#[test]
fn disabled_means_that_it_ends_at_once_and_says_so() {
    let root = root();
    root.ossec_conf("<active-response><disabled>yes</disabled></active-response>");
    let output = root.retort(&["execd", "-f"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("(1350)"),
        "{output:?}"
    );
}

#[test]
fn the_flags_are_the_originals() {
    let root = root();
    for (flags, code) in [
        (&["-V"][..], 0),
        (&["-h"], 0),
        (&["-t"], 0),
        (&["-f", "-g", "no-such-group"], 1),
        (&["-x"], 2),
    ] {
        let mut all = vec!["execd"];
        all.extend(flags);
        assert_eq!(root.retort(&all).status.code(), Some(code), "{flags:?}");
    }
    root.ossec_conf("<bogus>");
    assert_eq!(root.retort(&["execd", "-t"]).status.code(), Some(1));
}

#[test]
fn a_queue_that_is_removed_or_taken_is_bound_again_and_said() {
    let root = root();
    let grants = std::fs::read_to_string(root.path().join("retort/retort.toml")).unwrap();
    root.grant(&format!("{grants}\n[execd]\nown_queue = true\n"));
    std::fs::create_dir_all(root.path().join("var/run")).unwrap();
    let daemon = Daemon::execd(&root);
    let path = root.path().join("queue/alerts/execq");
    let connected = UnixDatagram::unbound().unwrap();
    connected.connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(
        until(Duration::from_secs(5), || path.exists()),
        "{:?}",
        daemon.said()
    );
    daemon.send(&order("firewall-drop600", "203.0.113.7"));
    assert!(gets_blocked(&root, "203.0.113.7"));
    // What an original does when it is started: analysisd would speak to it from now on.
    std::fs::remove_file(&path).unwrap();
    let thief = UnixDatagram::bind(&path).unwrap();
    assert!(
        daemon.says("somebody else has bound the queue; it is bound again"),
        "{:?}",
        daemon.said()
    );
    daemon.send(&order("firewall-drop600", "203.0.113.8"));
    assert!(gets_blocked(&root, "203.0.113.8"));
    // Whoever was connected before speaks to us still.
    connected
        .send(order("firewall-drop600", "203.0.113.9").as_bytes())
        .unwrap();
    assert!(gets_blocked(&root, "203.0.113.9"));
    drop(thief);
}

#[test]
fn a_queue_that_somebody_else_serves_is_said_and_counted() {
    let root = root();
    let daemon = Daemon::execd(&root);
    let path = root.path().join("queue/alerts/execq");
    std::fs::remove_file(&path).unwrap();
    let _thief = UnixDatagram::bind(&path).unwrap();
    assert!(daemon.says("no order reaches us"), "{:?}", daemon.said());
    assert!(
        daemon
            .said()
            .iter()
            .any(|line| line.contains("own_queue = true")),
        "{:?}",
        daemon.said()
    );
    assert!(root.json(&["status"])["daemon"]["counts"]["lost_queue"].as_u64() > Some(0));
    daemon.stop();
    assert!(path.exists(), "it is not ours to remove");
}

#[test]
fn a_configuration_that_is_emptied_or_taken_away_protects_still() {
    let root = root();
    root.ossec_conf("<global><white_list>203.0.113.0/28</white_list></global><active-response><disabled>no</disabled></active-response>");
    let daemon = Daemon::execd(&root);
    let conf = root.path().join("etc/ossec.conf");
    for empty in [true, false] {
        if empty {
            std::fs::write(&conf, "").unwrap();
        } else {
            std::fs::remove_file(&conf).unwrap();
        }
        daemon.send(&order("firewall-drop600", "203.0.113.6"));
        daemon.send(&order("firewall-drop600", "203.0.113.200"));
        assert!(gets_blocked(&root, "203.0.113.200"));
        assert!(!blocked(&root, "203.0.113.6"), "empty: {empty}");
    }
    assert!(daemon.says("it is empty, or gone"), "{:?}", daemon.said());
    std::fs::write(root.path().join("etc/shared/ar.conf"), "").unwrap();
    daemon.send(&order("firewall-drop600", "203.0.113.201"));
    assert!(gets_blocked(&root, "203.0.113.201"), "{:?}", daemon.said());
}

#[test]
fn the_originals_line_is_written_for_the_delete_too() {
    let root = root();
    let daemon = Daemon::execd(&root);
    daemon.send(&order("firewall-drop2", "203.0.113.9"));
    assert!(gets_blocked(&root, "203.0.113.9") && gets_free(&root, "203.0.113.9"));
    let line = "active-response/bin/firewall-drop.sh delete - 203.0.113.9 1795489577.1 5712";
    assert!(root.log().contains(line), "{}", root.log());
}

#[test]
fn an_order_of_wazuh_is_taken_whatever_is_configured() {
    let root = root();
    let daemon = Daemon::execd(&root);
    daemon.send(&wazuh("firewall-drop600", &[], "203.0.113.9"));
    assert!(gets_blocked(&root, "203.0.113.9"), "{:?}", daemon.said());
}
