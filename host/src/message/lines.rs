//! Lines from a pipe that stays open: never read to its end.

use std::io::{self, ErrorKind, Read};

use super::json::LARGEST_LINE;

/// What is asked of the pipe at one time.
const PIECE: usize = 8 << 10;

/// Reads line by line and keeps what came after one for the next.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
    kept: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// Reads from `from`, whose own time limit holds.
    pub fn new(from: R) -> Self {
        Self {
            from,
            kept: Vec::new(),
        }
    }

    /// The next line without its end; the last one may lack it. None at the end.
    ///
    /// # Errors
    /// The reader's own, and `InvalidData` for a line above 1 MiB.
    pub fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let fresh = self.kept.get(searched..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|b| *b == b'\n') {
                let end = searched.saturating_add(end);
                let rest = self.kept.split_off(end.saturating_add(1));
                let mut line = std::mem::replace(&mut self.kept, rest);
                line.truncate(end);
                return Ok(Some(line));
            }
            searched = self.kept.len();
            if searched > LARGEST_LINE {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "the message is larger than 1 MiB",
                ));
            }
            let mut piece = [0; PIECE];
            match self.from.read(&mut piece) {
                Ok(0) if self.kept.is_empty() => return Ok(None),
                Ok(0) => return Ok(Some(std::mem::take(&mut self.kept))),
                Ok(n) => self
                    .kept
                    .extend_from_slice(piece.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}
