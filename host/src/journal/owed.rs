//! Releases that are owed: written down before anything is done about a delete,
//! struck out when all of it is. What is left behind by a process that was ended, a
//! lock that never came or a disk that was full is done by the next run or sweep.
//!
//! A file of fixed slots whose blocks are allocated beforehand: writing one needs no
//! room on the disk and neither the journal nor its lock, which are what may be
//! missing just then.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, OFlag, fallocate};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Hold, Now, Owner};

/// One release, as JSON, padded with zeros: two digests, a process and two clocks.
const SLOT: usize = 512;

/// In front of the slots, a byte for each, which is all that is read where nothing is
/// owed: nothing is there.
const FREE: u8 = 0;

/// Somebody is at what is there.
const TAKEN: u8 = 1;

/// Its process runs on, and left it.
const LEFT: u8 = 2;

/// Deletes that may be in progress or left behind at one time. An execd sends its
/// deletes one after another, or all that it has when it stops.
const SLOTS: usize = 1024;

/// How long another writer may keep the file: it writes one slot.
const PATIENCE: Duration = Duration::from_millis(200);

/// A release that somebody began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debt {
    of: Of,
    /// Of which address, where the delete says so.
    pub address: Option<IpAddr>,
    /// Who began it.
    by: Owner,
    /// Its process runs, but is not at it any more.
    left: bool,
    /// When, since the epoch.
    wall: Duration,
    /// When, since the boot of that process.
    boot: Duration,
}

/// What has to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Of {
    /// Every hold of a block (see [`claim`]) and of its alert, whatever was expected of
    /// it then.
    Block { claim: String, origin: String },
    /// One hold of a block.
    Hold { claim: String, hold: i64 },
    /// Every hold on a host or network.
    Network { network: IpNet },
}

/// Where a debt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// The file, open.
#[derive(Debug)]
pub struct Owed {
    file: File,
}

impl Debt {
    /// This process's own, for a block, the alert it began with, and its address.
    #[must_use]
    pub fn new(
        now: &Now,
        response: &str,
        key: &str,
        origin: &str,
        address: Option<IpAddr>,
    ) -> Option<Self> {
        let origin = origin.to_owned();
        let claim = claim(response, key);
        let debt = Self::of(now, Of::Block { claim, origin })?;
        Some(Self { address, ..debt })
    }

    /// For one hold that is gone already, but the journal could not note it.
    #[must_use]
    pub fn of_hold(now: &Now, hold: &Hold) -> Option<Self> {
        let claim = claim(&hold.response, &hold.key);
        let hold = hold.id;
        Some(Self::of(now, Of::Hold { claim, hold })?.left())
    }

    /// For every hold on a host or network that is let go while the journal can't say
    /// who has it.
    #[must_use]
    pub fn of_network(now: &Now, network: IpNet) -> Option<Self> {
        Some(Self::of(now, Of::Network { network })?.left())
    }

    fn of(now: &Now, of: Of) -> Option<Self> {
        Some(Self {
            of,
            address: None,
            by: Owner::this()?,
            left: false,
            wall: now.wall,
            boot: now.boot,
        })
    }

    fn left(self) -> Self {
        Self { left: true, ..self }
    }

    /// Whether the hold is one that had to go, and was not asked for since.
    #[must_use]
    pub fn is_for(&self, hold: &Hold) -> bool {
        let later = hold.began_after(&self.by.boot_id, self.boot, self.wall);
        match &self.of {
            Of::Block { claim: of, origin } => {
                let same = claim(&hold.response, &hold.key) == *of
                    || (!origin.is_empty() && hold.origin == *origin);
                // What runs side by side was asked for in the order in which it was
                // started; one process does its work in the order in which it was asked.
                let other = hold.other_asker(&self.by);
                same && !other.map_or(later, |other| other.is_younger_than(&self.by))
            }
            Of::Hold {
                claim: of,
                hold: id,
            } => hold.id == *id && claim(&hold.response, &hold.key) == *of && !later,
            Of::Network { network } => hold.network == *network && !later,
        }
    }

    /// Whether they are about the same.
    fn repeats(&self, other: &Self) -> bool {
        self.of == other.of && self.by == other.by && self.left && other.left
    }
}

/// A block's name, of one length whatever its key is.
fn claim(response: &str, key: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(response);
    hasher.update([0]);
    hasher.update(key);
    hex::encode(hasher.finalize())
}

impl Owed {
    /// Opens the file at `path`, and makes it where there is none.
    ///
    /// # Errors
    /// The system's. A link is not followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path)?;
        let size = SLOT.saturating_add(1).saturating_mul(SLOTS);
        if file.metadata()?.len() < size as u64 {
            let size = i64::try_from(size).map_err(io::Error::other)?;
            fallocate(file.as_fd(), FallocateFlags::empty(), 0, size)?;
        }
        Ok(Self { file })
    }

    /// Writes a debt down.
    ///
    /// # Errors
    /// The system's, and `StorageFull` when every slot is taken.
    pub fn note(&self, debt: &Debt) -> io::Result<Slot> {
        let mut text = serde_json::to_vec(debt)?;
        if text.len() > SLOT {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        text.resize(SLOT, 0);
        let _alone = self.alone()?;
        if debt.left
            && let Some((slot, _)) = self.left()?.iter().find(|(_, there)| there.repeats(debt))
        {
            // The later one counts: it is for what was asked for until then.
            self.file.write_all_at(&text, offset(slot.0))?;
            return Ok(*slot);
        }
        let free = self
            .taken()?
            .iter()
            .position(|byte| *byte == FREE)
            .ok_or(io::ErrorKind::StorageFull)?;
        self.file.write_all_at(&text, offset(free))?;
        let taken = if debt.left { LEFT } else { TAKEN };
        self.file.write_all_at(&[taken], flag(free))?;
        Ok(Slot(free))
    }

    /// Leaves one to whoever sweeps next: its process runs on, and could not pay it.
    ///
    /// # Errors
    /// The system's.
    pub fn leave(&self, slot: Slot, debt: &Debt) -> io::Result<()> {
        let mut text = serde_json::to_vec(&debt.clone().left())?;
        text.resize(SLOT, 0);
        let _alone = self.alone()?;
        if self.debt(slot)?.is_some_and(|there| there == *debt) {
            self.file.write_all_at(&text, offset(slot.0))?;
            self.file.write_all_at(&[LEFT], flag(slot.0))?;
        }
        Ok(())
    }

    /// Strikes one out: it is done. Another debt that has its place by now stays.
    ///
    /// # Errors
    /// The system's.
    pub fn strike(&self, slot: Slot, debt: &Debt) -> io::Result<()> {
        let _alone = self.alone()?;
        if self.debt(slot)?.is_none_or(|there| there == *debt) {
            self.file.write_all_at(&[FREE], flag(slot.0))?;
        }
        Ok(())
    }

    /// What stands there; none for what no version wrote.
    fn debt(&self, slot: Slot) -> io::Result<Option<Debt>> {
        let mut text = [0; SLOT];
        self.file.read_exact_at(&mut text, offset(slot.0))?;
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(serde_json::from_slice(text).ok())
    }

    /// The debts that nobody is at: their processes are gone, or left them.
    ///
    /// # Errors
    /// The system's.
    pub fn left_behind(&self) -> io::Result<Vec<(Slot, Debt)>> {
        let mut debts = self.all()?;
        debts.retain(|(_, debt)| debt.left || !debt.by.alive());
        Ok(debts)
    }

    /// Every debt, also those that somebody is about to pay.
    ///
    /// # Errors
    /// The system's.
    pub fn all(&self) -> io::Result<Vec<(Slot, Debt)>> {
        self.those(|byte| byte != FREE)
    }

    /// The debts that were left by processes which may run still: what they are about may
    /// be gone, and the journal does not know.
    ///
    /// # Errors
    /// The system's.
    pub fn left(&self) -> io::Result<Vec<(Slot, Debt)>> {
        self.those(|byte| byte == LEFT)
    }

    fn those(&self, which: impl Fn(u8) -> bool) -> io::Result<Vec<(Slot, Debt)>> {
        let mut debts = Vec::new();
        for (at, _) in self
            .taken()?
            .iter()
            .enumerate()
            .filter(|(_, byte)| which(**byte))
        {
            // One that can't be read is of a later version: it stays where it is.
            debts.extend(self.debt(Slot(at))?.map(|debt| (Slot(at), debt)));
        }
        Ok(debts)
    }

    fn taken(&self) -> io::Result<[u8; SLOTS]> {
        let mut taken = [0; SLOTS];
        self.file.read_exact_at(&mut taken, 0)?;
        Ok(taken)
    }

    fn alone(&self) -> io::Result<Flock<File>> {
        let mut file = self.file.try_clone()?;
        let started = std::time::Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Ok(locked),
                Err((again, nix::errno::Errno::EWOULDBLOCK)) if started.elapsed() < PATIENCE => {
                    file = again;
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err((_, errno)) => return Err(errno.into()),
            }
        }
    }
}

fn flag(slot: usize) -> u64 {
    u64::try_from(slot).unwrap_or(u64::MAX)
}

fn offset(slot: usize) -> u64 {
    let at = slot.saturating_mul(SLOT).saturating_add(SLOTS);
    u64::try_from(at).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn debt_of(pid: i32) -> Debt {
        let now = Now::read().unwrap();
        let mut debt = Debt::new(&now, "drop", "k", "", None).unwrap();
        debt.by = Owner::of(pid).unwrap();
        debt
    }

    #[test]
    fn what_a_living_process_began_is_its_own_and_what_a_dead_one_left_is_owed() {
        let dir = tempfile::tempdir().unwrap();
        let owed = Owed::open(&dir.path().join("owed")).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let debt = debt_of(child.id().try_into().unwrap());
        let slot = owed.note(&debt).unwrap();
        assert!(owed.left_behind().unwrap().is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        // Whoever opens the file next finds it.
        let later = Owed::open(&dir.path().join("owed")).unwrap();
        assert_eq!(later.left_behind().unwrap(), [(slot, debt.clone())]);
        later.strike(slot, &debt).unwrap();
        assert!(owed.left_behind().unwrap().is_empty());
    }

    #[test]
    fn every_slot_is_used_and_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let owed = Owed::open(&dir.path().join("owed")).unwrap();
        let debt = debt_of(std::process::id().try_into().unwrap());
        let slots: Vec<Slot> = (0..SLOTS).map(|_| owed.note(&debt).unwrap()).collect();
        assert_eq!(
            owed.note(&debt).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        owed.strike(slots[7], &debt).unwrap();
        assert_eq!(owed.note(&debt).unwrap(), slots[7]);
    }

    #[test]
    fn a_place_that_another_debt_has_by_now_stays_taken() {
        let dir = tempfile::tempdir().unwrap();
        let owed = Owed::open(&dir.path().join("owed")).unwrap();
        let mine = debt_of(std::process::id().try_into().unwrap());
        let slot = owed.note(&mine).unwrap();
        owed.strike(slot, &mine).unwrap();
        let other = Debt {
            address: Some([203, 0, 113, 7].into()),
            ..mine.clone()
        };
        assert_eq!(owed.note(&other).unwrap(), slot);
        owed.strike(slot, &mine).unwrap();
        assert_eq!(owed.debt(slot).unwrap(), Some(other));
        assert_eq!(owed.taken().unwrap()[0], TAKEN);
    }

    #[test]
    fn what_a_living_process_leaves_is_owed_and_owed_once() {
        let dir = tempfile::tempdir().unwrap();
        let owed = Owed::open(&dir.path().join("owed")).unwrap();
        let now = Now::read().unwrap();
        let block = Debt::new(&now, "drop", "k", "", None).unwrap();
        let slot = owed.note(&block).unwrap();
        assert!(owed.left_behind().unwrap().is_empty());
        owed.leave(slot, &block).unwrap();
        let left = owed.left_behind().unwrap();
        assert_eq!(left, [(slot, block.left())]);
        assert_eq!(owed.left().unwrap(), left);
        owed.strike(slot, &left[0].1).unwrap();

        let network = "203.0.113.0/24".parse().unwrap();
        let first = owed
            .note(&Debt::of_network(&now, network).unwrap())
            .unwrap();
        let later = Now {
            boot: now.boot + Duration::from_secs(1),
            ..now
        };
        let again = Debt::of_network(&later, network).unwrap();
        assert_eq!(owed.note(&again).unwrap(), first);
        assert_eq!(owed.all().unwrap(), [(first, again)]);
    }

    #[test]
    fn the_longest_debt_has_room() {
        let digest = "f".repeat(64);
        let debt = Debt {
            of: Of::Block {
                claim: digest.clone(),
                origin: digest,
            },
            address: Some("2001:1111:2222:3333:4444:5555:6666:7777".parse().unwrap()),
            by: Owner {
                pid: i32::MIN,
                start_time: u64::MAX,
                boot_id: "0".repeat(36),
            },
            left: false,
            wall: Duration::MAX,
            boot: Duration::MAX,
        };
        assert!(serde_json::to_vec(&debt).unwrap().len() <= SLOT);
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("owed")).unwrap();
        assert!(Owed::open(&dir.path().join("owed")).is_err());
    }
}
