//! Many at once: none is lost, none hangs, nobody is told done who is not.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::execd::{self, Execd};
use support::root::Root;

fn took(told: &Value) -> Duration {
    Duration::from_secs_f64(told["seconds"].as_f64().unwrap())
}

#[test]
fn bursts_at_the_default_limits_lose_neither_block_nor_release() {
    let root = Root::firewall_drop("ossec");
    let mut execd = Execd::start(root.path());
    let addresses = addresses(200);
    let mut expected = addresses.clone();
    expected.sort();
    let told = execd.ossec("firewall-drop", &addresses, 0);
    none_failed(&told, &root);
    let mut blocked = root.blocked();
    blocked.sort();
    assert_eq!(blocked, expected);
    let deletes: Vec<Value> = addresses
        .iter()
        .map(|address| {
            let mut words = execd::words(address);
            words[0] = json!("delete");
            words
        })
        .collect();
    let order = json!({"op": "ossec", "executable": "firewall-drop", "messages": deletes});
    let told = execd.order(&order);
    none_failed(told.as_array().unwrap(), &root);
    assert!(root.blocked().is_empty(), "{:?}", root.blocked());
    let lines = root.outcomes();
    let odd: Vec<&String> = lines
        .iter()
        .filter(|line| !line.contains(": ok;"))
        .collect();
    assert!(
        lines.len() == 400 && odd.is_empty(),
        "{} lines: {odd:#?}",
        lines.len()
    );
}

#[test]
fn five_hundred_at_once_lose_none() {
    let root = Root::firewall_drop("ossec");
    // Five hundred unoptimised processes on a busy machine: the limit allows for it.
    root.wall("60 s");
    let mut execd = Execd::start(root.path());
    let addresses = addresses(500);
    let told = execd.ossec("firewall-drop", &addresses, 600);
    none_failed(&told, &root);
    let slowest = told.iter().map(took).max().unwrap();
    assert!(slowest < Duration::from_secs(60), "{slowest:?}");
    let mut blocked = root.blocked();
    blocked.sort();
    let mut expected = addresses;
    expected.sort();
    assert_eq!(blocked, expected);
    assert_eq!(root.outcomes().len(), 500, "one line each");
    println!("500 at once: the slowest took {slowest:?}");
}

fn addresses(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("203.0.{}.{}", 113 + n / 250, 1 + n % 250))
        .collect()
}

fn none_failed(told: &[Value], root: &Root) {
    let failed: Vec<&Value> = told.iter().filter(|told| told["status"] != 0).collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed: {:?}\n{}",
        failed.len(),
        told.len(),
        failed.first(),
        root.outcomes().join("\n")
    );
}

#[test]
fn under_a_wall_that_is_too_short_nobody_is_told_done_who_is_not() {
    let root = Root::firewall_drop("ossec");
    root.wall("400 ms");
    let mut execd = Execd::start(root.path());
    let addresses: Vec<String> = (0..120).map(|n| format!("203.0.113.{}", 1 + n)).collect();
    let told = execd.ossec("firewall-drop", &addresses, 0);
    assert_eq!(told.len(), 120);
    let blocked = root.blocked();
    for told in &told {
        let address = told["srcip"].as_str().unwrap().to_owned();
        assert!(
            told["status"] != 0 || blocked.contains(&address),
            "{address}: {}",
            root.log()
        );
        // The processes themselves wait for a core; the wall counts from their start.
        assert!(took(told) < Duration::from_secs(30), "{told}");
    }
}
