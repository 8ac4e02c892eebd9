//! What a way in asks for: one response to one alert, on this host.

use std::time::Duration;

use crate::event::Expect;
use crate::message::Request;
use crate::message::execd::Body;

/// See the module.
#[derive(Debug, Clone)]
pub struct Order {
    /// The executable, as `<executable>` or `ar.conf` has it.
    pub executable: String,
    /// What is asked, with the alert as it came.
    pub request: Request,
    /// After that it is taken back; none where nobody asked for an end.
    pub timeout: Option<Duration>,
    /// What the command expects, where the way in knows which command it is.
    pub expect: Option<Expect>,
    /// What came through the queue, byte for byte; none where nothing did.
    pub raw: Option<Body>,
    /// What makes it the same order after a restart: one that the journal has already
    /// is not done again.
    pub once: Option<String>,
    /// The number that the daemon gives it: it says when the order is over.
    pub ticket: u64,
}
