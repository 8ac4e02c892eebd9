//! Blocks that an operator asks for: no guest, no grant, and everything else as for a
//! response: the protect list, the journal, an undo at its time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::fcntl::{Flock, FlockArg};

use super::broker::{Broker, trouble};
use super::context::Context;
use super::desk::Run;
use super::{Answer, Effect, Record, Refusal};
use crate::address;
use crate::conf::grants::{FirewallGrant, Response, Target};
use crate::event::{Action, Dialect, Event};
use crate::journal::{Hold, Term};

/// Whose such blocks are.
pub const BY_HAND: &str = "by-hand";

impl Broker {
    /// Blocks a network for `lasts`, or for as long as a hold may last.
    ///
    /// # Errors
    /// As for a guest's block: protected addresses stay reachable.
    pub fn block_by_hand(&mut self, network: IpNet, lasts: Option<Duration>) -> Answer {
        let network = address::canonical_network(network.trunc());
        let longest = self.world.grants.firewall.longest;
        let key = serde_json::json!({ "network": network }).to_string();
        let run = Run {
            response: BY_HAND.to_owned(),
            digest: String::new(),
            executable: String::new(),
            // Asked for again it gets the new time, as Wazuh has it.
            dialect: Dialect::Wazuh4,
            event: Event {
                srcip: Some(network.addr()),
                ..Event::of(Action::Add)
            },
            key,
            origin: String::new(),
            owner: None,
            dry_run: false,
            left: self.world.budget.saturating_mul(4),
            term: Some(Term {
                lasts: Some(lasts.unwrap_or(longest)),
                ladder: Vec::new(),
                decay: Duration::ZERO,
            }),
            message: None,
        };
        let grants = Response {
            firewall: Some(FirewallGrant {
                target: Target::Any,
                widest_ipv4: 0,
                widest_ipv6: 0,
                per_minute: u32::MAX,
                backend: None,
            }),
            ..Response::default()
        };
        let deadline = Instant::now();
        let context = Arc::new(Context::new(
            run,
            grants,
            false,
            deadline
                .checked_add(self.world.budget.saturating_mul(4))
                .unwrap_or(deadline),
        ));
        self.enter(&context, None)?;
        let answer = self.block(&context, network);
        let done = serde_json::json!({ "records": [Record {
            effect: Effect::Block { network },
            answer: answer.clone(),
        }] });
        let verdict = if answer.is_ok() { "ok" } else { "refused" };
        let finished = self.lock(self.world.budget).and_then(|_lock| {
            let now = self.now()?;
            let run = self.journaled(&context, &now)?;
            if answer.is_err() {
                self.journal()?
                    .withdraw(BY_HAND, &context.run.key)
                    .map_err(trouble)?;
            }
            self.journal()?
                .finish(&now, run, verdict, &done)
                .map_err(trouble)
        });
        // The effect is journaled; this is the closing remark.
        drop(finished);
        answer
    }

    /// Whether a daemon serves the installation: it keeps a lock for as long as it lives.
    #[must_use]
    pub fn daemon_runs(&self) -> bool {
        let Ok(folder) = std::fs::File::open(self.world.root.own()) else {
            return false;
        };
        Flock::lock(folder, FlockArg::LockSharedNonblock).is_err()
    }

    /// Gives up every hold on exactly that network, whoever has it; what nobody holds is
    /// taken out of the firewall.
    ///
    /// # Errors
    /// When the journal does not answer.
    pub fn unblock_by_hand(&mut self, network: IpNet) -> Result<Vec<Record>, Refusal> {
        let network = address::canonical_network(network);
        let holds = self.open_holds()?;
        let holds: Vec<Hold> = holds.into_iter().filter(|h| h.network == network).collect();
        let mut records: Vec<Record> = Vec::new();
        for hold in &holds {
            let record = self.release(hold, "retort unblock");
            if record.answer.is_ok() && hold.response == BY_HAND {
                let _lock = self.lock(self.world.budget)?;
                self.journal()?
                    .withdraw(BY_HAND, &hold.key)
                    .map_err(trouble)?;
            }
            records.push(record);
        }
        Ok(records)
    }
}
