//! The only `unsafe` code of the project, each block with the reason why it holds.
//!
//! Two things have no safe form: to take machine code from our own cache, and to
//! empty the environment. Both are wrapped here so that their callers are safe
//! and the rest of the workspace can deny `unsafe`.

#![allow(unsafe_code, reason = "this is the one documented module that may")]

use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes that this program's own compiler wrote and whose digest was checked.
/// Only [`super::cache`] makes one.
#[derive(Debug)]
pub(super) struct Compiled {
    bytes: Vec<u8>,
}

impl Compiled {
    /// Vouches for `bytes`: they came from `Engine::precompile_component` in this
    /// program or its compiler child, and were not changed since.
    pub(super) fn vouched(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The component, ready to be linked.
    ///
    /// # Errors
    /// When the bytes belong to another version or configuration of the engine.
    pub(super) fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: wasmtime checks header, version and configuration, but not the
        // machine code. That is vouched for: `Compiled` is made only from the
        // answer of our compiler child, or from a file in the cache folder
        // (root, 0700) whose content has the digest that we wrote into it.
        unsafe { Component::deserialize(engine, &self.bytes) }
    }
}

/// Removes every variable from this process's environment.
///
/// Call it first, before there is a second thread: a drop-in inherits the
/// environment of the daemon that started it, and nothing here may depend on it.
pub fn clear_environment() {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names {
        // SAFETY: the caller is the start of `main`, where no other thread exists
        // that could read the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}
