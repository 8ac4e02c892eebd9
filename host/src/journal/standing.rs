//! What stands: the open holds, found by whose they are, what they are on, and when they
//! have to go.

use std::time::Duration;

use ipnet::IpNet;
use rusqlite::params;

use super::hold::{Hold, State, hold, network, seconds};
use super::{Error, Journal, Now, Owner};
use crate::address;

/// As much of an open hold as the firewall has to know. A hundred thousand of them are
/// compared with it at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub hold: i64,
    /// On what.
    pub network: IpNet,
    /// It is about to be given up.
    pub releasing: bool,
    /// What is left of it.
    pub left: Duration,
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

    /// The open holds that `keep` takes, oldest first; only these are in memory.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open_holds_that(&self, mut keep: impl FnMut(&Hold) -> bool) -> Result<Vec<Hold>, Error> {
        let mut read = || {
            let mut statement = self.connection.prepare_cached(&select("1"))?;
            let holds = statement.query_map([], hold)?;
            holds
                .filter(|hold| hold.as_ref().map_or(true, &mut keep))
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.wrong(e))
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
        let read = || {
            let mut statement = self.connection.prepare_cached(&select(which))?;
            statement
                .query_map(of, hold)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.wrong(e))
    }

    /// What stands in a backend, as far as its deadlines go.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn standing(&self, now: &Now, backend: &str) -> Result<Vec<Standing>, Error> {
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT id, network, state, lasts, CASE WHEN boot_id = ?2
                    THEN ?3 - began_boot ELSE ?4 - began_wall END
                 FROM hold WHERE closed IS NULL AND backend = ?1",
            )?;
            let (boot, wall) = (now.boot.as_secs_f64(), now.wall.as_secs_f64());
            let rows = statement.query_map(params![backend, now.boot_id, boot, wall], |row| {
                let (lasts, age): (f64, f64) = (row.get(3)?, row.get(4)?);
                Ok(Standing {
                    hold: row.get(0)?,
                    network: network(row.get_ref(1)?.as_str()?)?,
                    releasing: row.get_ref(2)?.as_str()? == State::Releasing.name(),
                    left: seconds(lasts).saturating_sub(seconds(age.max(0.0))),
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.wrong(e))
    }
}

fn select(which: &str) -> String {
    format!(
        "SELECT hold.*, run.digest AS digest, run.dialect AS dialect, run.asker AS asker,
         run.origin AS origin, run.event AS event FROM hold JOIN run ON run.id = hold.run
         WHERE hold.closed IS NULL AND {which} ORDER BY hold.id"
    )
}
