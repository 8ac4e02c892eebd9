//! The undo at its time: what is due is taken from the journal, its guest is called
//! with `delete`, and the host makes sure.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::settings::{Place, Settings};
use super::{Daemon, legacy, line, program, swept};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::effect::Refusal;

use crate::journal::Pending;
use crate::report::{self, Outcome};
use crate::respond;
use crate::sweep;

/// How often the journal is looked at although nothing of ours is due: other processes
/// write it, too, and execds die.
const AT_LEAST: Duration = Duration::from_secs(1);

/// Undos that are begun with one commit.
const AT_ONCE: u32 = 64;

/// How long a journal that does not answer is left alone.
const TROUBLE: Duration = Duration::from_millis(200);

impl Daemon {
    /// Undoes what is due, for as long as the daemon lives.
    pub async fn keep_time(self: Rc<Self>) {
        let mut swept = Instant::now();
        let mut interrupted = true;
        self.desk
            .ask(crate::effect::broker::Broker::carry_over)
            .await;
        loop {
            let (full, pause) = match self.begin_undos(interrupted).await {
                None => return,
                Some(Err(refusal)) => {
                    self.say(&format!("what is due can't be read: {}", refusal.reason));
                    (false, Some(TROUBLE))
                }
                Some(Ok(begun)) => {
                    interrupted = false;
                    (!begun.is_empty(), None)
                }
            };
            if swept.elapsed() >= AT_LEAST {
                swept = Instant::now();
                self.settings().await;
                self.sweep().await;
            }
            if full {
                // The next ones may be due by now.
                tokio::task::yield_now().await;
                continue;
            }
            let next = self.desk.ask(crate::effect::broker::Broker::next_due).await;
            let next = match next {
                Some(Ok(Some(next))) => next,
                _ => AT_LEAST,
            };
            let wait = pause.unwrap_or(next).min(AT_LEAST);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.pending.notified() => {}
            }
        }
    }

    /// Begins the undo of what is due; with `interrupted` also of what another process
    /// began and did not end. None when the broker has stopped.
    pub async fn begin_undos(
        self: &Rc<Self>,
        interrupted: bool,
    ) -> Option<Result<Vec<JoinHandle<()>>, Refusal>> {
        let due = self
            .desk
            .ask(move |broker| broker.begin_undo(interrupted, AT_ONCE))
            .await?;
        Some(due.map(|due| {
            let begin = |pending| {
                let daemon = Rc::clone(self);
                tokio::task::spawn_local(async move { daemon.undo(pending).await })
            };
            due.into_iter().map(begin).collect()
        }))
    }

    /// Undoes one block. Whatever becomes of its guest, nothing of it is held after
    /// that; where the firewall does not answer the next sweep goes on.
    pub(super) async fn undo(self: &Rc<Self>, pending: Pending) {
        let settings = self.settings().await;
        // A response whose undo hangs keeps those of no other.
        let turn = self.turn_of_undo(&pending.response, &settings);
        let _turn = turn.acquire().await;
        let late = self.lateness(&pending);
        if pending.message.is_some() {
            legacy::undo(self, &pending, &settings).await;
        } else {
            let program = program(&settings, &pending.executable, pending.dialect);
            self.log(&report::undone(&pending, &program, &report::now()));
            let outcome = self.call_back(&pending, &settings).await;
            self.came(&outcome);
            self.log(&[line(&Outcome::of(&outcome))]);
        }
        let id = pending.id;
        let undone = self.desk.ask(move |broker| broker.undone(id)).await;
        if let Some(Err(refusal)) = undone {
            self.say(&format!(
                "{} is undone, but the journal could not note it: {}",
                pending.response, refusal.reason
            ));
        }
        self.tally.undone(late);
        self.ended.notify_waiters();
    }

    fn turn_of_undo(&self, response: &str, settings: &Settings) -> Rc<Semaphore> {
        let at_once = settings.premises.grants.execd.at_once;
        let at_once = usize::try_from(at_once).unwrap_or(1);
        let mut undos = self.undos.borrow_mut();
        // Those of responses that undo nothing just now are made anew when needed.
        undos.retain(|_, turn| Rc::strong_count(turn) > 1);
        let turn = undos.entry(response.to_owned());
        Rc::clone(turn.or_insert_with(|| Rc::new(Semaphore::new(at_once))))
    }

    /// How late it is for the undo, by the clock that deadlines are counted by.
    fn lateness(&self, pending: &Pending) -> Duration {
        self.clock
            .now()
            .map(|now| pending.overdue(&now))
            .unwrap_or_default()
    }

    /// Calls the guest with `delete`.
    async fn call_back(&self, pending: &Pending, settings: &Arc<Settings>) -> respond::Outcome {
        let started = Instant::now();
        let loaded = match self.component(pending, settings) {
            Some(path) => self
                .vessels
                .get(&pending.executable, &path, settings, &self.engine)
                .await
                .map_err(|why| why.to_string()),
            None if pending.executable.is_empty() => Err("it was blocked by hand".to_owned()),
            None => Err(format!("there is no component for {}", pending.executable)),
        };
        let context = self.context(settings, started);
        // Another component under the old name holds nothing, and is not asked.
        let loaded = loaded.and_then(|loaded| {
            if loaded.name == pending.response {
                Ok(loaded)
            } else {
                Err(format!("{} is another response now", pending.executable))
            }
        });
        let loaded = loaded.as_ref().map(Arc::as_ref).map_err(Clone::clone);
        let _berth = self.berths.acquire().await;
        respond::undo(&context, pending, loaded).await
    }

    fn component(&self, pending: &Pending, settings: &Settings) -> Option<PathBuf> {
        match settings.place(&pending.executable) {
            Place::Component(path) => Some(path),
            Place::Legacy(_) | Place::NotAllowed(_) | Place::Missing => None,
        }
    }

    /// Takes back what needs no guest: orphans, interrupted runs, debts.
    pub(super) async fn sweep(&self) {
        let swept_now = self
            .desk
            .ask(|broker| sweep::sweep(broker, sweep::AT_ONCE))
            .await;
        match swept_now {
            Some(Ok(all)) => {
                for one in &all {
                    self.tally.count(|counts| &mut counts.swept);
                    let why = one.due.why.to_string();
                    self.tell(&swept(&one.due.hold.response, &why, &one.record));
                }
            }
            Some(Err(refusal)) => self.say(&format!("sweep: {}", refusal.reason)),
            None => {}
        }
    }

    /// Undoes everything, due or not: `on_stop = "release"`. Waits at most `patience`;
    /// what is left then is undone by the next start.
    pub async fn release_all(self: &Rc<Self>, patience: Duration) {
        let all = self
            .desk
            .ask(crate::effect::broker::Broker::begin_undo_of_all)
            .await;
        let all = match all {
            Some(Ok(all)) => all,
            Some(Err(refusal)) => {
                self.say(&format!("nothing could be released: {}", refusal.reason));
                return;
            }
            None => return,
        };
        let work = async {
            let mut running = tokio::task::JoinSet::new();
            for pending in all {
                let daemon = Rc::clone(self);
                running.spawn_local(async move { daemon.undo(pending).await });
                while running.len() >= usize::try_from(AT_ONCE).unwrap_or(1) {
                    running.join_next().await;
                }
            }
            while running.join_next().await.is_some() {}
        };
        if tokio::time::timeout(patience, work).await.is_err() {
            self.say("not everything could be released in time; the next start goes on");
        }
    }
}
