//! An alert as it arrived, and the fields of it that a response may see.

use std::net::IpAddr;

use crate::address;
use crate::escape::escape;
use crate::event::Dialect;
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
    /// The alert of OSSEC's `alerts.json`. It is flat, and what decoders found stands
    /// beside what OSSEC says: whoever doubles a member is refused.
    Ossec(Json),
    /// The alert of Wazuh 4.
    Wazuh4(Json),
    /// The event of Wazuh 5.
    Wazuh5(Json),
}

impl Alert {
    /// An alert of `alerts.json`. Whose it is shows in what only its writer can say:
    /// OSSEC numbers its rule `sidid`, Wazuh 5 has an object `wazuh`.
    #[must_use]
    pub fn of(json: Json) -> Self {
        let has = |path: &str| json.at(path).ok().flatten();
        if has("rule.sidid").is_some() {
            Self::Ossec(json)
        } else if has("wazuh").is_some_and(Json::is_object) {
            Self::Wazuh5(json)
        } else {
            Self::Wazuh4(json)
        }
    }

    /// Whose alert it is.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Arguments { .. } | Self::Ossec(_) => Dialect::Ossec,
            Self::Wazuh4(_) => Dialect::Wazuh4,
            Self::Wazuh5(_) => Dialect::Wazuh5,
        }
    }

    /// The attacker's address: the first of `paths` that has a value, or the
    /// dialect's usual one.
    ///
    /// # Errors
    /// When it is there and can't be used.
    pub fn srcip(&self, paths: &[String]) -> Result<Option<IpAddr>, String> {
        match self.srcip_text(paths)? {
            None => Ok(None),
            Some(text) => match address::parse(&text) {
                Some(address) => Ok(Some(address)),
                None => Err(format!("`{}` is no IP address", escape(&text, 64))),
            },
        }
    }

    /// As [`Alert::srcip`], as it stands there: perhaps a host name.
    ///
    /// # Errors
    /// As [`Alert::srcip`].
    pub fn srcip_text(&self, paths: &[String]) -> Result<Option<String>, String> {
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        match self {
            Self::Arguments { srcip, .. } => Ok(srcip.clone()),
            Self::Ossec(json) if paths.is_empty() => first(json, &["srcip"]),
            Self::Wazuh4(json) if paths.is_empty() => first(json, &["data.srcip"]),
            Self::Wazuh5(json) if paths.is_empty() => first(json, &["source.ip"]),
            // Grants are written in Wazuh's words; OSSEC has no `data` around them.
            Self::Ossec(json) => {
                let flat = paths
                    .iter()
                    .map(|path| path.strip_prefix("data.").unwrap_or(path));
                first(json, &flat.collect::<Vec<_>>())
            }
            Self::Wazuh4(json) | Self::Wazuh5(json) => first(json, &paths),
        }
    }

    /// The user.
    ///
    /// # Errors
    /// As [`Alert::srcip`].
    pub fn user(&self) -> Result<Option<String>, String> {
        match self {
            Self::Arguments { user, .. } => Ok(user.clone()),
            Self::Ossec(json) => first(json, &["dstuser", "srcuser"]),
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
            // Of an agent's event it is the whole location.
            Self::Ossec(json) => first(json, &["hostname"])?
                .map(|name| in_parentheses(&name).map_or(name.clone(), str::to_owned)),
            Self::Wazuh4(json) => first(json, &["predecoder.hostname"])?,
            Self::Wazuh5(json) => first(json, &["host.hostname", "host.name"])?,
        };
        Ok(named.or_else(|| in_parentheses(&self.location()?).map(str::to_owned)))
    }

    /// The file.
    ///
    /// # Errors
    /// As [`Alert::srcip`].
    pub fn filename(&self) -> Result<Option<String>, String> {
        match self {
            Self::Arguments { filename, .. } => Ok(filename.clone()),
            Self::Ossec(json) => first(json, &["SyscheckFile.path"]),
            Self::Wazuh4(json) => first(json, &["syscheck.path"]),
            Self::Wazuh5(json) => first(json, &["file.path"]),
        }
    }

    /// The alert's id.
    #[must_use]
    pub fn alert_id(&self) -> Option<String> {
        match self {
            Self::Arguments { alert_id, .. } => alert_id.clone(),
            Self::Ossec(json) | Self::Wazuh4(json) => said(json, &["id"]),
            Self::Wazuh5(json) => said(json, &["event.id"]),
        }
    }

    /// The rule's id.
    #[must_use]
    pub fn rule_id(&self) -> Option<String> {
        match self {
            Self::Arguments { rule_id, .. } => rule_id.clone(),
            Self::Ossec(json) => said(json, &["rule.sidid"]),
            Self::Wazuh4(json) | Self::Wazuh5(json) => said(json, &["rule.id"]),
        }
    }

    /// The rule's level.
    #[must_use]
    pub fn rule_level(&self) -> Option<u8> {
        self.json()
            .and_then(|json| said(json, &["rule.level"])?.parse().ok())
    }

    /// The rule's groups: a list, or OSSEC's text with commas.
    #[must_use]
    pub fn rule_groups(&self) -> Vec<String> {
        let at = |path: &str| self.json().and_then(|json| json.at(path).ok()?);
        let groups = match (at("rule.groups"), at("rule.group").and_then(Json::as_str)) {
            (None, Some(text)) => text.split(',').map(str::to_owned).collect(),
            (list, _) => list.map(Json::strings).unwrap_or_default(),
        };
        groups
            .into_iter()
            .filter(|g| !g.is_empty() && g.len() <= LONGEST)
            .take(MOST_GROUPS)
            .collect()
    }

    /// The agent's id; OSSEC does not say it.
    #[must_use]
    pub fn agent_id(&self) -> Option<String> {
        match self {
            Self::Arguments { .. } | Self::Ossec(_) => None,
            Self::Wazuh4(json) | Self::Wazuh5(json) => said(json, &["agent.id", "wazuh.agent.id"]),
        }
    }

    /// The agent's name; in OSSEC's words it stands before the location.
    #[must_use]
    pub fn agent_name(&self) -> Option<String> {
        match self {
            Self::Arguments { .. } => None,
            Self::Ossec(_) => in_parentheses(&self.location()?).map(str::to_owned),
            Self::Wazuh4(json) | Self::Wazuh5(json) => {
                said(json, &["agent.name", "wazuh.agent.name"])
            }
        }
    }

    /// Where it was seen.
    #[must_use]
    pub fn location(&self) -> Option<String> {
        self.seen_at().ok().flatten()
    }

    /// As [`Alert::location`], for what depends on it.
    ///
    /// # Errors
    /// As [`Alert::srcip`].
    pub fn seen_at(&self) -> Result<Option<String>, String> {
        match self {
            Self::Arguments { location, .. } => Ok(location.clone()),
            Self::Ossec(json) | Self::Wazuh4(json) => first(json, &["location"]),
            Self::Wazuh5(json) => first(json, &["location", "log.file.path"]),
        }
    }

    /// The alert as it came, where it came as JSON.
    #[must_use]
    pub fn json(&self) -> Option<&Json> {
        match self {
            Self::Arguments { .. } => None,
            Self::Ossec(json) | Self::Wazuh4(json) | Self::Wazuh5(json) => Some(json),
        }
    }
}

/// The name in `(name) ip->file`, which is how OSSEC writes what an agent saw.
#[must_use]
pub fn in_parentheses(location: &str) -> Option<&str> {
    let (name, _) = location.strip_prefix('(')?.split_once(')')?;
    Some(name)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::json;

    fn alert(text: &str) -> Alert {
        Alert::of(json::parse(text.as_bytes()).unwrap())
    }

    fn sample(name: &str) -> Alert {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/alerts/");
        alert(&std::fs::read_to_string(format!("{folder}{name}")).unwrap())
    }

    #[test]
    fn every_sample_of_ossec_gives_its_fields() {
        for (name, rule, user, hostname, agent) in [
            (
                "01-sshd-bruteforce-5712",
                "5712",
                Some("oracle"),
                "web-01",
                Some("web-01"),
            ),
            (
                "02-sshd-failed-password-5716",
                "5716",
                Some("alice"),
                "srv1",
                None,
            ),
            ("05-sudo-5402", "5402", Some("root"), "srv1", None),
            ("04-syscheck-550", "550", None, "web-01", Some("web-01")),
        ] {
            let alert = sample(&format!("ossec/{name}.json"));
            assert_eq!(alert.dialect(), Dialect::Ossec, "{name}");
            assert_eq!(alert.rule_id().as_deref(), Some(rule));
            assert_eq!(alert.user().unwrap().as_deref(), user);
            assert_eq!(alert.hostname().unwrap().as_deref(), Some(hostname));
            assert_eq!(alert.agent_name().as_deref(), agent);
            assert_eq!(alert.agent_id(), None);
        }
        let file = sample("ossec/04-syscheck-550.json").filename().unwrap();
        assert_eq!(file.as_deref(), Some("/etc/cron.d/x"));
    }

    #[test]
    fn wazuhs_alert_is_wazuhs_whatever_its_data_say() {
        let alert = alert(
            r#"{"rule":{"id":"1"},"srcip":"192.0.2.9","data":{"rule":{"sidid":7},"wazuh":{},"srcip":"192.0.2.1","srcuser":"x"}}"#,
        );
        assert_eq!(alert.dialect(), Dialect::Wazuh4);
        assert_eq!(alert.srcip_text(&[]).unwrap().as_deref(), Some("192.0.2.1"));
        assert_eq!(alert.user(), Ok(None), "its programs take dstuser alone");
        assert_eq!(
            sample("wazuh/01-sshd-bruteforce-5712.json").dialect(),
            Dialect::Wazuh4
        );
    }

    #[test]
    fn ossecs_groups_are_a_list_or_a_text() {
        for text in [
            r#"{"rule":{"sidid":1,"group":"syslog,sshd,"}}"#,
            r#"{"rule":{"sidid":1,"group":"x,","groups":["syslog","sshd"]}}"#,
        ] {
            assert_eq!(alert(text).rule_groups(), ["syslog", "sshd"]);
        }
    }

    #[test]
    fn a_path_of_the_grants_is_found_in_a_flat_alert_too() {
        let alert = alert(r#"{"rule":{"sidid":1},"srcip":"192.0.2.1","attacker":"192.0.2.2"}"#);
        let srcip = |path: &str| alert.srcip_text(&[path.to_owned()]).unwrap();
        assert_eq!(srcip("data.srcip").as_deref(), Some("192.0.2.1"));
        assert_eq!(srcip("attacker").as_deref(), Some("192.0.2.2"));
    }

    #[test]
    fn a_doubled_location_is_no_location() {
        let doubled = alert(r#"{"rule":{"sidid":1},"location":"a","location":"(b) 1->c"}"#);
        assert!(doubled.seen_at().is_err());
        assert_eq!(doubled.location(), None);
    }
}
