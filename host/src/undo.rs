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
    /// A delete for it was begun and cut short.
    Owed,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deadline => "its deadline",
            Self::Orphan => "its execd is gone",
            Self::Interrupted => "an interrupted run",
            Self::Owed => "a delete that was cut short",
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

/// Why the hold has to be given up, if it has to.
pub fn why(hold: &Hold, now: &Now, alive: &impl Fn(&Owner) -> bool) -> Option<Why> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::event::Dialect;
    use crate::journal::{Intent, Invocation, Journal, Run};

    const START: u64 = 1000;

    fn at(seconds: u64) -> Now {
        Now {
            boot_id: "this boot".into(),
            boot: Duration::from_secs(START + seconds),
            wall: Duration::from_secs(1_000_000 + seconds),
        }
    }

    /// A hold of 600 s, or 100 s without its owner, as far as `state`.
    fn hold(path: &Path, state: State) -> Hold {
        let mut journal = Journal::open(path, Duration::from_secs(1)).unwrap();
        let invocation = Invocation {
            response: "drop".into(),
            digest: String::new(),
            dialect: Dialect::Ossec,
            event: serde_json::from_str(r#"{"action": "add"}"#).unwrap(),
            key: "k".into(),
            origin: String::new(),
            owner: Owner::of(1),
            asker: None,
            dry_run: false,
            executable: String::new(),
            message: None,
        };
        let intent = Intent {
            network: "192.0.2.1/32".parse().unwrap(),
            backend: "record".into(),
            lasts: Duration::from_secs(600),
            orphan_lasts: Some(Duration::from_secs(100)),
        };
        let intended = journal
            .intend(&at(0), Run::New(&invocation), &intent)
            .unwrap();
        if state != State::Intended {
            journal.done(intended.hold, None).unwrap();
        }
        if state == State::Releasing {
            journal.releasing(intended.hold).unwrap();
        }
        journal.open_holds().unwrap().remove(0)
    }

    #[test]
    fn each_reason_has_its_time() {
        for (state, alive, seconds, expected) in [
            (State::Done, true, 599, None),
            (State::Done, true, 600, Some(Why::Deadline)),
            (State::Done, false, 99, None),
            (State::Done, false, 100, Some(Why::Orphan)),
            (State::Done, false, 600, Some(Why::Deadline)),
            (State::Intended, true, 59, None),
            (State::Intended, true, 60, Some(Why::Interrupted)),
            (State::Releasing, true, 0, Some(Why::Interrupted)),
        ] {
            let dir = TempDir::new().unwrap();
            let hold = hold(&dir.path().join("journal.db"), state);
            let due = due(vec![hold], &at(seconds), |_| alive);
            let why = due.first().map(|due| due.why);
            assert_eq!(why, expected, "{state:?}, alive {alive}, {seconds} s");
        }
    }
}
