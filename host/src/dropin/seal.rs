//! The first acts: nothing of the daemon that started us stays with us.

use std::os::fd::RawFd;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};

use crate::vessel::clear_environment;

/// stdin, stdout, stderr.
const LAST_STANDARD: RawFd = 2;

/// Resets signal mask and umask, empties the environment. Before there is a second
/// thread, and after [`close_inherited`].
pub(super) fn seal() {
    // Wazuh starts responses from a signal handler while it shuts down.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    umask(Mode::from_bits_truncate(0o027));
    clear_environment();
}

/// Closes whatever is open besides the three standard descriptors: OSSEC leaks its
/// queue's socket. What we open
/// ourselves closes at exec, so that helpers inherit nothing.
pub fn close_inherited() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let inherited: Vec<RawFd> = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > LAST_STANDARD)
        .collect();
    for fd in inherited {
        // The listing's own descriptor is among them, and closed already.
        let _ = nix::unistd::close(fd);
    }
}
