//! `retort watch`: a daemon that decides by itself, from the alerts as they are written.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Counts, Follower, Heard, Line, Pipe, Watcher};
use crate::conf::grants::OnStop;
use crate::daemon::{Alone, Daemon, LAST_ORDERS, LAST_RELEASES, Settings};
use crate::journal::{Clock, Position};
use crate::root::Root;

/// Lines that are read ahead.
const AHEAD: usize = 1024;

/// Orders that wait while more alerts are read: the file keeps the rest.
const WAITING: usize = 4096;

/// How long the reader waits before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often the position is kept, and the counts are said.
const KEEP_EVERY: Duration = Duration::from_millis(200);

/// Where alerts come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The file of the grants, or the original's.
    Usual,
    /// This file.
    File(PathBuf),
    /// What is written to our input, until its end.
    Stdin,
}

/// Follows the alerts until it is told to stop, or until stdin ends.
///
/// # Errors
/// What keeps it from serving, with what mends it.
pub fn serve(root: &Root, retort: &Path, source: Source) -> anyhow::Result<()> {
    let settings = Settings::read(root, retort)?;
    crate::vessel::clear_environment();
    let _alone = Alone::take(root, "watch")?;
    let file = match source {
        Source::Usual => {
            let named = settings.premises.grants.watch.file.clone();
            Some(named.unwrap_or_else(|| root.alerts()))
        }
        Source::File(path) => Some(path.canonicalize().unwrap_or(path)),
        Source::Stdin => None,
    };
    drop(settings);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    let done = local.block_on(&runtime, async {
        let daemon = Daemon::new(root, retort, Clock::System)?;
        Watch::new(daemon, file).await?.work().await
    });
    // A reader that waits for a pipe which never ends must not keep us.
    runtime.shutdown_background();
    done
}

/// A daemon at its alerts.
struct Watch {
    daemon: Rc<Daemon>,
    settings: Arc<Settings>,
    watcher: Watcher,
    /// The file, where there is one.
    file: Option<PathBuf>,
    /// What is to be kept once the orders up to a ticket are over.
    behind: VecDeque<(u64, Position)>,
    last: u64,
}

impl Watch {
    async fn new(daemon: Rc<Daemon>, file: Option<PathBuf>) -> anyhow::Result<Self> {
        let settings = daemon.settings().await;
        let watcher = Watcher::read(&settings.premises);
        for finding in watcher.findings() {
            daemon.say(&finding.to_string());
        }
        Ok(Self {
            daemon,
            settings,
            watcher,
            file,
            behind: VecDeque::new(),
            last: 0,
        })
    }

    async fn work(mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let keeping = self.daemon.keep();
        let mut heard = self.read().await?;
        let from = self
            .file
            .as_ref()
            .map_or("stdin".to_owned(), |f| f.display().to_string());
        let daemon = Rc::clone(&self.daemon);
        daemon.say(&format!(
            "Started (pid: {}), following {from}.",
            std::process::id()
        ));
        let mut tick = tokio::time::interval(KEEP_EVERY);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = tick.tick() => self.keep().await,
                // Who reads faster than the responses run fills nothing but memory.
                one = heard.recv(), if daemon.waiting() < WAITING => match one {
                    Some(one) => if self.hear(one).await { break },
                    None => break,
                },
            }
        }
        daemon.say("Shutdown received.");
        drop(heard);
        if !daemon.rest(LAST_ORDERS).await {
            daemon.say("some orders did not end in time; the next start does them");
        }
        self.keep().await;
        let settings = daemon.settings().await;
        if settings.premises.grants.on_stop == OnStop::Release {
            daemon.release_all(LAST_RELEASES).await;
        }
        keeping.end();
        Ok(())
    }

    /// Begins to read, on a thread of its own: files and pipes block.
    async fn read(&self) -> anyhow::Result<mpsc::Receiver<Heard>> {
        let (to, heard) = mpsc::channel(AHEAD);
        match &self.file {
            None => {
                let mut pipe = Pipe::new(std::io::stdin());
                reader(move || pipe.next(PATIENCE), to)?;
            }
            Some(file) => {
                let name = file.clone();
                let kept = self
                    .daemon
                    .ask(move |broker| Ok(broker.journal()?.position(&name)))
                    .await;
                let kept: Option<Result<_, crate::effect::Refusal>> = kept;
                let kept = match kept {
                    Some(Ok(Ok(kept))) => kept,
                    Some(Ok(Err(e))) => anyhow::bail!("where the alerts were read up to: {e}"),
                    Some(Err(refusal)) => anyhow::bail!(refusal.reason),
                    None => anyhow::bail!("the broker has stopped"),
                };
                if kept.is_none() {
                    self.daemon.say(&format!(
                        "{}: it is followed for the first time: what stands in it is not answered",
                        file.display()
                    ));
                }
                let mut follower = Follower::open(file, kept.as_ref());
                if kept.is_none() {
                    keep(&self.daemon, file.clone(), follower.position()).await;
                }
                reader(move || follower.next(PATIENCE), to)?;
            }
        }
        Ok(heard)
    }

    /// Whether it was the last.
    async fn hear(&mut self, heard: Heard) -> bool {
        match heard {
            Heard::Line(line) => self.line(&line).await,
            Heard::Overlong { bytes, behind } => {
                if let Some(said) = self.watcher.skip(bytes, Instant::now()) {
                    self.daemon.say(&said);
                }
                self.behind.extend(behind.map(|behind| (self.last, behind)));
            }
            Heard::Note(note) => self.daemon.say(&note),
            Heard::Quiet => {}
            Heard::End => return true,
        }
        false
    }

    async fn line(&mut self, line: &Line) {
        let settings = self.daemon.settings().await;
        if !Arc::ptr_eq(&settings, &self.settings) {
            let counts = self.watcher.counts();
            self.watcher = Watcher::read(&settings.premises).counting_from(counts);
            self.settings = settings;
        }
        self.daemon.received();
        let before = self.watcher.counts().malformed;
        let answer = self.watcher.hear(line, Instant::now());
        if self.watcher.counts().malformed > before {
            self.daemon.malformed();
        }
        for said in &answer.said {
            self.daemon.note(said);
        }
        for order in answer.orders {
            self.last = self.daemon.take(order);
        }
        let place = line.place.as_ref();
        self.behind
            .extend(place.map(|place| (self.last, place.behind.clone())));
    }

    /// Keeps the position behind the last alert whose orders, and all before them, are
    /// over.
    async fn keep(&mut self) {
        self.daemon.counted(named(self.watcher.counts()));
        let mut reached = None;
        while let Some((ticket, _)) = self.behind.front() {
            if !self.daemon.is_over(*ticket) {
                break;
            }
            reached = self.behind.pop_front().map(|(_, position)| position);
        }
        if let (Some(position), Some(file)) = (reached, &self.file) {
            keep(&self.daemon, file.clone(), position).await;
        }
    }
}

async fn keep(daemon: &Daemon, file: PathBuf, position: Position) {
    let kept = daemon
        .ask(move |broker| broker.keep_position(&file, &position))
        .await;
    if let Some(Err(refusal)) = kept {
        daemon.say(&format!(
            "the position in the alerts is not kept: {}",
            refusal.reason
        ));
    }
}

fn reader(
    mut next: impl FnMut() -> Heard + Send + 'static,
    to: mpsc::Sender<Heard>,
) -> anyhow::Result<()> {
    std::thread::Builder::new()
        .name("alerts".into())
        .spawn(move || {
            while !to.is_closed() {
                let heard = next();
                let ended = matches!(heard, Heard::End);
                if to.blocking_send(heard).is_err() || ended {
                    return;
                }
            }
        })
        .context("start a reader")?;
    Ok(())
}

fn named(counts: Counts) -> BTreeMap<String, u64> {
    [
        ("alerts", counts.alerts),
        ("malformed", counts.malformed),
        ("overlong", counts.overlong),
        ("orders", counts.orders),
        ("undeliverable", counts.undeliverable),
        ("declined", counts.declined),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .into()
}
