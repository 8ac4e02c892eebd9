//! Lines in the log of the host. Every response may log; the bytes of one run are
//! bounded.

#[cfg(target_family = "wasm")]
use crate::bindings::retort::response::log as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing::log as host;

pub use crate::bindings::retort::response::log::Level;

/// For whoever writes the response.
pub fn debug(message: &str) {
    host::log(Level::Debug, message);
}

/// What was done.
pub fn info(message: &str) {
    host::log(Level::Info, message);
}

/// Something that someone should look at.
pub fn warning(message: &str) {
    host::log(Level::Warning, message);
}

/// The response could not do its work.
pub fn error(message: &str) {
    host::log(Level::Error, message);
}

/// Lets a panic say through the log what it is about: in a component without WASI
/// it has no other way.
#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub fn panics() {
    std::panic::set_hook(Box::new(|info| error(&info.to_string())));
}
