//! `repeated_offenders`: who comes again is blocked for longer, step by step. Counted by
//! response and expected values, and forgotten after a while.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Error, Journal, Now, Term};

impl Journal {
    /// The step of the ladder that the block's next offence would be; 0 for the first.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn next_step(
        &self,
        now: &Now,
        response: &str,
        key: &str,
        decay: Duration,
    ) -> Result<u32, Error> {
        let before = last_step(&self.connection, now, response, key, decay);
        let before = before.map_err(|e| self.wrong(e))?;
        Ok(before.map_or(0, |step| step.saturating_add(1)))
    }
}

/// How long a block stands on that step of the ladder: the last one for ever after.
#[must_use]
pub fn lasts(timeout: Duration, ladder: &[u32], step: u32) -> Duration {
    let at = usize::try_from(step).unwrap_or(usize::MAX).checked_sub(1);
    let minutes = at.and_then(|at| ladder.get(at).or(ladder.last()));
    minutes.map_or(timeout, |minutes| {
        Duration::from_secs(u64::from(*minutes).saturating_mul(60))
    })
}

/// Counts an offence; which one it is, from 0.
pub(super) fn climb(
    t: &Connection,
    now: &Now,
    response: &str,
    key: &str,
    term: &Term,
) -> rusqlite::Result<u32> {
    if term.ladder.is_empty() {
        return Ok(0);
    }
    let wall = now.wall.as_secs_f64();
    let before = last_step(t, now, response, key, term.decay)?;
    let step = before.map_or(0, |count| count.saturating_add(1));
    t.prepare_cached(
        "INSERT OR REPLACE INTO offender (response, key, count, last) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![response, key, step, wall])?;
    forget(t, wall, term.decay)?;
    Ok(step)
}

/// Offenders who were quiet for long enough, a few at a time.
fn forget(t: &Connection, wall: f64, decay: Duration) -> rusqlite::Result<()> {
    t.prepare_cached(
        "DELETE FROM offender WHERE (response, key) IN
         (SELECT response, key FROM offender WHERE last <= ?1 LIMIT 4)",
    )?
    .execute([wall - decay.as_secs_f64()])
    .map(drop)
}

fn last_step(
    t: &Connection,
    now: &Now,
    response: &str,
    key: &str,
    decay: Duration,
) -> rusqlite::Result<Option<u32>> {
    let (wall, decay) = (now.wall.as_secs_f64(), decay.as_secs_f64());
    t.prepare_cached(
        "SELECT count FROM offender WHERE response = ?1 AND key = ?2 AND ?3 - last < ?4",
    )?
    .query_row(params![response, key, wall, decay], |row| row.get(0))
    .optional()
}
