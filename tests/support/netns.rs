//! Hosts on one machine: network namespaces, removed when the test is over.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// One host.
pub struct Netns {
    pub name: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Netns {
    pub fn new(role: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("retort-{}-{number}-{role}", std::process::id());
        sh(&format!("ip netns add {name}"));
        let netns = Self { name };
        netns.sh("ip link set lo up");
        netns
    }

    /// Runs a shell line in it; it has to succeed.
    pub fn sh(&self, line: &str) -> String {
        let output = self.command("/bin/sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{}: {line}: {output:?}", self.name);
        String::from_utf8(output.stdout).unwrap()
    }

    /// From now on this thread is in it, with every process that it starts.
    pub fn enter(&self) {
        let netns = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// A program that runs in it.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program.as_ref());
        command
    }

    /// Connects two hosts: `(host, interface, addresses)` on both ends.
    pub fn wire(one: (&Self, &str, &[&str]), other: (&Self, &str, &[&str])) {
        sh(&format!(
            "ip link add {} netns {} type veth peer name {} netns {}",
            one.1, one.0.name, other.1, other.0.name
        ));
        for (netns, interface, addresses) in [one, other] {
            for address in addresses {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                netns.sh(&format!("ip addr add {address} dev {interface} {nodad}"));
            }
            netns.sh(&format!("ip link set {interface} up"));
        }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

pub fn sh(line: &str) -> Output {
    let output = Command::new("/bin/sh").args(["-c", line]).output().unwrap();
    assert!(
        output.status.success(),
        "{line}: {output:?} (these tests run as root)"
    );
    output
}
