//! What is due: a question of clocks and processes alone. It runs nothing.

use std::time::Duration;

use serde::Serialize;

use crate::journal::{Hold, Now, Owner, State};

/// How long an intent may stand without a done before it counts as left behind by
/// a crash: far longer than any wall limit.
const ABANDONED: Duration = Duration::from_secs(60);

/// A hold that has to be given up.
#[derive(Debug, Serialize)]
pub struct Due {
    /// The hold.
    pub hold: Hold,
    /// Why.
    pub why: Why,
}

/// Why a hold has to be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Its time is over.
    Deadline,
    /// The execd that would send the delete is gone, and its time would be over.
    Orphan,
    /// A crash left it half-way.
    Interrupted,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deadline => "its deadline",
            Self::Orphan => "its execd is gone",
            Self::Interrupted => "an interrupted run",
        })
    }
}

/// The holds among `holds` that are due.
pub fn due(holds: Vec<Hold>, now: &Now, alive: impl Fn(&Owner) -> bool) -> Vec<Due> {
    holds
        .into_iter()
        .filter_map(|hold| why(&hold, now, &alive).map(|why| Due { hold, why }))
        .collect()
}

fn why(hold: &Hold, now: &Now, alive: &impl Fn(&Owner) -> bool) -> Option<Why> {
    if hold.state == State::Releasing {
        return Some(Why::Interrupted);
    }
    if hold.left(now).is_zero() {
        return Some(Why::Deadline);
    }
    if hold.state == State::Intended && hold.age(now) >= ABANDONED {
        return Some(Why::Interrupted);
    }
    let orphaned = hold.owner.as_ref().is_some_and(|owner| !alive(owner));
    if orphaned && hold.orphan_left(now).is_some_and(|left| left.is_zero()) {
        return Some(Why::Orphan);
    }
    None
}
