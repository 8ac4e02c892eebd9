//! A flood of the same complaint: some of it is said, the rest counted.

use std::time::{Duration, Instant};

/// Complaints of one kind that are said within [`WINDOW`].
const SAID: u32 = 20;

const WINDOW: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Quiet {
    since: Instant,
    heard: u32,
}

impl Default for Quiet {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            heard: 0,
        }
    }
}

impl Quiet {
    /// The complaint, if it is one of those that are said; with how many were not since.
    pub fn hear(&mut self, complaint: &str) -> Option<String> {
        let mut before = String::new();
        if self.since.elapsed() >= WINDOW {
            if let Some(hushed) = self.heard.checked_sub(SAID).filter(|hushed| *hushed > 0) {
                before = format!("({hushed} more like this were not said) ");
            }
            *self = Self::default();
        }
        self.heard = self.heard.saturating_add(1);
        (self.heard <= SAID).then(|| format!("{before}{complaint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_said_in_part_and_counted() {
        let mut quiet = Quiet::default();
        let said = (0..100).filter_map(|_| quiet.hear("bad")).count();
        assert_eq!(said, 20);
        quiet.since = Instant::now().checked_sub(WINDOW).unwrap();
        let next = quiet.hear("bad").unwrap();
        assert_eq!(next, "(80 more like this were not said) bad");
    }
}
