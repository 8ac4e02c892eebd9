//! Clocks and processes: what a deadline and an owner are measured against.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Both clocks, and which boot the first one belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// Time since boot, sleep included: no one can step it.
    pub boot: Duration,
    /// Time since the epoch: good enough across a reboot.
    pub wall: Duration,
}

impl Now {
    /// Reads the clocks.
    ///
    /// # Errors
    /// When the kernel has no boot id or no boot clock.
    pub fn read() -> std::io::Result<Self> {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            boot_id: boot_id()?,
            boot: Duration::from(boot),
            wall,
        })
    }
}

/// Where the time comes from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The kernel.
    #[default]
    System,
    /// Somebody who sets it by hand: a day of timeouts passes in a moment.
    ByHand(Arc<Mutex<Now>>),
}

impl Clock {
    /// What it says.
    ///
    /// # Errors
    /// As [`Now::read`].
    pub fn now(&self) -> std::io::Result<Now> {
        match self {
            Self::System => Now::read(),
            Self::ByHand(now) => Ok(now.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    }
}

/// Read once: a process sees one boot.
fn boot_id() -> std::io::Result<String> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = BOOT_ID.get() {
        return Ok(id.clone());
    }
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(BOOT_ID.get_or_init(|| id.trim().to_owned()).clone())
}

/// A process that can't be mistaken for a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks after boot.
    pub start_time: u64,
    /// In which boot.
    pub boot_id: String,
}

impl Owner {
    /// The process with that number, if there is one.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            start_time: start_time(pid)?,
            boot_id: boot_id().ok()?,
        })
    }

    /// This process.
    #[must_use]
    pub fn this() -> Option<Self> {
        static THIS: OnceLock<Option<Owner>> = OnceLock::new();
        let this = || Self::of(i32::try_from(std::process::id()).ok()?);
        THIS.get_or_init(this).clone()
    }

    /// Whether it was started after `other`, in the same boot. Within one tick of the
    /// clock the numbers tell: they are given out in order.
    #[must_use]
    pub fn is_younger_than(&self, other: &Self) -> bool {
        self.boot_id == other.boot_id && (self.start_time, self.pid) > (other.start_time, other.pid)
    }

    /// Whether it still runs. A zombie does not: it sends no delete any more.
    #[must_use]
    pub fn alive(&self) -> bool {
        boot_id().is_ok_and(|id| id == self.boot_id)
            && start_time(self.pid) == Some(self.start_time)
    }
}

/// Field 22 of `/proc/<pid>/stat`; none for a zombie. The name in field 2 may hold
/// blanks and parentheses, so the count begins behind the last one.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
