//! What of an alert a response gets to see, and whether it runs at all.

pub mod bind;
mod index;
pub mod location;
pub mod selectors;

use std::fmt;

use crate::alert::Alert;
use crate::event::{Action, Event, Expect, Field};
use crate::message::Request;

/// The log that our own lines go to: an alert that comes from it would start a
/// response for a response.
const OWN_LOG: &str = "active-responses.log";

/// An event with nothing in it that is not expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked {
    /// What the guest sees.
    pub event: Event,
    /// The expected values in the order of [`Field`]: what execd is asked about.
    pub keys: Vec<String>,
}

/// Why a response does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declined {
    /// The field that it expects and does not get.
    pub field: Option<Field>,
    /// Why.
    pub why: String,
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(field) => write!(f, "it does not run: {field} is expected, but {}", self.why),
            None => write!(f, "it does not run: {}", self.why),
        }
    }
}

/// The view of the request that a response with that `expect` gets.
///
/// # Errors
/// When an expected field is absent or can't be used, or when the alert was raised
/// by the log of the responses themselves.
pub fn mask(
    request: &Request,
    expect: &Expect,
    srcip_paths: &[String],
    own_hostname: &str,
) -> Result<Masked, Declined> {
    if request.action == Action::Add && is_own(&request.alert) {
        let why = format!("the alert comes from {OWN_LOG} itself");
        return Err(Declined { field: None, why });
    }
    let event = unmasked(request);
    show(event, &request.alert, expect, srcip_paths, own_hostname)
}

/// Whether it was raised by the log of the responses themselves.
fn is_own(alert: &Alert) -> bool {
    alert.location().is_some_and(|l| l.ends_with(OWN_LOG))
}

/// The event with what is expected of the alert in it.
fn show(
    mut event: Event,
    alert: &Alert,
    expect: &Expect,
    srcip_paths: &[String],
    own_hostname: &str,
) -> Result<Masked, Declined> {
    let mut keys = Vec::new();
    for field in expect {
        let key = match field {
            Field::Srcip => {
                let srcip = required(*field, alert.srcip(srcip_paths))?;
                event.srcip = Some(srcip);
                srcip.to_string()
            }
            Field::User => event.user.insert(required(*field, alert.user())?).clone(),
            Field::Hostname => {
                let named = alert
                    .hostname()
                    .map(|name| name.or_else(|| Some(own_hostname.to_owned())));
                event.hostname.insert(required(*field, named)?).clone()
            }
            Field::Filename => event
                .filename
                .insert(required(*field, alert.filename())?)
                .clone(),
        };
        keys.push(key);
    }
    Ok(Masked { event, keys })
}

/// The view of an event that somebody wrote down: what [`mask`] would leave of it.
///
/// # Errors
/// When an expected field is absent.
pub fn narrow(event: Event, expect: &Expect, own_hostname: &str) -> Result<Event, Declined> {
    let mut narrowed = Event {
        srcip: None,
        user: None,
        hostname: None,
        filename: None,
        ..event.clone()
    };
    for field in expect {
        let field = *field;
        match field {
            Field::Srcip => narrowed.srcip = Some(required(field, Ok(event.srcip))?),
            Field::User => narrowed.user = Some(required(field, Ok(event.user.clone()))?),
            Field::Hostname => {
                let named = event.hostname.clone();
                narrowed.hostname = Some(named.unwrap_or_else(|| own_hostname.to_owned()));
            }
            Field::Filename => {
                narrowed.filename = Some(required(field, Ok(event.filename.clone()))?);
            }
        }
    }
    Ok(narrowed)
}

/// What every response sees, whatever it expects.
#[must_use]
pub fn unmasked(request: &Request) -> Event {
    Event {
        extra_args: request.extra_args.clone(),
        timeout: request.timeout,
        ..bare(&request.alert, request.action)
    }
}

fn bare(alert: &Alert, action: Action) -> Event {
    Event {
        action,
        srcip: None,
        user: None,
        hostname: None,
        filename: None,
        alert_id: alert.alert_id(),
        rule_id: alert.rule_id(),
        rule_level: alert.rule_level(),
        rule_groups: alert.rule_groups(),
        agent_id: alert.agent_id(),
        agent_name: alert.agent_name(),
        location: alert.location(),
        extra_args: Vec::new(),
        timeout: None,
    }
}

fn required<T>(field: Field, found: Result<Option<T>, String>) -> Result<T, Declined> {
    match found {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Declined {
            field: Some(field),
            why: "the alert has none".to_owned(),
        }),
        Err(why) => Err(Declined {
            field: Some(field),
            why,
        }),
    }
}
