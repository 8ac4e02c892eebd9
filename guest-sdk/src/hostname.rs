//! The name of the host. Grant: `hostname = true`.

#[cfg(target_family = "wasm")]
use crate::bindings::retort::response::hostname as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing::hostname as host;

/// The host's own name.
#[must_use]
pub fn get() -> String {
    host::get()
}
