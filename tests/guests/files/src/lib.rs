//! Wants the filesystem.

use retort_guest::{Error, Event};

fn handle(_: Event) -> Result<(), Error> {
    std::fs::read("/etc/shadow").map(drop).map_err(|e| Error::Failed(e.to_string()))
}

retort_guest::response!(handle);
