//! The tables, and the pragmas that make a commit durable.

use rusqlite::OptionalExtension as _;

use super::{Error, Journal};

/// The layout of this version.
const LAYOUT: i64 = 2;

/// How soon a switch to the write-ahead log is tried again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(2);

const TABLES: &str = "
CREATE TABLE run (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    response TEXT NOT NULL, digest TEXT NOT NULL, dialect TEXT NOT NULL,
    event TEXT NOT NULL, key TEXT NOT NULL, origin TEXT NOT NULL, owner TEXT, asker TEXT,
    dry INTEGER NOT NULL, began REAL NOT NULL,
    verdict TEXT, told TEXT, ended REAL
) STRICT;
CREATE TABLE hold (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    response TEXT NOT NULL, key TEXT NOT NULL,
    network TEXT NOT NULL, backend TEXT NOT NULL,
    state TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    began_boot REAL NOT NULL, began_wall REAL NOT NULL,
    lasts REAL NOT NULL, orphan_lasts REAL,
    before TEXT,
    owner TEXT,
    due_boot REAL NOT NULL, orphan_boot REAL, due_wall REAL NOT NULL,
    expires_in REAL, closed REAL, how TEXT
) STRICT;
CREATE UNIQUE INDEX hold_open ON hold (network, backend, response, key) WHERE closed IS NULL;
CREATE INDEX hold_key ON hold (response, key) WHERE closed IS NULL;
CREATE INDEX hold_due ON hold (boot_id, due_boot) WHERE closed IS NULL;
CREATE INDEX hold_orphan ON hold (owner, orphan_boot) WHERE closed IS NULL AND owner IS NOT NULL;
CREATE INDEX hold_between ON hold (id) WHERE closed IS NULL AND state <> 'done';
CREATE INDEX hold_wide ON hold (id) WHERE closed IS NULL AND instr(network, '/') > 0;
CREATE INDEX hold_run ON hold (run);
CREATE INDEX run_origin ON run (origin) WHERE origin <> '';
CREATE TABLE budget (
    boot_id TEXT NOT NULL, second INTEGER NOT NULL, response TEXT NOT NULL,
    blocks INTEGER NOT NULL,
    PRIMARY KEY (boot_id, second, response)
) STRICT, WITHOUT ROWID;
CREATE TABLE crowd (
    boot_id TEXT NOT NULL, at REAL NOT NULL, response TEXT NOT NULL,
    host TEXT NOT NULL, around TEXT NOT NULL
) STRICT;
CREATE INDEX crowd_at ON crowd (boot_id, at);
CREATE INDEX crowd_around ON crowd (around, response, at);
CREATE TABLE helper (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL, helper TEXT NOT NULL, argv TEXT NOT NULL,
    began REAL NOT NULL, outcome TEXT
) STRICT;
CREATE INDEX helper_run ON helper (run);
CREATE TABLE name (
    name TEXT NOT NULL, address TEXT NOT NULL, seen REAL NOT NULL,
    PRIMARY KEY (name, address)
) STRICT, WITHOUT ROWID;
CREATE TABLE pending (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    response TEXT NOT NULL, key TEXT NOT NULL,
    executable TEXT NOT NULL, message TEXT,
    state TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    began_boot REAL NOT NULL, began_wall REAL NOT NULL,
    lasts REAL NOT NULL, due_boot REAL NOT NULL
) STRICT;
CREATE UNIQUE INDEX pending_key ON pending (response, key);
CREATE INDEX pending_due ON pending (boot_id, due_boot);
CREATE INDEX pending_undoing ON pending (id) WHERE state = 'undoing';
CREATE INDEX pending_run ON pending (run);
CREATE TABLE offender (
    response TEXT NOT NULL, key TEXT NOT NULL, count INTEGER NOT NULL, last REAL NOT NULL,
    PRIMARY KEY (response, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX offender_last ON offender (last);
CREATE TABLE position (
    name TEXT NOT NULL PRIMARY KEY,
    device INTEGER NOT NULL, inode INTEGER NOT NULL, offset INTEGER NOT NULL, tail TEXT NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 2;
";

/// Sets the connection up, and makes the tables where there are none.
pub(super) fn prepare(journal: &Journal) -> Result<(), Error> {
    let sql = |e| journal.wrong(e);
    let found = known(journal)?;
    // No process pays for emptying the log when it ends: a drop-in is short. But the
    // next one reads what is left of it, so it is kept small: about ten runs.
    journal
        .connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 128;")
        .map_err(sql)?;
    journal
        .connection
        .set_db_config(
            rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
            true,
        )
        .map_err(sql)?;
    if found == LAYOUT {
        return Ok(());
    }
    write_ahead(journal)?;
    // Several first runs at once: one of them makes the tables.
    journal
        .connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(sql)?;
    let made = known(journal).and_then(|found| {
        if found == LAYOUT {
            return Ok(());
        }
        journal.connection.execute_batch(TABLES).map_err(sql)
    });
    let end = if made.is_ok() { "COMMIT" } else { "ROLLBACK" };
    journal.connection.execute_batch(end).map_err(sql)?;
    made
}

/// Switches to the write-ahead log. SQLite does not wait for others here, however long it
/// may: several first runs at once have to.
fn write_ahead(journal: &Journal) -> Result<(), Error> {
    let started = std::time::Instant::now();
    loop {
        let switched = journal
            .connection
            .query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()));
        match switched.map_err(|e| journal.wrong(e)) {
            Err(Error::Busy { .. }) if started.elapsed() < journal.busy => {
                std::thread::sleep(AGAIN);
            }
            done => return done,
        }
    }
}

/// The layout of the file: 0 for a new one.
pub(super) fn known(journal: &Journal) -> Result<i64, Error> {
    let found = journal
        .connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .optional()
        .map_err(|e| journal.wrong(e))?
        .unwrap_or(0);
    if found > LAYOUT {
        return Err(Error::Newer {
            path: journal.path.clone(),
            found,
            known: LAYOUT,
        });
    }
    if (1..LAYOUT).contains(&found) {
        return Err(Error::Older {
            path: journal.path.clone(),
            found,
            known: LAYOUT,
        });
    }
    Ok(found)
}
