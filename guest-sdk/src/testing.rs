//! The fake host of `cargo test`: one per thread, so that each test has its own.
//!
//! ```
//! use retort_guest::testing::{Call, host};
//! use retort_guest::{Network, firewall};
//!
//! let network = Network::host("192.0.2.1".parse::<std::net::IpAddr>().unwrap().into());
//! firewall::block(network).unwrap();
//! assert_eq!(host(|host| host.calls.clone()), [Call::Block(network)]);
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::log::Level;
use crate::{Error, Network};

/// What a response asked of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `firewall::block`.
    Block(Network),
    /// `firewall::unblock`.
    Unblock(Network),
    /// `firewall::is_blocked`.
    IsBlocked(Network),
    /// `process::run`.
    Run(String),
    /// `hostname::get`.
    Hostname,
}

/// A host that writes down what it is asked and answers as it is told.
#[derive(Debug)]
pub struct Host {
    /// What was asked, in order.
    pub calls: Vec<Call>,
    /// What was logged.
    pub lines: Vec<(Level, String)>,
    /// The networks that are blocked.
    pub blocked: Vec<Network>,
    /// What every firewall call is answered with, where it is set.
    pub firewall_error: Option<Error>,
    /// What helpers answer; one that is not here is `denied`.
    pub helpers: BTreeMap<String, Result<i32, Error>>,
    /// The host's name.
    pub hostname: String,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            calls: Vec::new(),
            lines: Vec::new(),
            blocked: Vec::new(),
            firewall_error: None,
            helpers: BTreeMap::new(),
            hostname: "localhost".to_owned(),
        }
    }
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

/// Looks at this thread's host, or tells it what to answer.
pub fn host<T>(with: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(with)
}

pub(crate) mod firewall {
    use super::{Call, Error, Host, Network, host};

    fn answer<T>(call: Call, with: impl FnOnce(&mut Host) -> T) -> Result<T, Error> {
        host(|host| {
            host.calls.push(call);
            match &host.firewall_error {
                Some(error) => Err(error.clone()),
                None => Ok(with(host)),
            }
        })
    }

    pub(crate) fn block(network: Network) -> Result<(), Error> {
        answer(Call::Block(network), |host| {
            if !host.blocked.contains(&network) {
                host.blocked.push(network);
            }
        })
    }

    pub(crate) fn unblock(network: Network) -> Result<(), Error> {
        answer(Call::Unblock(network), |host| {
            host.blocked.retain(|n| *n != network)
        })
    }

    pub(crate) fn is_blocked(network: Network) -> Result<bool, Error> {
        answer(Call::IsBlocked(network), |host| {
            host.blocked.contains(&network)
        })
    }
}

pub(crate) mod process {
    use super::{Call, Error, host};

    pub(crate) fn run(helper: &str) -> Result<i32, Error> {
        host(|host| {
            host.calls.push(Call::Run(helper.to_owned()));
            let denied = || Err(Error::Denied(format!("no helper `{helper}` is granted")));
            host.helpers.get(helper).cloned().unwrap_or_else(denied)
        })
    }
}

pub(crate) mod hostname {
    use super::{Call, host};

    pub(crate) fn get() -> String {
        host(|host| {
            host.calls.push(Call::Hostname);
            host.hostname.clone()
        })
    }
}

pub(crate) mod log {
    use super::{Level, host};

    pub(crate) fn log(level: Level, message: &str) {
        host(|host| host.lines.push((level, message.to_owned())));
    }
}
