//! The daemon's side of its control socket: root's alone, one question a line.

use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ipnet::IpNet;
use nix::sys::stat::{Mode, fchmod, umask};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::Daemon;
use super::settings::Place;
use crate::control::{self, Ask, Call, Told};
use crate::decide::Declined;
use crate::effect::Refusal;
use crate::message::{self, Request};
use crate::report::Outcome;
use crate::respond::{self, Consent, NotRun};
use crate::status::{Serving, Status};
use crate::sweep;

/// Conversations at one time: an execd that stops starts a link for every block that it
/// has.
const AT_ONCE: usize = 256;

/// How long somebody may take for a line.
const PATIENCE: Duration = Duration::from_secs(10);

impl Daemon {
    /// Opens the control socket.
    ///
    /// # Errors
    /// The system's.
    pub fn open_control(&self) -> anyhow::Result<UnixListener> {
        use nix::sys::socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
        };
        let path = self.root.control();
        // We are the only daemon: what is there was left by one that is gone.
        let _ = std::fs::remove_file(&path);
        let open = || -> nix::Result<std::os::unix::net::UnixListener> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
            fchmod(socket.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)?;
            let masked = umask(Mode::from_bits_truncate(0o077));
            let bound = bind(
                std::os::fd::AsRawFd::as_raw_fd(&socket),
                &UnixAddr::new(&path)?,
            );
            umask(masked);
            bound?;
            listen(&socket, Backlog::new(i32::from(u8::MAX))?)?;
            Ok(socket.into())
        };
        let listener = open().with_context(|| path.display().to_string())?;
        Ok(UnixListener::from_std(listener)?)
    }

    /// Removes its name: from now on everybody helps himself.
    pub fn close_control(&self) {
        let _ = std::fs::remove_file(self.root.control());
    }

    /// Answers whoever asks, for as long as the daemon lives.
    pub async fn answer(self: Rc<Self>, listener: UnixListener) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let daemon = Rc::clone(&self);
                    tokio::task::spawn_local(async move {
                        // Whoever hangs up is heard no more.
                        let _ = daemon.converse(stream).await;
                        drop(place);
                    });
                }
                // No descriptor is left, or something as passing.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn converse(self: &Rc<Self>, stream: UnixStream) -> std::io::Result<()> {
        if stream.peer_cred()?.uid() != 0 {
            return Ok(());
        }
        let mut talk = Talk {
            stream: BufReader::new(stream),
        };
        while let Some(ask) = talk.hear().await? {
            let told = match ask {
                Ok(Ask::Call(call)) => self.call(&call, &mut talk).await,
                Ok(ask) => self.told(ask).await,
                Err(why) => Told::Refused(why),
            };
            talk.say(&told).await?;
        }
        Ok(())
    }

    async fn told(self: &Rc<Self>, ask: Ask) -> Told {
        // What is protected by now is protected from whoever asks, too.
        self.settings().await;
        match ask {
            Ask::Status => Told::Status(Box::new(self.status().await)),
            Ask::Unblock { network } => {
                self.records(move |broker| broker.unblock_by_hand(network))
                    .await
            }
            Ask::Block { network, seconds } => {
                let told = self.block_by_hand(network, seconds).await;
                self.pending.notify_one();
                told
            }
            Ask::Sweep => {
                self.records(|broker| {
                    let swept = sweep::sweep(broker, sweep::AT_ONCE)?;
                    let mut records: Vec<_> = swept.into_iter().map(|one| one.record).collect();
                    records.extend(sweep::lift_protected(broker)?);
                    Ok(records)
                })
                .await
            }
            Ask::Call(_) | Ask::Consent { .. } => {
                Told::Refused("nobody was asked for consent".to_owned())
            }
        }
    }

    async fn block_by_hand(&self, network: IpNet, seconds: Option<u64>) -> Told {
        let lasts = seconds.map(Duration::from_secs);
        self.records(move |broker| {
            let answer = broker.block_by_hand(network, lasts);
            let effect = crate::effect::Effect::Block { network };
            Ok(vec![crate::effect::Record { effect, answer }])
        })
        .await
    }

    async fn records(
        &self,
        work: impl FnOnce(
            &mut crate::effect::broker::Broker,
        ) -> Result<Vec<crate::effect::Record>, Refusal>
        + Send
        + 'static,
    ) -> Told {
        match self.desk.ask(work).await {
            Some(Ok(records)) => Told::Records(records),
            Some(Err(refusal)) => Told::Refused(refusal.reason),
            None => Told::Refused("the daemon is about to end".to_owned()),
        }
    }

    /// How it is doing.
    pub async fn status(&self) -> Status {
        let journal = self
            .desk
            .ask(|broker| {
                let now = broker.now()?;
                let journal = broker.journal()?;
                let tallied = journal.tallied(&now);
                let tallied = tallied.map_err(|e| Refusal::unavailable(e.to_string()))?;
                Ok((tallied, journal.commits()))
            })
            .await;
        let journal: Option<Result<_, Refusal>> = journal;
        let (tallied, commits) = journal.and_then(Result::ok).unwrap_or_default();
        let lanes = self.lanes.borrow();
        Status {
            daemon: Some(Serving {
                pid: std::process::id(),
                seconds: self.since.elapsed().as_secs(),
                waiting: u64::try_from(lanes.waiting()).unwrap_or(u64::MAX),
                running: lanes.running().into(),
                counts: self.tally.counts(),
                commits,
                alerts: self.alerts.borrow().clone(),
            }),
            journal: tallied,
        }
    }

    /// Answers a link's call as the link itself would: it speaks with its execd.
    async fn call(self: &Rc<Self>, call: &Call, talk: &mut Talk) -> Told {
        let started = Instant::now();
        let request = match request(call) {
            Ok(request) => request,
            Err(why) => {
                return Told::NotRun {
                    why: why.to_string(),
                    rightly: false,
                };
            }
        };
        let settings = self.settings().await;
        let executable = &call.executable;
        let loaded = match settings.place(executable) {
            Place::Component(path) => self
                .vessels
                .get(executable, &path, &settings, &self.engine)
                .await
                .map_err(NotRun::Load),
            Place::Legacy(_) | Place::NotAllowed(_) | Place::Missing => {
                let error = settings.registry.find(executable).err();
                Err(error.map_or(NotRun::Disabled, NotRun::Load))
            }
        };
        let mut context = self.context(&settings, started);
        context.owner.clone_from(&call.owner);
        let _berth = self.berths.acquire().await;
        let consent = async |keys: &[String]| talk.ask(keys).await;
        let outcome = respond::respond(&context, executable, &request, loaded, consent).await;
        match outcome {
            Ok(outcome) => {
                self.came(&outcome);
                Told::Outcome(Box::new(outcome))
            }
            Err(why) => Told::NotRun {
                // A duplicate of our own log is no failure; it was rightly not done.
                rightly: matches!(why, NotRun::Declined(Declined { field: None, .. })),
                why: Outcome::not_run(executable, "", &why).verdict,
            },
        }
    }
}

/// The message of a call, byte for byte what the link was told.
fn request(call: &Call) -> Result<Request, message::Malformed> {
    let words: Vec<_> = call
        .words
        .iter()
        .map(|word| message::execd::bytes(word))
        .collect();
    if call.line {
        let line = words.first().cloned().unwrap_or_default();
        return message::from_line(std::os::unix::ffi::OsStrExt::as_bytes(line.as_os_str()));
    }
    let program = [std::ffi::OsString::from(&call.executable)];
    let argv: Vec<_> = program.into_iter().chain(words).collect();
    message::ossec::from_argv(&argv)
}

/// One conversation.
struct Talk {
    stream: BufReader<UnixStream>,
}

impl Talk {
    /// The next question; none when there is none any more.
    async fn hear(&mut self) -> std::io::Result<Option<Result<Ask, String>>> {
        let mut line = Vec::new();
        let read = async {
            (&mut self.stream)
                .take(control::LONGEST)
                .read_until(b'\n', &mut line)
                .await
        };
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(0)) | Err(_) => Ok(None),
            Ok(Ok(_)) => Ok(Some(
                serde_json::from_slice(&line).map_err(|e| e.to_string()),
            )),
            Ok(Err(e)) => Err(e),
        }
    }

    async fn say(&mut self, told: &Told) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(told)?;
        line.push(b'\n');
        let write = self.stream.write_all(&line);
        tokio::time::timeout(PATIENCE, write).await?
    }

    /// Asks the execd, through the link, about the keys of the block.
    async fn ask(&mut self, keys: &[String]) -> Result<Consent, String> {
        self.say(&Told::Keys(keys.to_vec()))
            .await
            .map_err(|e| e.to_string())?;
        match self.hear().await.map_err(|e| e.to_string())? {
            Some(Ok(Ask::Consent { goes_on: true })) => Ok(Consent::Continue),
            Some(Ok(Ask::Consent { goes_on: false })) => Ok(Consent::Abort),
            Some(Ok(_)) => Err("it asked something else".to_owned()),
            Some(Err(why)) => Err(why),
            None => Err("it hung up".to_owned()),
        }
    }
}
