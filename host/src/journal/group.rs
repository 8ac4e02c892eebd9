//! Several writes in one transaction: a burst of alerts waits for the disk together.

use std::time::Duration;

use ipnet::IpNet;
use rusqlite::{Connection, params};

use super::hold::seconds;
use super::{Error, Journal, Now, State};
use crate::address;

impl Journal {
    /// For a process that keeps it open: the log is emptied seldom, because each time
    /// waits for the disk twice. It has at most 16 MiB then.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn stays_open(&self) -> Result<(), Error> {
        self.connection
            .execute_batch("PRAGMA wal_autocheckpoint = 4096")
            .map_err(|e| self.wrong(e))
    }

    /// From now on every write is a part of one transaction, which waits for the disk
    /// when it ends if it is `durable`.
    ///
    /// # Errors
    /// See [`Error`]: then each write stands for itself.
    pub fn begin_group(&mut self, durable: bool) -> Result<(), Error> {
        let level = if durable { "FULL" } else { "NORMAL" };
        let begin = format!("PRAGMA synchronous = {level}; BEGIN IMMEDIATE");
        let begun = self.connection.execute_batch(&begin);
        let begun = begun.map_err(|e| self.wrong(e));
        if begun.is_err() {
            // What is written alone now waits for the disk.
            let _ = self.connection.execute_batch("PRAGMA synchronous = FULL");
        }
        self.pace(begun.as_ref().err());
        self.grouped = begun.is_ok();
        begun
    }

    /// Everything that was written since is in the journal when this returns, or nothing.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn end_group(&mut self) -> Result<(), Error> {
        self.grouped = false;
        let started = std::time::Instant::now();
        let done = self.connection.execute_batch("COMMIT");
        self.commits.count(started.elapsed(), done.is_ok());
        let done = done.map_err(|e| self.wrong(e));
        if done.is_err() && !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        let _ = self.connection.execute_batch("PRAGMA synchronous = FULL");
        done
    }

    /// What is left of the longest hold on the network; nothing where none stands.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn longest_left(
        &self,
        network: IpNet,
        backend: &str,
        now: &Now,
    ) -> Result<Duration, Error> {
        let read = || {
            let mut dues = self.connection.prepare_cached(
                "SELECT boot_id, due_boot FROM hold WHERE network = ?1 AND backend = ?2
                 AND closed IS NULL AND state <> 'releasing'",
            )?;
            let dues = dues.query_map(params![address::spell(network), backend], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            dues.collect::<rusqlite::Result<Vec<(String, f64)>>>()
        };
        let dues = read().map_err(|e| self.wrong(e))?;
        if dues.iter().any(|(boot_id, _)| *boot_id != now.boot_id) {
            let holds = self.holds_on(network, backend)?;
            let stands = holds.iter().filter(|hold| hold.state != State::Releasing);
            return Ok(stands.map(|hold| hold.left(now)).max().unwrap_or_default());
        }
        let left = dues
            .iter()
            .map(|(_, due)| seconds(due - now.boot.as_secs_f64()));
        Ok(left.max().unwrap_or_default())
    }

    /// One of several: what fails of it is undone, the others stand.
    pub(super) fn write_in_group<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let connection = &self.connection;
        let run = || {
            connection.prepare_cached("SAVEPOINT one")?.execute([])?;
            let done = work(connection);
            let end = if done.is_ok() {
                "RELEASE one"
            } else {
                "ROLLBACK TO one"
            };
            connection.prepare_cached(end)?.execute([])?;
            done
        };
        run().map_err(|e| self.wrong(e))
    }
}
