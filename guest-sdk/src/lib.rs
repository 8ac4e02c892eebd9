//! What a Retort response is written with.
//!
//! ```
//! use retort_guest::{Action, Error, Event, Network, firewall};
//!
//! fn handle(event: Event) -> Result<(), Error> {
//!     let srcip = event.srcip.ok_or_else(|| Error::Invalid("no srcip".into()))?;
//!     match event.action {
//!         Action::Add => firewall::block(Network::host(srcip)),
//!         Action::Delete => firewall::unblock(Network::host(srcip)),
//!     }
//! }
//! retort_guest::response!(handle);
//! # fn main() {}
//! ```
//!
//! As a component the functions of [`firewall`], [`process`], [`hostname`] and
//! [`log`](mod@log) are the host's, each only if it is granted. In `cargo test` they
//! are a fake host of the test's own thread: see [`testing`].

#![deny(missing_docs)]

#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::allow_attributes_without_reason,
    missing_debug_implementations,
    reason = "generated from wit/response.wit; wit-bindgen answers for it"
)]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "response",
        pub_export_macro: true,
        export_macro_name: "__export_response",
        default_bindings_module: "retort_guest::bindings",
        additional_derives: [PartialEq, Eq, Clone],
        generate_all,
    });
}

pub mod firewall;
pub mod hostname;
pub mod log;
mod network;
pub mod process;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use bindings::retort::response::types::{Action, Error, Event};
pub use network::{Address, Network};

/// Makes `handle` the response's export: a function from [`Event`] to
/// `Result<(), Error>`.
#[macro_export]
macro_rules! response {
    ($handle:path) => {
        const _: fn($crate::Event) -> ::core::result::Result<(), $crate::Error> = $handle;

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Response;
            impl $crate::bindings::Guest for Response {
                fn handle(event: $crate::Event) -> ::core::result::Result<(), $crate::Error> {
                    $crate::log::panics();
                    $handle(event)
                }
            }
    $crate::bindings::__export_response!(Response with_types_in $crate::bindings);
        };
    };
}

/// An event with nothing in it, for tests to fill.
#[must_use]
pub fn event(action: Action) -> Event {
    Event {
        action,
        srcip: None,
        user: None,
        hostname: None,
        filename: None,
        alert_id: None,
        rule_id: None,
        rule_level: None,
        rule_groups: Vec::new(),
        agent_id: None,
        agent_name: None,
        location: None,
        extra_args: Vec::new(),
        timeout: None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_contract_is_the_projects() {
        let project = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/response.wit");
        let project = std::fs::read_to_string(project).unwrap();
        assert_eq!(
            project,
            include_str!("../wit/response.wit"),
            "copy wit/response.wit to guest-sdk/wit/"
        );
    }
}
