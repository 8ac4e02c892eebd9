//! `logs/active-responses.log`: the original's lines, so that its rules keep firing,
//! and one line of our own per outcome.
//!
//! Every line is built from typed values with control characters escaped: no text
//! of an alert can end a line or begin another.

mod clock;
mod line;
mod log;
mod prometheus;
mod summary;
#[cfg(test)]
mod tests;

pub use crate::escape::escape;
pub use clock::now;
pub use line::{Outcome, date, echo, outcome_line, started, undone, wazuh_line};
pub use log::{Log, Refused};
pub use prometheus::prometheus;
pub use summary::effect;
