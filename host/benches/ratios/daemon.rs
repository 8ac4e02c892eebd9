//! The daemon at its queue: from a datagram to an address that is durable and in the
//! kernel, one after another, and ten thousand at once.

use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use retort::backend::nftables::Nftables;
use retort::event::{Action, Dialect, Event};
use retort::journal::{Intent, Invocation, Journal, Now, Run, Term};
use tempfile::TempDir;

use crate::dropin::{self, address};

/// Offenders of the burst.
const BURST: usize = 10_000;

/// Blocks that stand when a daemon starts.
const STANDING: usize = 100_000;

/// Single blocks, whose median is taken.
const SINGLES: usize = 500;

pub fn measure() {
    let measured = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace; run it as root");
        measured();
        standing();
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

/// How long a start takes with many blocks in the journal and none in the firewall.
fn standing() {
    let root = installation();
    let path = root.path().canonicalize().expect("the root");
    let now = Now::read().expect("the clocks");
    let patience = Duration::from_secs(5);
    let mut journal = Journal::open(&path.join("retort/journal.db"), patience).expect("a journal");
    journal.begin_group(true).expect("a group");
    for n in 0..STANDING {
        let network = format!("203.{}.{}.{}", n / 62_500, n / 250 % 250, 1 + n % 250);
        let network: IpAddr = network.parse().expect("an address");
        let mut event = Event::of(Action::Add);
        event.srcip = Some(network);
        let invocation = Invocation {
            response: "firewall-drop".into(),
            digest: String::new(),
            executable: "firewall-drop".into(),
            dialect: Dialect::Ossec,
            key: network.to_string(),
            event,
            origin: String::new(),
            owner: None,
            asker: None,
            dry_run: false,
            message: None,
        };
        let lasts = Duration::from_secs(3600);
        let term = Term {
            lasts: Some(lasts),
            ladder: Vec::new(),
            decay: lasts,
        };
        let entered = journal.enter(&now, &invocation, None, &term);
        let (run, _) = entered.expect("it is pending");
        let intent = Intent {
            network: network.into(),
            backend: "nftables".into(),
            lasts,
            orphan_lasts: None,
        };
        let intended = journal.intend(&now, Run::Known(run), &intent);
        let hold = intended.expect("it is intended").hold;
        journal.done(hold, Some(lasts)).expect("it is done");
    }
    journal.end_group().expect("it is written");
    drop(journal);
    let mut kernel = Nftables::open(&path, patience).expect("nf_tables");
    let started = Instant::now();
    let daemon = Daemon::start(&path);
    let served = started.elapsed();
    while kernel.list().expect("the set").len() < STANDING {
        std::thread::sleep(Duration::from_millis(10));
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "some are lost"
        );
    }
    println!(
        "{STANDING} blocks that a start finds: it serves after {served:.2?}, all are back in the firewall after {:.2?}; {}",
        started.elapsed(),
        daemon.resident()
    );
}

fn installation() -> TempDir {
    let root = dropin::installation();
    let path = root.path();
    std::fs::create_dir_all(path.join("queue/alerts")).expect("a folder");
    std::fs::write(
        path.join("etc/shared/ar.conf"),
        "firewall-drop600 - firewall-drop - 600\n",
    )
    .expect("ar.conf");
    let grants = "[firewall]\nper_minute = 10_000_000\n[response.firewall-drop]\nexpect = [\"srcip\"]\nfirewall = { per_minute = 10_000_000 }\n";
    std::fs::write(path.join("retort/retort.toml"), grants).expect("retort.toml");
    root
}

fn measured() {
    let root = installation();
    let root = root.path();
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
        "from a datagram to durable and in the kernel: median {:.2?}, p99 {:.2?}",
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
