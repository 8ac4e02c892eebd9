//! Networks: one merged set, whatever is taken and given up, and whoever meddles.

use ipnet::IpNet;

use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Sets them; what the kernel has then, as we read it.
fn set(nftables: &mut Nftables, texts: &[&str]) -> Vec<String> {
    nftables.set_networks(&nets(texts)).unwrap();
    let has = nftables.networks().unwrap();
    has.iter().map(ToString::to_string).collect()
}

/// The elements of a set, as `nft` lists them.
fn witness(set: &str) -> String {
    let json = nft(&format!(
        "-j list set inet {} {set}",
        table_name(Path::new(ROOT))
    ));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let all = json["nftables"].as_array().unwrap();
    let elements = all.iter().find_map(|part| part["set"].get("elem")).cloned();
    elements.unwrap_or_default().to_string()
}

#[test]
fn nested_and_overlapping_networks_are_one_set_and_come_apart_again() {
    in_a_namespace(|| {
        let mut nftables = open();
        for (wanted, has) in [
            (vec!["203.0.113.0/24"], vec!["203.0.113.0/24"]),
            // The narrow one is inside the wide one; either may go first.
            (
                vec!["203.0.113.0/24", "203.0.113.64/26"],
                vec!["203.0.113.0/24"],
            ),
            (vec!["203.0.113.64/26"], vec!["203.0.113.64/26"]),
            (
                vec!["203.0.113.64/26", "203.0.112.0/23"],
                vec!["203.0.112.0/23"],
            ),
            (vec!["203.0.112.0/23"], vec!["203.0.112.0/23"]),
            // The start stays and the end moves, both ways.
            (vec!["203.0.112.0/24"], vec!["203.0.112.0/24"]),
            (vec!["203.0.112.0/22"], vec!["203.0.112.0/22"]),
            // The end stays and the start moves.
            (vec!["203.0.114.0/23"], vec!["203.0.114.0/23"]),
            // Neighbours that are no network together.
            (
                vec!["10.0.1.0/24", "10.0.2.0/24"],
                vec!["10.0.1.0/24", "10.0.2.0/24"],
            ),
            (vec!["10.0.2.0/24"], vec!["10.0.2.0/24"]),
            // Neighbours that are.
            (
                vec!["2001:db8:0:1::/64", "2001:db8::/64", "10.0.2.0/24"],
                vec!["10.0.2.0/24", "2001:db8::/63"],
            ),
            (vec!["2001:db8:0:1::/64"], vec!["2001:db8:0:1::/64"]),
            // Up to the last address of all.
            (
                vec!["128.0.0.0/1", "8000::/1"],
                vec!["128.0.0.0/1", "8000::/1"],
            ),
            (vec!["255.255.255.255/32"], vec!["255.255.255.255/32"]),
            (vec!["0.0.0.0/1", "128.0.0.0/1"], vec!["0.0.0.0/0"]),
            (vec![], vec![]),
        ] {
            assert_eq!(set(&mut nftables, &wanted), has, "{wanted:?}");
        }
    });
}

#[test]
fn nft_sees_the_same_networks() {
    in_a_namespace(|| {
        let mut nftables = open();
        set(
            &mut nftables,
            &["203.0.113.0/24", "128.0.0.0/2", "2001:db8::/32", "8000::/1"],
        );
        let four = witness("networks4");
        for network in [
            r#"{"addr":"203.0.113.0","len":24}"#,
            r#"{"addr":"128.0.0.0","len":2}"#,
        ] {
            assert!(four.contains(network), "{four}");
        }
        let six = witness("networks6");
        for network in [
            r#"{"addr":"2001:db8::","len":32}"#,
            r#"{"addr":"8000::","len":1}"#,
        ] {
            assert!(six.contains(network), "{six}");
        }
    });
}

#[test]
fn what_nft_put_in_is_seen_and_taken_out() {
    in_a_namespace(|| {
        let mut nftables = open();
        set(&mut nftables, &["203.0.113.0/24"]);
        let name = table_name(Path::new(ROOT));
        for elements in ["10.0.0.0/24, 203.0.114.0/24", "198.51.100.7-198.51.100.9"] {
            nft(&format!(
                "add element inet {name} networks4 {{ {elements} }}"
            ));
        }
        let has = nftables.networks().unwrap();
        assert_eq!(
            has,
            nets(&[
                "10.0.0.0/24",
                "198.51.100.7/32",
                "198.51.100.8/31",
                "203.0.113.0/24",
                "203.0.114.0/24"
            ])
        );
        assert_eq!(set(&mut nftables, &["203.0.113.0/24"]), ["203.0.113.0/24"]);
        assert!(!witness("networks4").contains("203.0.114"));
    });
}

#[test]
fn hosts_and_networks_do_not_touch_each_other() {
    in_a_namespace(|| {
        let mut nftables = open();
        nftables.set(&[element("203.0.113.7", 600)]).unwrap();
        set(&mut nftables, &["203.0.113.0/24"]);
        nftables.remove(&["203.0.113.7".parse().unwrap()]).unwrap();
        assert_eq!(nftables.networks().unwrap(), nets(&["203.0.113.0/24"]));
        nftables.set(&[element("203.0.113.7", 600)]).unwrap();
        assert_eq!(set(&mut nftables, &[]), [""; 0]);
        assert!(left(&mut nftables, "203.0.113.7").is_some());
    });
}

#[test]
fn a_damaged_table_keeps_its_networks() {
    in_a_namespace(|| {
        let name = table_name(Path::new(ROOT));
        let mut nftables = open();
        nftables.set(&[element("203.0.113.7", 600)]).unwrap();
        set(&mut nftables, &["10.0.0.0/8", "2001:db8::/32"]);
        nft(&format!("flush chain inet {name} early"));
        mend(&mut nftables);
        assert_eq!(
            nftables.networks().unwrap(),
            nets(&["10.0.0.0/8", "2001:db8::/32"])
        );
        assert!(left(&mut nftables, "203.0.113.7").is_some());
        nft(&format!("delete chain inet {name} early"));
        assert_eq!(set(&mut nftables, &["10.0.0.0/9"]), ["10.0.0.0/9"]);
        assert!(left(&mut nftables, "203.0.113.7").is_some());
        assert!(nftables.is_whole().unwrap());
    });
}

#[test]
fn no_table_is_made_for_no_network() {
    in_a_namespace(|| {
        assert_eq!(set(&mut open(), &[]), [""; 0]);
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn ten_thousand_networks_in_one_transaction() {
    in_a_namespace(|| {
        let mut nftables = open();
        let many: Vec<IpNet> = (0..10_000_u32)
            .map(|n| IpNet::new(IpAddr::V4((0x0b00_0000 + (n << 9)).into()), 24).unwrap())
            .collect();
        nftables.set_networks(&many).unwrap();
        assert_eq!(nftables.networks().unwrap(), many);
        nftables.set_networks(&many[1..]).unwrap();
        assert_eq!(nftables.networks().unwrap(), many[1..]);
    });
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    /// Every address is in the merged networks if and only if it is in one of them.
    #[test]
    fn merging_changes_no_address(
        networks in proptest::collection::vec((0_u8..=255, 24_u8..=32), 0..12),
    ) {
        let networks: Vec<IpNet> = networks
            .iter()
            .map(|(last, length)| {
                let address = IpAddr::V4([255, 255, 255, *last].into());
                IpNet::new(address, *length).unwrap().trunc()
            })
            .collect();
        let merged = union(&networks);
        for last in 0..=255 {
            let address = IpAddr::V4([255, 255, 255, last].into());
            let inside = |networks: &[IpNet]| networks.iter().any(|n| n.contains(&address));
            proptest::prop_assert_eq!(inside(&networks), inside(&merged), "{}", address);
        }
        let mut aggregated = IpNet::aggregate(&networks);
        aggregated.sort();
        proptest::prop_assert_eq!(merged, aggregated);
    }
}
