//! `retort:response/log`: bounded lines. They are escaped where they are written,
//! because only the log knows what a line separator is to its readers.

use serde::{Deserialize, Serialize};
use wasmtime::component::{HasData, Linker};

use super::State;
use super::bindings::retort::response::log;
use crate::vessel::verdict::{Stop, Verdict};

/// What one line costs besides its text, so that empty lines are not free.
const LINE_COST: u64 = 16;

/// How loud a guest's line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For whoever writes the response.
    Debug,
    /// What was done.
    Info,
    /// Something to look at.
    Warning,
    /// The response could not do its work.
    Error,
}

/// The lines of one run.
#[derive(Debug)]
pub(in crate::vessel) struct Lines {
    pub(in crate::vessel) lines: Vec<(Level, String)>,
    limit: u64,
    used: u64,
}

impl Lines {
    pub(in crate::vessel) fn new(limit: u64) -> Self {
        Self {
            lines: Vec::new(),
            limit,
            used: 0,
        }
    }

    pub(in crate::vessel) fn used(&self) -> u64 {
        self.used
    }
}

struct HasLog;

impl HasData for HasLog {
    type Data<'a> = &'a mut Lines;
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    log::add_to_linker::<State, HasLog>(linker, |state| &mut state.lines)
}

impl log::Host for Lines {
    async fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let cost = u64::try_from(message.len())
            .unwrap_or(u64::MAX)
            .saturating_add(LINE_COST);
        let used = self.used.saturating_add(cost);
        if used > self.limit {
            return Err(wasmtime::Error::new(Stop(Verdict::LogBytes)));
        }
        self.used = used;
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warning => Level::Warning,
            log::Level::Error => Level::Error,
        };
        self.lines.push((level, message));
        Ok(())
    }
}
