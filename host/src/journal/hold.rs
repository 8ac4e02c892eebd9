//! Holds: who has a claim on which network, until when, and how it is given up.

use std::time::Duration;

use ipnet::IpNet;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::intent::restart;
use super::{Error, Journal, Now, Owner};
use crate::address;
use crate::event::{Dialect, Event};

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
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Done => "done",
            Self::Releasing => "releasing",
        }
    }
}

/// One response's claim on a network.
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
    /// On what; written as [`address::spell`] does.
    #[serde(serialize_with = "spelled")]
    pub network: IpNet,
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
    /// The process that asked for it last.
    pub asker: Option<Owner>,
    /// What add and delete have in common whatever is expected.
    pub origin: String,
    /// The masked event.
    pub event: Event,
    #[serde(skip)]
    boot_id: String,
    /// May be negative: a deadline that was carried over a reboot.
    #[serde(skip)]
    since_boot: f64,
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
            seconds(now.boot.as_secs_f64() - self.since_boot)
        } else {
            now.wall.saturating_sub(self.since)
        }
    }

    /// Whether it was asked for, or last renewed, by a process that is younger than
    /// `asker`, which began at `wall`: what an older delete is about was another block.
    #[must_use]
    pub fn is_younger_than(&self, asker: &Owner, wall: Duration) -> bool {
        match &self.asker {
            Some(mine) if mine.boot_id == asker.boot_id => mine.is_younger_than(asker),
            _ => self.boot_id != asker.boot_id && self.since > wall,
        }
    }

    fn rest(&self, now: &Now, lasts: Duration) -> Duration {
        lasts.saturating_sub(self.age(now))
    }
}

impl Journal {
    /// The open holds of a block, and those of the same alert, which had another key
    /// if something else was expected then.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn holds_of(&self, response: &str, key: &str, origin: &str) -> Result<Vec<Hold>, Error> {
        self.holds(
            "hold.id IN (
                SELECT id FROM hold WHERE closed IS NULL AND response = ?1 AND key = ?2
                UNION SELECT h.id FROM run r JOIN hold h ON h.run = r.id
                WHERE r.origin = ?3 AND r.origin <> '' AND h.closed IS NULL)",
            params![response, key, origin],
        )
    }

    /// The open hold of a block on a network.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn hold_of(
        &self,
        response: &str,
        key: &str,
        network: IpNet,
        backend: &str,
    ) -> Result<Option<Hold>, Error> {
        let holds = self.holds(
            "hold.response = ?1 AND hold.key = ?2 AND hold.network = ?3 AND hold.backend = ?4",
            params![response, key, address::spell(network), backend],
        )?;
        Ok(holds.into_iter().next())
    }

    /// The hold of that number, if it is open still.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open_hold(&self, id: i64) -> Result<Option<Hold>, Error> {
        Ok(self.holds("hold.id = ?1", params![id])?.into_iter().next())
    }

    /// The open holds on a network, whoever has them: on this very one, none around
    /// or inside it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn holds_on(&self, network: IpNet, backend: &str) -> Result<Vec<Hold>, Error> {
        self.holds(
            "hold.network = ?1 AND hold.backend = ?2",
            params![address::spell(network), backend],
        )
    }

    /// The open holds on more than one host, whoever has them.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn holds_on_networks(&self, backend: &str) -> Result<Vec<Hold>, Error> {
        self.holds(
            "hold.id IN (SELECT id FROM hold INDEXED BY hold_wide
                WHERE closed IS NULL AND instr(network, '/') > 0) AND hold.backend = ?1",
            params![backend],
        )
    }

    /// All open holds, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open_holds(&self) -> Result<Vec<Hold>, Error> {
        self.holds("1", params![])
    }

    /// Open holds that may have to be given up: over their deadline, left half-way, or
    /// orphans over theirs; of an earlier boot by the wall clock. At most `limit` of each
    /// kind, and cheap however many are open. `alive` says which owners still run.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn maybe_due(
        &self,
        now: &Now,
        alive: impl Fn(&Owner) -> bool,
        limit: u32,
    ) -> Result<Vec<Hold>, Error> {
        let (boot, wall) = (now.boot.as_secs_f64(), now.wall.as_secs_f64());
        let mut due = self.holds(
            "hold.id IN (
                SELECT * FROM (SELECT id FROM hold WHERE closed IS NULL AND boot_id = ?2
                    AND due_boot <= ?1 LIMIT ?4)
                UNION SELECT * FROM (SELECT id FROM hold WHERE closed IS NULL AND boot_id < ?2
                    AND due_wall <= ?3 LIMIT ?4)
                UNION SELECT * FROM (SELECT id FROM hold WHERE closed IS NULL AND boot_id > ?2
                    AND due_wall <= ?3 LIMIT ?4)
                UNION SELECT * FROM (SELECT id FROM hold INDEXED BY hold_between
                    WHERE closed IS NULL AND state <> 'done' LIMIT ?4))",
            params![boot, now.boot_id, wall, limit],
        )?;
        for owner in self.owners()? {
            let gone = serde_json::from_str(&owner).is_ok_and(|owner| !alive(&owner));
            if gone {
                due.extend(self.holds(
                    "hold.id IN (SELECT id FROM hold WHERE closed IS NULL AND owner = ?1
                     AND orphan_boot <= ?2 LIMIT ?3)",
                    params![owner, boot, limit],
                )?);
            }
        }
        due.sort_by_key(|hold| hold.id);
        due.dedup_by_key(|hold| hold.id);
        Ok(due)
    }

    /// Whoever has an open hold: a few execds, found without reading all that they have.
    fn owners(&self) -> Result<Vec<String>, Error> {
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "WITH RECURSIVE each (owner) AS (
                    SELECT min(owner) FROM hold WHERE closed IS NULL AND owner IS NOT NULL
                    UNION ALL
                    SELECT (SELECT min(owner) FROM hold WHERE closed IS NULL
                        AND owner > each.owner) FROM each WHERE each.owner IS NOT NULL)
                 SELECT owner FROM each WHERE owner IS NOT NULL",
            )?;
            statement
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.wrong(e))
    }

    fn holds(&self, which: &str, of: impl rusqlite::Params) -> Result<Vec<Hold>, Error> {
        let sql = format!(
            "SELECT hold.*, run.digest AS digest, run.dialect AS dialect, run.asker AS asker,
             run.origin AS origin, run.event AS event FROM hold JOIN run ON run.id = hold.run
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

    /// The hold is about to be given up.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn releasing(&mut self, hold: i64) -> Result<(), Error> {
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

    /// Every open hold of the block is about to start its deadline anew: an intent of
    /// each, which is done when the firewall has it, or has failed.
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
        let holds = self.holds_of(response, key, "")?;
        self.write(|t| {
            for hold in &holds {
                restart(t, now, hold.id, None, lasts, hold.orphan_lasts)?;
            }
            Ok(())
        })?;
        self.holds_of(response, key, "")
    }
}

pub(super) fn close(t: &Connection, now: &Now, hold: i64, how: &str) -> rusqlite::Result<()> {
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
        network: network(&row.get::<_, String>("network")?)?,
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
        asker: row
            .get::<_, Option<String>>("asker")?
            .and_then(|text| serde_json::from_str(&text).ok()),
        origin: row.get("origin")?,
        event: unjson(row, "event")?,
        boot_id: row.get("boot_id")?,
        since_boot: row.get("began_boot")?,
    })
}

fn network(text: &str) -> rusqlite::Result<IpNet> {
    address::parse_network(text)
        .ok_or_else(|| unreadable(std::io::Error::other(format!("`{text}` is no network"))))
}

fn spelled<S: serde::Serializer>(network: &IpNet, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&address::spell(*network))
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
