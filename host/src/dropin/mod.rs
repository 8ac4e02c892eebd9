//! The drop-in: a link in `active-response/bin` that an unmodified execd starts as
//! root, with an attacker's text in its arguments or on its stdin.
//!
//! It answers within the wall limit whatever guest, execd, lock, disk or kernel do,
//! and its exit status says whether what was asked for was done.

mod handover;
mod place;
pub mod seal;
mod stdin;
mod watchdog;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use cap_std::fs::Dir;
use wasmtime::Engine;

use crate::decide::Declined;
use crate::effect::broker::Broker;
use crate::effect::desk::Desk;
use crate::event::Action;
use crate::journal::Owner;
use crate::limits::Limits;
use crate::message::{self, Echo, Lines, Request};
use crate::premises::{self, Premises};
use crate::registry::Registry;
use crate::report::{self, Log, Outcome};
use crate::respond::{self, Consent, NotRun};
use crate::sweep;
use crate::vessel::engine::{self, Allocation};
use handover::Came;
use place::Place;
use stdin::Stdin;
use watchdog::Watchdog;

/// Whether the program was started under a response's name.
#[must_use]
pub fn is_called(argv: &[OsString]) -> bool {
    let name = argv
        .first()
        .and_then(|program| std::path::Path::new(program).file_name());
    name.is_some_and(|name| name != "retort")
}

/// Answers one call.
#[must_use]
pub fn main(argv: &[OsString]) -> ExitCode {
    let started = Instant::now();
    seal::seal();
    let failure = if argv.len() > 1 { 1 } else { 255 };
    let place = match Place::of(argv) {
        Ok(place) => place,
        Err(why) => {
            eprintln!("retort: {why:#}");
            return ExitCode::from(failure);
        }
    };
    say_when_we_panic(&place, failure);
    let watchdog = Watchdog::start(started, failure, &place);
    let call = Call {
        argv,
        place: &place,
        watchdog: &watchdog,
        started,
    };
    let mut lines = Lines::new(Stdin::under(&watchdog));
    let done = match call.listen(&mut lines) {
        Ok((request, line)) => call
            .answer(&request, line.as_deref(), lines)
            .unwrap_or_else(|why| {
                call.fail(&request.action.to_string(), &why);
                false
            }),
        Err(why) => {
            call.fail("", &why);
            false
        }
    };
    if done {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(failure)
    }
}

/// No code of ours panics; should another's, it is said, and it ends as a failure.
fn say_when_we_panic(place: &Place, failure: u8) {
    let place = place.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let verdict = format!("failed: retort itself panicked: {panic}");
        let outcome = Outcome::failed(&place.executable, "", &verdict);
        if let Ok(mut log) = open_log(&place) {
            let _ = log.append(&line(&outcome));
        }
        std::process::exit(i32::from(failure));
    }));
}

/// What a run needs, when everything is as it should be.
struct Ready {
    premises: Premises,
    registry: Registry,
    engine: Engine,
    broker: Broker,
}

struct Call<'a> {
    argv: &'a [OsString],
    place: &'a Place,
    watchdog: &'a Watchdog,
    started: Instant,
}

impl Call<'_> {
    /// What is asked, and the original's lines about it.
    fn listen(&self, lines: &mut Lines<Stdin<'_>>) -> anyhow::Result<(Request, Option<Vec<u8>>)> {
        let (request, line) = if self.argv.len() > 1 {
            (message::ossec::from_argv(self.argv)?, None)
        } else {
            let line = lines.next_line().context("read the message from stdin")?;
            let line = line.unwrap_or_default();
            (message::from_line(&line)?, Some(line))
        };
        let program = &self.place.program;
        self.log(&report::started(&request, program, &report::now()));
        Ok((request, line))
    }

    /// Whether everything that was asked for was done.
    fn answer(
        &self,
        request: &Request,
        line: Option<&[u8]>,
        mut lines: Lines<Stdin<'_>>,
    ) -> anyhow::Result<bool> {
        let consent = match self.hand_over(request, line, &mut lines) {
            Came::Outcome(outcome) => return Ok(self.tell(request, &Ok(*outcome))),
            Came::NotRun { why, rightly } => {
                let action = request.action.to_string();
                let outcome = Outcome::failed(&self.place.executable, &action, &why);
                self.say(request, &outcome, "Ended");
                return Ok(rightly);
            }
            Came::Nothing(consent) => consent,
        };
        match self.ready(request) {
            Ok(ready) => self.run(request, lines, ready, consent),
            // Whoever breaks a file must not keep a block standing with it.
            Err(why) if request.action == Action::Delete => self.release(request, &why),
            Err(why) => Err(why),
        }
    }

    /// What a run needs.
    fn ready(&self, request: &Request) -> anyhow::Result<Ready> {
        let premises = Premises::read(&self.place.root, Some(request.dialect))?;
        let wall = premises.grants.response(&self.place.response()).limits.wall;
        self.watchdog.set(wall);
        let retort = premises::this_program()?;
        let registry = Registry::open(&self.place.root, &retort)?;
        let engine = engine::engine(Allocation::OnDemand).map_err(anyhow::Error::from)?;
        engine::start_clock(&engine);
        Ok(Ready {
            broker: Broker::new(premises.world(&retort, wall)),
            premises,
            registry,
            engine,
        })
    }

    fn run(
        &self,
        request: &Request,
        mut lines: Lines<Stdin<'_>>,
        ready: Ready,
        known: Option<Consent>,
    ) -> anyhow::Result<bool> {
        let hostname = nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let consent = async |keys: &[String]| match known {
            Some(said) => Ok(said),
            None => self.ask(&mut lines, request, keys),
        };
        self.at_desk(request, ready.broker, async |desk| {
            let context = respond::Context {
                grants: &ready.premises.grants,
                conf: &ready.premises.conf,
                desk,
                engine: &ready.engine,
                hostname: &hostname,
                owner: owner(),
                dry_run: false,
                started: self.started,
            };
            let executable = &self.place.executable;
            let loaded = respond::load(&context, &ready.registry, executable).map(Arc::new);
            respond::respond(&context, executable, request, loaded, consent).await
        })
    }

    /// A delete where nothing else can be relied on: journal and firewall are asked. A
    /// journal that others could have written is not believed.
    fn release(&self, request: &Request, why: &anyhow::Error) -> anyhow::Result<bool> {
        premises::installed(&self.place.root)?;
        let wall = Limits::default().wall;
        let premises = Premises::bare(&self.place.root);
        let broker = Broker::new(premises.world(&premises::this_program()?, wall));
        let left = wall.saturating_sub(self.started.elapsed());
        let why = format!("{why:#}");
        let executable = &self.place.executable;
        self.at_desk(request, broker, async |desk| {
            Ok(respond::release(desk, executable, request, &why, left).await)
        })
    }

    /// Does the work with the broker at its desk, tells how it ended, and sweeps.
    fn at_desk(
        &self,
        request: &Request,
        broker: Broker,
        work: impl AsyncFnOnce(&Desk) -> Result<respond::Outcome, NotRun>,
    ) -> anyhow::Result<bool> {
        let desk = Desk::open(broker)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let answer = runtime.block_on(work(&desk));
        let done = self.tell(request, &answer);
        drop(runtime);
        self.watchdog.done(done);
        if let Some(mut broker) = desk.close() {
            self.sweep(&mut broker);
        }
        Ok(done)
    }

    /// The round trip over the keys of the block.
    fn ask(
        &self,
        lines: &mut Lines<Stdin<'_>>,
        request: &Request,
        keys: &[String],
    ) -> Result<Consent, String> {
        let program = &self.place.program;
        let asked = message::wazuh4::check_keys(&self.place.executable, keys);
        if asked.len() > message::wazuh4::LONGEST_KEYS {
            return Err("the keys are longer than execd reads".to_owned());
        }
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(&asked)
            .and_then(|()| stdout.flush())
            .map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&asked).trim_end().to_owned();
        self.log(&[report::wazuh_line(program, &text, &report::now())]);
        let line = lines.next_line().map_err(|e| e.to_string())?;
        let line = line.ok_or_else(|| "it closed the pipe".to_owned())?;
        let reply = message::reply(&line, request.dialect).map_err(|e| e.to_string())?;
        if let Ok(json) = message::json::parse(&line) {
            let echo = report::echo(&json, program, request.dialect);
            self.log(&[report::wazuh_line(program, &echo, &report::now())]);
        }
        Ok(match reply {
            message::Reply::Continue => Consent::Continue,
            message::Reply::Abort => Consent::Abort,
        })
    }

    /// Writes how it ended; whether it was done.
    fn tell(&self, request: &Request, answer: &Result<respond::Outcome, NotRun>) -> bool {
        let action = request.action.to_string();
        let (outcome, done) = match answer {
            Ok(outcome) => (Outcome::of(outcome), outcome.is_done()),
            Err(why) => {
                // A duplicate of our own log is no failure; it was rightly not done.
                let declined = matches!(why, NotRun::Declined(Declined { field: None, .. }));
                (
                    Outcome::not_run(&self.place.executable, &action, why),
                    declined,
                )
            }
        };
        let aborted = matches!(answer, Ok(outcome) if outcome.verdict.is_none());
        self.say(request, &outcome, if aborted { "Aborted" } else { "Ended" });
        done
    }

    /// Writes an outcome, and Wazuh's own last word.
    fn say(&self, request: &Request, outcome: &Outcome, word: &str) {
        let mut lines = vec![line(outcome)];
        if matches!(request.echo, Echo::Message(_)) {
            let program = &self.place.program;
            lines.push(report::wazuh_line(program, word, &report::now()));
        }
        self.log(&lines);
    }

    fn sweep(&self, broker: &mut Broker) {
        match sweep::sweep(broker, sweep::AT_ONCE) {
            Ok(swept) => {
                let lines: Vec<String> = swept.iter().map(swept_line).collect();
                self.log(&lines);
            }
            Err(refusal) => {
                self.log(&[line(&Outcome::failed("sweep", "", &refusal.reason))]);
            }
        }
    }

    /// Nothing came of it, and why.
    fn fail(&self, action: &str, why: &anyhow::Error) {
        let verdict = format!("failed: {why:#}");
        self.log(&[line(&Outcome::failed(
            &self.place.executable,
            action,
            &verdict,
        ))]);
        eprintln!("retort: {why:#}");
    }

    /// Appends lines. A log that can't be written is no reason not to act; `retort
    /// check` says what is wrong with it.
    fn log(&self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let written = open_log(self.place).and_then(|mut log| {
            lines
                .iter()
                .try_for_each(|line| log.append(line))
                .map_err(anyhow::Error::from)
        });
        if let Err(why) = written {
            eprintln!("retort: {why:#}");
        }
    }
}

fn open_log(place: &Place) -> anyhow::Result<Log> {
    let logs = Dir::open_ambient_dir(place.root.logs(), cap_std::ambient_authority())?;
    Ok(Log::open(&logs)?)
}

fn line(outcome: &Outcome) -> String {
    report::outcome_line(outcome, &report::now())
}

fn swept_line(swept: &sweep::Swept) -> String {
    line(&Outcome {
        response: swept.due.hold.response.clone(),
        action: Action::Delete.to_string(),
        verdict: format!("swept, because of {}", swept.due.why),
        effects: vec![report::effect(&swept.record)],
        ..Outcome::default()
    })
}

/// The execd that started us; none where that is init, which sends no delete.
fn owner() -> Option<Owner> {
    let parent = nix::unistd::getppid().as_raw();
    (parent > 1).then(|| Owner::of(parent)).flatten()
}
