//! Killed at every write to the journal and at every call to the kernel: what stands
//! afterwards is what the journal says, and every deadline is kept.

mod copies;
mod daemon;
mod found;
mod group;
mod link;
#[path = "../support/mod.rs"]
mod support;
mod trouble;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::guests;
use support::netns::Netns;
use support::root::Root;

/// Hosts that are killed side by side: most of the time they wait for a second to pass.
const SIDE_BY_SIDE: usize = 10;

/// Built once for all of them.
fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| guests::response("firewall-drop"))
}

fn root() -> Root {
    let root = Root::with(&[("firewall-drop", component())], "ossec", "nftables");
    configure(&root);
    root
}

fn configure(root: &Root) {
    root.ar_conf("drop1 - firewall-drop.sh - 1\ndrop600 - firewall-drop.sh - 600\n");
    root.ossec_conf(
        "<active-response><repeated_offenders>30</repeated_offenders></active-response>",
    );
}

fn order(name: &str, address: &str) -> String {
    format!("{name} - {address} 1795489577.1 5712 (web01) 10.0.0.5->/var/log/auth.log -\0")
}

/// Does that in a network of its own.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let apart = scope.spawn(|| {
            let netns = Netns::new("apart");
            netns.enter();
            work()
        });
        apart.join().unwrap()
    })
}

/// Does that for each, some side by side, each in a network of its own.
fn side_by_side<T: Sync + std::panic::RefUnwindSafe + std::fmt::Debug>(
    all: &[T],
    work: impl Fn(&T) + Sync,
) {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = std::panic::AssertUnwindSafe(work);
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                let netns = Netns::new("crash");
                netns.enter();
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let work = &work;
                    if std::panic::catch_unwind(|| work(one)).is_err() {
                        println!("failed: {one:?}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "of {}", all.len());
}
