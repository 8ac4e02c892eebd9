//! What is pending, at its time. The index on the deadlines is the timer: however much is
//! pending, only what is due is read.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, params};

use super::{Error, Journal, Now, Pending};

/// How far what is due was taken, in the order of the deadlines.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    due_boot: f64,
    id: i64,
}

impl Default for Taken {
    /// Nothing was.
    fn default() -> Self {
        Self {
            due_boot: f64::NEG_INFINITY,
            id: i64::MIN,
        }
    }
}

/// How long until something has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Until the next undo; none where nothing is pending.
    pub undo: Option<Duration>,
    /// Until the next hold is over, of those that are not.
    pub hold: Option<Duration>,
}

impl Pending {
    /// It and what was due before it were taken.
    #[must_use]
    pub fn taken(&self) -> Taken {
        Taken {
            due_boot: self.due_boot,
            id: self.id,
        }
    }
}

impl Journal {
    /// What is over its deadline, the oldest first, and was not taken: at most `limit` of
    /// it. What another process left has to be taken over first.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn due_pending(&self, now: &Now, taken: Taken, limit: u32) -> Result<Vec<Pending>, Error> {
        self.pendings(
            "pending.id IN (SELECT id FROM pending WHERE boot_id = ?1 AND state = 'open'
                AND due_boot <= ?2 AND (due_boot, id) > (?3, ?4) ORDER BY due_boot, id LIMIT ?5)",
            params![
                now.boot_id,
                now.boot.as_secs_f64(),
                taken.due_boot,
                taken.id,
                limit
            ],
        )
    }

    /// When something is due that was not taken.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn next_due(&self, now: &Now, taken: Taken) -> Result<Next, Error> {
        let boot = now.boot.as_secs_f64();
        let next = |sql: &str, of: &[&dyn rusqlite::ToSql]| {
            let due: Option<f64> = self
                .connection
                .prepare_cached(sql)?
                .query_row(of, |row| row.get(0))
                .optional()?;
            let left = due.map(|due| (due - boot).max(0.0));
            Ok(left.map(|left| Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX)))
        };
        let undo = next(
            "SELECT due_boot FROM pending WHERE boot_id = ?1 AND state = 'open'
             AND (due_boot, id) > (?2, ?3) ORDER BY due_boot, id LIMIT 1",
            &[&now.boot_id, &taken.due_boot, &taken.id],
        );
        let hold = next(
            "SELECT due_boot FROM hold WHERE closed IS NULL AND boot_id = ?1 AND due_boot > ?2
             ORDER BY due_boot LIMIT 1",
            &[&now.boot_id, &boot],
        );
        undo.and_then(|undo| hold.map(|hold| Next { undo, hold }))
            .map_err(|e| self.wrong(e))
    }

    /// Its undo begins; not where its deadline began anew since, or it was begun already.
    /// A crash of the machine may forget that: it is due then all the same.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn start_undo(&mut self, now: &Now, id: i64) -> Result<bool, Error> {
        self.relaxed(|journal| {
            journal.write(|t| {
                t.prepare_cached(
                    "UPDATE pending SET state = 'undoing' WHERE id = ?1 AND state = 'open'
                     AND boot_id = ?2 AND due_boot <= ?3",
                )?
                .execute(params![id, now.boot_id, now.boot.as_secs_f64()])
                .map(|begun| begun > 0)
            })
        })
    }

    /// It is undone. A crash of the machine may forget that; then it is undone again.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn undone(&mut self, id: i64) -> Result<(), Error> {
        self.relaxed(|journal| {
            journal.write(|t| {
                t.prepare_cached("DELETE FROM pending WHERE id = ?1 AND state = 'undoing'")?
                    .execute([id])
                    .map(drop)
            })
        })
    }

    /// Everything that is pending is due now.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn all_due(&mut self, now: &Now) -> Result<(), Error> {
        self.write(|t| {
            t.execute(
                "UPDATE pending SET due_boot = min(due_boot, ?2) WHERE boot_id = ?1",
                params![now.boot_id, now.boot.as_secs_f64()],
            )
            .map(drop)
        })
    }

    /// Takes over what the process before left. Deadlines of an earlier boot are carried
    /// into this one: what the wall clock says is left of each, within nothing and all of
    /// it; from then on no clock step counts. And what it had begun to undo is due now.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn take_over(&mut self, now: &Now) -> Result<(), Error> {
        self.carry_over(now)?;
        let begun = self
            .connection
            .prepare_cached("SELECT 1 FROM pending WHERE state = 'undoing' LIMIT 1")
            .and_then(|mut s| s.exists([]))
            .map_err(|e| self.wrong(e))?;
        if !begun {
            return Ok(());
        }
        self.write(|t| {
            t.execute(
                "UPDATE pending SET state = 'open', due_boot = min(due_boot, ?1)
                 WHERE state = 'undoing'",
                [now.boot.as_secs_f64()],
            )
            .map(drop)
        })
    }
}
