//! The pipeline: from a request to an outcome, readable from top to bottom.
//!
//! What happened is what the broker's records say; what the guest says about it
//! is its verdict. The two are never mixed.

use std::time::{Duration, Instant};

use serde::Serialize;
use wasmtime::Engine;

use crate::conf::grants::Grants;
use crate::conf::ossec::OssecConf;
use crate::decide::{self, Declined, Masked};
use crate::effect::desk::{Desk, Run};
use crate::effect::{Effect, Record};
use crate::event::{Action, Dialect, Event, Expect, Field};
use crate::journal::Owner;
use crate::limits::Limits;
use crate::message::Request;
use crate::registry::{self, Loaded, Registry};
use crate::vessel::run::Level;
use crate::vessel::verdict::{Used, Verdict};

/// What is kept of the wall clock for the host's own last words: the journal's
/// closing entry and the outcome line.
pub const LAST_WORDS: Duration = Duration::from_millis(100);

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
    /// Where they are.
    pub registry: &'a Registry,
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

/// Why a request did not become a run.
#[derive(Debug, thiserror::Error)]
pub enum NotRun {
    /// There is no such response, or it does not load.
    #[error(transparent)]
    Load(#[from] registry::Error),
    /// The alert lacks what the command expects.
    #[error("{0}")]
    Declined(Declined),
    /// Nothing runs on this host.
    #[error(
        "active response is disabled on this host; write <disabled>no</disabled> in ossec.conf to enable it"
    )]
    Disabled,
    /// The execd's answer did not come, or was none.
    #[error("the execd did not answer to the keys of this block: {0}")]
    NoAnswer(String),
}

/// What came of a request.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The response.
    pub response: String,
    /// The component's SHA-256.
    pub digest: String,
    /// What the guest saw.
    pub event: Event,
    /// What the component imports.
    pub imports: Vec<String>,
    /// How the guest ended; none where execd said that the block stands already.
    pub verdict: Option<Verdict>,
    /// What the guest used.
    pub used: Used,
    /// What was asked of the world, and what came of it.
    pub records: Vec<Record>,
    /// What the guest said.
    pub lines: Vec<(Level, String)>,
}

impl Outcome {
    /// Whether everything that was asked for was done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        // A guest may shrug at a refused block; whoever asked for it must not.
        let did = |record: &Record| {
            record.answer.is_ok() || matches!(record.effect, Effect::IsBlocked { .. })
        };
        match &self.verdict {
            None => self.records.iter().all(|record| record.answer.is_ok()),
            Some(verdict) => verdict.is_ok() && self.records.iter().all(did),
        }
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

/// Answers one request for `executable`. A delete releases what it is about even
/// where the guest can't run.
///
/// # Errors
/// See [`NotRun`]: nothing was changed then.
pub async fn respond(
    context: &Context<'_>,
    executable: &str,
    request: &Request,
    consent: impl FnOnce(&[String]) -> Result<Consent, String>,
) -> Result<Outcome, NotRun> {
    let (loaded, masked) = match prepare(context, executable, request) {
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
        consent(&masked.keys).map_err(NotRun::NoAnswer)?
    } else {
        Consent::Continue
    };
    let origin = request.origin(executable);
    let asked = Asked {
        executable,
        dialect: request.dialect,
        origin,
        consent,
    };
    Ok(conduct(context, asked, &loaded, masked.event).await)
}

/// Everything that can stand in the way of a run.
fn prepare(
    context: &Context<'_>,
    executable: &str,
    request: &Request,
) -> Result<(Loaded, Masked), NotRun> {
    if context.conf.disabled && request.action == Action::Add {
        return Err(NotRun::Disabled);
    }
    let found = context.registry.find(executable)?;
    let limits = context.grants.response(&found.name).limits;
    let loaded = context.registry.load(
        &found,
        context.grants,
        context.engine,
        context.left(&limits),
    )?;
    let expect = expects(context.conf, executable, loaded.grants.expect.as_ref());
    let masked = decide::mask(request, &expect, &loaded.grants.srcip, context.hostname)
        .map_err(NotRun::Declined)?;
    Ok((loaded, masked))
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
    let event = decide::unmasked(request);
    let run = Run {
        response: executable.to_owned(),
        digest: String::new(),
        executable: executable.to_owned(),
        dialect: request.dialect,
        key: String::new(),
        origin: request.origin(executable),
        event: event.clone(),
        owner: None,
        dry_run: false,
        left,
    };
    let verdict = Verdict::NotRun {
        what: why.to_owned(),
    };
    let records = bounded(left, async {
        let session = desk.begin(run).await;
        session.release().await;
        session
            .finish(verdict.name(), serde_json::Value::Null)
            .await
    });
    Outcome {
        response: executable.to_owned(),
        digest: String::new(),
        event,
        imports: Vec::new(),
        verdict: Some(verdict.clone()),
        used: Used::default(),
        records: records.await,
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
    };
    let Ok(session) = tokio::time::timeout(left(), context.desk.begin(run)).await else {
        return outcome(
            loaded,
            event,
            Some(Verdict::Wall),
            Used::default(),
            Vec::new(),
            Vec::new(),
        );
    };
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

fn outcome(
    loaded: &Loaded,
    event: Event,
    verdict: Option<Verdict>,
    used: Used,
    records: Vec<Record>,
    lines: Vec<(Level, String)>,
) -> Outcome {
    Outcome {
        imports: loaded.vessel.shape().imports.clone(),
        response: loaded.name.clone(),
        digest: loaded.digest.clone(),
        event,
        verdict,
        used,
        records,
        lines,
    }
}
