//! Waits until a file may have changed: told by the kernel where it tells, and looking
//! again every tenth of a second where it does not, or forgets to.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// A file system that tells nothing (NFS) is looked at that often.
const LOOK: Duration = Duration::from_millis(100);

/// Room for the events of a busy moment; more of them mean the same.
const EVENTS: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Bell {
    inotify: Option<Inotify>,
    file: Option<WatchDescriptor>,
}

impl Bell {
    pub(super) fn new() -> Self {
        let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
        Self {
            inotify: Inotify::init(flags).ok(),
            file: None,
        }
    }

    /// Rings for what is written to this file, by whatever name, and for files that
    /// appear beside it.
    pub(super) fn hang(&mut self, path: &Path) {
        let Some(inotify) = &self.inotify else { return };
        if let Some(old) = self.file.take() {
            let _ = inotify.rm_watch(old);
        }
        // The writer may have another name for it: the folder does not ring then.
        self.file = inotify.add_watch(path, AddWatchFlags::IN_MODIFY).ok();
        if let Some(folder) = path.parent() {
            let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
            let _ = inotify.add_watch(folder, flags | AddWatchFlags::IN_ONLYDIR);
        }
    }

    /// Waits until it rings, and never long.
    pub(super) fn wait(&self, at_most: Duration) {
        let wait = at_most.min(LOOK);
        let Some(inotify) = &self.inotify else {
            return std::thread::sleep(wait);
        };
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(wait.max(Duration::from_millis(1)));
        match poll(&mut fds, timeout.unwrap_or(PollTimeout::ZERO)) {
            Ok(0) => {}
            Ok(_) => {
                let mut events = [0; EVENTS];
                while nix::unistd::read(inotify.as_fd(), &mut events).is_ok_and(|n| n > 0) {}
            }
            Err(_) => std::thread::sleep(wait),
        }
    }
}
