//! Takes back what is due: deadlines that passed, orphans of an execd that is gone,
//! what a crash left half-way. Needs no guest.

use std::time::Duration;

use serde::Serialize;

use crate::effect::broker::Broker;
use crate::effect::{Done, Kind, Record, Refusal};
use crate::journal::{Hold, Owner, State};
use crate::undo::{self, Due, Why};

/// Holds that one sweep looks at; the next one goes on. A drop-in sweeps after its
/// own work, and its caller waits.
pub const AT_ONCE: u32 = 256;

/// How long a daemon has for the undo of a block of its own: twice what its guest has.
/// The firewall has let it go by itself by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was taken back.
#[derive(Debug, Serialize)]
pub struct Swept {
    /// Which hold, and why it was due.
    pub due: Due,
    /// What came of it.
    pub record: Record,
}

/// Takes back at most `limit` holds that are due.
///
/// # Errors
/// When the journal does not answer.
pub fn sweep(broker: &mut Broker, limit: u32) -> Result<Vec<Swept>, Refusal> {
    let (mut swept, paid) = pay(broker, limit)?;
    if !paid {
        return Ok(swept);
    }
    let now = broker.now()?;
    let holds = broker
        .journal()?
        .maybe_due(&now, Owner::alive, limit)
        .map_err(|e| Refusal::unavailable(e.to_string()))?;
    let due = undo::due(holds, &now, Owner::alive);
    for due in due {
        // A daemon undoes its own blocks, with their guests; it has a moment for it.
        if due.why == Why::Deadline && in_good_hands(broker, &due.hold)? {
            continue;
        }
        // An intent without a done: what the kernel has was done.
        let perhaps_done = due.why == Why::Interrupted && due.hold.state == State::Intended;
        if perhaps_done && broker.confirm(&due.hold) == Ok(true) {
            continue;
        }
        let swept_one = release(broker, due, |hold| {
            undo::why(hold, &now, &Owner::alive).is_some()
        });
        swept.extend(Some(swept_one).filter(did_something));
    }
    Ok(swept)
}

/// Whether a daemon is about to undo the hold's block, or is at it.
fn in_good_hands(broker: &mut Broker, hold: &Hold) -> Result<bool, Refusal> {
    if !broker.daemon_runs() {
        return Ok(false);
    }
    let now = broker.now()?;
    let pending = broker
        .journal()?
        .pending_of(&hold.response, &hold.key)
        .map_err(|e| Refusal::unavailable(e.to_string()))?;
    // A rationed hold is over long before its block is undone.
    Ok(pending.is_some_and(|p| p.left(&now) < PATIENCE && p.overdue(&now) < PATIENCE))
}

/// Does the releases that were begun by processes which are gone, at most `limit` of
/// them; the first that fails is the last that is tried, for the rest would too.
fn pay(broker: &mut Broker, limit: u32) -> Result<(Vec<Swept>, bool), Refusal> {
    // A file that can't be read is said by `retort check`; it keeps nothing else back.
    let debts = broker.owed().and_then(|owed| owed.left_behind());
    let debts = debts.unwrap_or_default();
    if debts.is_empty() {
        return Ok((Vec::new(), true));
    }
    let holds = broker.open_holds_that(|hold| debts.iter().any(|(_, debt)| debt.is_for(hold)))?;
    let mut swept = Vec::new();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    for (slot, debt) in debts.into_iter().take(limit) {
        let owed: Vec<Hold> = holds.iter().filter(|h| debt.is_for(h)).cloned().collect();
        let mut done = true;
        for hold in owed {
            let why = Why::Owed;
            let one = release(broker, Due { hold, why }, |hold| debt.is_for(hold));
            done &= one.record.answer.is_ok();
            swept.extend(Some(one).filter(did_something));
        }
        // A journal that was lost since knows nothing of it; the firewall may.
        done &= debt.address.is_none_or(|address| broker.forget(address));
        if !done {
            return Ok((swept, false));
        }
        broker.strike(slot, &debt);
    }
    Ok((swept, true))
}

fn release(broker: &mut Broker, due: Due, still: impl FnOnce(&Hold) -> bool) -> Swept {
    let record = broker.release_if(&due.hold, &due.why.to_string(), still);
    Swept { due, record }
}

/// Another process may have been there first, or be there: what it is about to let go
/// is its own to tell of.
fn did_something(swept: &Swept) -> bool {
    match &swept.record.answer {
        Ok(done) => *done != Done::Unblocked { holds: 0 },
        Err(refusal) => {
            swept.due.hold.state != State::Releasing || refusal.kind != Kind::Unavailable
        }
    }
}

/// Gives up every hold on what has become protected since.
///
/// # Errors
/// When the journal or the surroundings do not answer.
pub fn lift_protected(broker: &mut Broker) -> Result<Vec<Record>, Refusal> {
    let protect = broker.protect_list()?;
    let alerted = |hold: &Hold| {
        hold.event
            .alerted()
            .map_or(hold.since, |at| at.min(hold.since))
    };
    let forbidden = |hold: &Hold| protect.refuses_alert(hold.network, alerted(hold)).is_some();
    Ok(broker
        .open_holds_that(forbidden)?
        .iter()
        .map(|hold| broker.release(hold, "the protect list"))
        .collect())
}
