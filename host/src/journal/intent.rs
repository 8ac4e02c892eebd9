//! What is about to be done, on the disk before it is; and what came of it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension as _, named_params, params};
use serde::{Deserialize, Serialize};

use super::history::begin;
use super::hold::{State, close, json};
use super::{Error, Invocation, Journal, Now};
use crate::address;

/// Seconds after which what budgets count is forgotten; they count in minutes.
const COUNTED_FOR: i64 = 3600;

/// The prefix of what one customer gets at least of IPv6 (RFC 6177): its addresses cost
/// him nothing, so they are counted together.
pub const SITE: u8 = 64;

/// What is about to be done.
#[derive(Debug, Clone)]
pub struct Intent {
    /// On what.
    pub network: IpNet,
    /// Where.
    pub backend: String,
    /// For how long.
    pub lasts: Duration,
    /// For how long where the owner is gone without a delete.
    pub orphan_lasts: Option<Duration>,
}

/// Whose intent it is.
#[derive(Debug, Clone, Copy)]
pub enum Run<'a> {
    /// That of a run which is written down.
    Known(i64),
    /// That of one which begins with it.
    New(&'a Invocation),
}

/// What an intent became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intended {
    /// The run that it belongs to.
    pub run: i64,
    /// The hold.
    pub hold: i64,
    /// It stood before; its deadline starts anew.
    pub renewed: bool,
}

impl Journal {
    /// Writes down what is about to be done for the run. When this returns it is on
    /// the disk. A hold of the same response and block on the same network is
    /// renewed.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn intend(&mut self, now: &Now, run: Run<'_>, intent: &Intent) -> Result<Intended, Error> {
        self.write(|t| {
            let run = match run {
                Run::Known(run) => run,
                Run::New(invocation) => begin(t, now, invocation)?,
            };
            let (response, key): (String, String) = t
                .prepare_cached("SELECT response, key FROM run WHERE id = ?1")?
                .query_row([run], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let network = address::spell(intent.network);
            let open: Option<i64> = t
                .prepare_cached(
                    "SELECT id FROM hold WHERE network = ?1 AND backend = ?2 AND response = ?3
                     AND key = ?4 AND closed IS NULL",
                )?
                .query_row(params![network, intent.backend, response, key], |row| {
                    row.get(0)
                })
                .optional()?;
            let hold = match open {
                Some(hold) => {
                    restart(t, now, hold, Some(run), intent.lasts, intent.orphan_lasts)?;
                    hold
                }
                None => {
                    count(t, now, &response, intent.network)?;
                    insert(t, now, run, intent, &response, &key)?
                }
            };
            Ok(Intended {
                run,
                hold,
                renewed: open.is_some(),
            })
        })
    }

    /// The effect is there, and leaves by itself after `expires_in`. A crash of the
    /// machine may forget that; it has forgotten the effect too, then, and the intent
    /// stands.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn done(&mut self, hold: i64, expires_in: Option<Duration>) -> Result<(), Error> {
        self.relaxed(|journal| {
            journal.write(|t| {
                t.prepare_cached(
                    "UPDATE hold SET state = 'done', before = NULL, expires_in = ?2
                     WHERE id = ?1 AND closed IS NULL",
                )?
                .execute(params![hold, expires_in.map(|d| d.as_secs_f64())])
                .map(drop)
            })
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

    /// How many hosts of that site the response meant to block for themselves within
    /// `window`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn recent_hosts(
        &self,
        now: &Now,
        response: &str,
        network: IpNet,
        window: Duration,
    ) -> Result<u32, Error> {
        let since = now.boot.saturating_sub(window).as_secs_f64();
        self.connection
            .prepare_cached(
                "SELECT count(DISTINCT host) FROM crowd WHERE around = ?1 AND response = ?2
                 AND at >= ?3 AND boot_id = ?4",
            )
            .and_then(|mut s| {
                let of = params![network.to_string(), response, since, now.boot_id];
                s.query_row(of, |row| row.get(0))
            })
            .map_err(|e| self.wrong(e))
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
        let since = now.boot.saturating_sub(window).as_secs();
        self.connection
            .prepare_cached(
                "SELECT coalesce(sum(blocks), 0) FROM budget WHERE boot_id = ?2 AND second >= ?1
                 AND (?3 IS NULL OR response = ?3)",
            )
            .and_then(|mut s| {
                let since = i64::try_from(since).unwrap_or(i64::MAX);
                s.query_row(params![since, now.boot_id, response], |row| row.get(0))
            })
            .map_err(|e| self.wrong(e))
    }
}

/// The site that a host of IPv6 is in.
fn around(host: IpAddr) -> Option<String> {
    let network = IpNet::new(host, SITE).ok()?;
    Some(network.trunc().to_string())
}

fn insert(
    t: &Connection,
    now: &Now,
    run: i64,
    intent: &Intent,
    response: &str,
    key: &str,
) -> rusqlite::Result<i64> {
    let boot = now.boot.as_secs_f64();
    t.prepare_cached(
        "INSERT INTO hold (run, response, key, network, backend, state, boot_id, began_boot,
         began_wall, lasts, orphan_lasts, owner, due_boot, orphan_boot, due_wall)
         VALUES (:run, :response, :key, :network, :backend, 'intended', :boot_id, :boot, :wall,
         :lasts, :orphan, (SELECT owner FROM run WHERE id = :run), :boot + :lasts,
         :boot + :orphan, :wall + min(:lasts, coalesce(:orphan, :lasts)))",
    )?
    .execute(named_params! {
        ":run": run,
        ":response": response,
        ":key": key,
        ":network": address::spell(intent.network),
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
    fn put_back(&self, t: &Connection, hold: i64) -> rusqlite::Result<()> {
        t.prepare_cached(
            "UPDATE hold SET run = ?2, state = ?3, boot_id = ?4, began_boot = ?5, began_wall = ?6,
             lasts = ?7, orphan_lasts = ?8, owner = (SELECT owner FROM run WHERE id = ?2),
             due_boot = ?5 + ?7, orphan_boot = ?5 + ?8, due_wall = ?6 + min(?7, coalesce(?8, ?7)),
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
pub(super) fn restart(
    t: &Connection,
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
         owner = (SELECT owner FROM run WHERE id = coalesce(:run, hold.run)),
         due_boot = :boot + :lasts, orphan_boot = :boot + :orphan,
         due_wall = :wall + min(:lasts, coalesce(:orphan, :lasts)), before = :before
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

/// Counts a new block, in seconds: a burst has few of them.
fn count(t: &Connection, now: &Now, response: &str, network: IpNet) -> rusqlite::Result<()> {
    if let Some(host) = address::only(network).filter(IpAddr::is_ipv6) {
        join(t, now, response, host)?;
    }
    let second = i64::try_from(now.boot.as_secs()).unwrap_or(i64::MAX);
    let counted = t
        .prepare_cached(
            "UPDATE budget SET blocks = blocks + 1
             WHERE boot_id = ?1 AND second = ?2 AND response = ?3",
        )?
        .execute(params![now.boot_id, second, response])?;
    if counted > 0 {
        return Ok(());
    }
    t.prepare_cached("DELETE FROM budget WHERE boot_id = ?1 AND second < ?2")?
        .execute(params![now.boot_id, second.saturating_sub(COUNTED_FOR)])?;
    t.prepare_cached("DELETE FROM budget WHERE boot_id < ?1 OR boot_id > ?1")?
        .execute(params![now.boot_id])?;
    t.prepare_cached(
        "INSERT INTO budget (boot_id, second, response, blocks) VALUES (?1, ?2, ?3, 1)",
    )?
    .execute(params![now.boot_id, second, response])
    .map(drop)
}

/// A host of IPv6 is one of its site.
fn join(t: &Connection, now: &Now, response: &str, host: IpAddr) -> rusqlite::Result<()> {
    let at = now.boot.as_secs_f64();
    t.prepare_cached("DELETE FROM crowd WHERE boot_id = ?2 AND at < ?1")?
        .execute(params![at - COUNTED_FOR as f64, now.boot_id])?;
    t.prepare_cached("DELETE FROM crowd WHERE boot_id < ?1 OR boot_id > ?1")?
        .execute(params![now.boot_id])?;
    t.prepare_cached(
        "INSERT INTO crowd (boot_id, at, response, host, around) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        now.boot_id,
        at,
        response,
        host.to_string(),
        around(host)
    ])
    .map(drop)
}
