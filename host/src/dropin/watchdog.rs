//! One watchdog over everything: handshake, locks, journal, kernel, helpers, guest.
//! When the wall limit is over the process ends, whatever it is waiting for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::place::Place;
use super::{line, open_log};
use crate::limits::Limits;
use crate::report::Outcome;

/// How often it looks at the clock once the time is nearly over.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Watchdog {
    started: Instant,
    wall: Arc<AtomicU64>,
    status: Arc<AtomicU8>,
}

impl Watchdog {
    /// Starts it with the default limit; `failure` is the exit status that the execd
    /// takes for one.
    pub(super) fn start(started: Instant, failure: u8, place: &Place) -> Self {
        let wall = Arc::new(AtomicU64::new(millis(Limits::default().wall)));
        let status = Arc::new(AtomicU8::new(failure));
        let watchdog = Self {
            started,
            wall: Arc::clone(&wall),
            status: Arc::clone(&status),
        };
        let place = place.clone();
        std::thread::spawn(move || {
            loop {
                let limit = Duration::from_millis(wall.load(Ordering::Acquire));
                let left = limit.saturating_sub(started.elapsed());
                if left.is_zero() {
                    break;
                }
                let half = left.checked_div(2).unwrap_or_default();
                std::thread::sleep(left.min(LOOK_EVERY.max(half)));
            }
            let status = status.load(Ordering::Acquire);
            let outcome = Outcome::failed(&place.executable, "", "wall: ended by the watchdog");
            // Another thread may hold what we would wait for: the line is tried for on
            // a thread of its own, and not waited for longer than it takes to write.
            let teller = std::thread::spawn(move || {
                open_log(&place)
                    .ok()
                    .map(|mut log| log.append(&line(&outcome)))
            });
            let patience = Instant::now();
            while !teller.is_finished() && patience.elapsed() < Duration::from_millis(20) {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::process::exit(i32::from(status));
        });
        watchdog
    }

    /// The wall limit of the response, counted from the start.
    pub(super) fn set(&self, wall: Duration) {
        self.wall.store(millis(wall), Ordering::Release);
    }

    /// The answer is known: what is left to do does not change it.
    pub(super) fn done(&self, done: bool) {
        if done {
            self.status.store(0, Ordering::Release);
        }
    }

    /// When it is over.
    pub(super) fn deadline(&self) -> Instant {
        let wall = Duration::from_millis(self.wall.load(Ordering::Acquire));
        self.started.checked_add(wall).unwrap_or(self.started)
    }
}

fn millis(wall: Duration) -> u64 {
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}
