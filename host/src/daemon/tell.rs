//! What a daemon counts, logs and says.

use cap_std::fs::Dir;

use super::{Daemon, line};
use crate::effect::{Done, Kind};
use crate::order::Order;
use crate::report::{self, Log, Outcome};
use crate::respond::{self, NotRun};
use crate::status::Counts;

impl Daemon {
    /// Counts what came of a run.
    pub(super) fn came(&self, outcome: &respond::Outcome) {
        let verdict = outcome.verdict.as_ref();
        let verdict = verdict.map_or("renewed", crate::vessel::verdict::Verdict::name);
        self.tally.run(&outcome.response, verdict);
        for record in &outcome.records {
            match &record.answer {
                Err(refusal) if refusal.kind == Kind::Denied => {
                    self.tally.denied(&outcome.response);
                }
                Ok(Done::Blocked {
                    warning: Some(why), ..
                }) if why.starts_with("over budget") => {
                    self.tally.count(|counts| &mut counts.rationed);
                }
                _ => {}
            }
        }
    }

    pub(super) fn not_run(&self, order: &Order, why: &NotRun) {
        let verdict = match why {
            NotRun::Declined(_) => "declined",
            NotRun::Disabled => "disabled",
            NotRun::Load(_) | NotRun::NoAnswer(_) => "refused",
        };
        self.tally.run(&order.executable, verdict);
        let action = order.request.action.to_string();
        self.tell(&Outcome::not_run(&order.executable, &action, why));
    }

    pub(super) fn no_response(&self, order: &Order, why: &str) {
        self.tally.count(|counts| &mut counts.not_found);
        let action = order.request.action.to_string();
        self.tell(&Outcome::failed(
            &order.executable,
            &action,
            &format!("refused: {why}"),
        ));
    }

    /// An order came, or what was none.
    pub fn received(&self) {
        self.tally.count(|counts| &mut counts.received);
    }

    /// The queue is somebody else's.
    pub fn lost_queue(&self) {
        self.tally.count(|counts| &mut counts.lost_queue);
    }

    /// What came was no order.
    pub fn malformed(&self) {
        self.tally.count(|counts| &mut counts.malformed);
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// Something about an alert that started nothing, or not everything: into the log.
    pub fn note(&self, what: &str) {
        self.tell(&Outcome::failed("watch", "", what));
    }

    /// Says something that is no outcome: to whoever watches the daemon.
    pub fn say(&self, what: &str) {
        eprintln!("retort: {}", report::escape(what, 4096));
    }

    /// An outcome: into the log.
    pub(super) fn tell(&self, outcome: &Outcome) {
        self.log(&[line(outcome)]);
    }

    /// Appends lines to `active-responses.log`. Where that fails they are said: it is
    /// no reason not to act.
    pub(super) fn log(&self, lines: &[String]) {
        let written = Dir::open_ambient_dir(self.root.logs(), cap_std::ambient_authority())
            .map_err(anyhow::Error::from)
            .and_then(|logs| Ok(Log::open(&logs)?))
            .and_then(|mut log| Ok(lines.iter().try_for_each(|line| log.append(line))?));
        if let Err(why) = written {
            self.say(&format!("{why:#}; what is not in the log:"));
            for line in lines {
                self.say(line);
            }
        }
    }
}
