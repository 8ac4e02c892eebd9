//! The undo at its time: what is due is taken from the journal, its guest is called
//! with `delete`, and the host makes sure.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::settings::{Place, Settings};
use super::{Daemon, legacy, line, program, swept};
use crate::effect::Refusal;
use crate::effect::broker::Broker;
use crate::journal::Pending;
use crate::report::{self, Outcome};
use crate::respond;
use crate::sweep;

/// How often the journal is looked at although nothing of ours is due: other processes
/// write it, too, and execds die.
const AT_LEAST: Duration = Duration::from_secs(1);

/// Sweeps are at least that far apart, however many holds are over one after another.
const AT_MOST: Duration = Duration::from_millis(100);

/// Undos that are taken from the journal at one time.
const AT_ONCE: u32 = 64;

/// Undos that are under way or wait for their turn: what is due besides waits in the
/// journal, and costs no memory.
const UNDER_WAY: usize = 4096;

/// How long a journal that does not answer is left alone.
const TROUBLE: Duration = Duration::from_millis(200);

impl Daemon {
    /// Undoes what is due, for as long as the daemon lives.
    pub async fn keep_time(self: Rc<Self>) {
        if self.take_over().await.is_none() {
            return;
        }
        let mut swept = Instant::now();
        let mut sweep_in = AT_LEAST;
        loop {
            let begun = match self.begin_undos().await {
                None => return,
                Some(Ok(begun)) => begun.len(),
                Some(Err(refusal)) => {
                    self.trouble(&refusal);
                    tokio::time::sleep(TROUBLE).await;
                    0
                }
            };
            if swept.elapsed() >= sweep_in {
                self.settings().await;
                self.sweep().await;
                (swept, sweep_in) = (Instant::now(), AT_LEAST);
            }
            if begun > 0 {
                // The next ones may be due by now.
                tokio::task::yield_now().await;
                continue;
            }
            let next = self.desk.ask(Broker::next_due).await;
            let (undo, hold) = match next {
                Some(Ok(next)) => (next.undo, next.hold),
                _ => (None, None),
            };
            // A hold that is over before its block is undone is the sweep's.
            let over = hold.map(|hold| swept.elapsed().saturating_add(hold).max(AT_MOST));
            sweep_in = over.map_or(sweep_in, |over| over.min(sweep_in));
            let sweep = sweep_in.saturating_sub(swept.elapsed());
            let undo = undo.filter(|_| self.under_way.get() < UNDER_WAY);
            tokio::select! {
                () = tokio::time::sleep(undo.unwrap_or(AT_LEAST).min(sweep)) => {}
                () = self.pending.notified() => {}
                () = self.ended.notified(), if self.under_way.get() >= UNDER_WAY => {}
            }
        }
    }

    /// Takes over what the daemon before left: until then nothing of an earlier boot is
    /// due. None when the broker has stopped.
    pub async fn take_over(&self) -> Option<()> {
        self.insist(|broker| broker.take_over()).await
    }

    /// Takes what is due from the journal, and begins to undo it. None when the broker
    /// has stopped.
    pub async fn begin_undos(self: &Rc<Self>) -> Option<Result<Vec<JoinHandle<()>>, Refusal>> {
        if self.under_way.get() >= UNDER_WAY {
            return Some(Ok(Vec::new()));
        }
        let due = self.desk.ask(|broker| broker.take_due(AT_ONCE)).await?;
        Some(due.map(|due| {
            let begin = |pending| {
                let daemon = Rc::clone(self);
                let under_way = self.under_way.get();
                self.under_way.set(under_way.saturating_add(1));
                tokio::task::spawn_local(async move { daemon.undo(pending).await })
            };
            due.into_iter().map(begin).collect()
        }))
    }

    /// Undoes one block when it is its turn.
    async fn undo(self: Rc<Self>, pending: Pending) {
        let settings = self.settings().await;
        // A response whose undo hangs keeps those of no other.
        let turn = self.turn_of_undo(&pending.response, &settings);
        let turn = turn.acquire().await;
        let id = pending.id;
        // Whoever came again meanwhile stays blocked.
        if self.insist(move |broker| broker.start_undo(id)).await == Some(true) {
            self.undo_now(pending, &settings).await;
        }
        drop(turn);
        let under_way = self.under_way.get();
        self.under_way.set(under_way.saturating_sub(1));
        self.ended.notify_waiters();
    }

    /// Whatever becomes of its guest, nothing of the block is held after that; where the
    /// firewall does not answer the next sweep goes on.
    async fn undo_now(&self, pending: Pending, settings: &Arc<Settings>) {
        if pending.message.is_some() {
            legacy::undo(self, &pending, settings).await;
        } else {
            let program = program(settings, &pending.executable, pending.dialect);
            self.log(&report::undone(&pending, &program, &report::now()));
            let outcome = self.call_back(&pending, settings).await;
            self.came(&outcome);
            self.log(&[line(&Outcome::of(&outcome))]);
        }
        let undone = pending.clone();
        self.insist(move |broker| broker.undone(&undone)).await;
        self.tally.undone(self.lateness(&pending));
    }

    /// Has the broker do something until the journal takes it. None when the broker has
    /// stopped.
    async fn insist<T: Send + 'static>(
        &self,
        chore: impl Fn(&mut Broker) -> Result<T, Refusal> + Clone + Send + 'static,
    ) -> Option<T> {
        loop {
            match self.desk.ask(chore.clone()).await? {
                Ok(done) => return Some(done),
                Err(refusal) => self.trouble(&refusal),
            }
            tokio::time::sleep(TROUBLE).await;
        }
    }

    /// The journal does not answer: it is asked again and again, and that is said now and
    /// then.
    fn trouble(&self, refusal: &Refusal) {
        let why = format!("what is due has to wait: {}", refusal.reason);
        let said = self.troubles.borrow_mut().hear(&why);
        if let Some(said) = said {
            self.say(&said);
        }
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
            Some(Err(refusal)) => self.trouble(&refusal),
            None => {}
        }
    }

    /// Undoes everything, due or not: `on_stop = "release"`. Waits at most `patience`;
    /// what is left then is undone by the next start.
    pub async fn release_all(self: &Rc<Self>, patience: Duration) {
        let work = async {
            self.insist(|broker| broker.all_due()).await?;
            loop {
                let ended = self.ended.notified();
                let begun = match self.begin_undos().await? {
                    Ok(begun) => begun.len(),
                    Err(refusal) => {
                        self.trouble(&refusal);
                        tokio::time::sleep(TROUBLE).await;
                        continue;
                    }
                };
                if begun == 0 && self.under_way.get() == 0 {
                    return Some(());
                }
                if begun == 0 {
                    ended.await;
                }
            }
        };
        if tokio::time::timeout(patience, work).await.is_err() {
            self.say("not everything could be released in time; the next start goes on");
        }
    }
}
