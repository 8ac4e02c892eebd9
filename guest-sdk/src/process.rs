//! Fixed programs of the host. Grant: `process.<helper> = { argv = [...] }`.

use crate::Error;

#[cfg(target_family = "wasm")]
use crate::bindings::retort::response::process as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing::process as host;

/// Runs the helper of that name from the grants; gives its exit code, 0 for one that
/// is detached.
///
/// # Errors
/// `denied` without a grant, `failed` where it could not be started or ran too long.
pub fn run(helper: &str) -> Result<i32, Error> {
    host::run(helper)
}
