//! In a network namespace of each test's own, with `nft` as a witness that shares
//! nothing with us.

mod networks;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::backend::{Corrected, Correction};

const ROOT: &str = "/var/ossec";
const BUDGET: Duration = Duration::from_secs(2);

/// Runs `test` on a thread that is alone in a new network namespace.
pub(crate) fn in_a_namespace(test: impl FnOnce() + Send + 'static) {
    let ran = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .expect("these tests make network namespaces: run them as root");
        test();
    });
    ran.join().unwrap();
}

pub(crate) fn nft(arguments: &str) -> String {
    let output = Command::new("nft")
        .args(arguments.split(' '))
        .output()
        .expect("nft is installed");
    assert!(output.status.success(), "nft {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn open() -> Nftables {
    Nftables::open(Path::new(ROOT), BUDGET).unwrap()
}

pub(crate) fn element(address: &str, seconds: u64) -> Element {
    Element {
        address: address.parse().unwrap(),
        timeout: Duration::from_secs(seconds),
        unjournaled: false,
    }
}

/// Makes the table whole, and changes nothing of what it holds.
fn mend(nftables: &mut Nftables) {
    let (corrected, _) = nftables.correct(|_| Correction::default()).unwrap();
    assert_eq!(corrected, Corrected::Rebuilt);
}

fn left(nftables: &mut Nftables, address: &str) -> Option<u64> {
    let seen = nftables.look(address.parse().unwrap()).unwrap()?;
    Some(seen.expires_in.unwrap().as_secs())
}

#[test]
fn two_roots_have_two_tables() {
    let name = table_name(Path::new(ROOT));
    assert!(name.starts_with("retort_var_ossec_"), "{name}");
    assert_ne!(name, table_name(Path::new("/var/ossec2")));
    assert_ne!(table_name(Path::new("/a_b")), table_name(Path::new("/a/b")));
}

#[test]
fn the_table_is_what_nft_says_it_should_be() {
    in_a_namespace(|| {
        let mut nftables = open();
        nftables
            .set(&[element("203.0.113.7", 600), element("2001:db8::7", 600)])
            .unwrap();
        let table = nft(&format!("list table inet {}", table_name(Path::new(ROOT))));
        for line in [
            "comment \"made by retort; layout 2\"",
            "type filter hook prerouting priority raw - 10; policy accept;",
            "meta iiftype loopback accept",
            "ip saddr @blocked4 drop",
            "ip6 saddr @blocked6 drop",
            "ip saddr @networks4 drop",
            "ip6 saddr @networks6 drop",
            "203.0.113.7 timeout 10m expires",
            "2001:db8::7 timeout 10m expires",
        ] {
            assert!(table.contains(line), "no `{line}` in:\n{table}");
        }
        let loopback = table.find("iiftype loopback").unwrap();
        assert!(loopback < table.find("@blocked4 drop").unwrap(), "{table}");
        let left = left(&mut nftables, "203.0.113.7").unwrap();
        assert!((599..=600).contains(&left), "{left}");
        assert_eq!(nftables.list().unwrap().len(), 2);
    });
}

#[test]
fn a_deadline_moves_both_ways() {
    in_a_namespace(|| {
        let mut nftables = open();
        for seconds in [600, 60, 6000] {
            nftables.set(&[element("203.0.113.7", seconds)]).unwrap();
            let left = left(&mut nftables, "203.0.113.7").unwrap();
            assert!(
                left == seconds || left == seconds - 1,
                "{left} of {seconds}"
            );
        }
        nftables
            .set(&[Element {
                address: "203.0.113.8".parse().unwrap(),
                timeout: Duration::from_millis(80),
                unjournaled: false,
            }])
            .unwrap();
        std::thread::sleep(Duration::from_millis(120));
        assert_eq!(left(&mut nftables, "203.0.113.8"), None);
    });
}

#[test]
fn what_is_not_there_can_be_removed() {
    in_a_namespace(|| {
        let mut nftables = open();
        let absent = "203.0.113.7".parse().unwrap();
        nftables.remove(&[absent]).unwrap();
        assert_eq!(nft("list ruleset"), "", "nothing was made");
        nftables.set(&[element("203.0.113.8", 60)]).unwrap();
        nftables
            .remove(&[absent, "203.0.113.8".parse().unwrap()])
            .unwrap();
        assert!(nftables.list().unwrap().is_empty());
    });
}

#[test]
fn a_thousand_and_more_in_one_call() {
    in_a_namespace(|| {
        let mut nftables = open();
        let many: Vec<Element> = (0..2500_u32)
            .map(|n| Element {
                address: IpAddr::V4((0xcb00_0000 + n).into()),
                timeout: Duration::from_secs(600),
                unjournaled: false,
            })
            .collect();
        nftables.set(&many).unwrap();
        nftables.set(&many).unwrap();
        assert_eq!(nftables.list().unwrap().len(), 2500);
        let addresses: Vec<IpAddr> = many.iter().map(|element| element.address).collect();
        nftables.remove(&addresses).unwrap();
        assert!(nftables.list().unwrap().is_empty());
    });
}

#[test]
fn nothing_of_the_machines_own_is_touched() {
    in_a_namespace(|| {
        nft("add table inet filter");
        nft("add chain inet filter input { type filter hook input priority 0 ; policy accept ; }");
        nft("add rule inet filter input tcp dport 22 accept");
        nft("add table ip nat");
        let before = nft("list ruleset");
        let mut nftables = open();
        nftables.set(&[element("203.0.113.7", 60)]).unwrap();
        nftables.remove(&["203.0.113.7".parse().unwrap()]).unwrap();
        assert!(nftables.drop_table().unwrap());
        assert!(!nftables.drop_table().unwrap());
        assert_eq!(nft("list ruleset"), before);
    });
}

#[test]
fn a_foreign_table_of_our_name_is_left_alone() {
    in_a_namespace(|| {
        let name = table_name(Path::new(ROOT));
        nft(&format!("add table inet {name}"));
        let before = nft("list ruleset");
        let mut nftables = open();
        let error = nftables.set(&[element("203.0.113.7", 60)]).unwrap_err();
        assert!(
            matches!(&error, Error::Foreign { table } if *table == name),
            "{error}"
        );
        assert!(matches!(nftables.drop_table(), Err(Error::Foreign { .. })));
        assert!(matches!(
            nftables.remove(&["203.0.113.7".parse().unwrap()]),
            Err(Error::Foreign { .. })
        ));
        assert_eq!(nft("list ruleset"), before);
    });
}

#[test]
fn a_damaged_table_is_rebuilt_with_what_it_holds() {
    in_a_namespace(|| {
        let name = table_name(Path::new(ROOT));
        for damage in [
            format!("flush chain inet {name} early"),
            "flush ruleset".to_owned(),
            format!("delete table inet {name}"),
        ] {
            let mut nftables = open();
            nftables.set(&[element("203.0.113.7", 600)]).unwrap();
            nft(&damage);
            nftables.set(&[element("203.0.113.8", 600)]).unwrap();
            let table = nft(&format!("list table inet {name}"));
            assert!(
                table.contains("@blocked4 drop") && table.contains("203.0.113.8"),
                "{damage}\n{table}"
            );
            if damage.starts_with("flush chain") {
                assert!(table.contains("203.0.113.7"), "{table}");
            }
        }
    });
}

#[test]
fn another_layout_is_rebuilt_with_what_it_holds() {
    in_a_namespace(|| {
        let name = table_name(Path::new(ROOT));
        nft(&format!(
            "add table inet {name} {{ comment \"made by retort; layout 1\" ; }}"
        ));
        nft(&format!(
            "add set inet {name} blocked4 {{ type ipv4_addr ; flags timeout ; }}"
        ));
        nft(&format!(
            "add element inet {name} blocked4 {{ 203.0.113.7 timeout 10m }}"
        ));
        assert!(!open().is_whole().unwrap());
        mend(&mut open());
        assert!(open().is_whole().unwrap());
        let left = left(&mut open(), "203.0.113.7").unwrap();
        assert!((590..=600).contains(&left), "{left}");
    });
}

/// Set for the child that this test starts as another user.
const CHILD: &str = "RETORT_TEST_WITHOUT_RIGHTS";

#[test]
fn without_the_right_nothing_changes() {
    use std::os::unix::process::CommandExt as _;
    if std::env::var_os(CHILD).is_some() {
        let error = open().set(&[element("203.0.113.7", 60)]).unwrap_err();
        assert!(matches!(error, Error::NotPermitted), "{error}");
        return;
    }
    in_a_namespace(|| {
        // The user may have no way to where this program is.
        let program = tempfile::Builder::new()
            .prefix("retort-test")
            .tempfile()
            .unwrap()
            .into_temp_path();
        // By another process: a child that is just being made by another test would have
        // the file open for writing still.
        let copied = Command::new("cp")
            .arg(std::env::current_exe().unwrap())
            .arg(&program)
            .status()
            .unwrap();
        assert!(copied.success());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let output = Command::new(&program)
            .args([
                "--exact",
                "backend::nftables::tests::without_the_right_nothing_changes",
            ])
            .env(CHILD, "1")
            .current_dir("/")
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("1 passed"),
            "{output:?}"
        );
        assert_eq!(nft("list ruleset"), "");
    });
}
