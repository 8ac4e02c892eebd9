//! The vessel: one guest, sealed. wasmtime lives here and nowhere else.
//!
//! Three moments, three types: an [`engine`] once per process, a
//! [`run::Vessel`] once per response (compiled, linked with exactly what was
//! granted), a store once per invocation, dropped with it. What a guest asks of
//! the world leaves as a plain [`crate::effect::Effect`] through a
//! [`crate::effect::desk::Desk`]; nothing here changes anything itself.

mod bare;
mod bounds;
pub mod cache;
pub mod compile;
pub mod engine;
mod imports;
pub mod run;
pub mod shape;
pub mod verdict;

pub use bare::clear_environment;
