//! What a guest may get to see of an alert, and the words that the layers share.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is asked of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// An alert fired.
    Add,
    /// Its timeout is over; take back what `Add` did.
    Delete,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Delete => "delete",
        })
    }
}

/// Whose wire format and whose selector rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OSSEC 4.x and Wazuh up to 4.1: text and argv.
    Ossec,
    /// Wazuh 4.2 and later: JSON on stdin, `add` and `delete`.
    Wazuh4,
    /// Wazuh 5: JSON on stdin, `enable` and `disable`.
    Wazuh5,
}

/// A field of an alert that `<expect>` or the grants may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// The attacker's address.
    Srcip,
    /// The user name; `username` is another spelling of it.
    #[serde(alias = "username")]
    User,
    /// The host that the alert is about.
    Hostname,
    /// The file that the alert is about.
    Filename,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Srcip => "srcip",
            Self::User => "user",
            Self::Hostname => "hostname",
            Self::Filename => "filename",
        })
    }
}

/// The fields that a response is shown, in the order of [`Field`].
pub type Expect = BTreeSet<Field>;

/// The masked view of an alert: a field that is not expected is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Add or delete.
    pub action: Action,
    /// The attacker's address, canonical (see [`crate::address`]).
    #[serde(default)]
    pub srcip: Option<IpAddr>,
    /// The user name as the alert has it.
    #[serde(default)]
    pub user: Option<String>,
    /// The host that the alert is about.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The file that the alert is about.
    #[serde(default)]
    pub filename: Option<String>,
    /// The alert's own id.
    #[serde(default)]
    pub alert_id: Option<String>,
    /// The id of the rule that fired.
    #[serde(default)]
    pub rule_id: Option<String>,
    /// The level of that rule, 0 to 20.
    #[serde(default)]
    pub rule_level: Option<u8>,
    /// The groups of that rule.
    #[serde(default)]
    pub rule_groups: Vec<String>,
    /// The id of the agent that saw it.
    #[serde(default)]
    pub agent_id: Option<String>,
    /// The name of that agent.
    #[serde(default)]
    pub agent_name: Option<String>,
    /// Where it was seen.
    #[serde(default)]
    pub location: Option<String>,
    /// `<extra_args>`, one by one.
    #[serde(default)]
    pub extra_args: Vec<String>,
    /// Seconds until the undo, where the caller says so.
    #[serde(default)]
    pub timeout: Option<u32>,
}

impl Event {
    /// An event that says nothing but its action.
    #[must_use]
    pub fn of(action: Action) -> Self {
        Self {
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

    /// When the alert was raised, since the epoch: the ids of OSSEC's and Wazuh's alerts
    /// begin with it.
    #[must_use]
    pub fn alerted(&self) -> Option<Duration> {
        let (seconds, _) = self.alert_id.as_deref()?.split_once('.')?;
        seconds.parse().ok().map(Duration::from_secs)
    }
}
