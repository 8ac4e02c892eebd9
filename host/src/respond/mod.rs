//! The pipeline: from a request to an outcome, readable from top to bottom.
//!
//! What happened is what the broker's records say; what the guest says about it
//! is its verdict. The two are never mixed.

mod outcome;

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::Engine;

use crate::conf::grants::Grants;
use crate::conf::ossec::OssecConf;
use crate::decide::{self, Masked};
use crate::effect::desk::{Desk, Run, Session};
use crate::effect::enter::Entrance;
use crate::effect::{Record, Refusal};
use crate::event::{Action, Dialect, Event, Expect, Field};
use crate::journal::{Owner, Pending, Term};
use crate::limits::Limits;
use crate::message::Request;
use crate::registry::{Loaded, Registry};
use crate::vessel::verdict::{Used, Verdict};

use outcome::outcome;
pub use outcome::{NotRun, Outcome};

/// What is kept of the wall clock for the host's own last words: the journal's
/// closing entry and the outcome line.
pub const LAST_WORDS: Duration = Duration::from_millis(100);

/// How often an order looks whether the undo of its own block is over.
const WHILE_UNDOING: Duration = Duration::from_millis(10);

/// What the execd said to the keys of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Go on.
    Continue,
    /// It has that block already, and has started its timeout anew.
    Abort,
}

/// What one call needs besides the request.
#[derive(Debug)]
pub struct Context<'a> {
    /// What responses may do at most.
    pub grants: &'a Grants,
    /// When they are asked for.
    pub conf: &'a OssecConf,
    /// Where their effects go.
    pub desk: &'a Desk,
    /// What runs them.
    pub engine: &'a Engine,
    /// This host's own name.
    pub hostname: &'a str,
    /// The execd that will send the delete, where one does.
    pub owner: Option<Owner>,
    /// Change nothing.
    pub dry_run: bool,
    /// When the wall clock of this call began.
    pub started: Instant,
}

impl Context<'_> {
    /// What is left of the wall clock for the run, less the host's last words.
    fn left(&self, limits: &Limits) -> Duration {
        limits
            .wall
            .saturating_sub(self.started.elapsed())
            .saturating_sub(LAST_WORDS)
    }
}

/// The fields that a response sees: what its commands expect, narrowed by its
/// grants; the grants' alone where no command is in reach.
#[must_use]
pub fn expects(conf: &OssecConf, executable: &str, grants: Option<&Expect>) -> Expect {
    match (conf.expect_of(executable), grants) {
        (Some(commands), Some(granted)) => commands.intersection(granted).copied().collect(),
        (Some(commands), None) => commands,
        (None, Some(granted)) => granted.clone(),
        (None, None) => Expect::new(),
    }
}

/// Answers one request for `executable`, whose response is `loaded` or can't be. A delete
/// releases what it is about even where the guest can't run.
///
/// # Errors
/// See [`NotRun`]: nothing was changed then.
pub async fn respond(
    context: &Context<'_>,
    executable: &str,
    request: &Request,
    loaded: Result<Arc<Loaded>, NotRun>,
    consent: impl AsyncFnOnce(&[String]) -> Result<Consent, String>,
) -> Result<Outcome, NotRun> {
    let prepared = match loaded {
        _ if context.conf.disabled && request.action == Action::Add => Err(NotRun::Disabled),
        Ok(loaded) => view(context, executable, request, &loaded).map(|masked| (loaded, masked)),
        Err(why) => Err(why),
    };
    let (loaded, masked) = match prepared {
        Ok(prepared) => prepared,
        Err(why) if request.action == Action::Delete => {
            let wall = context.grants.limits.wall;
            let left = wall.saturating_sub(context.started.elapsed());
            return Ok(release(context.desk, executable, request, &why.to_string(), left).await);
        }
        Err(why) => return Err(why),
    };
    let asks = request.dialect != Dialect::Ossec && request.action == Action::Add;
    let consent = if asks && !masked.keys.is_empty() {
        consent(&masked.keys).await.map_err(NotRun::NoAnswer)?
    } else {
        Consent::Continue
    };
    let origin = request.origin(executable);
    let asked = Asked {
        executable,
        dialect: request.dialect,
        origin,
        consent,
        term: None,
    };
    Ok(conduct(context, asked, &loaded, masked.event).await)
}

/// The response of `executable`, from the disk.
///
/// # Errors
/// [`NotRun::Load`].
pub fn load(
    context: &Context<'_>,
    registry: &Registry,
    executable: &str,
) -> Result<Loaded, NotRun> {
    let found = registry.find(executable)?;
    let limits = context.grants.response(&found.name).limits;
    let left = context.left(&limits);
    Ok(registry.load(&found, context.grants, context.engine, left)?)
}

/// What the response gets to see of the request.
///
/// # Errors
/// [`NotRun::Declined`].
pub fn view(
    context: &Context<'_>,
    executable: &str,
    request: &Request,
    loaded: &Loaded,
) -> Result<Masked, NotRun> {
    let expect = expects(context.conf, executable, loaded.grants.expect.as_ref());
    decide::mask(request, &expect, &loaded.grants.srcip, context.hostname).map_err(NotRun::Declined)
}

/// Gives up what a delete is about without its guest: it is gone, or broken, or what
/// says what it may see is. The alert itself says which holds are meant.
pub async fn release(
    desk: &Desk,
    executable: &str,
    request: &Request,
    why: &str,
    left: Duration,
) -> Outcome {
    let run = Run {
        response: executable.to_owned(),
        digest: String::new(),
        executable: executable.to_owned(),
        dialect: request.dialect,
        key: String::new(),
        origin: request.origin(executable),
        event: decide::unmasked(request),
        owner: None,
        dry_run: false,
        left,
        term: None,
        message: None,
    };
    let_go(desk, run, why).await
}

/// Undoes a pending block: its guest is called with `delete`, then the host makes sure.
/// Where the guest can't be loaded the host does it alone.
pub async fn undo(
    context: &Context<'_>,
    pending: &Pending,
    loaded: Result<&Loaded, String>,
) -> Outcome {
    let event = Event {
        action: Action::Delete,
        ..pending.event.clone()
    };
    match loaded {
        Ok(loaded) => {
            let asked = Asked {
                executable: &pending.executable,
                dialect: pending.dialect,
                origin: pending.origin.clone(),
                consent: Consent::Continue,
                term: None,
            };
            conduct(context, asked, loaded, event).await
        }
        Err(why) => {
            let run = Run {
                response: pending.response.clone(),
                digest: String::new(),
                executable: pending.executable.clone(),
                dialect: pending.dialect,
                key: pending.key.clone(),
                origin: pending.origin.clone(),
                event,
                owner: None,
                dry_run: false,
                left: context.grants.limits.wall,
                term: None,
                message: None,
            };
            let_go(context.desk, run, &why).await
        }
    }
}

/// The host's own release of everything that the run's block holds.
async fn let_go(desk: &Desk, run: Run, why: &str) -> Outcome {
    let verdict = Verdict::NotRun {
        what: why.to_owned(),
    };
    let (response, event) = (run.response.clone(), run.event.clone());
    let records = bounded(run.left, async {
        let session = desk.begin(run);
        session.release().await;
        session
            .finish(verdict.name(), serde_json::Value::Null)
            .await
    });
    Outcome {
        response,
        digest: String::new(),
        event,
        imports: Vec::new(),
        records: records.await,
        verdict: Some(verdict),
        used: Used::default(),
        lines: Vec::new(),
    }
}

/// Who asks for a run, and how.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The executable's name in `ar.conf`.
    pub executable: &'a str,
    /// Who speaks.
    pub dialect: Dialect,
    /// What add and delete have in common; empty where no execd asks.
    pub origin: String,
    /// What the execd said.
    pub consent: Consent,
    /// How long its block stands, where this host's own daemon ends it.
    pub term: Option<Term>,
}

/// Runs a loaded response on an event, and makes sure of what `delete` promises.
pub async fn conduct(
    context: &Context<'_>,
    asked: Asked<'_>,
    loaded: &Loaded,
    event: Event,
) -> Outcome {
    let limits = loaded.grants.limits;
    let left = || context.left(&limits);
    let run = Run {
        response: loaded.name.clone(),
        digest: loaded.digest.clone(),
        executable: asked.executable.to_owned(),
        dialect: asked.dialect,
        key: key(asked.executable, &event),
        origin: asked.origin,
        event: event.clone(),
        owner: context.owner.clone(),
        dry_run: context.dry_run,
        left: left(),
        term: asked.term.clone(),
        message: None,
    };
    let session = context.desk.begin(run);
    if asked.term.is_some() && event.action == Action::Add {
        let entered = tokio::time::timeout(left(), enter(&session)).await;
        // Where the journal does not answer the response runs: the broker says of each
        // effect what can be done without it.
        if let Ok(Ok(Entrance::Stands { .. })) = entered {
            let end = session.finish("renewed", serde_json::Value::Null);
            let records = bounded(LAST_WORDS, end).await;
            return outcome(loaded, event, None, Used::default(), records, Vec::new());
        }
    }
    if asked.consent == Consent::Abort {
        let renewed = bounded(left(), session.renew()).await;
        let stands = renewed.iter().any(|record| record.answer.is_ok());
        // What execd believes in and nobody holds was lost once, and is done now.
        if stands || loaded.grants.firewall.is_none() {
            let records =
                bounded(LAST_WORDS, session.finish("abort", serde_json::Value::Null)).await;
            return outcome(loaded, event, None, Used::default(), records, Vec::new());
        }
    }
    let ended = loaded
        .vessel
        .run(&event, &limits, left(), context.hostname, session.clone())
        .await;
    if event.action == Action::Delete {
        drop(bounded(left().max(LAST_WORDS), session.release()).await);
    }
    let used = serde_json::to_value(ended.used).unwrap_or_default();
    let records = bounded(
        left().max(LAST_WORDS),
        session.finish(ended.verdict.name(), used),
    )
    .await;
    outcome(
        loaded,
        event,
        Some(ended.verdict),
        ended.used,
        records,
        ended.lines,
    )
}

/// Calls for the run's block; what is being undone is waited for.
async fn enter(session: &Session) -> Result<Entrance, Refusal> {
    loop {
        match session.enter(None).await? {
            Entrance::Undoing => tokio::time::sleep(WHILE_UNDOING).await,
            entrance => return Ok(entrance),
        }
    }
}

/// Waits for the broker, but not longer than there is time: it goes on without us,
/// and the journal knows what it did.
async fn bounded(left: Duration, records: impl Future<Output = Vec<Record>>) -> Vec<Record> {
    tokio::time::timeout(left, records)
        .await
        .unwrap_or_default()
}

/// With the response's name: what `add` and `delete` of one block have in common.
/// Every expected value counts, so that a second user is a second block; and the
/// executable, because an execd counts two names of one component apart.
#[must_use]
pub fn key(executable: &str, event: &Event) -> String {
    let values: std::collections::BTreeMap<String, String> = [
        (Field::Srcip, event.srcip.map(|ip| ip.to_string())),
        (Field::User, event.user.clone()),
        (Field::Hostname, event.hostname.clone()),
        (Field::Filename, event.filename.clone()),
    ]
    .into_iter()
    .filter_map(|(field, value)| Some((field.to_string(), value?)))
    .chain([("executable".to_owned(), executable.to_owned())])
    .collect();
    serde_json::to_string(&values).unwrap_or_default()
}
