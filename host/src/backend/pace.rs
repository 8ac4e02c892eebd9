//! How often something is done that changes ask for: soon after the first of them, seldom
//! under a storm, and always once more after the last.

use std::time::{Duration, Instant};

/// See the module. It knows no clock: whoever asks says what time it is.
#[derive(Debug, Clone)]
pub struct Pace {
    gap: Duration,
    done: Option<Instant>,
    wanted: bool,
}

impl Pace {
    /// At most once in every `gap`, counted from the end of one to the start of the next.
    #[must_use]
    pub fn new(gap: Duration) -> Self {
        Self {
            gap,
            done: None,
            wanted: false,
        }
    }

    /// Something changed, or may have.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// How long until it has to be done; none while nobody wants it.
    #[must_use]
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.wanted.then(|| {
            let since = self.done.map(|done| now.saturating_duration_since(done));
            since.map_or(Duration::ZERO, |since| self.gap.saturating_sub(since))
        })
    }

    /// Whether it has to be done now; then whoever asks does it, and what changes from
    /// here on asks for the next.
    pub fn begin(&mut self, now: Instant) -> bool {
        let due = self.left(now).is_some_and(|left| left.is_zero());
        self.wanted &= !due;
        due
    }

    /// It is done, well or badly.
    pub fn end(&mut self, now: Instant) {
        self.done = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_millis(200);

    #[test]
    fn the_first_change_does_not_wait_and_nothing_happens_without_one() {
        let now = Instant::now();
        let mut pace = Pace::new(GAP);
        assert!(pace.left(now).is_none() && !pace.begin(now));
        pace.want();
        assert_eq!(pace.left(now), Some(Duration::ZERO));
        assert!(pace.begin(now));
        pace.end(now);
        assert!(pace.left(now + GAP * 9).is_none());
    }

    /// Two seconds of changes, one in each millisecond, each of the works takes 30 ms.
    #[test]
    fn a_storm_is_answered_now_and_then_and_once_after_its_end() {
        let start = Instant::now();
        let mut pace = Pace::new(GAP);
        let mut works = Vec::new();
        let mut busy_until = start;
        for millisecond in 0..3000 {
            let now = start + Duration::from_millis(millisecond);
            if millisecond < 2000 {
                pace.want();
            }
            if now >= busy_until && pace.begin(now) {
                works.push(millisecond);
                busy_until = now + Duration::from_millis(30);
                pace.end(busy_until);
            }
        }
        assert_eq!(works.first(), Some(&0));
        assert!(
            works.windows(2).all(|two| two[1] - two[0] >= 230),
            "{works:?}"
        );
        assert!((9..=11).contains(&works.len()), "{works:?}");
        let last = *works.last().unwrap();
        assert!((1999..2000 + 230).contains(&last), "{works:?}");
    }

    #[test]
    fn what_changes_during_the_work_is_done_after_it() {
        let now = Instant::now();
        let mut pace = Pace::new(GAP);
        pace.want();
        assert!(pace.begin(now));
        pace.want();
        pace.end(now + GAP);
        assert_eq!(pace.left(now + GAP), Some(GAP));
        assert!(!pace.begin(now + GAP) && pace.begin(now + GAP * 2));
    }
}
