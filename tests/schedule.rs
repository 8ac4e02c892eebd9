//! A day of orders under a clock that is set by hand: each block stands until its second
//! comes and no longer, whatever the wall clock does and whenever the machine restarts.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use retort::daemon::Daemon;
use retort::effect::broker::Broker;
use retort::execd::Execd;
use retort::journal::{Clock, Journal, Now};
use retort::premises::Premises;
use retort::root::Root as Installation;
use retort::sweep;
use support::root::{RETORT, Root};
use tokio::task::LocalSet;

const DAY: u64 = 24 * 3600;

/// The timeouts of `ar.conf`, in seconds.
const TIMEOUTS: [u64; 4] = [20, 600, 3600, 3 * 3600];

/// What whoever comes again gets, in minutes.
const LADDER: [u64; 3] = [10, 60, 240];

/// An offender is forgotten after that, in seconds.
const DECAY: u64 = 2 * 3600;

/// What happens, so many seconds after what happened before.
#[derive(Debug, Clone)]
struct Event {
    after: u64,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// Somebody is to be blocked.
    Order { attacker: u8, timeout: usize },
    /// Somebody sets the wall clock.
    Step(i64),
    /// The machine is down for so long; then its wall clock is right, or says 1970.
    Reboot { down: u64, right: bool },
}

/// What ought to be, in a few lines.
#[derive(Debug, Default)]
struct Model {
    boot: u64,
    wall: u64,
    blocks: BTreeMap<u8, Block>,
    offenders: BTreeMap<u8, (usize, u64)>,
    undone: BTreeMap<u8, usize>,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    began_boot: i64,
    began_wall: u64,
    lasts: u64,
}

impl Block {
    fn due(&self) -> i64 {
        self.began_boot + self.lasts as i64
    }
}

impl Model {
    fn order(&mut self, attacker: u8, timeout: u64) {
        let known = self.offenders.get(&attacker);
        let step = known
            .filter(|(_, last)| self.wall.saturating_sub(*last) < DECAY)
            .map_or(0, |(step, _)| step + 1);
        self.offenders.insert(attacker, (step, self.wall));
        self.forget();
        let asked = match step {
            0 => timeout,
            step => LADDER[(step - 1).min(LADDER.len() - 1)] * 60,
        };
        let stands = self.blocks.get(&attacker).filter(|_| step == 0);
        let block = Block {
            began_boot: self.boot as i64,
            began_wall: self.wall,
            // OSSEC lets what stands keep its time, unless the ladder says more.
            lasts: stands.map_or(asked, |block| block.lasts),
        };
        self.blocks.insert(attacker, block);
    }

    /// Those who were quiet for long enough, the longest first, at most four at a time.
    fn forget(&mut self) {
        let quiet = |(_, last): &(usize, u64)| last + DECAY <= self.wall;
        let quiet = self
            .offenders
            .iter()
            .filter(|(_, offender)| quiet(offender));
        let mut quiet: Vec<(u64, String, u8)> = quiet
            .map(|(attacker, (_, last))| (*last, address(*attacker), *attacker))
            .collect();
        quiet.sort();
        for (.., attacker) in quiet.iter().take(4) {
            self.offenders.remove(attacker);
        }
    }

    fn undo(&mut self) {
        let boot = self.boot as i64;
        for attacker in self.blocks.keys().copied().collect::<Vec<_>>() {
            if self.blocks[&attacker].due() <= boot {
                self.blocks.remove(&attacker);
                *self.undone.entry(attacker).or_default() += 1;
            }
        }
    }

    fn reboot(&mut self, down: u64, right: bool) {
        self.wall = if right { self.wall + down } else { 100 };
        self.boot = 7;
        for block in self.blocks.values_mut() {
            let passed = self.wall.saturating_sub(block.began_wall).min(block.lasts);
            block.began_boot = self.boot as i64 - passed as i64;
        }
    }

    /// When the next block is over, within `until`.
    fn next(&self, until: u64) -> Option<u64> {
        let due = self.blocks.values().map(Block::due).min()?;
        u64::try_from(due).ok().filter(|due| *due <= until)
    }

    /// What is left of each, in seconds.
    fn left(&self) -> BTreeMap<String, u64> {
        let left = |block: &Block| u64::try_from(block.due() - self.boot as i64).unwrap_or(0);
        let blocks = self.blocks.iter();
        blocks
            .map(|(attacker, block)| (address(*attacker), left(block)))
            .collect()
    }
}

fn address(attacker: u8) -> String {
    format!("203.0.113.{}", attacker + 1)
}

/// An installation with its daemon.
struct Host {
    root: Root,
    clock: Arc<Mutex<Now>>,
    boots: usize,
    execd: Execd,
    daemon: Rc<Daemon>,
    /// What `retort sweep` would be, run now and then beside the daemon.
    sweeper: Broker,
}

impl Host {
    fn new(model: &Model) -> Self {
        let root = Root::firewall_drop("ossec");
        let mut ar = String::new();
        for timeout in TIMEOUTS {
            ar += &format!("drop{timeout} - firewall-drop.sh - {timeout}\n");
        }
        root.ar_conf(&ar);
        let ladder = LADDER.map(|minutes| minutes.to_string()).join(",");
        root.ossec_conf(&format!(
            "<active-response><repeated_offenders>{ladder}</repeated_offenders></active-response>"
        ));
        let grants = std::fs::read_to_string(root.path().join("retort/retort.toml")).unwrap();
        root.grant(&format!(
            "{grants}\n[repeated_offenders]\ndecay = \"{DECAY} s\"\n"
        ));
        let clock = Arc::new(Mutex::new(Now {
            boot_id: "boot 0".to_owned(),
            boot: Duration::from_secs(model.boot),
            wall: Duration::from_secs(model.wall),
        }));
        let daemon = daemon(&root, &clock);
        let premises = Premises::read(&Installation::new(root.path().to_owned()), None).unwrap();
        let mut world = premises.world(Path::new(RETORT), Duration::from_secs(20));
        world.clock = Clock::ByHand(Arc::clone(&clock));
        Self {
            root,
            clock,
            boots: 0,
            execd: Execd::new(Rc::clone(&daemon), false),
            daemon,
            sweeper: Broker::new(world),
        }
    }

    fn set(&self, model: &Model) {
        let mut now = self.clock.lock().unwrap();
        now.boot_id = format!("boot {}", self.boots);
        now.boot = Duration::from_secs(model.boot);
        now.wall = Duration::from_secs(model.wall);
    }

    async fn order(&self, attacker: u8, timeout: u64) {
        let address = address(attacker);
        let order = format!(
            "drop{timeout} - {address} 1795489577.1 5712 (web01) 10.0.0.5->/var/log/auth.log -\0"
        );
        self.execd.hear(order.as_bytes()).await;
        assert!(self.daemon.rest(Duration::from_secs(20)).await);
    }

    /// Undoes what is due by now, and nothing else.
    async fn undo(&mut self) {
        loop {
            let begun = self.daemon.begin_undos().await.unwrap().unwrap();
            if begun.is_empty() {
                break;
            }
            for undo in begun {
                undo.await.unwrap();
            }
        }
        let swept = sweep::sweep(&mut self.sweeper, sweep::AT_ONCE).unwrap();
        assert!(
            swept.is_empty(),
            "what a daemon undoes is not the sweep's: {swept:?}"
        );
    }

    /// Nothing of the daemon before is left but its journal.
    async fn reboot(&mut self, model: &Model) {
        self.boots += 1;
        self.set(model);
        self.daemon = daemon(&self.root, &self.clock);
        self.execd = Execd::new(Rc::clone(&self.daemon), false);
        self.daemon.take_over().await.unwrap();
    }

    /// What journal and pending undos say is left, in seconds.
    fn left(&self) -> [BTreeMap<String, u64>; 2] {
        let now = self.clock.lock().unwrap().clone();
        let path = self.root.path().join("retort/journal.db");
        let journal = match Journal::open_read_only(&path, Duration::from_secs(5)) {
            Ok(journal) => journal,
            Err(retort::journal::Error::Missing { .. }) => return Default::default(),
            Err(why) => panic!("{why}"),
        };
        let holds = journal.open_holds().unwrap().into_iter();
        let holds = holds.map(|hold| (hold.network.addr().to_string(), hold.left(&now)));
        let pending = journal.all_pending().unwrap().into_iter();
        let pending = pending.map(|p| (p.event.srcip.unwrap().to_string(), p.left(&now)));
        let seconds =
            |(address, left): (String, Duration)| (address, left.as_secs_f64().round() as u64);
        [holds.map(seconds).collect(), pending.map(seconds).collect()]
    }

    fn agrees(&self, model: &Model, when: &str) {
        let left = model.left();
        let found = self.left();
        assert_eq!(
            found,
            [left.clone(), left],
            "{when}: {model:?}\n{}",
            self.root.log()
        );
    }
}

fn daemon(root: &Root, clock: &Arc<Mutex<Now>>) -> Rc<Daemon> {
    let installation = Installation::new(root.path().to_owned());
    let clock = Clock::ByHand(Arc::clone(clock));
    Daemon::new(&installation, Path::new(RETORT), clock).unwrap()
}

/// Runs a schedule, and then until nothing is blocked any more. Each deadline is looked
/// at a second before it comes, and when it comes.
async fn run(schedule: &[Event]) {
    let mut model = Model {
        boot: 1000,
        wall: 1_795_489_577,
        ..Model::default()
    };
    let mut host = Host::new(&model);
    for Event { after, what } in schedule {
        let until = model.boot + after;
        pass(&mut host, &mut model, until).await;
        match *what {
            What::Order { attacker, timeout } => {
                model.order(attacker, TIMEOUTS[timeout]);
                host.order(attacker, TIMEOUTS[timeout]).await;
            }
            What::Step(seconds) => {
                model.wall = model.wall.saturating_add_signed(seconds);
                host.set(&model);
            }
            What::Reboot { down, right } => {
                model.reboot(down, right);
                host.reboot(&model).await;
                model.undo();
                host.undo().await;
            }
        }
        host.agrees(&model, &format!("{what:?}"));
    }
    while let Some(due) = model.next(u64::MAX) {
        pass(&mut host, &mut model, due).await;
    }
    assert!(model.blocks.is_empty());
    host.agrees(&model, "at the end");
    let mut undone = BTreeMap::new();
    for line in host.root.outcomes() {
        if let Some((_, rest)) = line.split_once("firewall-drop delete: ok; unblock ") {
            let (address, count) = rest.split_once("/32: done ").unwrap();
            assert!(count.starts_with("(1)"), "{line}");
            *undone.entry(address.to_owned()).or_default() += 1;
        }
    }
    assert!(undone.len() > 20, "{undone:?}");
    let expected = model
        .undone
        .iter()
        .map(|(attacker, times)| (address(*attacker), *times));
    assert_eq!(
        undone,
        expected.collect::<BTreeMap<String, usize>>(),
        "none twice, none missing"
    );
}

async fn pass(host: &mut Host, model: &mut Model, until: u64) {
    while let Some(due) = model.next(until) {
        for at in [due - 1, due] {
            if at > model.boot || at == due {
                model.wall += at - model.boot;
                model.boot = at;
                host.set(model);
                model.undo();
                host.undo().await;
                host.agrees(model, "as time passes");
            }
        }
    }
    model.wall += until - model.boot;
    model.boot = until;
    host.set(model);
    host.undo().await;
}

fn now<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, work)
}

fn order() -> impl Strategy<Value = What> {
    (0..30_u8, 0..TIMEOUTS.len()).prop_map(|(attacker, timeout)| What::Order { attacker, timeout })
}

/// So many orders, and now and then something else.
fn schedule(orders: usize) -> impl Strategy<Value = Vec<Event>> {
    let what = prop_oneof![
        20 => order(),
        2 => (-5 * 3600..5 * 3600_i64).prop_map(What::Step),
        1 => (0..2 * 3600_u64, any::<bool>()).prop_map(|(down, right)| What::Reboot { down, right }),
    ];
    let event = (0..2 * DAY / orders as u64, what).prop_map(|(after, what)| Event { after, what });
    prop::collection::vec(event, orders)
}

#[test]
fn a_day_with_a_restart_in_the_middle_undoes_each_block_at_its_second() {
    for right in [true, false] {
        let mut fixed = TestRunner::deterministic();
        let mut schedule = schedule(300).new_tree(&mut fixed).unwrap().current();
        let what = What::Reboot { down: 900, right };
        schedule.insert(150, Event { after: 60, what });
        now(run(&schedule));
    }
}

#[test]
fn a_day_with_clock_steps_and_reboots_undoes_each_block_at_its_second() {
    let config = Config {
        cases: 4,
        failure_persistence: None,
        max_shrink_iters: 40,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&schedule(250), |schedule| {
            now(run(&schedule));
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_the_daemon_before_had_begun_to_undo_is_undone_however_much_it_is() {
    now(async {
        let mut model = Model {
            boot: 1000,
            wall: 1_795_489_577,
            ..Model::default()
        };
        let mut host = Host::new(&model);
        for attacker in 0..200 {
            host.order(attacker, 600).await;
        }
        let journal = rusqlite::Connection::open(host.root.path().join("retort/journal.db"));
        let begun = "UPDATE pending SET state = 'undoing' WHERE id > 50";
        journal.unwrap().execute_batch(begun).unwrap();
        model.boot += 1;
        host.set(&model);
        // The same boot; another daemon.
        host.daemon = daemon(&host.root, &host.clock);
        host.daemon.take_over().await.unwrap();
        host.undo().await;
        let [holds, pending] = host.left();
        assert_eq!((holds.len(), pending.len()), (50, 50));
        assert!(holds.values().all(|left| *left == 599), "{holds:?}");
    });
}
