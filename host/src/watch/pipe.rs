//! Alerts from a pipe, usually stdin: there is no way back in it.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::cutter::{Cut, Cutter};
use super::{Heard, Line};

/// What a pipe holds.
const PIECE: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub struct Pipe<R> {
    from: R,
    cutter: Cutter,
    ended: bool,
}

impl<R: Read + AsFd> Pipe<R> {
    /// Reads from `from`.
    pub fn new(from: R) -> Self {
        Self {
            from,
            cutter: Cutter::default(),
            ended: false,
        }
    }

    /// What comes next; [`Heard::Quiet`] when nothing did for that long.
    pub fn next(&mut self, patience: Duration) -> Heard {
        loop {
            let cut = self.cutter.next();
            let cut = cut.or_else(|| self.ended.then(|| self.cutter.finish())?);
            match cut {
                Some(Cut::Line(bytes, _)) => return Heard::Line(Line { bytes, place: None }),
                Some(Cut::Overlong(bytes)) => {
                    return Heard::Overlong {
                        bytes,
                        behind: None,
                    };
                }
                None if self.ended => return Heard::End,
                None => {}
            }
            let mut fds = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
            if matches!(poll(&mut fds, timeout), Ok(0)) {
                return Heard::Quiet;
            }
            let mut piece = vec![0; PIECE];
            match self.from.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(length) => self.cutter.feed(piece.get(..length).unwrap_or_default()),
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(_) => self.ended = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn it_waits_for_lines_and_ends_with_its_writer() {
        let (from, mut to) = std::io::pipe().unwrap();
        let mut pipe = Pipe::new(from);
        assert!(matches!(pipe.next(Duration::from_millis(1)), Heard::Quiet));
        to.write_all(b"one\ntw").unwrap();
        let long = Duration::from_secs(10);
        let line = |heard| match heard {
            Heard::Line(line) => String::from_utf8(line.bytes).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(line(pipe.next(long)), "one");
        assert!(matches!(pipe.next(Duration::from_millis(1)), Heard::Quiet));
        to.write_all(b"o").unwrap();
        drop(to);
        assert_eq!(line(pipe.next(long)), "two");
        assert!(matches!(pipe.next(long), Heard::End));
    }
}
