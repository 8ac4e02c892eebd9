//! What was said lately, so that a flood of alerts says it once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The same is said again after that.
const AGAIN: Duration = Duration::from_secs(60);

/// Different things that are remembered; after that some are said too often, rather
/// than too seldom.
const MOST: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: HashMap<Key, (Instant, u64)>,
}

/// What is the same: a rule, the line of a block, and what became of it.
pub(super) type Key = (Option<u32>, u32, &'static str);

impl Told {
    /// Whether it is to be said now: then how often it was not, since the last time.
    pub(super) fn say(&mut self, key: Key, now: Instant) -> Option<u64> {
        if let Some((last, silent)) = self.last.get_mut(&key) {
            if now.saturating_duration_since(*last) < AGAIN {
                *silent = silent.saturating_add(1);
                return None;
            }
            *last = now;
            return Some(std::mem::take(silent));
        }
        if self.last.len() >= MOST {
            self.last.clear();
        }
        self.last.insert(key, (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_with_the_number_of_the_others() {
        let mut told = Told::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let key = (Some(5712), 7, "away");
        assert_eq!(told.say(key, at(0)), Some(0));
        assert_eq!(told.say(key, at(1)), None);
        assert_eq!(told.say(key, at(59)), None);
        assert_eq!(told.say((Some(5712), 8, "away"), at(59)), Some(0));
        assert_eq!(told.say(key, at(60)), Some(2));
        assert_eq!(told.say(key, at(121)), Some(0));
        for line in 0..10_000 {
            told.say((None, line, "x"), at(121));
        }
        assert!(told.last.len() <= MOST);
    }
}
