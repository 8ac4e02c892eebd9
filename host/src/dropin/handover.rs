//! A link hands its call to the daemon where one serves the installation: it has the
//! response loaded, and writes the journal. Where it does not answer the link does
//! everything itself.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Instant;

use super::stdin::Stdin;
use super::{Call, owner};
use crate::control::{Ask, Call as Handed, Conversation, Told};
use crate::message::execd::text;
use crate::message::{Lines, Request};
use crate::premises;
use crate::respond::{self, Consent, LAST_WORDS};

/// What came of handing a call over.
pub(super) enum Came {
    /// The daemon did it.
    Outcome(Box<respond::Outcome>),
    /// The daemon did not do it, and why; `rightly` where that is no failure.
    NotRun { why: String, rightly: bool },
    /// Nobody did it; the execd was asked already, if it was.
    Nothing(Option<Consent>),
}

impl Call<'_> {
    /// Hands the call over.
    pub(super) fn hand_over(
        &self,
        request: &Request,
        line: Option<&[u8]>,
        lines: &mut Lines<Stdin<'_>>,
    ) -> Came {
        let mut consent = None;
        if premises::installed(&self.place.root).is_err() {
            return Came::Nothing(None);
        }
        let left = self
            .watchdog
            .deadline()
            .saturating_duration_since(Instant::now());
        // Half of it, so that there is time to do it without the daemon.
        let patience = left.checked_div(2).unwrap_or(LAST_WORDS);
        let Some(mut conversation) = Conversation::begin(&self.place.root, patience) else {
            return Came::Nothing(None);
        };
        let words = match line {
            Some(line) => vec![text(line)],
            None => self.argv.iter().skip(1).map(bytes).collect(),
        };
        let mut ask = Ask::Call(Box::new(Handed {
            executable: self.place.executable.clone(),
            words,
            line: line.is_some(),
            owner: owner(),
        }));
        loop {
            match conversation.ask(&ask) {
                Ok(Told::Keys(keys)) => match self.ask(lines, request, &keys) {
                    Ok(said) => {
                        consent = Some(said);
                        ask = Ask::Consent {
                            goes_on: said == Consent::Continue,
                        };
                    }
                    Err(why) => {
                        let why = respond::NotRun::NoAnswer(why);
                        return Came::NotRun {
                            why: format!("no answer: {why}"),
                            rightly: false,
                        };
                    }
                },
                Ok(Told::Outcome(outcome)) => return Came::Outcome(outcome),
                Ok(Told::NotRun { why, rightly }) => return Came::NotRun { why, rightly },
                // A block that was done and not told is renewed, a release finds nothing.
                Ok(_) | Err(_) => return Came::Nothing(consent),
            }
        }
    }
}

fn bytes(word: &OsString) -> String {
    text(word.as_bytes())
}
