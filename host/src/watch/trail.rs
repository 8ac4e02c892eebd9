//! Where the alerts are that were written before the present file: OSSEC and Wazuh link
//! it into `<year>/<month>/` as well, other programs rename it or copy it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::cutter::{TAIL, digest};
use crate::journal::Position;

/// Files that are looked at: some years of days, with Wazuh's rotation by size.
const MOST: usize = 20_000;

/// What a compressed file ends with: nothing is read from it.
const COMPRESSED: [&str; 4] = ["gz", "bz2", "xz", "zst"];

/// A file of alerts, open.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) meta: Metadata,
}

impl Found {
    /// Opens it; never waits on a pipe.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
            .open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            meta,
        })
    }

    /// Whether it is the file of that position, by its inode.
    pub(super) fn is(&self, position: &Position) -> bool {
        (self.meta.dev(), self.meta.ino()) == (position.device, position.inode)
    }

    /// Whether it says before the position what was said there.
    pub(super) fn continues(&self, position: &Position) -> bool {
        self.meta.len() >= position.offset
            && before(&self.file, position.offset).is_ok_and(|tail| digest(&tail) == position.tail)
    }
}

/// The last bytes before `offset`.
pub(super) fn before(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let from = offset.saturating_sub(u64::try_from(TAIL).unwrap_or_default());
    let length = usize::try_from(offset.saturating_sub(from)).unwrap_or_default();
    let mut tail = vec![0; length];
    file.read_exact_at(&mut tail, from)?;
    Ok(tail)
}

/// The file that was read up to `position`, under the name that it has now: by its
/// inode, or as a copy. The present file is not looked at.
pub(super) fn find(present: &Path, position: &Position) -> Option<Found> {
    let mut copy = None;
    for path in files(present) {
        let Ok(found) = Found::open(&path) else {
            continue;
        };
        if !found.continues(position) {
            continue;
        }
        if found.is(position) {
            return Some(found);
        }
        // Every file continues from nothing.
        if position.offset > 0 && copy.is_none() {
            copy = Some(found);
        }
    }
    copy
}

/// The files that were written to after `since`, oldest first, without those of these
/// inodes.
pub(super) fn after(present: &Path, since: SystemTime, but: &[(u64, u64)]) -> Vec<Found> {
    let mut later: Vec<(SystemTime, Found)> = files(present)
        .iter()
        .filter_map(|path| Found::open(path).ok())
        .filter(|found| {
            found.meta.len() > 0 && !but.contains(&(found.meta.dev(), found.meta.ino()))
        })
        .filter_map(|found| Some((found.meta.modified().ok()?, found)))
        .filter(|(modified, _)| *modified >= since)
        .collect();
    later.sort_by_key(|(modified, _)| *modified);
    // Two names of one file are one file.
    let mut seen = Vec::new();
    later.retain(|(_, found)| {
        let inode = (found.meta.dev(), found.meta.ino());
        let first = !seen.contains(&inode);
        seen.push(inode);
        first
    });
    later.into_iter().map(|(_, found)| found).collect()
}

/// How many files were compressed after `since`.
pub(super) fn compressed_after(present: &Path, since: SystemTime) -> usize {
    let files = names_of(present).into_iter();
    let compressed = files.filter(|path| is_compressed(path));
    compressed
        .filter(|path| {
            let meta = std::fs::metadata(path).and_then(|meta| meta.modified());
            meta.is_ok_and(|modified| modified >= since)
        })
        .count()
}

/// Files that may have been the present one, and can be read.
fn files(present: &Path) -> Vec<PathBuf> {
    let mut files = names_of(present);
    files.retain(|path| !is_compressed(path));
    files
}

/// Files that may have been the present one: beside it, with its name and an ending,
/// or in the folders of its days.
fn names_of(present: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (present.parent(), present.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    let mut files = Vec::new();
    for entry in names(folder) {
        if entry.len() == 4 && entry.bytes().all(|b| b.is_ascii_digit()) {
            let year = folder.join(&entry);
            for month in names(&year) {
                let month = year.join(month);
                let days = names(&month).into_iter();
                files.extend(days.filter(|day| is_day(day)).map(|day| month.join(day)));
            }
        } else if entry.starts_with(&*name) && entry != *name {
            files.push(folder.join(entry));
        }
    }
    files.truncate(MOST);
    files
}

/// `ossec-alerts-02.json`, `ossec-alerts-02-001.json.gz`; beside them are logs and
/// checksums.
fn is_day(name: &str) -> bool {
    let rest = name.strip_prefix("ossec-alerts-");
    let ending = rest.and_then(|rest| rest.split_once(".json"));
    ending.is_some_and(|(_, ending)| ending.is_empty() || is_compressed(Path::new(name)))
}

fn is_compressed(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| COMPRESSED.contains(&ending))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.take(MOST).collect();
    names.sort();
    names
}
