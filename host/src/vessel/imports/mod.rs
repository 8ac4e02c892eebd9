//! What a guest may import: one file per interface, each with a view of its own
//! on the state of the run. An interface that is not granted is not linked.

mod firewall;
mod hostname;
mod log;
mod process;
mod wasi;

use wasmtime::component::{HasData, Linker};

use super::run::State;
use super::shape::Shape;
use super::verdict::{Stop, Verdict};
use crate::conf::grants::Response;
use crate::effect::desk::Session;
use crate::effect::{Answer, Effect, Kind, Refusal};

pub(super) use firewall::contract_address;
pub use log::Level;
pub(super) use log::Lines;

pub(super) mod bindings {
    //! Generated from `wit/response.wit`.
    #![allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::allow_attributes_without_reason,
        missing_debug_implementations,
        reason = "generated code; wasmtime answers for it"
    )]
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "response",
        imports: { default: async | trappable },
        exports: { default: async },
        additional_derives: [PartialEq, Eq],
    });
}

use bindings::retort::response::types;

/// The host calls of one run: counted, and passed on to the broker.
#[derive(Debug)]
pub(super) struct Calls {
    session: Session,
    limit: u32,
    used: u32,
}

impl Calls {
    pub(super) fn new(session: Session, limit: u32) -> Self {
        Self {
            session,
            limit,
            used: 0,
        }
    }

    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Counts a call; the one past the limit ends the run.
    fn count(&mut self) -> wasmtime::Result<()> {
        if self.used >= self.limit {
            return Err(wasmtime::Error::new(Stop(Verdict::HostCalls)));
        }
        self.used = self.used.saturating_add(1);
        Ok(())
    }

    async fn perform(&mut self, effect: Effect) -> wasmtime::Result<Answer> {
        self.count()?;
        Ok(self.session.perform(effect).await)
    }
}

/// Links what the grants open, and nothing else; of WASI nothing where it is not asked
/// for, which spares most guests a hundred functions.
pub(super) fn link(
    linker: &mut Linker<State>,
    grants: &Response,
    shape: &Shape,
) -> wasmtime::Result<()> {
    log::link(linker)?;
    if shape.imports.iter().any(|name| name.starts_with("wasi:")) {
        wasi::link(linker)?;
    }
    if grants.firewall.is_some() {
        firewall::link(linker)?;
    }
    if !grants.process.is_empty() {
        process::link(linker)?;
    }
    if grants.hostname {
        hostname::link(linker)?;
    }
    types::add_to_linker::<State, HasTypes>(linker, |_| Types)
}

/// `types` has no functions; it is linked so that whoever names it finds it.
struct Types;
struct HasTypes;

impl HasData for HasTypes {
    type Data<'a> = Types;
}

impl types::Host for Types {}

impl From<Refusal> for types::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal.kind {
            Kind::Denied => Self::Denied(refusal.reason),
            Kind::Invalid => Self::Invalid(refusal.reason),
            Kind::Unavailable => Self::Unavailable(refusal.reason),
            Kind::Failed => Self::Failed(refusal.reason),
        }
    }
}
