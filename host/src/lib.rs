//! Retort runs the active responses of OSSEC and Wazuh as sealed WebAssembly
//! components.
//!
//! # Layout, from top to bottom; an import never points up
//!
//! - [`cli`]: arguments, output, exit codes.
//! - [`dropin`]: a link in `active-response/bin` that an unmodified execd starts;
//!   [`execd`]: the queue of the original's, served in its place;
//!   [`watch`]: follows `alerts.json` and binds alerts itself.
//! - [`daemon`]: orders, side by side, and the undo of each at its time.
//! - [`respond`], [`sweep`], [`report`]: the pipeline, what is due, one line per outcome;
//!   [`control`], [`status`]: how a daemon is asked, and how it is doing.
//! - [`decide`], [`registry`], [`undo`], [`premises`]: questions that need no guest.
//! - [`vessel`]: wasmtime, and nothing of it outside.
//! - [`effect`], [`backend`], [`journal`]: what may change the world, and the
//!   memory of it.
//! - [`alert`], [`message`], [`order`], [`conf`], [`event`], [`limits`], [`address`],
//!   [`escape`], [`root`]: values and parsers.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod address;
pub mod alert;
pub mod backend;
pub mod cli;
pub mod conf;
pub mod control;
pub mod daemon;
pub mod decide;
pub mod dropin;
pub mod effect;
pub mod escape;
pub mod event;
pub mod execd;
pub mod journal;
pub mod limits;
pub mod message;
pub mod order;
pub mod premises;
pub mod registry;
pub mod report;
pub mod respond;
pub mod root;
pub mod status;
pub mod sweep;
pub mod undo;
pub mod vessel;
pub mod watch;
