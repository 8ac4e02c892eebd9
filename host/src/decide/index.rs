//! Which blocks a rule selects, found without asking each of them: what
//! [`super::selectors::select`] says, for all blocks at once.

use std::collections::HashMap;

use crate::conf::active_response::ActiveResponse;
use crate::event::Dialect;

use super::selectors::Rule;

/// Rules have levels from 0 to 20.
const LEVELS: usize = 21;

/// Numbers of blocks, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set(Vec<u64>);

impl Set {
    fn of(blocks: usize) -> Self {
        Self(vec![0; blocks.div_ceil(64)])
    }

    fn insert(&mut self, block: usize) {
        if let Some(word) = self.0.get_mut(block >> 6) {
            *word |= 1_u64.wrapping_shl(u32::try_from(block & 63).unwrap_or_default());
        }
    }

    fn insert_all(&mut self, blocks: Option<&Vec<usize>>) {
        blocks
            .into_iter()
            .flatten()
            .for_each(|block| self.insert(*block));
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Index {
    blocks: usize,
    /// By the level of the rule: the blocks that it is high enough for.
    levels: Vec<Set>,
    /// By the name of a group, in small letters.
    groups: HashMap<String, Vec<usize>>,
    /// By the number of a rule.
    ids: HashMap<u32, Vec<usize>>,
    /// Those for which level and group have to fit together.
    both: Set,
}

impl Index {
    /// For the blocks in their order.
    pub fn new<'a>(
        blocks: impl ExactSizeIterator<Item = &'a ActiveResponse>,
        dialect: Dialect,
    ) -> Self {
        let count = blocks.len();
        let mut index = Self {
            blocks: count,
            levels: vec![Set::of(count); LEVELS],
            groups: HashMap::new(),
            ids: HashMap::new(),
            both: Set::of(count),
        };
        for (number, block) in blocks.enumerate() {
            let level = usize::from(block.level);
            if level > 0 {
                let high_enough = index.levels.iter_mut().skip(level);
                high_enough.for_each(|set| set.insert(number));
            }
            for group in &block.rules_group {
                let group = group.to_ascii_lowercase();
                index.groups.entry(group).or_default().push(number);
            }
            for id in &block.rules_id {
                index.ids.entry(*id).or_default().push(number);
            }
            if dialect != Dialect::Ossec && level > 0 && !block.rules_group.is_empty() {
                index.both.insert(number);
            }
        }
        index
    }

    /// The numbers of the blocks that fire for the rule, in order.
    #[must_use]
    pub fn select(&self, rule: &Rule) -> Vec<usize> {
        let level = usize::from(rule.level.unwrap_or_default());
        let level = level.min(LEVELS.saturating_sub(1));
        let mut groups = Set::of(self.blocks);
        for group in &rule.groups {
            groups.insert_all(self.groups.get(&group.to_ascii_lowercase()));
        }
        let mut ids = Set::of(self.blocks);
        ids.insert_all(rule.id.and_then(|id| self.ids.get(&id)));
        let Some(levels) = self.levels.get(level) else {
            return Vec::new();
        };
        let mut selected = Vec::new();
        let words = levels.0.iter().zip(&groups.0).zip(&ids.0).zip(&self.both.0);
        for (at, (((level, group), id), both)) in words.enumerate() {
            let mut fires = id | (level & group & both) | ((level | group) & !both);
            while fires != 0 {
                let bit = usize::try_from(fires.trailing_zeros()).unwrap_or_default();
                selected.push((at << 6) | bit);
                fires &= fires.wrapping_sub(1);
            }
        }
        selected
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::decide::selectors;

    const GROUPS: [&str; 4] = ["syslog", "SSHD", "web", "attack"];

    prop_compose! {
        fn any_block()(
            level in prop_oneof![Just(0_u8), 0_u8..=20],
            groups in prop::sample::subsequence(GROUPS.to_vec(), 0..3),
            ids in prop::collection::vec(1_u32..6, 0..3),
        ) -> ActiveResponse {
            ActiveResponse {
                command: String::new(),
                location: BTreeSet::new(),
                agent_id: None,
                level,
                rules_group: groups.iter().map(|g| (*g).to_owned()).collect(),
                rules_id: ids,
                timeout: 0,
                line: 0,
            }
        }
    }

    prop_compose! {
        fn any_rule()(
            id in prop::option::of(1_u32..6),
            level in prop::option::of(0_u8..=25),
            groups in prop::sample::subsequence(vec!["syslog", "sshd", "Web", "other"], 0..4),
        ) -> Rule {
            Rule { id, level, groups: groups.iter().map(|g| (*g).to_owned()).collect() }
        }
    }

    proptest! {
        #[test]
        fn it_says_what_the_selectors_say(
            blocks in prop::collection::vec(any_block(), 0..150),
            rule in any_rule(),
        ) {
            for dialect in [Dialect::Ossec, Dialect::Wazuh4, Dialect::Wazuh5] {
                let index = Index::new(blocks.iter(), dialect);
                let fires = |block: &ActiveResponse| selectors::select(block, &rule, dialect).is_ok();
                let expected: Vec<usize> =
                    (0..blocks.len()).filter(|n| fires(&blocks[*n])).collect();
                prop_assert_eq!(index.select(&rule), expected);
            }
        }
    }
}
