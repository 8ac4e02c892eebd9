//! Follows a file of alerts through rotation, truncation and restarts: no line is lost
//! and none is read twice.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Heard;
use super::bell::Bell;
use super::chapter::{Chapter, Read};
use super::trail::{self, Found};
use crate::journal::Position;

/// See the module.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    now: Option<Chapter>,
    ahead: VecDeque<Chapter>,
    heard: VecDeque<Heard>,
    bell: Bell,
    /// Said once, until it changes.
    trouble: Option<String>,
    /// The present file that was empty when it was looked what came before it: to look
    /// is to read folders.
    empty: Option<(u64, u64)>,
}

impl Follower {
    /// Goes on behind `from`, which the journal kept; without it at the end of what is
    /// written, so that no old alert is answered.
    #[must_use]
    pub fn open(path: &Path, from: Option<&Position>) -> Self {
        let mut follower = Self {
            path: path.to_owned(),
            now: None,
            ahead: VecDeque::new(),
            heard: VecDeque::new(),
            bell: Bell::new(),
            trouble: None,
            empty: None,
        };
        match from {
            None => follower.begin(),
            Some(position) => follower.resume(position),
        }
        follower.bell.hang(path);
        follower
    }

    /// Where to go on after a restart; worth keeping before the first line, too. While
    /// there is no file it is the beginning of one that will come.
    #[must_use]
    pub fn position(&self) -> Position {
        self.now
            .as_ref()
            .map_or_else(Position::default, Chapter::position)
    }

    /// What comes next; [`Heard::Quiet`] when nothing did for that long.
    pub fn next(&mut self, patience: Duration) -> Heard {
        let deadline = Instant::now().checked_add(patience);
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return heard;
            }
            if let Some(heard) = self.now.as_mut().and_then(Chapter::next_line) {
                return heard;
            }
            if self.read_on() || self.turn() {
                continue;
            }
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or(patience);
            if left.is_zero() {
                return Heard::Quiet;
            }
            self.bell.wait(left);
        }
    }

    fn note(&mut self, text: String) {
        self.heard.push_back(Heard::Note(text));
    }

    /// Says what is wrong, once.
    fn complain(&mut self, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            self.note(why.clone());
            self.trouble = Some(why);
        }
    }

    fn begin(&mut self) {
        let path = self.path.display().to_string();
        match Found::open(&self.path).and_then(Chapter::at_end) {
            Ok(chapter) => {
                self.note(format!(
                    "{path}: it is read for the first time, from its end: alerts before that are not answered"
                ));
                self.now = Some(chapter);
            }
            Err(why) => self.complain(missing(&path, &why)),
        }
    }

    fn resume(&mut self, position: &Position) {
        let present = Found::open(&self.path);
        match present {
            Ok(found) if found.is(position) && found.continues(position) => {
                self.start(found, position.offset);
            }
            _ => self.pick_up(position),
        }
    }

    /// Goes on in the file that was the present one, then through those that came since.
    fn pick_up(&mut self, position: &Position) {
        let path = self.path.display().to_string();
        self.ahead.clear();
        match trail::find(&self.path, position) {
            Some(old) => {
                self.note(format!(
                    "{path}: what was read last is {} now; it is read to its end first",
                    old.path.display()
                ));
                let (since, inode) = (old.meta.modified(), (old.meta.dev(), old.meta.ino()));
                self.start(old, position.offset);
                if let Ok(since) = since {
                    self.line_up(since, inode);
                    let lost = trail::compressed_after(&self.path, since);
                    if lost > 0 {
                        self.note(format!(
                            "{path}: {lost} files with alerts were compressed before they were read: alerts in them are not answered"
                        ));
                    }
                }
            }
            None => {
                self.note(if *position == Position::default() {
                    format!("{path}: it was not there before; it is read from its beginning")
                } else {
                    format!(
                        "{path}: what was read last is not there any more; alerts at its end, and in files that were compressed since, may be unanswered, and the file is read from its beginning"
                    )
                });
                match Found::open(&self.path) {
                    Ok(found) => self.start(found, 0),
                    Err(why) => self.complain(missing(&path, &why)),
                }
            }
        }
    }

    fn start(&mut self, found: Found, offset: u64) {
        match Chapter::new(found, offset) {
            Ok(chapter) => {
                self.bell.hang(&chapter.path);
                self.trouble = None;
                self.now = Some(chapter);
            }
            Err(why) => {
                let path = self.path.display();
                self.complain(format!("{path}: {why}"));
            }
        }
    }

    /// What was written since, and at last the present file. As long as that one is
    /// empty, its writer may still be at the old one: only what is written there says
    /// that it is not.
    fn line_up(&mut self, since: std::time::SystemTime, read: (u64, u64)) {
        let present = Found::open(&self.path).ok();
        let mut but = vec![read];
        but.extend(present.iter().map(|p| (p.meta.dev(), p.meta.ino())));
        let between = trail::after(&self.path, since, &but);
        let present = present.filter(|p| p.meta.len() > 0 && (p.meta.dev(), p.meta.ino()) != read);
        let all = between.into_iter().chain(present);
        self.ahead = all
            .filter_map(|found| Chapter::new(found, 0).ok())
            .collect();
    }

    /// Reads more. False where there is no more.
    fn read_on(&mut self) -> bool {
        let Some(chapter) = &mut self.now else {
            return false;
        };
        match chapter.read_on() {
            Ok(Read::More) => true,
            Ok(Read::End) => false,
            Ok(Read::CutShort) => {
                let position = chapter.position();
                self.cut_short(&position);
                true
            }
            Err(why) => {
                let path = chapter.path.display().to_string();
                self.complain(format!("{path}: {why}"));
                false
            }
        }
    }

    /// The file was emptied under its reader. Whoever did that has perhaps a copy.
    fn cut_short(&mut self, position: &Position) {
        let path = self.path.display().to_string();
        self.now = None;
        self.ahead.clear();
        match trail::find(&self.path, position) {
            Some(copy) => {
                self.note(format!(
                    "{path}: it was copied to {} and emptied; the rest of the copy is read first",
                    copy.path.display()
                ));
                self.start(copy, position.offset);
                let present = Found::open(&self.path).and_then(|p| Chapter::new(p, 0));
                self.ahead.extend(present.ok());
            }
            None => {
                self.note(format!(
                    "{path}: it was emptied; it is read from its beginning"
                ));
                if let Ok(found) = Found::open(&self.path) {
                    self.start(found, 0);
                }
            }
        }
    }

    /// At the end of a file: the next one, where there is one.
    fn turn(&mut self) -> bool {
        let Some(chapter) = &mut self.now else {
            return self.appear();
        };
        if self.ahead.is_empty() {
            return self.look();
        }
        // The writer has gone on to another file: this line has no other end.
        if let Some(heard) = chapter.last_line() {
            self.heard.push_back(heard);
            return true;
        }
        self.now = self.ahead.pop_front();
        if let Some(chapter) = &self.now {
            let path = chapter.path.clone();
            self.bell.hang(&path);
        }
        true
    }

    /// A file that was not there is new from its first line on.
    fn appear(&mut self) -> bool {
        match Found::open(&self.path) {
            Ok(found) => {
                self.start(found, 0);
                self.now.is_some()
            }
            Err(why) => {
                let path = self.path.display().to_string();
                self.complain(missing(&path, &why));
                false
            }
        }
    }

    /// Whether the name stands for another file now.
    fn look(&mut self) -> bool {
        let (Some(chapter), Ok(meta)) = (&self.now, std::fs::metadata(&self.path)) else {
            return false;
        };
        let inode = (chapter.device, chapter.inode);
        let present = (meta.dev(), meta.ino());
        if present == inode || (meta.len() == 0 && self.empty == Some(present)) {
            return false;
        }
        self.empty = Some(present);
        let Ok(since) = chapter.file.metadata().and_then(|meta| meta.modified()) else {
            return false;
        };
        self.line_up(since, inode);
        // The old one is read to its end once more before it is left.
        !self.ahead.is_empty()
    }
}

fn missing(path: &str, why: &std::io::Error) -> String {
    if why.kind() == ErrorKind::NotFound {
        return format!(
            "{path}: it is not there yet; OSSEC writes it with <jsonout_output>yes</jsonout_output> in <global>"
        );
    }
    format!("{path}: {why}")
}
