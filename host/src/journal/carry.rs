//! Deadlines across a reboot: the boot clock begins anew, the wall clock says what is left.

use rusqlite::params;

use super::{Error, Journal, Now};

impl Journal {
    /// Carries deadlines of an earlier boot over into this one: what the wall clock says
    /// is left of each, within nothing and all of it. From then on no clock step counts.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn carry_over(&mut self, now: &Now) -> Result<(), Error> {
        let (boot, wall) = (now.boot.as_secs_f64(), now.wall.as_secs_f64());
        let boots = self.boots()?;
        if boots.iter().all(|boot| *boot == now.boot_id) {
            return Ok(());
        }
        self.write(|t| {
            t.execute(
                "UPDATE pending SET boot_id = ?1,
                 began_boot = ?2 - min(max(?3 - began_wall, 0.0), lasts),
                 due_boot = ?2 - min(max(?3 - began_wall, 0.0), lasts) + lasts
                 WHERE boot_id <> ?1",
                params![now.boot_id, boot, wall],
            )?;
            t.execute(
                "UPDATE hold SET boot_id = ?1,
                 began_boot = ?2 - min(max(?3 - began_wall, 0.0), lasts),
                 due_boot = ?2 - min(max(?3 - began_wall, 0.0), lasts) + lasts,
                 orphan_boot = ?2 - min(max(?3 - began_wall, 0.0), lasts) + orphan_lasts
                 WHERE closed IS NULL AND boot_id <> ?1",
                params![now.boot_id, boot, wall],
            )
            .map(drop)
        })
    }

    /// The boots that deadlines count by: one, and the one before it after a reboot.
    fn boots(&self) -> Result<Vec<String>, Error> {
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT min(boot_id) FROM pending UNION SELECT max(boot_id) FROM pending
                 UNION SELECT min(boot_id) FROM hold WHERE closed IS NULL
                 UNION SELECT max(boot_id) FROM hold WHERE closed IS NULL",
            )?;
            statement
                .query_map([], |row| row.get::<_, Option<String>>(0))?
                .filter_map(Result::transpose)
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.wrong(e))
    }
}
