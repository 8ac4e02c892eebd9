//! The daemon at its queue: from a datagram to an address that is durable and in the
//! kernel, one after another, and ten thousand at once.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use retort::backend::nftables::Nftables;

use crate::dropin::{self, address};

/// Offenders of the burst.
const BURST: usize = 10_000;

/// Single blocks, whose median is taken.
const SINGLES: usize = 500;

pub fn measure() {
    let measured = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace; run it as root");
        measured();
    });
    measured.join().expect("it was measured");
}

struct Daemon(Child);

impl Daemon {
    fn start(root: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_retort"))
            .arg("--root")
            .arg(root)
            .args(["execd", "-f"])
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon starts");
        let queue = root.join("queue/alerts/execq");
        while !queue.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Self(child)
    }

    /// Kilobytes that are resident.
    fn resident(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        line.expect("the kernel says it").to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measured() {
    let root = dropin::installation();
    let root = root.path();
    std::fs::create_dir_all(root.join("queue/alerts")).expect("a folder");
    std::fs::write(
        root.join("etc/shared/ar.conf"),
        "firewall-drop600 - firewall-drop - 600\n",
    )
    .expect("ar.conf");
    let grants = "[firewall]\nper_minute = 10_000_000\n[response.firewall-drop]\nexpect = [\"srcip\"]\nfirewall = { per_minute = 10_000_000 }\n";
    std::fs::write(root.join("retort/retort.toml"), grants).expect("retort.toml");
    let daemon = Daemon::start(root);
    let queue = UnixDatagram::unbound().expect("a socket");
    queue
        .connect(root.join("queue/alerts/execq"))
        .expect("the queue");
    let root = root.canonicalize().expect("the root");
    let mut kernel = Nftables::open(&root, Duration::from_secs(5)).expect("nf_tables");
    let send = |n: usize| {
        let order = format!(
            "firewall-drop600 - {} 1795489577.1 5712 /var/log/auth.log -",
            address(n)
        );
        queue.send(order.as_bytes()).expect("it is sent");
    };
    let mut singles: Vec<Duration> = (0..SINGLES + 20)
        .map(|n| {
            let started = Instant::now();
            send(n);
            let wanted = address(n).parse().expect("an address");
            while !matches!(kernel.look(wanted), Ok(Some(_))) {
                std::hint::spin_loop();
            }
            started.elapsed()
        })
        .skip(20)
        .collect();
    singles.sort();
    println!(
        "from a datagram to durable and in the kernel: median {:.0?}, p99 {:.0?}",
        singles[SINGLES / 2],
        singles[SINGLES * 99 / 100]
    );
    let before = kernel.list().expect("the set").len();
    let started = Instant::now();
    (20_000..20_000 + BURST).for_each(send);
    let sent = started.elapsed();
    while kernel.list().expect("the set").len() < before + BURST {
        std::thread::sleep(Duration::from_millis(10));
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "some are lost"
        );
    }
    println!(
        "{BURST} offenders at once: all sent after {sent:.2?}, durable and in the kernel after {:.2?}; {}",
        started.elapsed(),
        daemon.resident()
    );
}
