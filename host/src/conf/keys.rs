//! `client.keys`: the agents of a manager. Their keys are not kept.

use std::collections::{HashMap, HashSet};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    ids: HashSet<String>,
    by_name: HashMap<String, String>,
}

/// Reads lines of `id name ip key`. As the originals do, it skips comments and agents
/// that were removed: their name begins with `#` (OSSEC) or `!` (Wazuh).
#[must_use]
pub fn parse(bytes: &[u8]) -> Keys {
    let mut keys = Keys::default();
    for line in String::from_utf8_lossy(bytes).lines() {
        let mut words = line.split(' ');
        let (Some(id), Some(name), Some(_ip)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if id.is_empty() || id.starts_with('#') || name.starts_with(['#', '!']) {
            continue;
        }
        keys.ids.insert(id.to_owned());
        keys.by_name
            .entry(name.to_owned())
            .or_insert_with(|| id.to_owned());
    }
    keys
}

impl Keys {
    /// Whether no agent is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether an agent has that id; `2` is not `002`, as in the originals.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// The id of the agent with that name; the first of several.
    #[must_use]
    pub fn id_of(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_that_were_removed_are_none() {
        let keys = parse(
            b"# comment\n 009 padded 10.0.0.9 k\n001 web01 10.0.0.5 aa\n002 #*#*old 10.0.0.6 bb\n003 !old 10.0.0.7 cc\n004 web01 any dd\n005 short\n\xff\n",
        );
        assert_eq!(keys.id_of("web01"), Some("001"));
        assert!(keys.has("001") && keys.has("004") && !keys.has("1"));
        for gone in ["002", "003", "005", "009"] {
            assert!(!keys.has(gone), "{gone}");
        }
        assert!(parse(b"").is_empty());
        let text = format!("{keys:?}");
        assert!(!text.contains("aa"), "a key is nobody's business: {text}");
    }
}
