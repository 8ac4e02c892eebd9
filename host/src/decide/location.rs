//! Where a response runs: on this host, or on an agent.

use std::fmt;

use crate::alert::{Alert, in_parentheses};
use crate::conf::active_response::{ActiveResponse, Location};
use crate::conf::keys::Keys;
use crate::escape::escape;

/// What is installed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installation {
    /// A manager of agents.
    Server,
    /// A host by itself: wherever a response is to run, it runs here.
    Local,
}

impl Installation {
    /// What the installer wrote down (`TYPE` of `ossec-init.conf`); where it did not,
    /// whoever listens to agents or has some is a manager.
    #[must_use]
    pub fn of(written: Option<&str>, remote: bool, keys: &Keys) -> Self {
        match written {
            Some("server" | "hybrid") => Self::Server,
            Some("local" | "agent") => Self::Local,
            _ if remote || !keys.is_empty() => Self::Server,
            _ => Self::Local,
        }
    }
}

/// The manager's own id among its agents.
const MANAGER: &str = "000";

/// Who saw an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This host.
    Here,
    /// An agent.
    Agent(Agent),
}

/// An agent, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Agent {
    /// Its id in `client.keys`.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &Option<String>| text.as_deref().map(|text| escape(text, 128));
        match (text(&self.id), text(&self.name)) {
            (Some(id), Some(name)) => write!(f, "agent {id} ({name})"),
            (Some(id), None) => write!(f, "agent {id}"),
            (None, Some(name)) => write!(f, "agent {name}, which client.keys does not have"),
            (None, None) => f.write_str("an agent that the alert does not name"),
        }
    }
}

/// Who saw the event of `alert`. OSSEC writes the agent's name before the location;
/// its id is in `client.keys`.
///
/// # Errors
/// When the alert says two things.
pub fn origin(alert: &Alert, keys: &Keys) -> Result<Origin, String> {
    let location = alert.seen_at()?;
    let id = alert.agent_id();
    if id.as_deref() == Some(MANAGER) {
        return Ok(Origin::Here);
    }
    let name = location.as_deref().and_then(in_parentheses);
    let name = alert.agent_name().or_else(|| name.map(str::to_owned));
    match (id, name) {
        (Some(id), name) => Ok(Origin::Agent(Agent { id: Some(id), name })),
        (None, Some(name)) => Ok(Origin::Agent(Agent {
            id: keys.id_of(&name).map(str::to_owned),
            name: Some(name),
        })),
        (None, None) => Ok(Origin::Here),
    }
}

/// A place that a response runs at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// This host.
    Here,
    /// The agent that saw the event.
    Witness(Agent),
    /// The agent with this id, as `<agent_id>` has it.
    Agent(String),
    /// Every agent.
    Agents,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("on this host"),
            Self::Witness(agent) => write!(f, "on {agent}"),
            Self::Agent(id) => write!(f, "on agent {}", escape(id, 128)),
            Self::Agents => f.write_str("on every agent"),
        }
    }
}

/// The places of a block, for an event from `origin`, each once. A manager is no agent:
/// `all` are its agents, and `server,all` is everybody.
#[must_use]
pub fn places(block: &ActiveResponse, origin: &Origin, installation: Installation) -> Vec<Place> {
    let mut places = Vec::new();
    for location in &block.location {
        let place = match (location, origin) {
            (Location::Server, _) | (Location::Local, Origin::Here) => Place::Here,
            (Location::Local, Origin::Agent(agent)) => Place::Witness(agent.clone()),
            (Location::DefinedAgent, _) => match block.agent_id.as_deref().unwrap_or_default() {
                MANAGER => Place::Here,
                id => Place::Agent(id.to_owned()),
            },
            (Location::All, _) if installation == Installation::Local => Place::Here,
            (Location::All, _) => Place::Agents,
        };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::keys;
    use crate::message::json;

    fn alert(text: &str) -> Alert {
        Alert::of(json::parse(text.as_bytes()).unwrap())
    }

    fn agent(id: Option<&str>, name: Option<&str>) -> Origin {
        Origin::Agent(Agent {
            id: id.map(str::to_owned),
            name: name.map(str::to_owned),
        })
    }

    #[test]
    fn the_installer_is_believed_before_the_configuration() {
        let (none, some) = (Keys::default(), keys::parse(b"001 web01 any k\n"));
        for (written, remote, keys, expected) in [
            (Some("server"), false, &none, Installation::Server),
            (Some("local"), true, &some, Installation::Local),
            (Some("agent"), false, &some, Installation::Local),
            (None, true, &none, Installation::Server),
            (None, false, &some, Installation::Server),
            (None, false, &none, Installation::Local),
            (Some("?"), false, &none, Installation::Local),
        ] {
            assert_eq!(
                Installation::of(written, remote, keys),
                expected,
                "{written:?}"
            );
        }
    }

    #[test]
    fn the_agent_is_named_by_the_alert_or_by_its_location() {
        let keys = keys::parse(b"001 web01 any k\n");
        for (text, expected) in [
            (
                r#"{"rule":{"sidid":1},"location":"srv1->/var/log/auth.log"}"#,
                Origin::Here,
            ),
            (
                r#"{"rule":{"sidid":1},"location":"/var/log/auth.log"}"#,
                Origin::Here,
            ),
            (
                r#"{"rule":{"sidid":1},"location":"(web01) 10.0.0.5->/a"}"#,
                agent(Some("001"), Some("web01")),
            ),
            (
                r#"{"rule":{"sidid":1},"location":"(web02) 10.0.0.6->/a"}"#,
                agent(None, Some("web02")),
            ),
            (
                r#"{"rule":{"id":"1"},"agent":{"id":"000","name":"mgr"},"location":"/a"}"#,
                Origin::Here,
            ),
            (
                r#"{"rule":{"id":"1"},"agent":{"id":"007","name":"w"},"location":"/a"}"#,
                agent(Some("007"), Some("w")),
            ),
            (
                r#"{"rule":{"id":"1"},"agentless":{},"location":"x"}"#,
                Origin::Here,
            ),
        ] {
            assert_eq!(origin(&alert(text), &keys), Ok(expected), "{text}");
        }
        let doubled = alert(r#"{"rule":{"sidid":1},"location":"a","location":"b"}"#);
        assert!(origin(&doubled, &keys).is_err(), "it could run anywhere");
    }

    fn block(location: &[Location], agent_id: Option<&str>) -> ActiveResponse {
        ActiveResponse {
            command: String::new(),
            location: location.iter().copied().collect(),
            agent_id: agent_id.map(str::to_owned),
            level: 0,
            rules_group: Vec::new(),
            rules_id: Vec::new(),
            timeout: 0,
            line: 0,
        }
    }

    #[test]
    fn each_word_means_its_place() {
        use Location::{All, DefinedAgent, Local, Server};
        let witness = agent(Some("001"), None);
        let Origin::Agent(who) = &witness else {
            unreachable!()
        };
        let run = |words: &[Location], id, origin: &Origin, installation| {
            places(&block(words, id), origin, installation)
        };
        let server =
            |words: &[Location], origin| run(words, Some("003"), origin, Installation::Server);
        assert_eq!(server(&[Local], &Origin::Here), [Place::Here]);
        assert_eq!(server(&[Local], &witness), [Place::Witness(who.clone())]);
        assert_eq!(server(&[Server], &witness), [Place::Here]);
        assert_eq!(
            server(&[DefinedAgent], &witness),
            [Place::Agent("003".into())]
        );
        assert_eq!(server(&[All], &Origin::Here), [Place::Agents]);
        assert_eq!(server(&[Local, Server], &Origin::Here), [Place::Here]);
        assert_eq!(
            server(&[Server, All], &witness),
            [Place::Here, Place::Agents]
        );
        assert_eq!(
            run(&[DefinedAgent], Some("000"), &witness, Installation::Server),
            [Place::Here]
        );
        for words in [[Local], [Server], [All]] {
            assert_eq!(
                run(&words, None, &Origin::Here, Installation::Local),
                [Place::Here]
            );
        }
        assert_eq!(
            run(
                &[DefinedAgent],
                Some("001"),
                &Origin::Here,
                Installation::Local
            ),
            [Place::Agent("001".into())]
        );
    }
}
