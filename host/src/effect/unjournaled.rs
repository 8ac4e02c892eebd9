//! Blocks while the journal does not answer: by the kernel's clock alone.

use std::time::Duration;

use ipnet::IpNet;

use super::broker::{Broker, kernel};
use super::context::Context;
use super::hold::put;
use super::{Answer, Done, Refusal};
use crate::address;
use crate::backend::Element;
use crate::conf::grants::BackendName;

/// A block that no journal knows of: the kernel alone will lift it.
pub(super) const UNJOURNALED: Duration = Duration::from_secs(600);

impl Broker {
    /// An attacker who fills the disk does not switch the response off; but what
    /// nothing would undo is not done.
    pub(super) fn block_unjournaled(
        &mut self,
        context: &Context,
        network: IpNet,
        name: BackendName,
        why: &Refusal,
    ) -> Answer {
        // With an execd behind it nobody knows how long it was meant to last.
        let meant = context.run.term.as_ref().and_then(|term| term.lasts);
        let lasts = meant.map_or(UNJOURNALED, |meant| meant.min(UNJOURNALED));
        let backend = self.backend(name)?;
        let timed = address::only(network).filter(|_| backend.has_timeouts());
        let Some(address) = timed else {
            return Err(Refusal::unavailable(format!(
                "nothing was done, for nothing but the journal would undo it: {}",
                why.reason
            )));
        };
        let before = backend.look(address).map_err(kernel)?;
        let expires_in = match before.map(|seen| seen.expires_in) {
            Some(None) => None,
            Some(Some(left)) if left >= lasts => Some(left),
            _ => put(
                backend,
                Element {
                    address,
                    timeout: lasts,
                    unjournaled: true,
                },
            )?,
        };
        Ok(Done::Blocked {
            expires_in,
            renewed: before.is_some(),
            warning: Some(format!(
                "blocked without the journal, by the kernel's clock alone: {}",
                why.reason
            )),
        })
    }
}
