//! From `alerts.json` to orders: reads alert by alert, decides which responses run on
//! this host, and says which can't. What reads ([`Follower`], [`Pipe`]) decides nothing,
//! what decides ([`Watcher`]) reads nothing.
//!
//! A position is worth keeping once the orders of all lines before it were accepted.

mod bell;
mod chapter;
mod cutter;
mod decide;
mod follow;
mod pipe;
mod serve;
mod told;
mod trail;

pub use decide::{Answer, Counts, Watcher};
pub use follow::Follower;
pub use pipe::Pipe;
pub use serve::{Source, serve};

use crate::journal::Position;

/// What comes from a file or a pipe.
#[derive(Debug)]
pub enum Heard {
    /// A line.
    Line(Line),
    /// A line that is too long to be an alert was skipped.
    Overlong {
        /// So many bytes of it.
        bytes: u64,
        /// Where the next one begins.
        behind: Option<Position>,
    },
    /// Something that somebody should know.
    Note(String),
    /// Nothing, for as long as was waited.
    Quiet,
    /// Nothing more will come: the pipe was closed.
    End,
}

/// A line, perhaps an alert.
#[derive(Debug, Clone)]
pub struct Line {
    /// Without its end.
    pub bytes: Vec<u8>,
    /// Where it stands; nowhere, in a pipe.
    pub place: Option<Place>,
}

/// Where a line stands.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its first byte in the file of `behind`.
    pub begins: u64,
    /// Where the next one begins.
    pub behind: Position,
}
