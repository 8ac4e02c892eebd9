//! Programs of the original that have no component: run outside the vessel, where the
//! grants name them. They are what Retort is there to replace: root, with an attacker's
//! text. Only a wall limit holds them, and every line says so.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::settings::{Place, Settings};
use super::{Daemon, program};
use crate::conf::trust;
use crate::decide;
use crate::effect::Refusal;
use crate::effect::desk::{Run, Session};
use crate::effect::enter::Entrance;
use crate::event::{Action, Dialect, Event};
use crate::journal::{Pending, Term};
use crate::message::execd::{self, Body};
use crate::message::json::{self, Json};
use crate::message::{Echo, Request};
use crate::order::Order;
use crate::report::Outcome;

/// Where such a program finds its tools; the original hands on whatever its own
/// environment was.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What execd reads of a program's first line.
const LONGEST_LINE: u64 = 8192;

/// What every line about such a run says.
const UNSEALED: &str = "UNSEALED";

/// One such run.
struct Unsealed<'a> {
    daemon: &'a Daemon,
    executable: &'a str,
    path: &'a Path,
    root: &'a Path,
    dialect: Dialect,
    program: String,
    wall: Duration,
}

/// Runs the order's program.
pub(super) async fn obey(daemon: &Rc<Daemon>, order: &Order, settings: &Settings, path: &Path) {
    let request = &order.request;
    let run = Unsealed::of(daemon, settings, &order.executable, path, request.dialect);
    let body = order.raw.clone().unwrap_or_else(|| match &request.echo {
        Echo::Arguments(words) => Body::Fields(words.iter().skip(1).map(OsString::from).collect()),
        Echo::Message(json) => Body::Message(json.clone()),
    });
    let term = daemon.term(order, settings);
    let session = run.begin(request, term, &body);
    let came = run.add(&session, &body).await;
    run.end(&session, request.action, came).await;
}

/// Runs the program with `delete`, on the message that it began with.
pub(super) async fn undo(daemon: &Daemon, pending: &Pending, settings: &Settings) {
    let executable = &pending.executable;
    let path = match settings.place(executable) {
        Place::Legacy(path) => path,
        Place::Component(_) | Place::NotAllowed(_) | Place::Missing => {
            daemon.tell(&Outcome::failed(
                executable,
                "delete",
                &format!("{UNSEALED}: it was run outside the vessel, and may be no more: what it did stays; write allow = [\"{executable}\"] under [legacy] in retort.toml and run it by hand"),
            ));
            return;
        }
    };
    let run = Unsealed::of(daemon, settings, executable, &path, pending.dialect);
    let kept = pending.message.as_deref().unwrap_or_default();
    let body = match execd::kept(kept) {
        Ok(body) => body,
        Err(why) => {
            daemon.say(&format!(
                "{executable}: its message can't be read again: {why}"
            ));
            return;
        }
    };
    let event = Event {
        action: Action::Delete,
        ..pending.event.clone()
    };
    let session = daemon
        .desk
        .begin(run.run(event, &pending.key, &pending.origin, None, None));
    let came = run.delete(&session, &body).await;
    run.end(&session, Action::Delete, came).await;
}

impl<'a> Unsealed<'a> {
    fn of(
        daemon: &'a Daemon,
        settings: &'a Settings,
        executable: &'a str,
        path: &'a Path,
        dialect: Dialect,
    ) -> Self {
        Self {
            daemon,
            executable,
            path,
            root: settings.premises.root.path(),
            dialect,
            program: program(settings, executable, dialect),
            wall: settings.premises.grants.legacy.wall,
        }
    }

    fn begin(&self, request: &Request, term: Term, body: &Body) -> Session {
        let origin = request.origin(self.executable);
        let key = match body {
            Body::Fields(fields) => key(self.executable, fields.iter().take(2).map(lossy)),
            // Its own first line names the block; until then it is the message's.
            Body::Message(_) => key(self.executable, [origin.clone()]),
        };
        let event = decide::unmasked(request);
        let run = self.run(event, &key, &origin, Some(term), Some(execd::keep(body)));
        self.daemon.desk.begin(run)
    }

    fn run(
        &self,
        event: Event,
        key: &str,
        origin: &str,
        term: Option<Term>,
        message: Option<String>,
    ) -> Run {
        Run {
            response: self.executable.to_owned(),
            digest: String::new(),
            executable: self.executable.to_owned(),
            dialect: self.dialect,
            key: key.to_owned(),
            origin: origin.to_owned(),
            event,
            owner: None,
            dry_run: false,
            left: self.wall,
            term,
            message,
        }
    }

    async fn add(&self, session: &Session, body: &Body) -> Result<String, Refusal> {
        match body {
            Body::Fields(fields) => {
                if let Some(stands) = self.enter(session, None).await? {
                    return Ok(stands);
                }
                let argv = execd::argv(&self.program, "add", fields);
                self.arguments(session, &argv).await
            }
            Body::Message(json) => {
                let add = self.message(json, Action::Add);
                self.conversation(session, &add).await
            }
        }
    }

    async fn delete(&self, session: &Session, body: &Body) -> Result<String, Refusal> {
        match body {
            Body::Fields(fields) => {
                let argv = execd::argv(&self.program, "delete", fields);
                self.arguments(session, &argv).await
            }
            Body::Message(json) => {
                let line = text(&self.message(json, Action::Delete));
                let row = self.written(session, &[line.trim_end().to_owned()]).await?;
                let started = Instant::now();
                let mut child = self.spawn(&[], Stdio::piped(), Stdio::null())?;
                if let Some(mut stdin) = child.stdin.take() {
                    let telling = stdin.write_all(line.as_bytes());
                    let _ = tokio::time::timeout(self.wall, telling).await;
                    // execd keeps the pipe open until the program has ended.
                    return self.wait(row, child, Some(stdin), started).await;
                }
                self.wait(row, child, None, started).await
            }
        }
    }

    fn message(&self, json: &Json, action: Action) -> Json {
        match (self.dialect, action) {
            (Dialect::Wazuh5, Action::Add) => execd::commanded(json, "enable"),
            (Dialect::Wazuh5, Action::Delete) => execd::commanded(json, "disable"),
            (_, action) => execd::forwarded(json, &self.program, &action.to_string()),
        }
    }

    /// OSSEC's way: arguments, and nobody listens.
    async fn arguments(&self, session: &Session, argv: &[OsString]) -> Result<String, Refusal> {
        let words: Vec<String> = argv.iter().map(lossy).collect();
        let row = self.written(session, &words).await?;
        let started = Instant::now();
        let rest = argv.get(1..).unwrap_or_default();
        let child = self.spawn(rest, Stdio::null(), Stdio::null())?;
        self.wait(row, child, None, started).await
    }

    /// Wazuh's way: a line in, its keys out, an answer in.
    async fn conversation(&self, session: &Session, add: &Json) -> Result<String, Refusal> {
        let line = text(add);
        let row = self.written(session, &[line.trim_end().to_owned()]).await?;
        let started = Instant::now();
        let mut child = self.spawn(&[], Stdio::piped(), Stdio::piped())?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return self.wait(row, child, None, started).await;
        };
        let mut said = Vec::new();
        let mut stdout = BufReader::new(stdout.take(LONGEST_LINE));
        // Not one after the other: a program that does not read must not stop us, and
        // one that speaks first may.
        let talk = async {
            let (_, heard) = tokio::join!(
                stdin.write_all(line.as_bytes()),
                stdout.read_until(b'\n', &mut said)
            );
            heard
        };
        let heard = tokio::time::timeout(self.wall, talk).await;
        let mut stood = None;
        if matches!(heard, Ok(Ok(length)) if length > 0) {
            // Whoever says nothing is never undone, as with the original.
            let key = asked(self.executable, &said);
            stood = self.enter(session, key).await?;
            let answer = if stood.is_some() { "abort" } else { "continue" };
            let answer = text(&execd::commanded(add, answer));
            let left = self.wall.saturating_sub(started.elapsed());
            let telling = stdin.write_all(answer.as_bytes());
            let _ = tokio::time::timeout(left, telling).await;
        }
        drop(stdin);
        let ended = self.wait(row, child, None, started).await?;
        Ok(stood.unwrap_or(ended))
    }

    /// Calls for the block; says so where it stands already.
    async fn enter(
        &self,
        session: &Session,
        key: Option<String>,
    ) -> Result<Option<String>, Refusal> {
        loop {
            match session.enter(key.clone()).await? {
                Entrance::Run { .. } => return Ok(None),
                Entrance::Stands { .. } => return Ok(Some("stands already".to_owned())),
                Entrance::Undoing => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// What is about to be done is in the journal, or it is not done.
    async fn written(&self, session: &Session, argv: &[String]) -> Result<i64, Refusal> {
        session.legacy(argv.to_vec()).await
    }

    fn spawn(&self, words: &[OsString], stdin: Stdio, stdout: Stdio) -> Result<Child, Refusal> {
        trust::check(self.path).map_err(|why| Refusal::denied(why.to_string()))?;
        let folder = match self.dialect {
            Dialect::Ossec => Path::new("/"),
            Dialect::Wazuh4 | Dialect::Wazuh5 => self.root,
        };
        Command::new(self.path)
            .arg0(&self.program)
            .args(words)
            .env_clear()
            .env("PATH", PATH)
            .current_dir(folder)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| {
                Refusal::failed(format!(
                    "(1312): Error executing '{}': {e}",
                    self.path.display()
                ))
            })
    }

    /// Waits for its end, and ends it with all that it started when its time is over.
    async fn wait(
        &self,
        row: i64,
        mut child: Child,
        stdin: Option<ChildStdin>,
        started: Instant,
    ) -> Result<String, Refusal> {
        let left = self.wall.saturating_sub(started.elapsed());
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let outcome = match tokio::time::timeout(left, child.wait()).await {
            Ok(Ok(status)) => Ok(status.to_string()),
            Ok(Err(e)) => Err(Refusal::failed(e.to_string())),
            Err(_) => {
                if let Some(group) = group {
                    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                }
                let _ = child.wait().await;
                let wall = humantime::format_duration(self.wall);
                Err(Refusal::failed(format!(
                    "it ran longer than {wall} and was ended"
                )))
            }
        };
        drop(stdin);
        let note = match &outcome {
            Ok(status) => status.clone(),
            Err(refusal) => refusal.reason.clone(),
        };
        self.daemon
            .desk
            .ask(move |broker| broker.legacy_ended(row, &note))
            .await;
        outcome
    }

    async fn end(&self, session: &Session, action: Action, came: Result<String, Refusal>) {
        let (name, words) = match &came {
            Ok(words) => ("ok", words.clone()),
            Err(refusal) => ("failed", format!("{}: {}", refusal.kind, refusal.reason)),
        };
        session.finish(name, serde_json::Value::Null).await;
        self.daemon.tally.run(self.executable, "unsealed");
        let outcome = Outcome::failed(
            self.executable,
            &action.to_string(),
            &format!("{UNSEALED}: {words}"),
        );
        self.daemon.tell(&outcome);
    }
}

/// A block's name: the executable, and what tells its blocks apart.
fn key(executable: &str, values: impl IntoIterator<Item = String>) -> String {
    let values: Vec<String> = values.into_iter().collect();
    serde_json::json!({ "executable": executable, "keys": values }).to_string()
}

/// The block that a program's first line asks about; none for a line that asks nothing.
fn asked(executable: &str, line: &[u8]) -> Option<String> {
    let json = json::parse(line).ok()?;
    let keys = json.at("parameters.keys").ok()??.strings();
    (!keys.is_empty()).then(|| key(executable, keys))
}

fn text(json: &Json) -> String {
    let mut line = serde_json::to_string(json).unwrap_or_default();
    line.push('\n');
    line
}

fn lossy(word: &OsString) -> String {
    word.to_string_lossy().into_owned()
}
