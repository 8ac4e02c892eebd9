//! What a daemon has counted since it started. Never by address: whoever attacks would
//! choose the labels.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::status::Counts;

/// Responses that are counted by name; the rest is counted together.
const MOST_RESPONSES: usize = 256;

/// The counts of a running daemon.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: RefCell<Counts>,
}

impl Tally {
    pub(super) fn count(&self, what: impl FnOnce(&mut Counts) -> &mut u64) {
        let mut counts = self.counts.borrow_mut();
        let count = what(&mut counts);
        *count = count.saturating_add(1);
    }

    pub(super) fn run(&self, response: &str, verdict: &str) {
        self.count(|counts| {
            let response = known(&counts.runs, response);
            let verdicts = counts.runs.entry(response).or_default();
            verdicts.entry(verdict.to_owned()).or_default()
        });
    }

    pub(super) fn denied(&self, response: &str) {
        self.count(|counts| {
            let response = known(&counts.denied, response);
            counts.denied.entry(response).or_default()
        });
    }

    /// A block was undone that long after its deadline.
    pub(super) fn undone(&self, late: Duration) {
        self.count(|counts| &mut counts.undone);
        let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let mut counts = self.counts.borrow_mut();
        counts.latest_undo_us = counts.latest_undo_us.max(late);
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.borrow().clone()
    }
}

/// The name to count under: an order may name anything.
fn known<T>(counted: &BTreeMap<String, T>, response: &str) -> String {
    if counted.contains_key(response) || counted.len() < MOST_RESPONSES {
        response.to_owned()
    } else {
        "others".to_owned()
    }
}
