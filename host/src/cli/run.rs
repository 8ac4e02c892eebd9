//! `retort run <response> --event e.json`: the same vessel, broker and journal that
//! an execd's call gets, without an execd.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;

use super::Output;
use crate::conf;
use crate::decide;
use crate::effect::broker::Broker;
use crate::effect::desk::Desk;
use crate::event::Event;
use crate::premises::{self, Premises};
use crate::registry::Registry;
use crate::report;
use crate::respond::{self, Asked, Consent};
use crate::root::Root;
use crate::vessel::compile;
use crate::vessel::engine::{self, Allocation};

/// An event is a few kilobytes.
const EVENT: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The response: a component of active-response/bin, without `.wasm`.
    response: String,
    /// The event as JSON, fields as in the contract: {"action":"add","srcip":"192.0.2.1"}.
    #[arg(long)]
    event: PathBuf,
    /// Runs the guest and writes down what it would have done; changes nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(root: &Root, arguments: &Arguments) -> anyhow::Result<Output> {
    let path = &arguments.event;
    let event = conf::read(path, EVENT).with_context(|| path.display().to_string())?;
    let event: Event =
        serde_json::from_slice(&event).with_context(|| path.display().to_string())?;
    let premises = Premises::read(root, None)?;
    let retort = premises::this_program()?;
    let registry = Registry::open(root, &retort)?;
    let engine = engine::engine(Allocation::OnDemand).map_err(anyhow::Error::from)?;
    engine::start_clock(&engine);
    let found = registry.find(&arguments.response)?;
    let loaded = registry.load(&found, &premises.grants, &engine, compile::PATIENT)?;
    let wall = loaded.grants.limits.wall;
    let desk = Desk::open(Broker::new(premises.world(&retort, wall)))?;
    let hostname = nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let expect = respond::expects(
        &premises.conf,
        &arguments.response,
        loaded.grants.expect.as_ref(),
    );
    let event = decide::narrow(event, &expect, &hostname)
        .map_err(|declined| anyhow::anyhow!("{}: {declined}", path.display()))?;
    let context = respond::Context {
        grants: &premises.grants,
        conf: &premises.conf,
        desk: &desk,
        engine: &engine,
        hostname: &hostname,
        owner: None,
        dry_run: arguments.dry_run,
        started: Instant::now(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let dialect = premises.grants.dialect;
    let outcome = runtime.block_on(respond::conduct(
        &context,
        Asked {
            executable: &arguments.response,
            dialect,
            origin: String::new(),
            consent: Consent::Continue,
            term: None,
        },
        &loaded,
        event,
    ));
    let line = report::Outcome::of(&outcome);
    let mut human = format!(
        "{} {}: {}\n",
        line.response,
        line.action,
        report::escape(&line.verdict, 1024)
    );
    let _ = writeln!(human, "  sha256  {}", outcome.digest);
    let _ = writeln!(
        human,
        "  event   {}",
        serde_json::to_string(&outcome.event)?
    );
    for import in &outcome.imports {
        let _ = writeln!(human, "  import  {import}");
    }
    let _ = writeln!(human, "  used    {}", line.used);
    for effect in &line.effects {
        let _ = writeln!(human, "  effect  {}", report::escape(effect, 1024));
    }
    for warning in &line.warnings {
        let _ = writeln!(human, "  WARNING {}", report::escape(warning, 1024));
    }
    Ok(Output::new(human, &outcome)?.failed_if(!outcome.is_done()))
}
