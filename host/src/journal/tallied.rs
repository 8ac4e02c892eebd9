//! The journal in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Error, Journal, Now};

/// What stands. Its JSON is stable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tallied {
    /// Open holds by response.
    pub holds: BTreeMap<String, u64>,
    /// Blocks that are to be undone.
    pub pending: u64,
    /// Of these, what is over its deadline.
    pub overdue: u64,
    /// Of these, what is being undone.
    pub undoing: u64,
    /// Offenders that are remembered.
    pub offenders: u64,
    /// Runs that are remembered.
    pub runs: u64,
}

/// How long the journal took for its transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commits {
    /// How many there were.
    pub count: u64,
    /// How many failed.
    pub failed: u64,
    /// All together, in microseconds.
    pub total_us: u64,
    /// The longest, in microseconds.
    pub longest_us: u64,
}

impl Commits {
    pub(super) fn count(&mut self, took: Duration, done: bool) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count = self.count.saturating_add(1);
        self.failed = self.failed.saturating_add(u64::from(!done));
        self.total_us = self.total_us.saturating_add(took);
        self.longest_us = self.longest_us.max(took);
    }
}

impl Journal {
    /// How long its transactions took since it was opened.
    #[must_use]
    pub fn commits(&self) -> Commits {
        self.commits
    }

    /// What stands, in numbers.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn tallied(&self, now: &Now) -> Result<Tallied, Error> {
        self.read_tallied(now).map_err(|e| self.wrong(e))
    }

    fn read_tallied(&self, now: &Now) -> rusqlite::Result<Tallied> {
        let number = |sql: &str| {
            self.connection
                .prepare_cached(sql)?
                .query_row([], |row| row.get(0).map(count))
        };
        let mut holds = self.connection.prepare_cached(
            "SELECT response, count(*) FROM hold WHERE closed IS NULL GROUP BY response",
        )?;
        let holds = holds
            .query_map([], |row| Ok((row.get(0)?, count(row.get(1)?))))?
            .collect::<rusqlite::Result<_>>()?;
        let overdue = self
            .connection
            .prepare_cached("SELECT count(*) FROM pending WHERE boot_id = ?1 AND due_boot < ?2")?
            .query_row(params![now.boot_id, now.boot.as_secs_f64()], |row| {
                row.get(0).map(count)
            })?;
        Ok(Tallied {
            holds,
            pending: number("SELECT count(*) FROM pending")?,
            overdue,
            undoing: number("SELECT count(*) FROM pending WHERE state = 'undoing'")?,
            offenders: number("SELECT count(*) FROM offender")?,
            runs: number("SELECT count(*) FROM run")?,
        })
    }
}

/// SQLite's numbers have a sign.
fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
