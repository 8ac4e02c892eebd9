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
/// queue's socket. With `keep` those stay that a service manager hands over to this
/// process. What we open ourselves closes at exec, so that helpers inherit nothing.
pub fn close_inherited(keep: bool) {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let last = if keep { last_handed() } else { LAST_STANDARD };
    let inherited: Vec<RawFd> = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > last)
        .collect();
    for fd in inherited {
        // The listing's own descriptor is among them, and closed already.
        let _ = nix::unistd::close(fd);
    }
}

/// The last descriptor that the service manager says is ours.
fn last_handed() -> RawFd {
    let number = |name: &str| std::env::var(name).ok()?.parse::<RawFd>().ok();
    let ours = number("LISTEN_PID").and_then(|pid| u32::try_from(pid).ok());
    if ours != Some(std::process::id()) {
        return LAST_STANDARD;
    }
    let handed = number("LISTEN_FDS").filter(|n| *n > 0).unwrap_or(0);
    LAST_STANDARD.saturating_add(handed)
}
