//! Holds: taken, carried out, given up.

use std::net::IpAddr;
use std::time::Duration;

use rusqlite::{Row, Transaction, named_params, params};
use serde::{Deserialize, Serialize};

use super::{Error, Invocation, Journal, Now, Owner};
use crate::event::{Dialect, Event};

/// Intents that budgets count are forgotten after this; budgets count in minutes.
const COUNTED_FOR: f64 = 3600.0;

/// What is about to be done.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The address.
    pub address: IpAddr,
    /// Where.
    pub backend: String,
    /// For how long.
    pub lasts: Duration,
    /// For how long where the owner is gone without a delete.
    pub orphan_lasts: Option<Duration>,
}

/// What an intent became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intended {
    /// The hold.
    pub hold: i64,
    /// It stood before; its deadline starts anew.
    pub renewed: bool,
}

/// Where a hold is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Written down, perhaps not done.
    Intended,
    /// Done.
    Done,
    /// About to be given up, perhaps not gone.
    Releasing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Done => "done",
            Self::Releasing => "releasing",
        }
    }
}

/// One response's claim on an address.
#[derive(Debug, Clone, Serialize)]
pub struct Hold {
    /// Its number.
    pub id: i64,
    /// Whose.
    pub response: String,
    /// For which block.
    pub key: String,
    /// By which component.
    pub digest: String,
    /// Asked for by whom.
    pub dialect: Dialect,
    /// On what.
    pub address: IpAddr,
    /// Where.
    pub backend: String,
    /// How far.
    pub state: State,
    /// When its deadline began to run, since the epoch.
    pub since: Duration,
    /// For how long from then.
    pub lasts: Duration,
    /// For how long where the owner is gone.
    pub orphan_lasts: Option<Duration>,
    /// The execd that will send the delete.
    pub owner: Option<Owner>,
    /// The masked event.
    pub event: Event,
    #[serde(skip)]
    boot_id: String,
    #[serde(skip)]
    since_boot: Duration,
}

impl Hold {
    /// What is left of it. Within one boot the boot clock alone counts; after a
    /// reboot the wall clock, which can neither lengthen nor undo it.
    #[must_use]
    pub fn left(&self, now: &Now) -> Duration {
        self.rest(now, self.lasts)
    }

    /// What is left of it when its owner is gone.
    #[must_use]
    pub fn orphan_left(&self, now: &Now) -> Option<Duration> {
        self.orphan_lasts.map(|lasts| self.rest(now, lasts))
    }

    /// How long it has stood since its deadline began to run.
    #[must_use]
    pub fn age(&self, now: &Now) -> Duration {
        if now.boot_id == self.boot_id {
            now.boot.saturating_sub(self.since_boot)
        } else {
            now.wall.saturating_sub(self.since)
        }
    }

    fn rest(&self, now: &Now, lasts: Duration) -> Duration {
        lasts.saturating_sub(self.age(now))
    }
}

impl Journal {
    /// A run begins. It is on the disk with its first intent, or when it ends.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn begin(&mut self, now: &Now, invocation: &Invocation) -> Result<i64, Error> {
        let event = json(&invocation.event);
        let owner = invocation.owner.as_ref().map(json);
        let dialect = json(&invocation.dialect);
        // No effect hangs on this row alone: it need not wait for the disk.
        self.relaxed(|journal| {
            journal.write(|t| {
                t.prepare_cached(
                    "INSERT INTO run (response, digest, dialect, event, key, owner, dry, began)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    invocation.response,
                    invocation.digest,
                    dialect,
                    event,
                    invocation.key,
                    owner,
                    invocation.dry_run,
                    now.wall.as_secs_f64()
                ])?;
                Ok(t.last_insert_rowid())
            })
        })
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

    /// Writes down what is about to be done for the run. When this returns it is on
    /// the disk. A hold of the same response and block on the same address is
    /// renewed.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn intend(&mut self, now: &Now, run: i64, intent: &Intent) -> Result<Intended, Error> {
        self.write(|t| {
            let (response, key, owner): (String, String, Option<String>) = t
                .prepare_cached("SELECT response, key, owner FROM run WHERE id = ?1")?
                .query_row([run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            drop(owner);
            let address = intent.address.to_string();
            let open: Option<i64> = rusqlite::OptionalExtension::optional(
                t.prepare_cached(
                    "SELECT id FROM hold WHERE address = ?1 AND backend = ?2 AND response = ?3
                     AND key = ?4 AND closed IS NULL",
                )?
                .query_row(params![address, intent.backend, response, key], |row| {
                    row.get(0)
                }),
            )?;
            let hold = match open {
                Some(hold) => {
                    restart(t, now, hold, Some(run), intent.lasts, intent.orphan_lasts)?;
                    hold
                }
                None => {
                    count(t, now, &response)?;
                    insert(t, now, run, intent, &response, &key)?
                }
            };
            Ok(Intended {
                hold,
                renewed: open.is_some(),
            })
        })
    }

    /// The effect is there, and leaves by itself after `expires_in`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn done(
        &mut self,
        now: &Now,
        hold: i64,
        expires_in: Option<Duration>,
    ) -> Result<(), Error> {
        let _ = now;
        self.write(|t| {
            t.prepare_cached(
                "UPDATE hold SET state = 'done', before = NULL, expires_in = ?2 WHERE id = ?1",
            )?
            .execute(params![hold, expires_in.map(|d| d.as_secs_f64())])
            .map(drop)
        })
    }

    /// The effect did not come about. A new hold is closed; a renewed one stands as
    /// it stood before.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn failed(&mut self, now: &Now, hold: i64, why: &str) -> Result<(), Error> {
        self.write(|t| {
            let before: Option<String> = t
                .prepare_cached("SELECT before FROM hold WHERE id = ?1")?
                .query_row([hold], |row| row.get(0))?;
            match before.and_then(|text| serde_json::from_str::<Before>(&text).ok()) {
                Some(before) => before.put_back(t, hold),
                None => close(t, now, hold, &format!("failed: {why}")),
            }
        })
    }

    /// The hold is about to be given up.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn releasing(&mut self, now: &Now, hold: i64) -> Result<(), Error> {
        let _ = now;
        self.write(|t| {
            t.prepare_cached(
                "UPDATE hold SET state = 'releasing' WHERE id = ?1 AND closed IS NULL",
            )?
            .execute([hold])
            .map(drop)
        })
    }

    /// The hold is given up.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn released(&mut self, now: &Now, hold: i64, how: &str) -> Result<(), Error> {
        self.write(|t| close(t, now, hold, &format!("released: {how}")))
    }

    /// Every open hold of the block starts its deadline anew.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn renew(
        &mut self,
        now: &Now,
        response: &str,
        key: &str,
        lasts: Duration,
    ) -> Result<Vec<Hold>, Error> {
        let holds = self.holds_of(response, key)?;
        self.write(|t| {
            for hold in &holds {
                restart(t, now, hold.id, None, lasts, hold.orphan_lasts)?;
                t.execute(
                    "UPDATE hold SET state = 'done', before = NULL WHERE id = ?1",
                    [hold.id],
                )?;
            }
            Ok(())
        })?;
        self.holds_of(response, key)
    }

    /// The open holds of a block.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn holds_of(&self, response: &str, key: &str) -> Result<Vec<Hold>, Error> {
        self.holds(
            "hold.response = ?1 AND hold.key = ?2",
            params![response, key],
        )
    }

    /// The open hold of a block on an address.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn hold_of(
        &self,
        response: &str,
        key: &str,
        address: IpAddr,
        backend: &str,
    ) -> Result<Option<Hold>, Error> {
        let holds = self.holds(
            "hold.response = ?1 AND hold.key = ?2 AND hold.address = ?3 AND hold.backend = ?4",
            params![response, key, address.to_string(), backend],
        )?;
        Ok(holds.into_iter().next())
    }

    /// The open holds on an address, whoever has them.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn holds_on(&self, address: IpAddr, backend: &str) -> Result<Vec<Hold>, Error> {
        self.holds(
            "hold.address = ?1 AND hold.backend = ?2",
            params![address.to_string(), backend],
        )
    }

    /// All open holds, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open_holds(&self) -> Result<Vec<Hold>, Error> {
        self.holds("1", params![])
    }

    /// Open holds that may have to be given up: over their deadline, or over it if
    /// their owner is gone, of an earlier boot, or left half-way. At most `limit`,
    /// and cheap however many are open.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn maybe_due(&self, now: &Now, limit: u32) -> Result<Vec<Hold>, Error> {
        self.holds(
            "hold.id IN (
                SELECT id FROM hold WHERE closed IS NULL AND deadline_boot <= ?1
                UNION SELECT id FROM hold WHERE closed IS NULL AND orphan_boot IS NOT NULL AND orphan_boot <= ?1
                UNION SELECT id FROM hold WHERE closed IS NULL AND state <> 'done'
                UNION SELECT id FROM hold WHERE closed IS NULL AND boot_id < ?2
                UNION SELECT id FROM hold WHERE closed IS NULL AND boot_id > ?2
                LIMIT ?3)",
            params![now.boot.as_secs_f64(), now.boot_id, limit],
        )
    }

    fn holds(&self, which: &str, of: impl rusqlite::Params) -> Result<Vec<Hold>, Error> {
        let sql = format!(
            "SELECT hold.*, run.digest AS digest, run.dialect AS dialect, run.owner AS owner,
             run.event AS event FROM hold JOIN run ON run.id = hold.run
             WHERE hold.closed IS NULL AND {which} ORDER BY hold.id"
        );
        let read = || {
            let mut statement = self.connection.prepare_cached(&sql)?;
            statement
                .query_map(of, hold)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.wrong(e))
    }

    /// How many new blocks were intended within `window`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn recent_blocks(
        &self,
        now: &Now,
        response: Option<&str>,
        window: Duration,
    ) -> Result<u32, Error> {
        let since = now.boot.saturating_sub(window).as_secs_f64();
        self.connection
            .prepare_cached(
                "SELECT count(*) FROM intent WHERE at >= ?1 AND boot_id = ?2
                 AND (?3 IS NULL OR response = ?3)",
            )
            .and_then(|mut s| s.query_row(params![since, now.boot_id, response], |row| row.get(0)))
            .map_err(|e| self.wrong(e))
    }
}

fn insert(
    t: &Transaction<'_>,
    now: &Now,
    run: i64,
    intent: &Intent,
    response: &str,
    key: &str,
) -> rusqlite::Result<i64> {
    let boot = now.boot.as_secs_f64();
    t.prepare_cached(
        "INSERT INTO hold (run, response, key, address, backend, state, boot_id, began_boot,
         began_wall, lasts, orphan_lasts, deadline_boot, orphan_boot)
         VALUES (:run, :response, :key, :address, :backend, 'intended', :boot_id, :boot, :wall,
         :lasts, :orphan, :boot + :lasts, :boot + :orphan)",
    )?
    .execute(named_params! {
        ":run": run,
        ":response": response,
        ":key": key,
        ":address": intent.address.to_string(),
        ":backend": intent.backend,
        ":boot_id": now.boot_id,
        ":boot": boot,
        ":wall": now.wall.as_secs_f64(),
        ":lasts": intent.lasts.as_secs_f64(),
        ":orphan": intent.orphan_lasts.map(|d| d.as_secs_f64()),
    })?;
    Ok(t.last_insert_rowid())
}

/// What a renewed hold was, so that a failed renewal can leave it so.
#[derive(Serialize, Deserialize)]
struct Before {
    run: i64,
    state: String,
    boot_id: String,
    began_boot: f64,
    began_wall: f64,
    lasts: f64,
    orphan_lasts: Option<f64>,
}

impl Before {
    fn put_back(&self, t: &Transaction<'_>, hold: i64) -> rusqlite::Result<()> {
        t.prepare_cached(
            "UPDATE hold SET run = ?2, state = ?3, boot_id = ?4, began_boot = ?5, began_wall = ?6,
             lasts = ?7, orphan_lasts = ?8, deadline_boot = ?5 + ?7, orphan_boot = ?5 + ?8,
             before = NULL WHERE id = ?1",
        )?
        .execute(params![
            hold,
            self.run,
            self.state,
            self.boot_id,
            self.began_boot,
            self.began_wall,
            self.lasts,
            self.orphan_lasts
        ])
        .map(drop)
    }
}

/// The deadline runs from now on; a run that asks takes the hold over.
fn restart(
    t: &Transaction<'_>,
    now: &Now,
    hold: i64,
    run: Option<i64>,
    lasts: Duration,
    orphan_lasts: Option<Duration>,
) -> rusqlite::Result<()> {
    let before = t
        .prepare_cached(
            "SELECT run, state, boot_id, began_boot, began_wall, lasts, orphan_lasts FROM hold WHERE id = ?1",
        )?
        .query_row([hold], |row| {
            Ok(Before {
                run: row.get(0)?,
                state: row.get(1)?,
                boot_id: row.get(2)?,
                began_boot: row.get(3)?,
                began_wall: row.get(4)?,
                lasts: row.get(5)?,
                orphan_lasts: row.get(6)?,
            })
        })?;
    // An intent that was never carried out is nothing to go back to.
    let before = (before.state != State::Intended.name()).then_some(before);
    t.prepare_cached(
        "UPDATE hold SET run = coalesce(:run, run), state = 'intended', boot_id = :boot_id,
         began_boot = :boot, began_wall = :wall, lasts = :lasts, orphan_lasts = :orphan,
         deadline_boot = :boot + :lasts, orphan_boot = :boot + :orphan, before = :before
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": hold,
        ":run": run,
        ":boot_id": now.boot_id,
        ":boot": now.boot.as_secs_f64(),
        ":wall": now.wall.as_secs_f64(),
        ":lasts": lasts.as_secs_f64(),
        ":orphan": orphan_lasts.map(|d| d.as_secs_f64()),
        ":before": before.as_ref().map(json),
    })
    .map(drop)
}

fn count(t: &Transaction<'_>, now: &Now, response: &str) -> rusqlite::Result<()> {
    let at = now.boot.as_secs_f64();
    t.prepare_cached("DELETE FROM intent WHERE at < ?1 OR boot_id <> ?2")?
        .execute(params![at - COUNTED_FOR, now.boot_id])?;
    t.prepare_cached("INSERT INTO intent (boot_id, at, response) VALUES (?1, ?2, ?3)")?
        .execute(params![now.boot_id, at, response])
        .map(drop)
}

fn close(t: &Transaction<'_>, now: &Now, hold: i64, how: &str) -> rusqlite::Result<()> {
    t.prepare_cached("UPDATE hold SET closed = ?2, how = ?3 WHERE id = ?1 AND closed IS NULL")?
        .execute(params![hold, now.wall.as_secs_f64(), how])
        .map(drop)
}

fn hold(row: &Row<'_>) -> rusqlite::Result<Hold> {
    Ok(Hold {
        id: row.get("id")?,
        response: row.get("response")?,
        key: row.get("key")?,
        digest: row.get("digest")?,
        dialect: unjson(row, "dialect")?,
        address: row
            .get::<_, String>("address")?
            .parse()
            .map_err(unreadable)?,
        backend: row.get("backend")?,
        state: match row.get::<_, String>("state")?.as_str() {
            "done" => State::Done,
            "releasing" => State::Releasing,
            _ => State::Intended,
        },
        since: seconds(row.get("began_wall")?),
        lasts: seconds(row.get("lasts")?),
        orphan_lasts: row.get::<_, Option<f64>>("orphan_lasts")?.map(seconds),
        owner: row
            .get::<_, Option<String>>("owner")?
            .and_then(|text| serde_json::from_str(&text).ok()),
        event: unjson(row, "event")?,
        boot_id: row.get("boot_id")?,
        since_boot: seconds(row.get("began_boot")?),
    })
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub(super) fn unjson<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<T> {
    serde_json::from_str(&row.get::<_, String>(column)?).map_err(unreadable)
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

pub(super) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}
