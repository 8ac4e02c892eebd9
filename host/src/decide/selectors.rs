//! Whether an alert asks for a response: by level, group and id of its rule.

use crate::alert::Alert;
use crate::conf::active_response::ActiveResponse;
use crate::event::Dialect;

/// What a block selects by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub id: Option<u32>,
    /// 0 to 20.
    pub level: Option<u8>,
    /// The names of its groups.
    pub groups: Vec<String>,
}

impl Rule {
    /// The rule that raised the alert.
    #[must_use]
    pub fn of(alert: &Alert) -> Self {
        Self {
            id: alert.rule_id().and_then(|id| id.parse().ok()),
            level: alert.rule_level(),
            groups: alert.rule_groups(),
        }
    }
}

/// Whether the block fires for the rule: the criteria that decided it, in words.
///
/// In OSSEC each criterion fires by itself. In Wazuh level and group belong together
/// where a block has both, and the ids stand beside them.
///
/// # Errors
/// Why it does not, in words.
pub fn select(block: &ActiveResponse, rule: &Rule, dialect: Dialect) -> Result<String, String> {
    let level = (block.level > 0).then(|| level(block.level, rule));
    let group = (!block.rules_group.is_empty()).then(|| group(&block.rules_group, rule));
    let id = (!block.rules_id.is_empty()).then(|| id(&block.rules_id, rule));
    let alternatives = match (level, group) {
        (Some(level), Some(group)) if dialect != Dialect::Ossec => vec![both(level, group)],
        (level, group) => level.into_iter().chain(group).collect(),
    };
    let mut missed = Vec::new();
    for criterion in alternatives.into_iter().chain(id) {
        match criterion {
            Ok(why) => return Ok(why),
            Err(why) => missed.push(why),
        }
    }
    if missed.is_empty() {
        return Err("it names no level, no group and no rule, so it never fires".to_owned());
    }
    Err(missed.join(", and "))
}

fn level(least: u8, rule: &Rule) -> Result<String, String> {
    match rule.level {
        Some(level) if level >= least => Ok(format!("level {level} is {least} or higher")),
        Some(level) => Err(format!("level {level} is below {least}")),
        None => Err("the alert has no level".to_owned()),
    }
}

/// Whole names, whatever their case.
fn group(wanted: &[String], rule: &Rule) -> Result<String, String> {
    let has = |name: &&String| rule.groups.iter().any(|g| g.eq_ignore_ascii_case(name));
    match wanted.iter().find(has) {
        Some(name) => Ok(format!("the rule is in group {name}")),
        None => Err(format!("the rule is in none of {}", wanted.join(", "))),
    }
}

fn id(wanted: &[u32], rule: &Rule) -> Result<String, String> {
    match rule.id {
        Some(id) if wanted.contains(&id) => Ok(format!("rule {id} is named")),
        Some(id) => Err(format!("rule {id} is not named")),
        None => Err("the alert names no rule".to_owned()),
    }
}

fn both(one: Result<String, String>, other: Result<String, String>) -> Result<String, String> {
    let (one, other) = (one?, other?);
    Ok(format!("{one} and {other}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::conf::ossec;

    const COMMAND: &str =
        "<command><name>c</name><executable>c.sh</executable><expect></expect></command>";

    fn block(criteria: &str) -> ActiveResponse {
        let text = format!(
            "<ossec_config>{COMMAND}<active-response><command>c</command><location>local</location>{criteria}</active-response></ossec_config>"
        );
        let conf = ossec::parse(text.as_bytes(), Path::new("ossec.conf"), Dialect::Ossec).unwrap();
        conf.responses.into_iter().next().unwrap()
    }

    fn rule(id: u32, level: u8, groups: &[&str]) -> Rule {
        Rule {
            id: Some(id),
            level: Some(level),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        }
    }

    fn fires(criteria: &str, rule: &Rule, dialect: Dialect) -> bool {
        select(&block(criteria), rule, dialect).is_ok()
    }

    #[test]
    fn option_level_is_this_level_or_higher() {
        let six = "<level>6</level>";
        for (level, expected) in [(5, false), (6, true), (7, true)] {
            assert_eq!(fires(six, &rule(1, level, &[]), Dialect::Ossec), expected);
        }
        assert!(!fires(
            "<level>0</level>",
            &rule(1, 15, &[]),
            Dialect::Ossec
        ));
        assert!(!fires(six, &Rule::default(), Dialect::Ossec));
    }

    #[test]
    fn option_rules_group_is_a_list_of_whole_names() {
        for list in [
            "authentication_failed,authentication_failures",
            "authentication_failed|authentication_failures",
            " authentication_failed , authentication_failures ",
        ] {
            let list = format!("<rules_group>{list}</rules_group>");
            for (group, expected) in [
                ("authentication_failed", true),
                ("authentication_failures", true),
                ("Authentication_Failed", true),
                ("authentication", false),
                ("thentic", false),
            ] {
                let rule = rule(1, 5, &["syslog", group]);
                assert_eq!(
                    fires(&list, &rule, Dialect::Ossec),
                    expected,
                    "{list} {group}"
                );
            }
        }
    }

    #[test]
    fn option_rules_id_is_a_list_of_numbers() {
        let ids = "<rules_id>510010, 510011</rules_id>";
        for (id, expected) in [(510_010, true), (510_011, true), (51_001, false)] {
            assert_eq!(fires(ids, &rule(id, 0, &[]), Dialect::Ossec), expected);
        }
    }

    #[test]
    fn several_criteria_are_or_in_ossec_and_level_with_group_in_wazuh() {
        let all = "<level>10</level><rules_group>sshd</rules_group><rules_id>7</rules_id>";
        for (rule, ossec, wazuh) in [
            (rule(1, 10, &[]), true, false),
            (rule(1, 3, &["sshd"]), true, false),
            (rule(1, 10, &["sshd"]), true, true),
            (rule(7, 3, &[]), true, true),
            (rule(1, 3, &[]), false, false),
        ] {
            assert_eq!(fires(all, &rule, Dialect::Ossec), ossec, "{rule:?}");
            assert_eq!(fires(all, &rule, Dialect::Wazuh4), wazuh, "{rule:?}");
        }
        let two = "<level>10</level><rules_id>7</rules_id>";
        assert!(fires(two, &rule(1, 10, &[]), Dialect::Wazuh4));
    }

    #[test]
    fn a_block_without_a_criterion_never_fires_and_says_so() {
        let why = select(&block(""), &rule(1, 15, &["sshd"]), Dialect::Ossec).unwrap_err();
        assert!(why.contains("never fires"), "{why}");
    }
}
