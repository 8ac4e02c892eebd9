//! How far a file was read: where to go on after a restart.

use std::path::Path;

use rusqlite::{OptionalExtension as _, params};

use super::{Error, Journal};

/// A place in a file, and what makes the file the same after it was renamed or copied,
/// or its inode used again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// The device that it is on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
    /// Bytes that need not be read again.
    pub offset: u64,
    /// The SHA-256 of the last of these bytes, as hex.
    pub tail: String,
}

impl Journal {
    /// How far the file that is called `name` was read; none where it never was.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn position(&self, name: &Path) -> Result<Option<Position>, Error> {
        let read = || {
            self.connection
                .prepare_cached("SELECT device, inode, offset, tail FROM position WHERE name = ?1")?
                .query_row([name.to_string_lossy()], |row| {
                    let number = |at| row.get(at).map(i64::cast_unsigned);
                    Ok(Position {
                        device: number(0)?,
                        inode: number(1)?,
                        offset: number(2)?,
                        tail: row.get(3)?,
                    })
                })
                .optional()
        };
        read().map_err(|e| self.wrong(e))
    }

    /// Keeps how far it was read, once nothing before that will be asked for again. It
    /// need not be on the disk at once: what is read twice is known by its order.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn keep_position(&mut self, name: &Path, position: &Position) -> Result<(), Error> {
        let name = name.to_string_lossy();
        self.relaxed(|journal| {
            journal.write(|t| {
                t.prepare_cached(
                    "INSERT INTO position (name, device, inode, offset, tail) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (name) DO UPDATE SET device = ?2, inode = ?3, offset = ?4, tail = ?5",
                )?
                .execute(params![
                    name,
                    position.device.cast_signed(),
                    position.inode.cast_signed(),
                    position.offset.cast_signed(),
                    position.tail
                ])
                .map(drop)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_file_has_its_position_and_it_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let open = || Journal::open(&path, Duration::from_secs(1)).unwrap();
        let (one, other) = (Path::new("/a/alerts.json"), Path::new("/b/alerts.json"));
        assert_eq!(open().position(one).unwrap(), None);
        let mut position = Position {
            device: u64::MAX,
            inode: 7,
            offset: 1 << 40,
            tail: "ab".to_owned(),
        };
        open().keep_position(one, &position).unwrap();
        position.offset += 1;
        open().keep_position(one, &position).unwrap();
        assert_eq!(open().position(one).unwrap(), Some(position));
        assert_eq!(open().position(other).unwrap(), None);
    }
}
