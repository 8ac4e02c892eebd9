//! What others do to the firewall and to this host while a daemon runs: repaired within
//! two seconds, counted, said.

#[path = "support/mod.rs"]
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::daemon::{Daemon, until};
use support::guests;
use support::netns::Netns;
use support::root::{RETORT, Root};

/// What a repair may take.
const SOON: Duration = Duration::from_secs(2);

struct Host {
    netns: Netns,
    root: Root,
    daemon: Daemon,
}

impl Host {
    fn new() -> Self {
        let netns = Netns::new("drift");
        let component = guests::response("firewall-drop");
        let root = Root::with(&[("firewall-drop", &component)], "ossec", "nftables");
        root.ar_conf("firewall-drop600 - firewall-drop - 600\n");
        let mut program = netns.command(RETORT);
        program.env_clear();
        let daemon = Daemon::start(&root, program, "queue/alerts/execq");
        let host = Self {
            netns,
            root,
            daemon,
        };
        for last in [7, 8, 9] {
            host.daemon
                .send(&format!("firewall-drop600 - 203.0.113.{last} 1.1 5712 x -"));
        }
        assert!(
            until(Duration::from_secs(10), || host.has("203.0.113.7")
                && host.has("203.0.113.8")
                && host.has("203.0.113.9")),
            "{:?} {}",
            host.daemon.said(),
            host.root.log()
        );
        host
    }

    fn table(&self) -> String {
        let listed = self.netns.sh("nft list tables");
        let name = listed
            .split_whitespace()
            .find(|word| word.starts_with("retort_"));
        name.unwrap_or_default().to_owned()
    }

    fn has(&self, address: &str) -> bool {
        let table = self.table();
        !table.is_empty()
            && self
                .netns
                .sh(&format!("nft list table inet {table}"))
                .contains(&format!("{address} "))
    }

    fn whole(&self) -> bool {
        self.has("203.0.113.7") && self.has("203.0.113.8") && self.has("203.0.113.9")
    }

    /// Does something to the firewall; the daemon puts it right.
    fn repairs(&self, line: &str) {
        let line = line.replace("TABLE", &self.table());
        self.netns.sh(&line);
        let began = Instant::now();
        assert!(
            until(Duration::from_secs(10), || self.whole()),
            "{line}: {}",
            self.root.log()
        );
        assert!(began.elapsed() < SOON, "{line}: {:?}", began.elapsed());
    }

    fn log_says(&self, words: &str) -> bool {
        until(SOON, || {
            self.root.outcomes().iter().any(|line| line.contains(words))
        })
    }
}

#[test]
fn whatever_others_do_to_the_table_is_put_right_and_counted() {
    let host = Host::new();
    for line in [
        "nft flush ruleset",
        "nft delete element inet TABLE blocked4 '{ 203.0.113.8 }'",
        "nft flush set inet TABLE blocked4",
        "nft flush chain inet TABLE early && nft delete chain inet TABLE early",
        "nft delete table inet TABLE",
        // A reload of another program's rules.
        "nft -f - <<'END'\nflush ruleset\ntable inet filter { chain input { type filter hook input priority 0; policy accept;\n }\n }\nEND",
    ] {
        host.repairs(line);
    }
    assert!(host.log_says("repaired: "), "{}", host.root.log());
    let status = host
        .netns
        .command(RETORT)
        .arg("--root")
        .arg(host.root.path())
        .args(["--output", "json", "status"])
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert!(
        status["daemon"]["counts"]["repaired"].as_u64().unwrap() >= 6,
        "{status}"
    );
}

#[test]
fn an_element_that_is_not_ours_is_taken_out_and_said() {
    let host = Host::new();
    let table = host.table();
    host.netns.sh(&format!(
        "nft add element inet {table} blocked4 '{{ 198.51.100.77 timeout 1h }}'"
    ));
    assert!(
        until(SOON, || !host.has("198.51.100.77")),
        "{}",
        host.root.log()
    );
    assert!(host.log_says("198.51.100.77"), "{}", host.root.log());
    assert!(host.whole());
}

#[test]
fn a_block_of_an_address_that_becomes_this_hosts_own_is_lifted() {
    let host = Host::new();
    host.netns.sh("ip addr add 203.0.113.8/32 dev lo");
    assert!(
        until(SOON, || !host.has("203.0.113.8")),
        "{}",
        host.root.log()
    );
    assert!(
        host.log_says("lifted: it is protected by now"),
        "{}",
        host.root.log()
    );
    assert!(host.has("203.0.113.7"));
}

#[test]
fn what_was_lost_while_no_daemon_ran_is_back_after_its_start() {
    let host = Host::new();
    let Host {
        netns,
        root,
        daemon,
    } = host;
    daemon.kill();
    netns.sh("nft flush ruleset");
    let mut program: Command = netns.command(RETORT);
    program.env_clear();
    let daemon = Daemon::start(&root, program, "queue/alerts/execq");
    let host = Host {
        netns,
        root,
        daemon,
    };
    assert!(
        until(SOON, || host.whole()),
        "{:?} {}",
        host.daemon.said(),
        host.root.log()
    );
}
