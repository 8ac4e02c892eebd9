//! The broker: the one place that changes the world. It holds the grants itself,
//! believes nobody, writes down what it is about to do, does it, and reads back
//! what the kernel made of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::context::Context;
use super::desk::{Reply, Run, Word};
use super::enter::Entrance;
use super::job::Job;
use super::protect::ProtectList;
use super::sessions::Records;
pub use super::world::World;
use super::{Answer, Done, Effect, Record, Refusal, check};
use crate::backend::nftables::Nftables;
use crate::backend::{self, Backend};
use crate::conf::grants::{BackendName, Mode, Response};
use crate::event::Action;
use crate::journal::{self, Debt, Hold, Journal, Latch, Lock, Now, Owed, Slot, Taken};

/// See the module.
#[derive(Debug)]
pub struct Broker {
    pub(super) world: World,
    journal: Option<Journal>,
    latch: Latch,
    owed: Option<Owed>,
    backends: BTreeMap<BackendName, Backend>,
    pub(super) protect: Option<(Instant, Arc<ProtectList>)>,
    /// Protected names that were never looked up.
    pub(super) unresolved: Vec<String>,
    /// Where it is written down who is logged in.
    pub(super) records: Records,
    /// Why that can't be told.
    pub(super) unknown_sessions: Option<String>,
    runs: BTreeMap<u64, Open>,
    /// The lock is taken for all that is done just now.
    pub(super) together: bool,
    /// How far what is due was taken.
    pub(super) taken: Taken,
}

/// A run that has begun.
#[derive(Debug)]
struct Open {
    context: Arc<Context>,
    records: Vec<Record>,
    /// The release that is written down, until it is done.
    debt: Option<(Slot, Debt)>,
}

/// What a word comes to at once.
#[derive(Debug)]
pub enum Heard {
    /// The answer.
    Reply(Reply),
    /// A helper that has to run first: wherever it blocks nobody else.
    Helper(Job),
}

impl Broker {
    /// A broker for that installation. Nothing is opened yet.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self {
            latch: Latch::new(world.root.lock()),
            world,
            journal: None,
            owed: None,
            backends: BTreeMap::new(),
            protect: None,
            unresolved: Vec::new(),
            records: Records::default(),
            unknown_sessions: None,
            runs: BTreeMap::new(),
            together: false,
            taken: Taken::default(),
        }
    }

    /// The installation was configured anew: what comes from now on is judged by that.
    pub fn settle(&mut self, world: World) {
        self.world = world;
        self.protect = None;
    }

    /// Does what it is told, as far as that is granted.
    pub fn hear(&mut self, word: Word) -> Reply {
        match self.listen(word) {
            Heard::Reply(reply) => reply,
            Heard::Helper(job) => self.ran(job.run()),
        }
    }

    /// As [`Broker::hear`], but leaves helpers to whoever asks: [`Broker::ran`] has to
    /// be told of their end.
    pub fn listen(&mut self, word: Word) -> Heard {
        Heard::Reply(match word {
            Word::Begin { id, run } => {
                self.begin(id, *run);
                Reply::Records(Vec::new())
            }
            Word::Perform { id, effect } => return self.perform(id, effect),
            Word::Enter { id, key } => Reply::Entered(self.enter_run(id, key)),
            Word::Legacy { id, argv } => Reply::Written(self.legacy(id, &argv)),
            Word::Release { id } => Reply::Records(self.release_run(id)),
            Word::Renew { id } => Reply::Records(self.of_run(id, Self::renew_all)),
            Word::Finish { id, verdict, used } => Reply::Records(self.finish(id, &verdict, used)),
        })
    }

    fn begin(&mut self, id: u64, run: Run) {
        let grants = self.world.grants.response(&run.response);
        let mode = grants.mode.unwrap_or(self.world.grants.mode);
        let deadline = Instant::now();
        let debt = if run.event.action == Action::Delete && !run.dry_run {
            self.owe(&run)
        } else {
            None
        };
        let observes = run.dry_run || mode == Mode::Observe;
        let deadline = deadline.checked_add(run.left).unwrap_or(deadline);
        let context = Context::new(run, grants, observes, deadline);
        self.runs.insert(
            id,
            Open {
                context: Arc::new(context),
                records: Vec::new(),
                debt,
            },
        );
    }

    /// Writes the release down that a delete asks for. Where even that can't be done,
    /// the release itself is still tried.
    fn owe(&mut self, run: &Run) -> Option<(Slot, Debt)> {
        let now = self.now().ok()?;
        let srcip = run.event.srcip;
        let debt = Debt::new(&now, &run.response, &run.key, &run.origin, srcip)?;
        let slot = self.owed().ok()?.note(&debt).ok()?;
        Some((slot, debt))
    }

    /// The run's row in the journal, written when the first effect needs it.
    pub(super) fn journaled(&mut self, context: &Context, now: &Now) -> Result<i64, Refusal> {
        if let Some(row) = context.journaled.get() {
            return Ok(row);
        }
        let row = self
            .journal()?
            .begin(now, &context.invocation())
            .map_err(trouble)?;
        context.journaled.set(row);
        Ok(row)
    }

    fn perform(&mut self, id: u64, effect: Effect) -> Heard {
        let Some(context) = self.context(id) else {
            return Heard::Reply(Reply::Answer(Err(Refusal::unavailable("this run is over"))));
        };
        let answer = match &effect {
            Effect::Block { network } => self.block(&context, *network),
            Effect::Unblock { network } => self.unblock(&context, *network),
            Effect::IsBlocked { network } => self.is_blocked(&context, *network),
            Effect::Release => Err(Refusal::denied("a guest releases what it names")),
            Effect::Run { helper } => match self.helper(id, &context, helper) {
                Ok(Some(job)) => return Heard::Helper(job),
                Ok(None) => Ok(Done::Observed),
                Err(refusal) => Err(refusal),
            },
        };
        Heard::Reply(self.record(id, effect, answer))
    }

    /// Notes what came of an effect, for the end of its run.
    pub(super) fn record(&mut self, id: u64, effect: Effect, answer: Answer) -> Reply {
        if let Some(open) = self.runs.get_mut(&id) {
            open.records.push(Record {
                effect,
                answer: answer.clone(),
            });
        }
        Reply::Answer(answer)
    }

    pub(super) fn context(&self, id: u64) -> Option<Arc<Context>> {
        self.runs.get(&id).map(|open| Arc::clone(&open.context))
    }

    fn enter_run(&mut self, id: u64, key: Option<String>) -> Result<Entrance, Refusal> {
        let context = self
            .context(id)
            .ok_or_else(|| Refusal::unavailable("this run is over"))?;
        let entrance = self.enter(&context, key);
        self.entered(id, entrance.as_ref());
        entrance
    }

    /// Notes what was renewed, for the end of its run.
    pub(super) fn entered(&mut self, id: u64, entrance: Result<&Entrance, &Refusal>) {
        if let (Ok(Entrance::Stands { records, .. }), Some(open)) =
            (entrance, self.runs.get_mut(&id))
        {
            open.records.extend(records.iter().cloned());
        }
    }

    fn of_run(&mut self, id: u64, work: fn(&mut Self, &Context) -> Vec<Record>) -> Vec<Record> {
        let Some(context) = self.runs.get(&id).map(|open| Arc::clone(&open.context)) else {
            return Vec::new();
        };
        let records = work(self, &context);
        if let Some(open) = self.runs.get_mut(&id) {
            open.records.extend(records.iter().cloned());
        }
        records
    }

    /// Every hold of the run's block goes; then nothing is owed any more.
    fn release_run(&mut self, id: u64) -> Vec<Record> {
        let records = self.of_run(id, Self::release_all);
        let debt = self.runs.get_mut(&id).and_then(|open| open.debt.take());
        let done = records.iter().all(|record| record.answer.is_ok());
        if let Some((slot, debt)) = debt {
            if done {
                self.strike(slot, &debt);
            } else {
                self.leave(slot, &debt);
            }
        }
        records
    }

    /// Leaves a release to the next sweep. Where that can't be noted it is done when this
    /// process is gone.
    fn leave(&mut self, slot: Slot, debt: &Debt) {
        let left = self.owed().and_then(|owed| owed.leave(slot, debt));
        drop(left);
    }

    /// Strikes a release out that is done. Where that fails it is done again, and
    /// finds nothing.
    pub fn strike(&mut self, slot: Slot, debt: &Debt) {
        let struck = self.owed().and_then(|owed| owed.strike(slot, debt));
        drop(struck);
    }

    fn finish(&mut self, id: u64, verdict: &str, used: serde_json::Value) -> Vec<Record> {
        let Some(open) = self.runs.remove(&id) else {
            return Vec::new();
        };
        if let Some((slot, debt)) = &open.debt {
            self.leave(*slot, debt);
        }
        let told = serde_json::json!({ "used": used, "records": open.records });
        let finished = self.lock(open.context.patience()).and_then(|_lock| {
            let now = self.now()?;
            let run = self.journaled(&open.context, &now)?;
            self.journal()?
                .finish(&now, run, verdict, &told)
                .map_err(trouble)
        });
        // The effects are journaled one by one; this is the closing remark.
        drop(finished);
        open.records
    }

    fn is_blocked(&mut self, context: &Context, asked: IpNet) -> Answer {
        let network = check::look(
            asked,
            context.grants.firewall.as_ref(),
            context.run.event.srcip,
        )?;
        let name = self.backend_of(&context.grants);
        let blocked = self.has(network, name)?;
        Ok(Done::IsBlocked { blocked })
    }

    /// The journal, opened when it is first needed, and again where it is of use no more.
    ///
    /// # Errors
    /// `unavailable`, with the reason and what mends it.
    pub fn journal(&mut self) -> Result<&mut Journal, Refusal> {
        if self.journal.as_ref().is_none_or(Journal::is_stale) {
            self.journal = None;
            self.journal = Some(
                Journal::open(&self.world.root.journal(), self.world.budget).map_err(trouble)?,
            );
        }
        self.journal
            .as_mut()
            .ok_or_else(|| Refusal::unavailable("the journal is closed"))
    }

    /// All open holds, oldest first.
    ///
    /// # Errors
    /// As [`Broker::journal`].
    pub fn open_holds(&mut self) -> Result<Vec<Hold>, Refusal> {
        self.journal()?.open_holds().map_err(trouble)
    }

    /// The open holds that `keep` takes, oldest first.
    ///
    /// # Errors
    /// As [`Broker::journal`].
    pub fn open_holds_that(
        &mut self,
        keep: impl FnMut(&Hold) -> bool,
    ) -> Result<Vec<Hold>, Refusal> {
        self.journal()?.open_holds_that(keep).map_err(trouble)
    }

    /// The releases that are written down.
    ///
    /// # Errors
    /// The system's.
    pub fn owed(&mut self) -> std::io::Result<&mut Owed> {
        if self.owed.is_none() {
            self.owed = Some(Owed::open(&self.world.root.owed())?);
        }
        self.owed
            .as_mut()
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    /// The lock that makes journal and kernel change together: whoever writes one of
    /// them has it.
    pub(super) fn lock(&mut self, patience: Duration) -> Result<Lock, Refusal> {
        if self.together {
            return Ok(Lock::taken());
        }
        self.latch.take(patience).map_err(trouble)
    }

    pub(super) fn backend_of(&self, grants: &Response) -> BackendName {
        grants
            .firewall
            .as_ref()
            .and_then(|firewall| firewall.backend)
            .unwrap_or(self.world.grants.firewall.backend)
    }

    /// What the clocks say.
    ///
    /// # Errors
    /// `unavailable` where the kernel has none.
    pub fn now(&self) -> Result<Now, Refusal> {
        let now = self.world.clock.now();
        now.map_err(|e| Refusal::unavailable(format!("can't read the clock: {e}")))
    }

    /// The backend of that name, opened when it is first needed.
    ///
    /// # Errors
    /// `unavailable`, with the reason.
    pub fn backend(&mut self, name: BackendName) -> Result<&mut Backend, Refusal> {
        if !self.backends.contains_key(&name) {
            let backend = match name {
                BackendName::Record => Backend::Record,
                BackendName::Nftables => Backend::Nftables(
                    Nftables::open(self.world.root.path(), self.world.budget).map_err(kernel)?,
                ),
            };
            self.backends.insert(name, backend);
        }
        self.backends
            .get_mut(&name)
            .ok_or_else(|| Refusal::unavailable("no such backend"))
    }
}

/// A journal error as a refusal.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(super) fn trouble(error: journal::Error) -> Refusal {
    Refusal::unavailable(error.to_string())
}

/// A backend error as a refusal.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(super) fn kernel(error: backend::Error) -> Refusal {
    Refusal::failed(error.to_string())
}
