//! Takes back what is due: deadlines that passed, orphans of an execd that is gone,
//! what a crash left half-way. Needs no guest.

use serde::Serialize;

use crate::effect::broker::Broker;
use crate::effect::{Record, Refusal};
use crate::journal::{Now, Owner, State};
use crate::undo::{self, Due, Why};

/// Holds that one sweep looks at; the next one goes on. A drop-in sweeps after its
/// own work, and its caller waits.
pub const AT_ONCE: u32 = 256;

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
    let now = Now::read().map_err(|e| Refusal::unavailable(e.to_string()))?;
    let holds = broker
        .journal()?
        .maybe_due(&now, limit)
        .map_err(|e| Refusal::unavailable(e.to_string()))?;
    let due = undo::due(holds, &now, Owner::alive);
    Ok(due
        .into_iter()
        .filter_map(|due| {
            // An intent without a done: what the kernel has was done.
            let perhaps_done = due.why == Why::Interrupted && due.hold.state == State::Intended;
            if perhaps_done && broker.confirm(&due.hold) == Ok(true) {
                return None;
            }
            let record = broker.release(&due.hold, &due.why.to_string());
            Some(Swept { due, record })
        })
        .collect())
}

/// Gives up every hold on an address that has become protected since.
///
/// # Errors
/// When the journal or the surroundings do not answer.
pub fn lift_protected(broker: &mut Broker) -> Result<Vec<Record>, Refusal> {
    let protect = broker.protect_list()?;
    let holds = broker
        .journal()?
        .open_holds()
        .map_err(|e| Refusal::unavailable(e.to_string()))?;
    Ok(holds
        .iter()
        .filter(|hold| {
            protect
                .refuses(crate::address::host(hold.address))
                .is_some()
        })
        .map(|hold| broker.release(hold, "the protect list"))
        .collect())
}
