//! One response, loaded; and one invocation of it.

use std::path::Path;
use std::time::{Duration, Instant};

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store, Trap};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};

use super::bare::Compiled;
use super::bounds::Bounds;
use super::cache::Cache;
use super::compile;
use super::engine::TICK;
use super::imports::bindings::{ResponsePre, retort::response::types};
use super::imports::{self, Calls, Lines};
use super::shape::{Misshapen, Shape};
use super::verdict::{Stop, Used, Verdict};
use crate::conf::grants::Response;
use crate::effect::Kind;
use crate::effect::desk::Session;
use crate::event::{Action, Event};
use crate::limits::Limits;

pub use super::imports::Level;

/// Bytes that a guest may push into the host in one call: a log line, a helper's
/// name. wasmtime's own default is 128 MiB.
const HOST_BYTES: usize = 64 << 10;

/// Component handles. The contract has no resources; WASI's streams need a few.
const HANDLES: usize = 256;

/// What a `wasm32-wasip2` guest may print. More is dropped, not an error.
const PRINTED_BYTES: usize = 4 << 10;

/// How often a busy guest lets the wall clock be looked at: about every 25 us.
const YIELD_EVERY: u64 = 100_000;

/// The state of one store.
pub(super) struct State {
    pub(super) bounds: Bounds,
    pub(super) calls: Calls,
    pub(super) hostname: String,
    pub(super) lines: Lines,
    wasi: Option<WasiCtx>,
    printed: MemoryOutputPipe,
    pub(super) table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // Made when it is first asked for: most guests import nothing of it.
        let ctx = self.wasi.get_or_insert_with(|| {
            WasiCtx::builder()
                .stdout(self.printed.clone())
                .stderr(self.printed.clone())
                .max_random_size(256)
                .build()
        });
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}

/// Why a component can't be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is no response, or imports what is not granted.
    #[error(transparent)]
    Misshapen(#[from] Misshapen),
    /// It does not compile within its limits.
    #[error(transparent)]
    Compile(#[from] compile::Error),
    /// wasmtime does not take it.
    #[error("wasmtime does not load it: {0}")]
    Engine(String),
}

/// A component that is compiled and linked with exactly what its grants open.
pub struct Vessel {
    pre: ResponsePre<State>,
    shape: Shape,
}

impl std::fmt::Debug for Vessel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vessel")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// Where compiled components come from.
#[derive(Debug)]
pub struct Workshop<'a> {
    /// The engine that will run them.
    pub engine: &'a Engine,
    /// The cache, where there is one.
    pub cache: Option<&'a Cache>,
    /// The program whose child compiles.
    pub retort: &'a Path,
    /// How long compiling may take.
    pub patience: Duration,
}

impl Vessel {
    /// Loads the component `bytes` with the digest `digest` for `response`.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(
        workshop: &Workshop<'_>,
        response: &str,
        bytes: &[u8],
        digest: &str,
        grants: &Response,
    ) -> Result<Self, LoadError> {
        let shape = Shape::of(bytes)?;
        shape.check(response, grants)?;
        let engine = workshop.engine;
        let component = compiled(workshop, bytes, digest)?;
        let mut linker = Linker::new(engine);
        imports::link(&mut linker, grants, &shape)
            .map_err(|e| LoadError::Engine(format!("{e:#}")))?;
        let pre = linker
            .instantiate_pre(&component)
            .map_err(|e| LoadError::Engine(format!("{e:#}")))?;
        let pre = ResponsePre::new(pre).map_err(|e| Misshapen::OtherHandle {
            what: format!("{e:#}"),
        })?;
        Ok(Self { pre, shape })
    }

    /// The names at the component's surface.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Runs the guest on one event, in a store that lives as long as this call.
    /// Whatever the guest does, this returns within `wall` and the scheduler's
    /// patience.
    pub async fn run(
        &self,
        event: &Event,
        limits: &Limits,
        wall: Duration,
        hostname: &str,
        session: Session,
    ) -> Outcome {
        let started = Instant::now();
        let printed = MemoryOutputPipe::new(PRINTED_BYTES);
        let state = State {
            bounds: Bounds::new(limits.memory),
            calls: Calls::new(session, limits.host_calls),
            hostname: hostname.to_owned(),
            lines: Lines::new(limits.log_bytes),
            wasi: None,
            printed: printed.clone(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(self.pre.engine(), state);
        let verdict = match bound(&mut store, limits, wall) {
            Ok(()) => self.call(&mut store, event, wall).await,
            Err(error) => Verdict::Host {
                what: format!("{error:#}"),
            },
        };
        let fuel = limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
        let state = store.into_data();
        let used = Used {
            fuel,
            memory: state.bounds.peak(),
            host_calls: state.calls.used(),
            log_bytes: state.lines.used(),
            wall: started.elapsed(),
        };
        let mut lines = state.lines.lines;
        let text = printed.contents();
        if !text.is_empty() {
            lines.push((
                Level::Warning,
                String::from_utf8_lossy(&text).trim_end().to_owned(),
            ));
        }
        Outcome {
            verdict,
            used,
            lines,
        }
    }

    async fn call(&self, store: &mut Store<State>, event: &Event, wall: Duration) -> Verdict {
        let event = contract_event(event);
        let work = async {
            let guest = self.pre.instantiate_async(&mut *store).await?;
            guest.call_handle(&mut *store, &event).await
        };
        match tokio::time::timeout(wall, work).await {
            Err(_elapsed) => Verdict::Wall,
            Ok(Ok(Ok(()))) => Verdict::Ok,
            Ok(Ok(Err(error))) => guest_error(error),
            Ok(Err(error)) => verdict_of(&error),
        }
    }
}

/// How a run ended, what it used, and what the guest said.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// What it used.
    pub used: Used,
    /// The guest's lines: show them escaped.
    pub lines: Vec<(Level, String)>,
}

fn compiled(
    workshop: &Workshop<'_>,
    bytes: &[u8],
    digest: &str,
) -> Result<wasmtime::component::Component, LoadError> {
    let engine_id = compile::compatibility(workshop.engine);
    let component = |code: Compiled| code.component(workshop.engine);
    let Some(cache) = workshop.cache else {
        let code = compile::compile(bytes, workshop.retort, workshop.patience)?;
        return component(compile::vouch(code)).map_err(|e| LoadError::Engine(format!("{e:#}")));
    };
    let ready = || {
        cache
            .get(digest, &engine_id)
            .and_then(|code| component(code).ok())
    };
    if let Some(ready) = ready() {
        return Ok(ready);
    }
    let started = Instant::now();
    let patience = workshop.patience;
    if patience >= compile::PATIENT {
        cache.forgive(digest, &engine_id);
    }
    let alone = cache.alone(digest, patience);
    let _alone = alone.ok_or_else(|| compile::Error::late(patience))?;
    if let Some(ready) = ready() {
        return Ok(ready);
    }
    if let Some(refusal) = cache.refusal(digest, &engine_id) {
        return Err(refusal.into());
    }
    let left = patience.saturating_sub(started.elapsed());
    let code = compile::compile(bytes, workshop.retort, left);
    match code {
        Ok(code) => {
            let _ = cache.put(digest, &engine_id, &code);
            component(compile::vouch(code)).map_err(|e| LoadError::Engine(format!("{e:#}")))
        }
        Err(error) => {
            cache.refuse(digest, &engine_id, &error);
            Err(error.into())
        }
    }
}

/// Every bound stands before the first instruction: start functions run at
/// instantiation.
fn bound(store: &mut Store<State>, limits: &Limits, wall: Duration) -> wasmtime::Result<()> {
    store.limiter(|state| &mut state.bounds);
    store.set_fuel(limits.fuel)?;
    store.fuel_async_yield_interval(Some(YIELD_EVERY))?;
    // Two ticks of grace: where the guest yields, the wall clock speaks first.
    let ticks = wall.as_millis().checked_div(TICK.as_millis()).unwrap_or(0);
    store.set_epoch_deadline(u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(2));
    store.epoch_deadline_trap();
    store.set_hostcall_fuel(HOST_BYTES);
    store.set_max_component_handles(HANDLES);
    Ok(())
}

fn verdict_of(error: &wasmtime::Error) -> Verdict {
    if let Some(Stop(verdict)) = error.downcast_ref::<Stop>() {
        return verdict.clone();
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Verdict::Exit { status: exit.0 };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return Verdict::OutOfFuel,
        Some(Trap::Interrupt) => return Verdict::CpuTime,
        Some(Trap::StackOverflow) => return Verdict::Stack,
        Some(trap) => {
            return Verdict::Trapped {
                what: trap.to_string(),
            };
        }
        None => {}
    }
    // These have no type in wasmtime 48; a test holds the texts.
    let text = format!("{error:#}");
    if text.contains("too much data is being copied") {
        Verdict::HostBytes
    } else if text.contains("store handle limit exceeded") {
        Verdict::Handles
    } else if text.contains("resource limit exceeded") {
        Verdict::Table
    } else {
        Verdict::Trapped { what: text }
    }
}

fn guest_error(error: types::Error) -> Verdict {
    let (kind, reason) = match error {
        types::Error::Denied(reason) => (Kind::Denied, reason),
        types::Error::Invalid(reason) => (Kind::Invalid, reason),
        types::Error::Unavailable(reason) => (Kind::Unavailable, reason),
        types::Error::Failed(reason) => (Kind::Failed, reason),
    };
    Verdict::Error { kind, reason }
}

fn contract_event(event: &Event) -> types::Event {
    types::Event {
        action: match event.action {
            Action::Add => types::Action::Add,
            Action::Delete => types::Action::Delete,
        },
        srcip: event.srcip.map(imports::contract_address),
        user: event.user.clone(),
        hostname: event.hostname.clone(),
        filename: event.filename.clone(),
        alert_id: event.alert_id.clone(),
        rule_id: event.rule_id.clone(),
        rule_level: event.rule_level,
        rule_groups: event.rule_groups.clone(),
        agent_id: event.agent_id.clone(),
        agent_name: event.agent_name.clone(),
        location: event.location.clone(),
        extra_args: event.extra_args.clone(),
        timeout: event.timeout,
    }
}
