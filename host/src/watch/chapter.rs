//! One file of alerts, read in order from a place in it.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

use super::cutter::{Cut, Cutter, TAIL};
use super::trail::{self, Found};
use super::{Heard, Line, Place};
use crate::journal::Position;
use crate::message::json::LARGEST;

/// What is read at one time.
const PIECE: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Chapter {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Where the next byte is.
    read: u64,
    /// The bytes before it, to see that it is still the same file.
    seen: Vec<u8>,
    cutter: Cutter,
}

impl Chapter {
    pub(super) fn new(found: Found, offset: u64) -> std::io::Result<Self> {
        let seen = trail::before(&found.file, offset)?;
        Ok(Self {
            path: found.path,
            file: found.file,
            device: found.meta.dev(),
            inode: found.meta.ino(),
            read: offset,
            cutter: Cutter::new(offset, &seen),
            seen,
        })
    }

    /// From the line that is not complete yet, at the end of what is written.
    pub(super) fn at_end(found: Found) -> std::io::Result<Self> {
        let length = found.meta.len();
        let from = length.saturating_sub(u64::try_from(LARGEST).unwrap_or_default());
        let mut last = vec![0; usize::try_from(length.saturating_sub(from)).unwrap_or_default()];
        found.file.read_exact_at(&mut last, from)?;
        match last.iter().rposition(|b| *b == b'\n') {
            Some(at) => {
                let at = u64::try_from(at).unwrap_or_default();
                Self::new(found, from.saturating_add(at).saturating_add(1))
            }
            None if from == 0 => Self::new(found, 0),
            None => {
                let mut chapter = Self::new(found, length)?;
                chapter.cutter = std::mem::take(&mut chapter.cutter).skipping();
                Ok(chapter)
            }
        }
    }

    /// What is behind the last line that came out.
    pub(super) fn position(&self) -> Position {
        Position {
            device: self.device,
            inode: self.inode,
            offset: self.cutter.offset(),
            tail: self.cutter.tail(),
        }
    }

    /// The next line of what was read.
    pub(super) fn next_line(&mut self) -> Option<Heard> {
        let cut = self.cutter.next()?;
        Some(self.heard(cut))
    }

    /// What waits for its end: nothing more will be written here.
    pub(super) fn last_line(&mut self) -> Option<Heard> {
        let cut = self.cutter.finish()?;
        Some(self.heard(cut))
    }

    fn heard(&self, cut: Cut) -> Heard {
        let behind = self.position();
        match cut {
            Cut::Line(bytes, begins) => Heard::Line(Line {
                bytes,
                place: Some(Place { begins, behind }),
            }),
            Cut::Overlong(bytes) => Heard::Overlong {
                bytes,
                behind: Some(behind),
            },
        }
    }

    /// Reads on.
    pub(super) fn read_on(&mut self) -> std::io::Result<Read> {
        let mut piece = vec![0; PIECE];
        let length = self.file.read_at(&mut piece, self.read)?;
        // What was emptied and has grown again, shorter, longer or as long as before, has
        // other bytes here. Looked at after reading: before, it could still happen in
        // between.
        if !trail::before(&self.file, self.read).is_ok_and(|bytes| bytes == self.seen) {
            return Ok(Read::CutShort);
        }
        if length == 0 {
            return Ok(Read::End);
        }
        piece.truncate(length);
        self.read = self
            .read
            .saturating_add(u64::try_from(length).unwrap_or_default());
        self.seen.extend_from_slice(&piece);
        let old = self.seen.len().saturating_sub(TAIL);
        self.seen.drain(..old);
        self.cutter.feed(&piece);
        Ok(Read::More)
    }
}

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Some bytes.
    More,
    /// There are no more.
    End,
    /// The file was emptied since, and perhaps filled again.
    CutShort,
}
