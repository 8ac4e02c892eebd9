//! What has to be undone, and when: one row for each block that this host's own daemon
//! answers for, whatever its response did.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};
use serde::Serialize;

use super::history::begin;
use super::hold::{json, seconds, unjson};
use super::offender::{climb, lasts};
use super::{Error, Invocation, Journal, Now};
use crate::event::{Dialect, Event};

/// How long an alert's block stands, and how much longer for whoever comes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Term {
    /// The timeout; none where nobody asked for an end.
    pub lasts: Option<Duration>,
    /// What the next ones last, in minutes: `repeated_offenders`.
    pub ladder: Vec<u32>,
    /// An offender who was quiet for that long begins anew.
    pub decay: Duration,
}

/// A block that is to be undone.
#[derive(Debug, Clone, Serialize)]
pub struct Pending {
    /// Its number.
    pub id: i64,
    /// The run that began it.
    pub run: i64,
    /// Whose.
    pub response: String,
    /// For which block.
    pub key: String,
    /// The executable's name in `ar.conf`.
    pub executable: String,
    /// Who asked.
    pub dialect: Dialect,
    /// What add and delete have in common.
    pub origin: String,
    /// The masked event that began it.
    pub event: Event,
    /// The message as it came, where the executable itself has to get it again.
    pub message: Option<String>,
    /// Its undo was begun.
    pub undoing: bool,
    /// For how long.
    pub lasts: Duration,
    #[serde(skip)]
    boot_id: String,
    /// May be negative: a deadline that was carried over a reboot.
    #[serde(skip)]
    since_boot: f64,
    #[serde(skip)]
    since_wall: f64,
    #[serde(skip)]
    pub(super) due_boot: f64,
}

impl Pending {
    /// What is left of it: by the boot clock within one boot, by the wall clock across
    /// a reboot, which can neither lengthen nor undo it.
    #[must_use]
    pub fn left(&self, now: &Now) -> Duration {
        self.lasts.saturating_sub(self.age(now))
    }

    /// How long its deadline is over.
    #[must_use]
    pub fn overdue(&self, now: &Now) -> Duration {
        self.age(now).saturating_sub(self.lasts)
    }

    fn age(&self, now: &Now) -> Duration {
        let age = if now.boot_id == self.boot_id {
            now.boot.as_secs_f64() - self.since_boot
        } else {
            now.wall.as_secs_f64() - self.since_wall
        };
        Duration::try_from_secs_f64(age.max(0.0)).unwrap_or(Duration::MAX)
    }
}

/// What became of a call for a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Entered {
    /// It stood already, and its deadline starts anew.
    pub renewed: bool,
    /// For how long it stands; none without an end.
    pub lasts: Option<Duration>,
    /// The step of the ladder that it is on; 0 for the first time.
    pub step: u32,
}

/// Why a block can't be entered.
#[derive(Debug)]
pub enum Door {
    /// Come in.
    Open(Entered),
    /// It is being undone just now.
    Undoing,
}

impl Journal {
    /// A block is called for: it is pending from now on, or once more. The row is on the
    /// disk with the first intent of its run.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn enter(
        &mut self,
        now: &Now,
        invocation: &Invocation,
        known: Option<i64>,
        term: &Term,
    ) -> Result<(i64, Door), Error> {
        self.relaxed(|journal| {
            journal.write(|t| {
                let run = match known {
                    Some(run) => run,
                    None => begin(t, now, invocation)?,
                };
                let (response, key) = (&invocation.response, &invocation.key);
                let Open::Found { open } = open(t, response, key)? else {
                    return Ok((run, Door::Undoing));
                };
                let step = match term.lasts {
                    Some(_) => climb(t, now, response, key, term)?,
                    None => 0,
                };
                let asked = term.lasts.map(|timeout| lasts(timeout, &term.ladder, step));
                let lasts = match open {
                    // OSSEC lets what stands keep its time, unless the ladder says more;
                    // Wazuh gives it the new one.
                    Some((id, old)) => {
                        let keeps = invocation.dialect == Dialect::Ossec && step == 0;
                        let lasts = asked.filter(|_| !keeps).unwrap_or(old);
                        restart(t, now, id, lasts)?;
                        Some(lasts)
                    }
                    None => {
                        if let Some(lasts) = asked {
                            insert(t, now, run, invocation, lasts)?;
                        }
                        asked
                    }
                };
                let entered = Entered {
                    renewed: open.is_some(),
                    lasts,
                    step,
                };
                Ok((run, Door::Open(entered)))
            })
        })
    }

    /// The pending block of that key.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn pending_of(&self, response: &str, key: &str) -> Result<Option<Pending>, Error> {
        let found = self.pendings(
            "pending.response = ?1 AND pending.key = ?2",
            params![response, key],
        )?;
        Ok(found.into_iter().next())
    }

    /// All that is pending, the next to be undone first.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn all_pending(&self) -> Result<Vec<Pending>, Error> {
        self.pendings("1", params![])
    }

    /// Nothing of that key is pending any more: what it would undo is gone.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn withdraw(&mut self, response: &str, key: &str) -> Result<(), Error> {
        self.relaxed(|journal| {
            journal.write(|t| {
                t.prepare_cached("DELETE FROM pending WHERE response = ?1 AND key = ?2")?
                    .execute(params![response, key])
                    .map(drop)
            })
        })
    }

    /// Whether a run of that origin has ended.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn knows_origin(&self, origin: &str) -> Result<bool, Error> {
        self.connection
            .prepare_cached("SELECT 1 FROM run WHERE origin = ?1 AND verdict IS NOT NULL LIMIT 1")
            .and_then(|mut s| s.exists([origin]))
            .map_err(|e| self.wrong(e))
    }

    pub(super) fn pendings(
        &self,
        which: &str,
        of: impl rusqlite::Params,
    ) -> Result<Vec<Pending>, Error> {
        let sql = format!(
            "SELECT pending.*, run.dialect AS dialect, run.origin AS origin, run.event AS event
             FROM pending JOIN run ON run.id = pending.run WHERE {which}
             ORDER BY pending.due_boot, pending.id"
        );
        let read = || {
            let mut statement = self.connection.prepare_cached(&sql)?;
            statement
                .query_map(of, pending)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.wrong(e))
    }
}

/// The state of what nobody has begun to undo.
const OPEN: &str = "open";

/// What stands under a key.
enum Open {
    /// Its number and its time, or nothing.
    Found { open: Option<(i64, Duration)> },
    /// Something that is on its way out.
    Undoing,
}

fn open(t: &Connection, response: &str, key: &str) -> rusqlite::Result<Open> {
    let found = t
        .prepare_cached("SELECT id, state, lasts FROM pending WHERE response = ?1 AND key = ?2")?
        .query_row(params![response, key], |row| {
            Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?))
        })
        .optional()?;
    Ok(match found {
        None => Open::Found { open: None },
        Some((id, state, lasts)) if state == OPEN => Open::Found {
            open: Some((id, seconds(lasts))),
        },
        Some(_) => Open::Undoing,
    })
}

fn insert(
    t: &Connection,
    now: &Now,
    run: i64,
    invocation: &Invocation,
    lasts: Duration,
) -> rusqlite::Result<()> {
    t.prepare_cached(
        "INSERT INTO pending (run, response, key, executable, message, state, boot_id, began_boot,
         began_wall, lasts, due_boot)
         VALUES (:run, :response, :key, :executable, :message, 'open', :boot_id, :boot, :wall,
         :lasts, :boot + :lasts)",
    )?
    .execute(named_params! {
        ":run": run,
        ":response": invocation.response,
        ":key": invocation.key,
        ":executable": invocation.executable,
        ":message": invocation.message.as_ref().map(json),
        ":boot_id": now.boot_id,
        ":boot": now.boot.as_secs_f64(),
        ":wall": now.wall.as_secs_f64(),
        ":lasts": lasts.as_secs_f64(),
    })
    .map(drop)
}

/// The deadline runs from now on.
fn restart(t: &Connection, now: &Now, id: i64, lasts: Duration) -> rusqlite::Result<()> {
    t.prepare_cached(
        "UPDATE pending SET boot_id = ?2, began_boot = ?3, began_wall = ?4, lasts = ?5,
         due_boot = ?3 + ?5 WHERE id = ?1",
    )?
    .execute(params![
        id,
        now.boot_id,
        now.boot.as_secs_f64(),
        now.wall.as_secs_f64(),
        lasts.as_secs_f64()
    ])
    .map(drop)
}

fn pending(row: &Row<'_>) -> rusqlite::Result<Pending> {
    let message: Option<String> = row.get("message")?;
    Ok(Pending {
        id: row.get("id")?,
        run: row.get("run")?,
        response: row.get("response")?,
        key: row.get("key")?,
        executable: row.get("executable")?,
        dialect: unjson(row, "dialect")?,
        origin: row.get("origin")?,
        event: unjson(row, "event")?,
        message: message.and_then(|text| serde_json::from_str(&text).ok()),
        undoing: row.get::<_, String>("state")? != OPEN,
        lasts: seconds(row.get("lasts")?),
        boot_id: row.get("boot_id")?,
        since_boot: row.get("began_boot")?,
        since_wall: row.get("began_wall")?,
        due_boot: row.get("due_boot")?,
    })
}
