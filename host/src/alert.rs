//! An alert as it arrived, and the fields of it that a response may see.

use std::net::IpAddr;

use crate::address;
use crate::escape::escape;
use crate::message::json::Json;

/// The longest value that is passed on. Paths have at most 4096 bytes.
const LONGEST: usize = 4096;

/// Groups of a rule that are passed on; real rules have about ten.
const MOST_GROUPS: usize = 64;

/// An alert. What it says is an attacker's text until it is masked.
#[derive(Debug, Clone)]
pub enum Alert {
    /// OSSEC's fields, `-` taken as absent.
    Arguments {
        /// The user.
        user: Option<String>,
        /// The attacker's address as text.
        srcip: Option<String>,
        /// The alert's id.
        alert_id: Option<String>,
        /// The rule's id.
        rule_id: Option<String>,
        /// Where it was seen.
        location: Option<String>,
        /// The file.
        filename: Option<String>,
    },
    /// The alert of Wazuh 4.
    Wazuh4(Json),
    /// The event of Wazuh 5.
    Wazuh5(Json),
}

impl Alert {
    /// The attacker's address: the first of `paths` that has a value, or the
    /// dialect's usual one.
    ///
    /// # Errors
    /// When it is there and can't be used.
    pub fn srcip(&self, paths: &[String]) -> Result<Option<IpAddr>, String> {
        let text = match self {
            Self::Arguments { srcip, .. } => srcip.clone(),
            Self::Wazuh4(json) if paths.is_empty() => first(json, &["data.srcip", "srcip"])?,
            Self::Wazuh5(json) if paths.is_empty() => first(json, &["source.ip"])?,
            Self::Wazuh4(json) | Self::Wazuh5(json) => {
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                first(json, &paths)?
            }
        };
        match text {
            None => Ok(None),
            Some(text) => match address::parse(&text) {
                Some(address) => Ok(Some(address)),
                None => Err(format!("`{}` is no IP address", escape(&text, 64))),
            },
        }
    }

    /// The user.
    ///
    /// # Errors
    /// As [`Alert::srcip`].
    pub fn user(&self) -> Result<Option<String>, String> {
        match self {
            Self::Arguments { user, .. } => Ok(user.clone()),
            Self::Wazuh4(json) => first(json, &["data.dstuser"]),
            Self::Wazuh5(json) => first(json, &["user.name"]),
        }
    }

    /// The host that the alert is about: its own word, else the `(name)` of its
    /// location.
    ///
    /// # Errors
    /// As [`Alert::srcip`].
    pub fn hostname(&self) -> Result<Option<String>, String> {
        let named = match self {
            Self::Arguments { .. } => None,
            Self::Wazuh4(json) => first(json, &["predecoder.hostname", "hostname"])?,
            Self::Wazuh5(json) => first(json, &["host.hostname", "host.name"])?,
        };
        Ok(named.or_else(|| {
            let location = self.location()?;
            let (name, _) = location.strip_prefix('(')?.split_once(')')?;
            Some(name.to_owned())
        }))
    }

    /// The file.
    ///
    /// # Errors
    /// As [`Alert::srcip`].
    pub fn filename(&self) -> Result<Option<String>, String> {
        match self {
            Self::Arguments { filename, .. } => Ok(filename.clone()),
            Self::Wazuh4(json) => first(json, &["syscheck.path", "SyscheckFile.path"]),
            Self::Wazuh5(json) => first(json, &["file.path"]),
        }
    }

    /// The alert's id.
    #[must_use]
    pub fn alert_id(&self) -> Option<String> {
        match self {
            Self::Arguments { alert_id, .. } => alert_id.clone(),
            Self::Wazuh4(json) => said(json, &["id"]),
            Self::Wazuh5(json) => said(json, &["event.id"]),
        }
    }

    /// The rule's id.
    #[must_use]
    pub fn rule_id(&self) -> Option<String> {
        match self {
            Self::Arguments { rule_id, .. } => rule_id.clone(),
            Self::Wazuh4(json) | Self::Wazuh5(json) => said(json, &["rule.id", "rule.sidid"]),
        }
    }

    /// The rule's level.
    #[must_use]
    pub fn rule_level(&self) -> Option<u8> {
        self.tree()
            .and_then(|json| said(json, &["rule.level"])?.parse().ok())
    }

    /// The rule's groups.
    #[must_use]
    pub fn rule_groups(&self) -> Vec<String> {
        let groups = self.tree().and_then(|json| json.at("rule.groups").ok()?);
        let groups = groups.map(Json::strings).unwrap_or_default().into_iter();
        groups
            .filter(|g| !g.is_empty() && g.len() <= LONGEST)
            .take(MOST_GROUPS)
            .collect()
    }

    /// The agent's id.
    #[must_use]
    pub fn agent_id(&self) -> Option<String> {
        self.tree()
            .and_then(|json| said(json, &["agent.id", "wazuh.agent.id"]))
    }

    /// The agent's name.
    #[must_use]
    pub fn agent_name(&self) -> Option<String> {
        self.tree()
            .and_then(|json| said(json, &["agent.name", "wazuh.agent.name"]))
    }

    /// Where it was seen.
    #[must_use]
    pub fn location(&self) -> Option<String> {
        match self {
            Self::Arguments { location, .. } => location.clone(),
            Self::Wazuh4(json) => said(json, &["location"]),
            Self::Wazuh5(json) => said(json, &["location", "log.file.path"]),
        }
    }

    fn tree(&self) -> Option<&Json> {
        match self {
            Self::Arguments { .. } => None,
            Self::Wazuh4(json) | Self::Wazuh5(json) => Some(json),
        }
    }
}

/// The first path with a value; `-` and the empty string are none.
fn first(json: &Json, paths: &[&str]) -> Result<Option<String>, String> {
    for path in paths {
        let found = json
            .at(path)
            .map_err(|e| format!("the alert has more than one `{}`", e.0))?;
        match found.and_then(Json::as_str) {
            None | Some("" | "-") => {}
            Some(text) if text.len() > LONGEST => return Err(format!("`{path}` is too long")),
            Some(text) => return Ok(Some(text.to_owned())),
        }
    }
    Ok(None)
}

/// As [`first`], for what is passed on for information only.
fn said(json: &Json, paths: &[&str]) -> Option<String> {
    paths
        .iter()
        .filter_map(|path| json.at(path).ok().flatten()?.text())
        .find(|text| !text.is_empty() && text.len() <= LONGEST)
}
