//! `retort history --follow`: what ran, and what runs, until it is interrupted.

use std::io::Write as _;
use std::time::Duration;

use super::Output;
use super::blocks::{self, PATIENCE};
use crate::journal::{self, Journal};
use crate::premises;
use crate::root::Root;

/// How often the journal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Runs that are read at one time.
const AT_ONCE: u32 = 1000;

/// A run of the daemon ends within its wall limit; one that is not over then was cut off,
/// and is shown as such.
const WAIT_FOR: Duration = Duration::from_secs(60);

pub(super) fn follow(root: &Root, last: u32) -> anyhow::Result<Output> {
    premises::installed(root)?;
    let mut shown = 0;
    let mut first = true;
    loop {
        match Journal::open_read_only(&root.journal(), PATIENCE) {
            Ok(journal) => {
                let now = journal::Now::read()?.wall;
                let mut past = if first {
                    journal.history(last, None)?
                } else {
                    journal.since(shown, AT_ONCE)?
                };
                past.sort_by_key(|run| run.id);
                // In their order: what is not over yet holds up what came after it.
                let over = |run: &&journal::Past| {
                    run.verdict.is_some() || now.saturating_sub(run.began) > WAIT_FOR
                };
                let ended = past.iter().take_while(over).count();
                past.truncate(ended);
                shown = past.last().map_or(shown, |run| run.id);
                first = false;
                let mut stdout = std::io::stdout().lock();
                let text = blocks::in_words(&past)?;
                // Whoever reads has gone: so do we.
                if stdout
                    .write_all(text.as_bytes())
                    .and_then(|()| stdout.flush())
                    .is_err()
                {
                    return Output::new("", &serde_json::Value::Null);
                }
            }
            Err(journal::Error::Missing { .. }) => first = false,
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
