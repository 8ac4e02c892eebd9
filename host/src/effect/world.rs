//! What the broker is told of the installation.

use std::path::PathBuf;
use std::time::Duration;

use crate::conf::ar;
use crate::conf::grants::Grants;
use crate::conf::ossec::Server;
use crate::conf::white_list::WhiteList;
use crate::journal::Clock;
use crate::root::Root;

/// What the broker has to know of the installation.
#[derive(Debug)]
pub struct World {
    /// The installation.
    pub root: Root,
    /// What responses may do at most.
    pub grants: Grants,
    /// The white list of `ossec.conf`.
    pub white_list: WhiteList,
    /// The managers of `ossec.conf`.
    pub servers: Vec<Server>,
    /// What `ar.conf` says of timeouts.
    pub ar: Vec<ar::Entry>,
    /// The program that supervises detached helpers.
    pub retort: PathBuf,
    /// How long the lock, the journal or the kernel may each keep us waiting.
    pub budget: Duration,
    /// What deadlines are counted by.
    pub clock: Clock,
}
