//! One block over netlink, read back, against spawning `nft`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use retort::backend::Element;
use retort::backend::nftables::Nftables;

use crate::dropin::address;
use crate::measure::{compare, cost};

pub fn measure() {
    let measured = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace; run it as root");
        compared();
    });
    measured.join().expect("it was measured");
}

fn compared() {
    let mut nftables =
        Nftables::open(Path::new("/var/ossec"), Duration::from_secs(1)).expect("nf_tables");
    let element = |n: usize| Element {
        address: address(n).parse().expect("an address"),
        timeout: Duration::from_secs(600),
        unjournaled: false,
    };
    let ours = cost(5000, |n| {
        let element = element(n);
        let address = element.address;
        nftables.set(&[element]).expect("it is set");
        nftables
            .look(address)
            .expect("it is read")
            .expect("it is there");
    });
    let thousand: Vec<Element> = (10_000..11_000).map(element).collect();
    let batch = cost(20, |_| nftables.set(&thousand).expect("they are set"));
    for line in [
        "add table inet witness",
        "add set inet witness blocked { type ipv4_addr ; flags timeout ; }",
    ] {
        nft(line);
    }
    let theirs = cost(200, |n| {
        nft(&format!(
            "add element inet witness blocked {{ {} timeout 600s }}",
            address(n)
        ));
    });
    compare(
        "one block over netlink, set and read back",
        ours.wall,
        "one `nft add element`",
        theirs.wall,
    );
    println!("  a thousand in one transaction: {:.1?}", batch.wall);
}

fn nft(line: &str) {
    let status = Command::new("nft")
        .args(line.split(' '))
        .status()
        .expect("nft is installed");
    assert!(status.success(), "nft {line}");
}
