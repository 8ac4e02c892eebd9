//! What every daemon of Retort is made of: orders come in, responses run side by side,
//! what is due is undone, and the configuration is read again when it changes.
//!
//! One thread runs the guests: each yields every few microseconds, so that none keeps
//! the others waiting. The broker has a thread of its own, and so has every helper.

mod alone;
mod control;
mod drift;
mod lanes;
mod legacy;
mod metrics;
mod quiet;
mod run;
mod settings;
mod tally;
mod tell;
mod timers;
mod vessels;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use wasmtime::Engine;

pub use alone::Alone;
pub use quiet::Quiet;
pub use settings::{Place, Settings};

use crate::effect::Record;
use crate::effect::broker::Broker;
use crate::effect::desk::Desk;
use crate::event::{Action, Dialect};
use crate::journal::Clock;
use crate::order::Order;
use crate::report::{self, Outcome};
use crate::respond::NotRun;
use crate::root::Root;
use crate::vessel::engine::{self, Allocation};
use lanes::{Lanes, Tickets, Turn};
use settings::Stamp;
use tally::Tally;
use vessels::Vessels;

/// How long orders that have begun, or wait, may take when the daemon stops.
pub const LAST_ORDERS: Duration = Duration::from_secs(10);

/// How long everything may take to be released when the daemon stops: service managers
/// wait 90 s.
pub const LAST_RELEASES: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Daemon {
    root: Root,
    retort: PathBuf,
    hostname: String,
    engine: Engine,
    desk: Desk,
    settings: RefCell<Arc<Settings>>,
    /// A configuration that could not be read: it is said once.
    rejected: RefCell<Option<Stamp>>,
    vessels: Vessels,
    lanes: RefCell<Lanes>,
    tickets: RefCell<Tickets>,
    tally: Tally,
    /// Guests that run at one time, of all responses.
    berths: Semaphore,
    /// Undos that run at one time, of each response.
    undos: RefCell<HashMap<String, Rc<Semaphore>>>,
    /// What is protected may be another.
    around: Notify,
    /// Undos that are under way, or wait for their turn.
    under_way: Cell<usize>,
    /// What is said where the journal does not answer.
    troubles: RefCell<Quiet>,
    /// Something new is pending.
    pending: Notify,
    /// A run has ended.
    ended: Notify,
    clock: Clock,
    since: Instant,
    /// What a way in counts for itself.
    alerts: RefCell<BTreeMap<String, u64>>,
}

impl Daemon {
    /// A daemon for that installation. Nothing is served yet.
    ///
    /// # Errors
    /// When the configuration, the engine or the broker's thread can't be had.
    pub fn new(root: &Root, retort: &Path, clock: Clock) -> anyhow::Result<Rc<Self>> {
        let settings = Settings::read(root, retort)?;
        let engine = engine::engine(Allocation::Pooled).map_err(anyhow::Error::from)?;
        engine::start_clock(&engine);
        let mut world = settings
            .premises
            .world(retort, settings.premises.grants.limits.wall);
        world.clock = clock.clone();
        let hostname = nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        Ok(Rc::new(Self {
            root: root.clone(),
            retort: retort.to_owned(),
            hostname,
            engine,
            desk: Desk::open(Broker::new(world)).context("start the broker")?,
            settings: RefCell::new(Arc::new(settings)),
            rejected: RefCell::new(None),
            vessels: Vessels::default(),
            lanes: RefCell::default(),
            tickets: RefCell::default(),
            tally: Tally::default(),
            berths: Semaphore::new(engine::POOLED),
            undos: RefCell::default(),
            around: Notify::new(),
            under_way: Cell::default(),
            troubles: RefCell::default(),
            pending: Notify::new(),
            ended: Notify::new(),
            clock,
            since: Instant::now(),
            alerts: RefCell::default(),
        }))
    }

    /// The configuration as it is now. One that can't be read is said, and the last good
    /// one holds: whoever breaks a file must not stop the responses with it.
    pub async fn settings(&self) -> Arc<Settings> {
        let stamp = Stamp::of(&self.root);
        let settings = Arc::clone(&self.settings.borrow());
        if settings.are(&stamp) || self.rejected.borrow().as_ref() == Some(&stamp) {
            return settings;
        }
        let fresh = Settings::read(&self.root, &self.retort);
        let fresh = fresh.and_then(|fresh| match fresh.lost(&settings) {
            Some(path) => anyhow::bail!(
                "{}: it is empty, or gone; write it again, or restart the daemon without it",
                path.display()
            ),
            None => Ok(fresh),
        });
        match fresh {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                let wall = fresh.premises.grants.limits.wall;
                let mut world = fresh.premises.world(&self.retort, wall);
                world.clock = self.clock.clone();
                self.desk.ask(move |broker| broker.settle(world)).await;
                self.settings.replace(Arc::clone(&fresh));
                self.vessels.clear();
                self.rejected.replace(None);
                self.around.notify_one();
                self.say("the configuration was changed, and is read");
                fresh
            }
            Err(why) => {
                self.tally.count(|counts| &mut counts.misconfigured);
                self.say(&format!("the configuration was changed and can't be read; the one before it holds: {why:#}"));
                self.rejected.replace(Some(stamp));
                settings
            }
        }
    }

    /// Begins everything that a daemon does besides taking orders.
    pub fn keep(self: &Rc<Self>) -> Keeping {
        let mut tasks = JoinSet::new();
        match self.open_control() {
            Ok(listener) => drop(tasks.spawn_local(Rc::clone(self).answer(listener))),
            Err(why) => self.say(&format!(
                "nobody can ask this daemon anything, and links help themselves: {why:#}"
            )),
        }
        tasks.spawn_local(Rc::clone(self).keep_time());
        tasks.spawn_local(Rc::clone(self).keep_firewall());
        tasks.spawn_local(Rc::clone(self).keep_protected());
        tasks.spawn_local(Rc::clone(self).keep_metrics());
        Keeping {
            daemon: Rc::clone(self),
            tasks,
        }
    }

    /// Takes an order: it runs when it is its turn. One that finds its response's queue
    /// full is refused, and that is said.
    pub fn take(self: &Rc<Self>, mut order: Order) -> u64 {
        let ticket = self.tickets.borrow_mut().give();
        order.ticket = ticket;
        let execd = self.settings.borrow().premises.grants.execd.clone();
        let executable = order.executable.clone();
        let turn = self
            .lanes
            .borrow_mut()
            .arrive(order, execd.at_once, execd.waiting);
        match turn {
            Turn::Now(order) => {
                let daemon = Rc::clone(self);
                tokio::task::spawn_local(daemon.run_lane(*order));
            }
            Turn::Waits => {}
            Turn::Full => {
                self.tickets.borrow_mut().over(ticket);
                self.tally.count(|counts| &mut counts.refused);
                self.tell(&Outcome::failed(
                    &executable,
                    "add",
                    &format!(
                        "refused: {} of its orders wait already; write waiting = {} under [execd] in retort.toml to let more wait",
                        execd.waiting,
                        execd.waiting.saturating_mul(2)
                    ),
                ));
            }
        }
        ticket
    }

    /// Whether every order up to that ticket is over.
    #[must_use]
    pub fn is_over(&self, ticket: u64) -> bool {
        self.tickets.borrow().are_over(ticket)
    }

    /// Says what a way in has counted.
    pub fn counted(&self, alerts: BTreeMap<String, u64>) {
        self.alerts.replace(alerts);
    }

    /// How many orders wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lanes.borrow().waiting()
    }

    /// The broker, for whoever keeps something of his own in the journal.
    pub async fn ask<T: Send + 'static>(
        &self,
        chore: impl FnOnce(&mut Broker) -> T + Send + 'static,
    ) -> Option<T> {
        self.desk.ask(chore).await
    }

    /// Runs orders of one response, one after another, until none waits.
    async fn run_lane(self: Rc<Self>, order: Order) {
        let executable = order.executable.clone();
        let mut next = Some(order);
        while let Some(order) = next {
            self.obey(&order).await;
            self.tickets.borrow_mut().over(order.ticket);
            next = self.lanes.borrow_mut().next(&executable);
        }
        self.ended.notify_waiters();
    }

    /// Waits until nothing runs and nothing waits, but not longer than `patience`;
    /// whether that is so.
    pub async fn rest(&self, patience: Duration) -> bool {
        let rest = async {
            loop {
                let ended = self.ended.notified();
                let busy = {
                    let lanes = self.lanes.borrow();
                    lanes.running() > 0 || lanes.waiting() > 0
                };
                if !busy {
                    return;
                }
                ended.await;
            }
        };
        tokio::time::timeout(patience, rest).await.is_ok()
    }

    /// Does one order, and says what came of it.
    async fn obey(self: &Rc<Self>, order: &Order) {
        let settings = self.settings().await;
        if self.was_done(order).await {
            self.tally.count(|counts| &mut counts.repeated);
            return;
        }
        let place = settings.place(&order.executable);
        if settings.premises.conf.disabled {
            self.not_run(order, &NotRun::Disabled);
            return;
        }
        match place {
            Place::Component(path) => self.run(order, &settings, &path).await,
            Place::Legacy(path) => legacy::obey(self, order, &settings, &path).await,
            Place::NotAllowed(path) => self.no_response(
                order,
                &format!(
                    "{} has no component beside it, and is not run outside the vessel; put a component there, or write allow = [\"{}\"] under [legacy] in retort.toml",
                    path.display(),
                    order.executable
                ),
            ),
            Place::Missing => self.no_response(
                order,
                &format!(
                    "there is neither a component nor a program for it in {}; run `retort install`",
                    settings.premises.root.bin().display()
                ),
            ),
        }
        self.pending.notify_one();
    }

    /// Whether the order was done by a daemon that was started before this one.
    async fn was_done(&self, order: &Order) -> bool {
        let Some(once) = order.once.clone() else {
            return false;
        };
        let known = self
            .desk
            .ask(move |broker| Ok(broker.journal()?.knows_origin(&once)))
            .await;
        let known: Option<Result<_, crate::effect::Refusal>> = known;
        matches!(known, Some(Ok(Ok(true))))
    }
}

/// What a daemon does besides taking orders.
#[derive(Debug)]
pub struct Keeping {
    daemon: Rc<Daemon>,
    tasks: JoinSet<()>,
}

impl Keeping {
    /// Ends it: whoever asks from now on helps himself.
    pub fn end(mut self) {
        self.tasks.abort_all();
        self.daemon.close_control();
    }
}

fn line(outcome: &Outcome) -> String {
    report::outcome_line(outcome, &report::now())
}

/// The program as the original's log line has it: OSSEC starts it by its whole path,
/// Wazuh from its own folder.
fn program(settings: &Settings, executable: &str, dialect: Dialect) -> String {
    if dialect == Dialect::Ossec {
        let program = settings.premises.root.bin().join(executable);
        program.to_string_lossy().into_owned()
    } else {
        format!("active-response/bin/{executable}")
    }
}

/// What a release without a guest did, for the log.
fn swept(response: &str, why: &str, record: &Record) -> Outcome {
    Outcome {
        response: response.to_owned(),
        action: Action::Delete.to_string(),
        verdict: format!("swept, because of {why}"),
        effects: vec![report::effect(record)],
        ..Outcome::default()
    }
}
