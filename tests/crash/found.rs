//! What is found after somebody was killed, and what it has to be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use retort::backend::nftables::Nftables;
use retort::journal::{Error, Hold, Journal, Now, Owed, Pending, State};

use crate::support::daemon::until;
use crate::support::root::Root;

/// What a deadline in the kernel may differ from the journal's: less is not set right.
const NEARLY: Duration = Duration::from_secs(2);

/// What journal and kernel say at one moment.
pub struct Found {
    pub now: Now,
    pub holds: Vec<Hold>,
    pub pending: Vec<Pending>,
    pub kernel: BTreeMap<IpAddr, Duration>,
    /// Of these, what was put in while the journal could not be written.
    pub unjournaled: BTreeSet<IpAddr>,
}

impl Found {
    pub fn at(root: &Root) -> Self {
        let budget = Duration::from_secs(5);
        let path = root.path().join("retort/journal.db");
        let journal = Journal::open_read_only(&path, budget).unwrap();
        let mut kernel = Nftables::open(root.path(), budget).unwrap();
        let kernel = kernel.list().unwrap();
        Self {
            now: Now::read().unwrap(),
            holds: journal.open_holds().unwrap(),
            pending: journal.all_pending().unwrap(),
            unjournaled: kernel
                .iter()
                .filter(|(_, seen)| seen.unjournaled)
                .map(|(address, _)| *address)
                .collect(),
            kernel: kernel
                .into_iter()
                .map(|(address, seen)| (address, seen.expires_in.unwrap()))
                .collect(),
        }
    }

    pub fn hold(&self, address: &str) -> Option<&Hold> {
        let address: IpAddr = address.parse().unwrap();
        self.holds
            .iter()
            .find(|hold| hold.network.addr() == address)
    }

    pub fn pending(&self, address: &str) -> Option<&Pending> {
        let address: IpAddr = address.parse().unwrap();
        let of = |pending: &&Pending| pending.event.srcip == Some(address);
        self.pending.iter().find(of)
    }

    pub fn blocks(&self, address: &str) -> bool {
        self.kernel.contains_key(&address.parse().unwrap())
    }

    /// Whether the kernel has what the journal says of the hold.
    fn keeps(&self, hold: &Hold) -> bool {
        let left = hold.left(&self.now);
        let address = hold.network.addr();
        let Some(expires_in) = self.kernel.get(&address) else {
            return false;
        };
        // What was put in without the journal stays as long as it was to.
        let longer = self.unjournaled.contains(&address) && *expires_in > left;
        longer || expires_in.abs_diff(left) <= NEARLY
    }

    /// No effect is without its record.
    pub fn has_a_record_of_each_effect(&self) -> Result<(), String> {
        for address in self.kernel.keys() {
            let known = self.unjournaled.contains(address);
            if !known
                && !self
                    .holds
                    .iter()
                    .any(|hold| hold.network.addr() == *address)
            {
                return Err(format!("{address} is blocked, and nobody holds it"));
            }
        }
        Ok(())
    }

    /// And no record without its effect: what was begun is done, or taken back.
    pub fn agrees(&self, root: &Root) -> Result<(), String> {
        self.has_a_record_of_each_effect()?;
        for hold in &self.holds {
            if !self.keeps(hold) {
                let kernel = self.kernel.get(&hold.network.addr());
                let left = hold.left(&self.now);
                return Err(format!(
                    "{left:?} left, the kernel says {kernel:?}: {hold:?}"
                ));
            }
        }
        if owes(root) {
            return Err("a delete is owed".to_owned());
        }
        Ok(())
    }
}

/// The addresses that the journal has an open hold on.
pub fn held(root: &Root) -> BTreeSet<String> {
    let path = root.path().join("retort/journal.db");
    let holds = match Journal::open_read_only(&path, Duration::from_secs(5)) {
        Ok(journal) => journal.open_holds().unwrap(),
        Err(Error::Missing { .. }) => Vec::new(),
        Err(why) => panic!("{why}"),
    };
    let address = |hold: &Hold| hold.network.addr().to_string();
    holds.iter().map(address).collect()
}

/// Whether it says of something that it is about to be done.
pub fn is_undecided(root: &Root) -> bool {
    let path = root.path().join("retort/journal.db");
    let journal = Journal::open_read_only(&path, Duration::from_secs(5)).unwrap();
    let holds = journal.open_holds().unwrap();
    holds.iter().any(|hold| hold.state != State::Done)
}

/// Whether somebody who is gone has left a delete undone.
pub fn owes(root: &Root) -> bool {
    let owed = Owed::open(&root.path().join("retort/owed")).unwrap();
    !owed.left_behind().unwrap().is_empty()
}

/// Waits for as long as it may take until journal and kernel agree.
pub fn settled(root: &Root) -> Found {
    let agree = || Found::at(root).agrees(root);
    until(Duration::from_secs(4), || agree().is_ok());
    let found = Found::at(root);
    if let Err(why) = found.agrees(root) {
        panic!("{why}\n{}", root.log());
    }
    found
}

/// As if every intent that is open had been written a minute before: then it counts as
/// left behind.
pub fn a_minute_passes(root: &Root) {
    let journal = rusqlite::Connection::open(root.path().join("retort/journal.db")).unwrap();
    journal.busy_timeout(Duration::from_secs(5)).unwrap();
    let age = "UPDATE hold SET began_boot = began_boot - 61, began_wall = began_wall - 61,
        due_boot = due_boot - 61, orphan_boot = orphan_boot - 61, due_wall = due_wall - 61
        WHERE closed IS NULL AND state = 'intended'";
    journal.execute_batch(age).unwrap();
}

/// Waits until no intent is undecided.
pub fn decided(root: &Root) -> Found {
    let open = |found: &Found| found.holds.iter().any(|hold| hold.state != State::Done);
    if open(&settled(root)) {
        a_minute_passes(root);
        until(Duration::from_secs(4), || !open(&Found::at(root)));
    }
    let found = settled(root);
    assert!(!open(&found), "{:?}\n{}", found.holds, root.log());
    found
}
