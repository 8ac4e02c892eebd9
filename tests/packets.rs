//! Real packets: a client, the host, its gateway and a service behind destination
//! NAT, each in a network namespace. What is blocked is cut, new connections and
//! open ones; everything else is as before.

mod support;

use support::guests;
use support::netns::Netns;
use support::root::{RETORT, Root};
use support::wire::{CLIENT4, CLIENT6, Connection, GATEWAY4, HOST4, HOST6, Net, reaches};

#[test]
fn a_wazuh_message_cuts_new_and_open_connections_and_delete_gives_them_back() {
    let net = Net::new("wazuh4");
    let others = net.others();
    let mut open = Connection::open(&net.client, HOST4, 22).expect("it works before");
    let mut open_nat =
        Connection::open(&net.client, HOST4, 8080).expect("the NATed port works before");
    assert!(open.works() && open_nat.works());

    assert_eq!(net.wazuh("add", CLIENT4), 0, "{}", net.root.log());
    assert!(!open.works(), "the open connection is cut");
    assert!(!open_nat.works(), "the open NATed connection is cut");
    assert!(!reaches(&net.client, HOST4, 22), "no new connection");
    assert!(
        !reaches(&net.client, HOST4, 8080),
        "no new NATed connection"
    );
    assert!(
        reaches(&net.client, HOST6, 22),
        "the other family is not meant"
    );
    assert!(reaches(&net.host, "127.0.0.1", 22), "loopback stays");
    assert!(reaches(&net.host, GATEWAY4, 22), "the gateway stays");
    assert!(reaches(&net.gateway, "198.51.100.2", 22), "and from there");
    assert_eq!(
        net.others(),
        others,
        "the machine's own rules are as before"
    );

    assert_eq!(net.wazuh("delete", CLIENT4), 0, "{}", net.root.log());
    assert!(
        reaches(&net.client, HOST4, 22) && reaches(&net.client, HOST4, 8080),
        "it works again"
    );
    assert_eq!(net.others(), others);
    assert!(reaches(&net.service, "10.77.0.1", 22));
}

#[test]
fn an_ossec_call_blocks_ipv6_and_its_delete_lets_go() {
    let net = Net::new("ossec");
    let mut open = Connection::open(&net.client, HOST6, 22).expect("it works before");
    assert_eq!(net.ossec("add", CLIENT6), 0, "{}", net.root.log());
    assert!(!open.works() && !reaches(&net.client, HOST6, 22));
    assert!(reaches(&net.client, HOST4, 22));
    assert_eq!(net.ossec("delete", CLIENT6), 0);
    assert!(reaches(&net.client, HOST6, 22));
    assert_eq!(net.ossec("add", CLIENT4), 0);
    assert!(!reaches(&net.client, HOST4, 22));
    assert_eq!(net.ossec("delete", CLIENT4), 0);
    assert!(reaches(&net.client, HOST4, 22));
}

#[test]
fn the_gateway_stays_whatever_a_message_asks() {
    let net = Net::new("wazuh4");
    let table = || net.host.sh("nft list ruleset");
    let before = table();
    for spelling in [
        "198.51.100.1",
        "::ffff:198.51.100.1",
        "64:ff9b::198.51.100.1",
        "2002:c633:6401::1",
        "::198.51.100.1",
        "192.0.2.1",
        "2001:db8:1::1",
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "fe80::1",
        "10.77.0.1",
    ] {
        assert_ne!(
            net.wazuh("add", spelling),
            0,
            "{spelling} is answered as done"
        );
        assert!(net.root.blocked().is_empty(), "{spelling}");
        assert_eq!(table(), before, "{spelling}");
    }
    assert!(reaches(&net.host, GATEWAY4, 22));
}

#[test]
fn an_address_leaves_the_kernel_with_its_second_hold() {
    let drop = guests::response("firewall-drop");
    let root = Root::granted(
        &[("firewall-drop", &drop), ("other-drop", &drop)],
        "[response.firewall-drop]\nexpect = [\"srcip\"]\nfirewall = {}\n[response.other-drop]\nexpect = [\"srcip\"]\nfirewall = {}\n",
    );
    let host = Netns::new("holds");
    let call = |link: &str, action: &str| {
        let status = host
            .command(root.bin(link))
            .args([action, "-", "203.0.113.7", "1.1", "5712", "/x", "-"])
            .status()
            .unwrap();
        assert!(status.success(), "{}", root.log());
    };
    let in_the_kernel = || host.sh("nft list ruleset").contains("203.0.113.7");
    for (first, second) in [
        ("firewall-drop", "other-drop"),
        ("other-drop", "firewall-drop"),
    ] {
        call("firewall-drop", "add");
        call("other-drop", "add");
        assert_eq!(root.blocked().len(), 2);
        call(first, "delete");
        assert!(in_the_kernel(), "the other hold stands");
        call(second, "delete");
        assert!(!in_the_kernel());
    }
}

/// Whatever somebody does to our table, `check` says that it lets packets through, and
/// `sweep` makes it whole, with what is held.
#[test]
fn a_table_that_somebody_changed_is_found_and_mended() {
    let net = Net::new("ossec");
    let retort = |arguments: &[&str]| {
        let mut command = net.host.command(RETORT);
        command
            .arg("--root")
            .arg(net.root.path())
            .args(arguments)
            .output()
            .unwrap()
    };
    assert_eq!(net.ossec("add", CLIENT4), 0, "{}", net.root.log());
    let tables = net.host.sh("nft list tables");
    let table = tables
        .split_whitespace()
        .find(|word| word.starts_with("retort_"))
        .unwrap()
        .to_owned();
    assert!(retort(&["check"]).status.success());
    for harm in [
        format!("nft insert rule inet {table} early accept"),
        format!("nft add table inet {table} '{{ flags dormant ; }}'"),
        format!("nft flush chain inet {table} early"),
        format!("nft delete chain inet {table} early"),
    ] {
        assert!(!reaches(&net.client, HOST4, 22), "before {harm}");
        net.host.sh(&harm);
        assert!(reaches(&net.client, HOST4, 22), "{harm}: it does nothing");
        let check = retort(&["check"]);
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(said.contains("`retort sweep`"), "{harm}: {said}");
        let sweep = retort(&["sweep"]);
        assert!(sweep.status.success(), "{harm}: {sweep:?}");
        assert!(!reaches(&net.client, HOST4, 22), "{harm}: {sweep:?}");
    }
    // What lets nothing through is found too.
    for harm in [
        format!("nft add chain inet {table} early '{{ policy drop ; }}'"),
        format!(
            "nft add chain inet {table} late '{{ type filter hook input priority 0 ; policy drop ; }}'"
        ),
    ] {
        net.host.sh(&harm);
        assert!(!retort(&["check"]).status.success(), "{harm}");
        assert!(retort(&["sweep"]).status.success(), "{harm}");
        assert!(retort(&["check"]).status.success(), "{harm}");
        assert!(reaches(&net.gateway, "198.51.100.2", 22), "{harm}");
    }
    // What is gone is put back, and what nobody holds is taken out.
    net.host.sh("nft flush ruleset");
    let check = retort(&["check"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("are held and not in the firewall"), "{said}");
    let sweep = retort(&["--output", "json", "sweep"]);
    assert!(sweep.status.success() && !reaches(&net.client, HOST4, 22));
    let told: serde_json::Value = serde_json::from_slice(&sweep.stdout).unwrap();
    let repair = told[0]["repair"].as_str().unwrap();
    assert!(repair.contains("was missing, and is made anew"), "{told}");
    net.host.sh(&format!(
        "nft add element inet {table} blocked4 '{{ 198.51.100.1 }}'"
    ));
    assert!(!reaches(&net.gateway, "198.51.100.2", 22));
    let sweep = retort(&["sweep"]);
    let said = String::from_utf8_lossy(&sweep.stdout).into_owned();
    assert!(
        said.contains("held by nobody; they are taken out: 1 (198.51.100.1)"),
        "{said}"
    );
    assert!(reaches(&net.gateway, "198.51.100.2", 22));
    assert_eq!(net.ossec("delete", CLIENT4), 0);
}

/// Networks in every order: what is held by anyone is cut, and nothing else is.
#[test]
fn networks_are_cut_and_given_back() {
    let net = Net::new("ossec");
    let hostile = guests::hostile();
    let granted = |response: &str| {
        format!(
            "[response.{response}]\nexpect = [\"srcip\"]\nhostname = true\n\
             firewall = {{ target = \"any\", widest = {{ ipv4 = 16, ipv6 = 48 }} }}\n\
             process.true = {{ argv = [\"/bin/true\"] }}\n"
        )
    };
    let root = Root::granted(
        &[("hostile", &hostile), ("other", &hostile)],
        &format!(
            "[firewall]\nbackend = \"nftables\"\n{}{}",
            granted("hostile"),
            granted("other")
        ),
    );
    let retort = |arguments: &[&str]| {
        let mut command = net.host.command(RETORT);
        command.arg("--root").arg(root.path()).args(arguments);
        command.output().unwrap()
    };
    let run = |response: &str, manner: &str, address: &str, prefix: &str| {
        let event = serde_json::json!({
            "action": "add", "srcip": "203.0.113.7", "extra_args": [manner, address, prefix],
        });
        let file = root.path().join("event.json");
        std::fs::write(&file, event.to_string()).unwrap();
        retort(&["run", response, "--event", file.to_str().unwrap()])
    };
    let block = |response: &str, address: &str, prefix: &str| {
        let output = run(response, "block-network", address, prefix);
        assert!(output.status.success(), "{address}/{prefix}: {output:?}");
    };
    let unblock = |what: &str| {
        let output = retort(&["unblock", what]);
        assert!(output.status.success(), "{what}: {output:?}");
    };
    let cut = || !reaches(&net.client, HOST4, 22);

    // This host's own address is in the /24 of the wire: such a network is refused.
    let refused = run("hostile", "block-network", "192.0.2.0", "24");
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(said.contains("this host's own address"), "{refused:?}");
    assert!(!refused.status.success() && !cut());

    let mut open = Connection::open(&net.client, HOST4, 22).expect("it works before");
    block("hostile", "192.0.2.8", "29");
    assert!(!open.works() && cut(), "new and open connections are cut");
    assert!(reaches(&net.client, HOST6, 22) && reaches(&net.host, GATEWAY4, 22));
    for (asked, prefix, blocked) in [("192.0.2.9", "32", true), ("192.0.2.0", "28", false)] {
        let output = run("other", "ask-network", asked, prefix);
        assert_eq!(
            output.status.success(),
            blocked,
            "{asked}/{prefix}: {output:?}"
        );
    }
    let listed = retort(&["--output", "json", "blocks", "list"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["address"], "192.0.2.8/29", "{listed}");

    // A narrow one, and a host inside: each is held for itself.
    block("other", "192.0.2.8", "30");
    block("hostile", "192.0.2.9", "32");
    let explained = retort(&["explain", "192.0.2.9"]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    for words in [
        "held by hostile",
        "held with 192.0.2.8/29 by hostile",
        "held with 192.0.2.8/30 by other",
    ] {
        assert!(explained.contains(words), "{explained}");
    }
    let table = || net.host.sh("nft list ruleset");
    unblock("192.0.2.8/29");
    assert!(cut() && table().contains("192.0.2.8/30"), "{}", table());
    block("hostile", "192.0.2.8", "29");
    unblock("192.0.2.8/30");
    assert!(cut() && table().contains("192.0.2.8/29"), "{}", table());
    unblock("192.0.2.8/29");
    assert!(cut() && !table().contains("/29"), "the host is held still");
    block("other", "192.0.2.8", "29");
    unblock("192.0.2.9");
    assert!(cut(), "the network is held still");
    let inside = retort(&["unblock", "192.0.2.9"]);
    let said = String::from_utf8_lossy(&inside.stderr).into_owned();
    assert!(said.contains("`retort unblock 192.0.2.8/29`"), "{said}");
    unblock("192.0.2.8/29");
    assert!(!cut(), "{}", table());

    block("hostile", "2001:db8:1::8", "125");
    assert!(!reaches(&net.client, HOST6, 22) && !cut());
    let shown = retort(&["explain", "2001:db8:1::8/125"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("it is in the firewall"), "{shown}");
    let output = run("hostile", "unblock-network", "2001:db8:1::8", "125");
    assert!(output.status.success(), "{output:?}");
    assert!(reaches(&net.client, HOST6, 22), "{}", table());

    // An address of this host's own inside a held network: that is let go.
    block("hostile", "203.0.113.0", "24");
    block("other", "203.0.113.128", "25");
    net.host.sh("ip addr add 203.0.113.5/32 dev h0");
    let swept = retort(&["sweep"]);
    let said = String::from_utf8_lossy(&swept.stdout).into_owned();
    assert!(said.contains("unblock 203.0.113.0/24: done"), "{swept:?}");
    let left = table();
    assert!(
        left.contains("203.0.113.128/25") && !left.contains("203.0.113.0/24"),
        "{left}"
    );
}

/// An open connection is no session; what logind has written down is one, for members
/// of the group, before the alert.
#[test]
fn a_brute_forcer_on_an_open_connection_is_cut_and_an_admin_is_not() {
    let net = Net::new("ossec");
    let path = net.root.path().join("retort/retort.toml");
    let grants = std::fs::read_to_string(&path).unwrap();
    let protects = "[firewall]\nprotect_admin_sessions = \"root\"\n";
    net.root.grant(&grants.replace("[firewall]\n", protects));
    let sessions = net.root.path().join("sessions");
    std::fs::create_dir_all(sessions.join("systemd/sessions")).unwrap();
    // The namespace's own /run: what this machine has there is none of the test's.
    let add = || {
        let line = format!(
            "mount --bind {} /run && exec {} add - {CLIENT4} 1795489577.1 5712 /x -",
            sessions.display(),
            net.root.bin("firewall-drop").display()
        );
        let mut command = net.host.command("/bin/sh");
        command.args(["-c", &line]).status().unwrap().success()
    };
    let session = |user: &str, class: &str, since: u64| {
        let text = format!(
            "USER={user}\nCLASS={class}\nSTATE=active\nREMOTE_HOST={CLIENT4}\nREALTIME={since}000000\n"
        );
        std::fs::write(sessions.join("systemd/sessions/7"), text).unwrap();
    };
    let mut open = Connection::open(&net.client, HOST4, 22).expect("it works before");
    // The clock says that the alert is yet to come: then it came when it was received.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let alerted = now.min(1_795_489_577);
    for (user, class, since, stays) in [
        ("root", "user", alerted - 1, true),
        ("nobody", "user", alerted - 1, false),
        ("root", "greeter", alerted - 1, false),
        ("root", "user", now + 60, false),
    ] {
        session(user, class, since);
        assert_eq!(add(), !stays, "{user}, {class}: {}", net.root.log());
        assert_eq!(reaches(&net.client, HOST4, 22), stays, "{user}, {class}");
        if stays {
            assert!(open.works());
            let log = net.root.log();
            assert!(log.contains("root is logged in from"), "{log}");
        } else {
            assert_eq!(net.ossec("delete", CLIENT4), 0);
        }
    }
    std::fs::remove_file(sessions.join("systemd/sessions/7")).unwrap();
    assert!(add() && !open.works(), "{}", net.root.log());
}

#[test]
fn unblock_and_a_full_disk() {
    let root = Root::with(
        &[("firewall-drop", &guests::response("firewall-drop"))],
        "ossec",
        "nftables",
    );
    let host = Netns::new("disk");
    let retort = |arguments: &[&str]| {
        let output = host
            .command(RETORT)
            .arg("--root")
            .arg(root.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let call = |address: &str| {
        let arguments = ["add", "-", address, "1.1", "5712", "/x", "-"];
        host.command(root.bin("firewall-drop"))
            .args(arguments)
            .status()
            .unwrap()
            .code()
            .unwrap()
    };
    assert_eq!(call("203.0.113.7"), 0, "{}", root.log());
    assert!(retort(&["unblock", "203.0.113.7"]).contains("done"));
    assert!(!host.sh("nft list ruleset").contains("203.0.113.7"));

    // A journal that can't be written: the block happens, short and loud.
    let journal = root.path().join("retort/journal.db");
    let kept = root.path().join("retort/kept");
    std::fs::rename(&journal, &kept).unwrap();
    std::fs::create_dir(&journal).unwrap();
    assert_eq!(call("203.0.113.8"), 0, "{}", root.log());
    let table = host.sh("nft list ruleset");
    assert!(table.contains("203.0.113.8 timeout 10m"), "{table}");
    assert!(
        root.log().contains("WARNING: blocked without the journal"),
        "{}",
        root.log()
    );

    // Unblocked while the journal can't say who holds it: it stays so when it can again.
    std::fs::remove_dir(&journal).unwrap();
    std::fs::rename(&kept, &journal).unwrap();
    assert_eq!(call("203.0.113.9"), 0, "{}", root.log());
    std::fs::rename(&journal, &kept).unwrap();
    std::fs::create_dir(&journal).unwrap();
    let mut unblock = host.command(RETORT);
    unblock.arg("--root").arg(root.path());
    let unblock = unblock.args(["unblock", "203.0.113.9"]).output().unwrap();
    let said = String::from_utf8_lossy(&unblock.stderr).into_owned();
    assert!(said.contains("it is out of the firewall"), "{said}");
    std::fs::remove_dir(&journal).unwrap();
    std::fs::rename(&kept, &journal).unwrap();
    let swept = retort(&["sweep"]);
    assert!(swept.contains("unblock 203.0.113.9/32: done"), "{swept}");
    let table = host.sh("nft list ruleset");
    assert!(!table.contains("203.0.113.9"), "{table}");
    assert!(table.contains("203.0.113.8 timeout 10m"), "{table}");
    assert!(retort(&["blocks", "list"]).contains("nothing is blocked"));
}
