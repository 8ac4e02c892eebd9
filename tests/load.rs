//! Ten thousand offenders in one burst through the queue: all are durable and in the
//! kernel, none is lost. Prints how long it took:
//!
//!     cargo test --package retort --test load -- --nocapture

#[path = "support/mod.rs"]
mod support;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use support::daemon::{Daemon, until};
use support::guests;
use support::netns::Netns;
use support::root::{RETORT, Root};

const BURST: usize = 10_000;

/// What a slow machine may take in an unoptimised build.
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn ten_thousand_offenders_at_once_are_all_blocked() {
    let netns = Netns::new("load");
    let component = guests::response("firewall-drop");
    let root = Root::with(&[("firewall-drop", &component)], "ossec", "nftables");
    root.ar_conf("firewall-drop600 - firewall-drop - 600\n");
    root.grant("[firewall]\nper_minute = 1_000_000\n[response.firewall-drop]\nexpect = [\"srcip\"]\nfirewall = { per_minute = 1_000_000 }\n");
    let daemon = Daemon::start(&root, netns.command(RETORT), "queue/alerts/execq");
    let queue = UnixDatagram::unbound().unwrap();
    queue
        .connect(root.path().join("queue/alerts/execq"))
        .unwrap();
    let address = |n: usize| format!("203.0.{}.{}", n / 250, 1 + n % 250);
    let began = Instant::now();
    for n in 0..BURST {
        let order = format!("firewall-drop600 - {} 1.1 5712 x -", address(n));
        queue.send(order.as_bytes()).unwrap();
    }
    let sent = began.elapsed();
    let held = || root.json(&["status"])["journal"]["holds"]["firewall-drop"] == BURST;
    assert!(until(PATIENCE, held), "{}", root.json(&["status"]));
    let done =
        || root.json(&["status"])["daemon"]["counts"]["runs"]["firewall-drop"]["ok"] == BURST;
    assert!(until(PATIENCE, done), "{}", root.json(&["status"]));
    println!(
        "{BURST} offenders: sent in {sent:.2?}, all held after {:.2?}",
        began.elapsed()
    );
    let set = netns.sh("nft list ruleset");
    let missing = (0..BURST).filter(|n| !set.contains(&format!("{} timeout", address(*n))));
    assert_eq!(missing.count(), 0, "{}", set.len());
    // Durable: another daemon finds all of it.
    daemon.kill();
    netns.sh("nft flush ruleset");
    let _daemon = Daemon::start(&root, netns.command(RETORT), "queue/alerts/execq");
    let began = Instant::now();
    let back = || netns.sh("nft list ruleset").matches(" timeout ").count() >= BURST;
    assert!(until(PATIENCE, back));
    println!(
        "all back in the firewall {:.2?} after a start",
        began.elapsed()
    );
}
