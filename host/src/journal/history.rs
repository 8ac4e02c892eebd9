//! What is over: runs with their verdicts, and what they did. Bounded.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rusqlite::params;
use serde::Serialize;

use super::hold::{json, seconds, unjson};
use super::{Error, Invocation, Journal, Now};
use crate::address;
use crate::event::{Dialect, Event};

/// Runs that are remembered. A busy host has some thousand a day.
const REMEMBERED: i64 = 100_000;

/// Runs that are forgotten at one time, so that no run pays for many.
const FORGOTTEN_AT_ONCE: i64 = 16;

/// A run that is over, or was cut off.
#[derive(Debug, Serialize)]
pub struct Past {
    /// Its number.
    pub id: i64,
    /// Which response.
    pub response: String,
    /// Which component.
    pub digest: String,
    /// Who asked.
    pub dialect: Dialect,
    /// What it saw.
    pub event: Event,
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// When, since the epoch.
    pub began: Duration,
    /// How it ended; none where it did not.
    pub verdict: Option<String>,
    /// What it used and what it was told.
    pub told: serde_json::Value,
    /// What it did.
    pub effects: Vec<Effected>,
}

/// One effect of a run.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Effected {
    /// A hold on an address or a network.
    Hold {
        /// The address, or the network with its prefix.
        address: String,
        /// How far it is.
        state: String,
        /// What ended it; none where it stands.
        how: Option<String>,
    },
    /// A helper: nothing takes that back.
    Helper {
        /// Its name.
        helper: String,
        /// Its arguments.
        argv: Vec<String>,
        /// What came of it.
        outcome: Option<String>,
    },
}

impl Journal {
    /// A run begins. It is on the disk with its first intent, or when it ends.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn begin(&mut self, now: &Now, invocation: &Invocation) -> Result<i64, Error> {
        self.relaxed(|journal| journal.write(|t| begin(t, now, invocation)))
    }

    /// A helper is about to be started.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn helper_intent(
        &mut self,
        now: &Now,
        run: i64,
        helper: &str,
        argv: &[String],
    ) -> Result<i64, Error> {
        let argv = json(&argv);
        self.write(|t| {
            t.prepare_cached(
                "INSERT INTO helper (run, helper, argv, began) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![run, helper, argv, now.wall.as_secs_f64()])?;
            Ok(t.last_insert_rowid())
        })
    }

    /// What came of a helper.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn helper_done(&mut self, id: i64, outcome: &str) -> Result<(), Error> {
        self.write(|t| {
            t.prepare_cached("UPDATE helper SET outcome = ?2 WHERE id = ?1")?
                .execute(params![id, outcome])
                .map(drop)
        })
    }

    /// The run is over. Its effects are written already, so this need not wait for
    /// the disk.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn finish(
        &mut self,
        now: &Now,
        run: i64,
        verdict: &str,
        told: &serde_json::Value,
    ) -> Result<(), Error> {
        let told = told.to_string();
        self.relaxed(|journal| {
            journal.write(|t| {
                t.prepare_cached(
                    "UPDATE run SET verdict = ?2, told = ?3, ended = ?4 WHERE id = ?1",
                )?
                .execute(params![run, verdict, told, now.wall.as_secs_f64()])?;
                forget(t, run)
            })
        })
    }

    /// The last runs, newest first: all, or those that saw or held a host or network.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn history(&self, limit: u32, of: Option<IpNet>) -> Result<Vec<Past>, Error> {
        self.read_history(limit, of).map_err(|e| self.wrong(e))
    }

    /// The runs after that one, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn since(&self, run: i64, limit: u32) -> Result<Vec<Past>, Error> {
        let read = || {
            self.past(
                "SELECT * FROM run WHERE id > ?1 ORDER BY id LIMIT ?2",
                params![run, limit],
            )
        };
        read().map_err(|e| self.wrong(e))
    }

    fn read_history(&self, limit: u32, of: Option<IpNet>) -> rusqlite::Result<Vec<Past>> {
        let of = of.map(address::spell);
        self.past(
            "SELECT * FROM run WHERE ?2 IS NULL OR json_extract(event, '$.srcip') = ?2
             OR id IN (SELECT run FROM hold WHERE network = ?2) ORDER BY id DESC LIMIT ?1",
            params![limit, of],
        )
    }

    fn past(&self, sql: &str, of: impl rusqlite::Params) -> rusqlite::Result<Vec<Past>> {
        let mut runs = self.connection.prepare_cached(sql)?;
        let mut past = runs
            .query_map(of, |row| {
                let told = row.get::<_, Option<String>>("told")?;
                Ok(Past {
                    id: row.get("id")?,
                    response: row.get("response")?,
                    digest: row.get("digest")?,
                    dialect: unjson(row, "dialect")?,
                    event: unjson(row, "event")?,
                    dry_run: row.get("dry")?,
                    began: seconds(row.get("began")?),
                    verdict: row.get("verdict")?,
                    told: told
                        .and_then(|t| serde_json::from_str(&t).ok())
                        .unwrap_or_default(),
                    effects: Vec::new(),
                })
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for run in &mut past {
            run.effects = self.effects(run.id)?;
        }
        Ok(past)
    }

    fn effects(&self, run: i64) -> rusqlite::Result<Vec<Effected>> {
        let mut holds = self
            .connection
            .prepare_cached("SELECT network, state, how FROM hold WHERE run = ?1 ORDER BY id")?;
        let holds = holds.query_map([run], |row| {
            Ok(Effected::Hold {
                address: row.get(0)?,
                state: row.get(1)?,
                how: row.get(2)?,
            })
        })?;
        let mut helpers = self.connection.prepare_cached(
            "SELECT helper, argv, outcome FROM helper WHERE run = ?1 ORDER BY id",
        )?;
        let helpers = helpers.query_map([run], |row| {
            Ok(Effected::Helper {
                helper: row.get(0)?,
                argv: unjson(row, "argv")?,
                outcome: row.get(2)?,
            })
        })?;
        holds.chain(helpers).collect()
    }

    /// Runs `work` without waiting for the disk at its commit.
    pub(super) fn relaxed<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.connection
            .execute_batch("PRAGMA synchronous = NORMAL")
            .map_err(|e| self.wrong(e))?;
        let value = work(self);
        self.connection
            .execute_batch("PRAGMA synchronous = FULL")
            .map_err(|e| self.wrong(e))?;
        value
    }

    /// Keeps what a name stands for, in place of what it stood for.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn remember_name(
        &mut self,
        now: &Now,
        name: &str,
        addresses: &[IpAddr],
    ) -> Result<(), Error> {
        self.write(|t| {
            t.execute("DELETE FROM name WHERE name = ?1", [name])?;
            for address in addresses {
                t.execute(
                    "INSERT OR REPLACE INTO name (name, address, seen) VALUES (?1, ?2, ?3)",
                    params![name, address.to_string(), now.wall.as_secs_f64()],
                )?;
            }
            Ok(())
        })
    }

    /// What the name stood for when it was last looked up.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn addresses_of(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        let read = || {
            let mut names = self
                .connection
                .prepare_cached("SELECT address FROM name WHERE name = ?1")?;
            names
                .query_map([name], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let texts = read().map_err(|e| self.wrong(e))?;
        Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
    }
}

pub(super) fn begin(
    t: &rusqlite::Transaction<'_>,
    now: &Now,
    invocation: &Invocation,
) -> rusqlite::Result<i64> {
    t.prepare_cached(
        "INSERT INTO run (response, digest, dialect, event, key, origin, owner, asker, dry, began)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        invocation.response,
        invocation.digest,
        json(&invocation.dialect),
        json(&invocation.event),
        invocation.key,
        invocation.origin,
        invocation.owner.as_ref().map(json),
        invocation.asker.as_ref().map(json),
        invocation.dry_run,
        now.wall.as_secs_f64()
    ])?;
    Ok(t.last_insert_rowid())
}

/// The oldest runs that no open hold needs.
fn forget(t: &rusqlite::Transaction<'_>, newest: i64) -> rusqlite::Result<()> {
    let before = newest.saturating_sub(REMEMBERED);
    if before <= 0 {
        return Ok(());
    }
    let mut old = t.prepare_cached(
        "SELECT id FROM run WHERE id < ?1
         AND NOT EXISTS (SELECT 1 FROM hold WHERE hold.run = run.id AND hold.closed IS NULL)
         AND NOT EXISTS (SELECT 1 FROM pending WHERE pending.run = run.id)
         ORDER BY id LIMIT ?2",
    )?;
    let old: Vec<i64> = old
        .query_map([before, FORGOTTEN_AT_ONCE], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for run in old {
        t.execute("DELETE FROM hold WHERE run = ?1", [run])?;
        t.execute("DELETE FROM helper WHERE run = ?1", [run])?;
        t.execute("DELETE FROM run WHERE id = ?1", [run])?;
    }
    Ok(())
}
