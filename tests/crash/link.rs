//! A link, killed in the middle of a call.

use crate::found::{Found, a_minute_passes, decided, owes, settled};
use crate::support::inject::{self, Point};
use crate::support::root::{Root, ossec_words};
use crate::{apart, root, side_by_side};

const ATTACKER: &str = "203.0.113.7";

/// How a link is called, and how it was before.
#[derive(Debug, Clone, Copy)]
struct Call {
    before: &'static [&'static str],
    action: &'static str,
}

const CALLS: [Call; 3] = [
    Call {
        before: &[],
        action: "add",
    },
    Call {
        before: &["add"],
        action: "add",
    },
    Call {
        before: &["add"],
        action: "delete",
    },
];

/// Blocks last that long at most.
fn longest(root: &Root, longest: &str) {
    root.grant(&format!(
        "[firewall]\nlongest = \"{longest}\"\n[response.firewall-drop]\nexpect = [\"srcip\"]\nfirewall = {{}}\n"
    ));
}

/// The calls before, whose block ends long before the one that comes then.
fn before(root: &Root, of: Call) {
    longest(root, "1 h");
    for action in of.before {
        assert!(call(root, action, None), "{}", root.log());
    }
    longest(root, "2 h");
}

/// One call, to be killed before it does `at`; whether it was done.
fn call(root: &Root, action: &str, at: Option<&Point>) -> bool {
    let mut link = inject::traced(&root.path().join("trace"), at);
    link.arg(root.bin("firewall-drop"));
    link.args(ossec_words(action, ATTACKER));
    link.status().unwrap().success()
}

/// What the last of the calls changes, in order.
fn points(of: Call) -> Vec<(Call, Point)> {
    let root = root();
    before(&root, of);
    assert!(call(&root, of.action, None), "{}", root.log());
    let points = inject::changes(&root.path().join("trace"));
    points.into_iter().map(|point| (of, point)).collect()
}

fn dies_at((of, at): &(Call, Point)) {
    let root = root();
    before(&root, *of);
    assert!(!call(&root, of.action, Some(at)), "it is not reached");
    let dead = Found::at(&root);
    dead.has_a_record_of_each_effect().unwrap();
    let owed = owes(&root);
    sweep(&root);
    let found = settled(&root);
    let gone = |found: &Found| found.holds.is_empty() && found.kernel.is_empty();
    assert!(!owed || gone(&found), "{}", root.log());
    a_minute_passes(&root);
    sweep(&root);
    let found = decided(&root);
    // Nothing but a delete takes away what stood.
    let stands = dead.blocks(ATTACKER) && !owed;
    assert!(!stands || found.blocks(ATTACKER), "{}", root.log());
    assert!(call(&root, "delete", None), "{}", root.log());
    assert!(gone(&settled(&root)), "{}", root.log());
}

pub fn sweep(root: &Root) {
    let swept = root.retort(&["sweep"]);
    assert!(swept.status.success(), "{swept:?}\n{}", root.log());
}

#[test]
fn a_link_that_is_killed_at_any_write_or_call_leaves_what_a_sweep_sets_right() {
    let points = apart(|| CALLS.into_iter().flat_map(points).collect::<Vec<_>>());
    println!("{} points", points.len());
    assert!(points.len() > 100, "{points:?}");
    side_by_side(&points, dies_at);
}
