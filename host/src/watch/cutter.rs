//! Lines out of pieces: what is cut in the middle waits for its end, what is too long
//! is skipped.

use sha2::{Digest as _, Sha256};

use crate::message::json::LARGEST;

/// What makes two places in two files the same: more than the head of an alert, where
/// its time and its id are.
pub(super) const TAIL: usize = 256;

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cut {
    /// A line without its end, and where it begins.
    Line(Vec<u8>, u64),
    /// So many bytes that are too long for a line.
    Overlong(u64),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    kept: Vec<u8>,
    /// What of it came out already.
    done: usize,
    /// What of it holds no end of a line.
    searched: usize,
    /// Bytes of a line that is too long.
    skipped: Option<u64>,
    /// Where in the file the first byte that did not come out is.
    offset: u64,
    /// The last bytes that came out.
    tail: Vec<u8>,
}

impl Cutter {
    /// For what comes behind `offset`; `before` are the bytes in front of it.
    pub(super) fn new(offset: u64, before: &[u8]) -> Self {
        let mut cutter = Self {
            offset,
            ..Self::default()
        };
        cutter.remember(before);
        cutter
    }

    /// The rest of a line whose beginning was too long to look at.
    pub(super) fn skipping(mut self) -> Self {
        self.skipped = Some(0);
        self
    }

    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.kept.drain(..self.done);
        self.searched = self.searched.saturating_sub(self.done);
        self.done = 0;
        self.kept.extend_from_slice(piece);
    }

    pub(super) fn next(&mut self) -> Option<Cut> {
        let fresh = self.kept.get(self.searched..).unwrap_or_default();
        match fresh.iter().position(|b| *b == b'\n') {
            Some(at) => {
                let end = self.searched.saturating_add(at);
                Some(self.take(end, end.saturating_add(1)))
            }
            None => {
                self.searched = self.kept.len();
                let waiting = self.kept.len().saturating_sub(self.done);
                if waiting > LARGEST || self.skipped.is_some() {
                    self.skip(self.kept.len());
                }
                None
            }
        }
    }

    /// Nothing more comes: what waits for its end is a line. False where nothing does.
    pub(super) fn finish(&mut self) -> Option<Cut> {
        let end = self.kept.len();
        (end > self.done || self.skipped.is_some()).then(|| self.take(end, end))
    }

    /// Where the first byte is that did not come out.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The digest of the bytes before it.
    pub(super) fn tail(&self) -> String {
        digest(&self.tail)
    }

    fn take(&mut self, end: usize, next: usize) -> Cut {
        let line = self.kept.get(self.done..end).unwrap_or_default().to_vec();
        let begins = self.offset;
        let too_long = line.len() > LARGEST || self.skipped.is_some();
        self.skip(next);
        self.searched = next;
        match self.skipped.take().filter(|_| too_long) {
            Some(skipped) => Cut::Overlong(skipped),
            None => Cut::Line(line, begins),
        }
    }

    /// Lets go of everything up to there.
    fn skip(&mut self, to: usize) {
        let gone = self.kept.get(self.done..to).unwrap_or_default().to_vec();
        let bytes = u64::try_from(gone.len()).unwrap_or(u64::MAX);
        self.offset = self.offset.saturating_add(bytes);
        self.skipped = Some(self.skipped.unwrap_or_default().saturating_add(bytes));
        self.remember(&gone);
        self.done = to;
    }

    fn remember(&mut self, gone: &[u8]) {
        let from = gone.len().saturating_sub(TAIL);
        self.tail
            .extend_from_slice(gone.get(from..).unwrap_or_default());
        let old = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..old);
    }
}

/// As a position in the journal has it.
pub(super) fn digest(tail: &[u8]) -> String {
    hex::encode(Sha256::digest(tail))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(cutter: &mut Cutter) -> Vec<Cut> {
        std::iter::from_fn(|| cutter.next()).collect()
    }

    fn line(text: &str, at: u64) -> Cut {
        Cut::Line(text.as_bytes().to_vec(), at)
    }

    #[test]
    fn a_line_waits_for_its_end() {
        let mut cutter = Cutter::new(10, b"before\n");
        cutter.feed(b"one\ntw");
        assert_eq!(all(&mut cutter), [line("one", 10)]);
        assert_eq!(cutter.offset(), 14);
        assert_eq!(cutter.tail(), digest(b"before\none\n"));
        cutter.feed(b"o");
        assert_eq!(all(&mut cutter), []);
        cutter.feed(b"\n\nthree");
        assert_eq!(all(&mut cutter), [line("two", 14), line("", 18)]);
        assert_eq!(cutter.finish(), Some(line("three", 19)));
        assert_eq!(cutter.finish(), None);
        assert_eq!(cutter.offset(), 24);
    }

    #[test]
    fn a_line_of_the_largest_size_is_one_and_a_longer_one_is_skipped() {
        let good = "x".repeat(LARGEST);
        for (text, expected) in [
            (format!("{good}\n"), line(&good, 0)),
            (format!("{good}x\n"), Cut::Overlong(LARGEST as u64 + 2)),
        ] {
            for size in [1 << 16, 3 << 20] {
                let mut cutter = Cutter::new(0, b"");
                let mut cuts = Vec::new();
                for piece in text.as_bytes().chunks(size) {
                    cutter.feed(piece);
                    cuts.extend(all(&mut cutter));
                }
                cutter.feed(b"next\n");
                let next = line("next", text.len() as u64);
                cuts.extend(all(&mut cutter));
                assert!(cuts == [expected.clone(), next], "{size}");
            }
        }
    }

    #[test]
    fn a_line_that_never_ends_takes_no_memory() {
        let mut cutter = Cutter::new(0, b"");
        for _ in 0..200 {
            cutter.feed(&[b'x'; 1 << 16]);
            assert_eq!(cutter.next(), None);
            assert!(cutter.kept.len() <= LARGEST + (1 << 16));
        }
        assert_eq!(cutter.offset(), 200 << 16);
        cutter.feed(b"\nnext\n");
        assert!(matches!(cutter.next(), Some(Cut::Overlong(_))));
        assert!(matches!(cutter.next(), Some(Cut::Line(..))));
    }

    #[test]
    fn what_is_left_of_a_line_that_nobody_saw_begin_is_skipped() {
        let mut cutter = Cutter::new(5, b"").skipping();
        cutter.feed(b"rest\nnext\n");
        assert_eq!(all(&mut cutter), [Cut::Overlong(5), line("next", 10)]);
    }

    proptest! {
        #[test]
        fn the_pieces_are_no_matter(text in "[ab\n]{0,200}", sizes in prop::collection::vec(1_usize..20, 1..40)) {
            let mut cutter = Cutter::new(0, b"");
            let mut cuts = Vec::new();
            let mut rest = text.as_bytes();
            let mut sizes = sizes.iter().cycle();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                cutter.feed(piece);
                cuts.extend(all(&mut cutter));
                prop_assert_eq!(cutter.tail(), digest(&text.as_bytes()[..cutter.offset() as usize][(cutter.offset() as usize).saturating_sub(TAIL)..]));
                rest = after;
            }
            cuts.extend(cutter.finish());
            let mut at = 0;
            let expected: Vec<Cut> = text
                .split_inclusive('\n')
                .map(|part| {
                    let cut = line(part.trim_end_matches('\n'), at);
                    at += part.len() as u64;
                    cut
                })
                .collect();
            prop_assert_eq!(cuts, expected);
        }
    }
}
