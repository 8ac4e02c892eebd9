//! `retort execd`: serves the queue of ossec-execd or wazuh-execd in its place, for an
//! analysisd or agentd that does not notice.

mod pidfile;
mod socket;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use nix::unistd::{Gid, Group};
use tokio::net::UnixDatagram;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::conf::grants::OnStop;
use crate::daemon::{Alone, Daemon, LAST_ORDERS, LAST_RELEASES, Place, Quiet, Settings};
use crate::event::Dialect;
use crate::journal::Clock;
use crate::message::execd::{self as message, Wanted};
use crate::order::Order;
use crate::root::Root;
use pidfile::PidFile;
use socket::Queue;

/// Orders that are read from the queue before anything else gets its turn.
const AT_ONCE: usize = 64;

/// How often the queue's name is looked after.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Queues that are listened at: the present one, and those whose name was taken.
const MOST_QUEUES: usize = 8;

/// How the daemon was called.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// It stays in the foreground.
    pub foreground: bool,
    /// The group that may write to the queue; none for that of its folder.
    pub group: Option<String>,
    /// Says more.
    pub debug: bool,
}

/// Serves the queue until it is told to stop.
///
/// # Errors
/// What keeps it from serving, with what mends it.
pub fn serve(root: &Root, retort: &Path, options: &Options) -> anyhow::Result<()> {
    let settings = Settings::read(root, retort)?;
    let grants = &settings.premises.grants;
    let (dialect, own_queue) = (grants.dialect, grants.execd.own_queue);
    if settings.premises.conf.disabled {
        eprintln!("retort: (1350): Active response disabled. Exiting.");
        return Ok(());
    }
    let group = options.group.as_deref().map(gid).transpose()?;
    let handed = socket::handed();
    crate::vessel::clear_environment();
    if !options.foreground {
        nix::unistd::daemon(false, false).context("go into the background")?;
    }
    let _alone = Alone::take(root, "execd")?;
    let queue = match handed {
        Some(socket) => Queue::handed(socket),
        None => Queue::bind(socket::path(root, dialect), group, own_queue)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let daemon = Daemon::new(root, retort, Clock::System)?;
        let pid_file = own_queue.then(|| PidFile::write(root, dialect));
        if queue.taken {
            daemon.say(&format!(
                "the queue was taken from {0}: stop it, so that it ends its own blocks; until they are started again analysisd and agentd speak to it and not to us",
                pidfile::name(dialect)
            ));
        }
        if let Some(Err(why)) = &pid_file {
            daemon.say(&format!("no pid file for the original's control program: {why}"));
        }
        Rc::new(Execd::new(Rc::clone(&daemon), options.debug))
            .work(queue)
            .await
    })
}

/// What restarts the daemons: the shipped component serves both of the original's names.
fn restart(settings: &Settings) -> String {
    let names = ["restart-wazuh", "restart-ossec"];
    let there = names
        .iter()
        .find(|name| settings.place(name) != Place::Missing);
    there.unwrap_or(&"restart-wazuh").to_string()
}

fn gid(name: &str) -> anyhow::Result<Gid> {
    let group = Group::from_name(name)?;
    Ok(group
        .with_context(|| format!("there is no group `{name}`; name one that is in /etc/group"))?
        .gid)
}

/// A daemon at its queue.
#[derive(Debug)]
pub struct Execd {
    daemon: Rc<Daemon>,
    malformed: RefCell<Quiet>,
    debug: bool,
}

impl Execd {
    /// At the queue of that daemon.
    #[must_use]
    pub fn new(daemon: Rc<Daemon>, debug: bool) -> Self {
        Self {
            daemon,
            malformed: RefCell::default(),
            debug,
        }
    }

    /// Takes orders until a signal comes; then ends what has begun.
    async fn work(self: Rc<Self>, queue: Queue) -> anyhow::Result<()> {
        let mut stop = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::quit())?,
            signal(SignalKind::alarm())?,
        ];
        // The original ignores it; here the configuration is read with the next order.
        let mut hangup = signal(SignalKind::hangup())?;
        let keeping = self.daemon.keep();
        self.daemon
            .say(&format!("Started (pid: {}).", std::process::id()));
        let [terminate, interrupt, quit, alarm] = &mut stop;
        let stopped = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = quit.recv() => {}
                _ = alarm.recv() => {}
            }
        };
        tokio::select! {
            failed = Rc::clone(&self).stand(queue) => failed?,
            () = stopped => {}
            () = async { while hangup.recv().await.is_some() {} } => {}
        }
        self.daemon.say("(1314): Shutdown received.");
        if !self.daemon.rest(LAST_ORDERS).await {
            self.daemon
                .say("some orders did not end in time; what they did is in the journal");
        }
        let settings = self.daemon.settings().await;
        if settings.premises.grants.on_stop == OnStop::Release {
            self.daemon.release_all(LAST_RELEASES).await;
        }
        keeping.end();
        Ok(())
    }

    /// Listens at the queue, and looks after its name: whoever takes it, or removes it,
    /// would take all orders from us without a word.
    async fn stand(self: Rc<Self>, mut queue: Queue) -> anyhow::Result<()> {
        let mut listening = JoinSet::new();
        listening.spawn_local(Rc::clone(&self).listen(queue.socket()?));
        let mut quiet = Quiet::default();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                Some(ended) = listening.join_next() => ended??,
                _ = look.tick() => match queue.lost() {
                    None => {}
                    // Who is connected already goes on speaking to the old one.
                    Some(why) if listening.len() < MOST_QUEUES => match queue.bind_again() {
                        Ok(()) => {
                            self.daemon.say(&format!("{why}; it is bound again"));
                            listening.spawn_local(Rc::clone(&self).listen(queue.socket()?));
                        }
                        Err(e) => self.complain(&mut quiet, &format!("{why}, and no order reaches us: {e:#}")),
                    },
                    Some(why) => self.complain(&mut quiet, &format!("{why} again and again, and no order reaches us")),
                },
            }
        }
    }

    fn complain(&self, quiet: &mut Quiet, what: &str) {
        self.daemon.lost_queue();
        if let Some(said) = quiet.hear(what) {
            self.daemon.say(&said);
        }
    }

    async fn listen(self: Rc<Self>, socket: UnixDatagram) -> anyhow::Result<()> {
        let mut datagram = vec![0; message::LONGEST];
        loop {
            socket.readable().await.context("wait for the queue")?;
            for _ in 0..AT_ONCE {
                match socket.try_recv(&mut datagram) {
                    Ok(length) => {
                        self.hear(datagram.get(..length).unwrap_or_default()).await;
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e).context("read the queue"),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// One datagram.
    pub async fn hear(&self, datagram: &[u8]) {
        self.daemon.received();
        match self.order(datagram).await {
            Ok(order) => {
                if self.debug {
                    self.daemon.say(&format!("order for {}", order.executable));
                }
                self.daemon.take(order);
            }
            Err(why) => {
                self.daemon.malformed();
                let said = self.malformed.borrow_mut().hear(&why);
                if let Some(said) = said {
                    self.daemon.say(&said);
                }
            }
        }
    }

    async fn order(&self, datagram: &[u8]) -> Result<Order, String> {
        let settings = self.daemon.settings().await;
        let configured = settings.premises.grants.dialect;
        let called = message::read(datagram, configured).map_err(|why| why.to_string())?;
        let dialect = called.dialect;
        let (executable, seconds) = match called.name {
            Wanted::Named(name) => {
                let found = settings.named(&name);
                let (executable, timeout) = found
                    .ok_or_else(|| format!("(1311): Invalid command name '{name}' provided."))?;
                (executable.to_owned(), timeout)
            }
            Wanted::Custom(file) => (file, 0),
            Wanted::Restart => (restart(&settings), 0),
        };
        let program = match dialect {
            Dialect::Ossec => settings.premises.root.bin().join(&executable),
            Dialect::Wazuh4 | Dialect::Wazuh5 => {
                PathBuf::from("active-response/bin").join(&executable)
            }
        };
        let request = called
            .body
            .request(&program.to_string_lossy(), dialect)
            .map_err(|why| format!("{executable}: {why}"))?;
        let seconds = request.timeout.unwrap_or(seconds);
        Ok(Order {
            executable,
            timeout: (seconds > 0).then(|| Duration::from_secs(seconds.into())),
            request,
            expect: None,
            raw: Some(called.body),
            once: None,
            ticket: 0,
        })
    }
}
