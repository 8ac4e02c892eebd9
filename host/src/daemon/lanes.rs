//! Who waits for whom: each response has a lane of its own, so that one which is slow
//! or hangs delays no other.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::order::Order;

/// One response's.
#[derive(Debug, Default)]
struct Lane {
    running: u32,
    waiting: VecDeque<Order>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<String, Lane>,
}

/// What becomes of an order.
#[derive(Debug)]
pub(super) enum Turn {
    /// It runs now.
    Now(Box<Order>),
    /// It waits for one of its own response.
    Waits,
    /// Too many wait already.
    Full,
}

impl Lanes {
    /// An order arrives: at most `at_once` of one response run, and `waiting` wait.
    pub(super) fn arrive(&mut self, order: Order, at_once: u32, waiting: u32) -> Turn {
        let lane = self.lanes.entry(order.executable.clone()).or_default();
        if lane.running < at_once {
            lane.running = lane.running.saturating_add(1);
            return Turn::Now(Box::new(order));
        }
        if lane.waiting.len() >= usize::try_from(waiting).unwrap_or(usize::MAX) {
            return Turn::Full;
        }
        lane.waiting.push_back(order);
        Turn::Waits
    }

    /// One of that response has ended: the next one, whose turn it is.
    pub(super) fn next(&mut self, executable: &str) -> Option<Order> {
        let lane = self.lanes.get_mut(executable)?;
        if let Some(order) = lane.waiting.pop_front() {
            return Some(order);
        }
        lane.running = lane.running.saturating_sub(1);
        if lane.running == 0 {
            self.lanes.remove(executable);
        }
        None
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len()).sum()
    }

    /// How many run.
    pub(super) fn running(&self) -> u32 {
        self.lanes.values().map(|lane| lane.running).sum()
    }
}

/// Numbers of orders, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    last: u64,
    open: BTreeSet<u64>,
}

impl Tickets {
    /// A number for an order.
    pub(super) fn give(&mut self) -> u64 {
        self.last = self.last.saturating_add(1);
        self.open.insert(self.last);
        self.last
    }

    /// That order is over, whatever came of it.
    pub(super) fn over(&mut self, ticket: u64) {
        self.open.remove(&ticket);
    }

    /// Whether that order and all before it are over.
    pub(super) fn are_over(&self, ticket: u64) -> bool {
        self.open.first().is_none_or(|first| *first > ticket)
    }
}
