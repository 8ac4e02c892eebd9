//! Disks that are full or read-only, journals that are lost: nobody stays blocked.

mod support;

use support::guests;
use support::netns::Netns;
use support::root::{RETORT, Root, ossec_words};
use support::tiny::Tiny;

const ATTACKER: &str = "203.0.113.7";

/// One call of the link on that host; its exit status.
fn call(host: &Netns, root: &Root, action: &str) -> i32 {
    let mut command = host.command(root.bin("firewall-drop"));
    let status = command
        .args(ossec_words(action, ATTACKER))
        .status()
        .unwrap();
    status.code().unwrap()
}

#[test]
fn a_full_disk_keeps_nobody_blocked() {
    let tiny = Tiny::new(8192);
    let root = Root::within(
        &tiny.path,
        &[("firewall-drop", &guests::response("firewall-drop"))],
        "ossec",
        "record",
    );
    assert_eq!(
        root.call("firewall-drop", "add", ATTACKER),
        0,
        "{}",
        root.log()
    );
    let full = std::fs::write(tiny.path.join("rest"), vec![0; 16 << 20]);
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    // Whether the journal finds room in its own files is its matter; if not, it is owed.
    let code = root.call("firewall-drop", "delete", ATTACKER);
    std::fs::remove_file(tiny.path.join("rest")).unwrap();
    if code != 0 {
        assert!(root.retort(&["sweep"]).status.success());
    }
    assert!(root.blocked().is_empty(), "{code}: {}", root.log());
}

#[test]
fn a_read_only_disk_keeps_nobody_blocked() {
    let tiny = Tiny::new(8192);
    let component = guests::response("firewall-drop");
    let root = Root::within(
        &tiny.path,
        &[("firewall-drop", &component)],
        "ossec",
        "nftables",
    );
    let host = Netns::new("readonly");
    let call = |action: &str| call(&host, &root, action);
    let in_the_kernel = || host.sh("nft list ruleset").contains(ATTACKER);
    assert_eq!(call("add"), 0, "{}", root.log());
    assert!(in_the_kernel());
    tiny.again("ro");
    assert_eq!(call("delete"), 1, "the journal could not note it");
    assert!(!in_the_kernel());
    tiny.again("rw");
    assert_eq!(call("add"), 0, "{}", root.log());
    assert!(in_the_kernel());
}

#[test]
fn a_journal_that_is_lost_takes_no_debt_with_it() {
    let component = guests::response("firewall-drop");
    let root = Root::with(&[("firewall-drop", &component)], "ossec", "nftables");
    let host = Netns::new("lost");
    let call = |action: &str| call(&host, &root, action);
    assert_eq!(call("add"), 0, "{}", root.log());
    let own = root.path().join("retort");
    for file in ["journal.db", "journal.db-wal"] {
        std::fs::write(own.join(file), "junk ".repeat(1000)).unwrap();
    }
    assert_eq!(call("delete"), 1, "{}", root.log());
    for file in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(own.join(file));
    }
    let sweep = host
        .command(RETORT)
        .arg("--root")
        .arg(root.path())
        .arg("sweep")
        .output()
        .unwrap();
    assert!(sweep.status.success(), "{sweep:?}");
    assert!(!host.sh("nft list ruleset").contains(ATTACKER));
}
