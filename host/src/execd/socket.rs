//! The queue's socket: taken from the service manager, or bound where the original
//! binds it, with its mode and its group.

use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use nix::sys::stat::{Mode, fchmod, umask};
use nix::unistd::{Gid, setfsgid};

use crate::event::Dialect;
use crate::root::Root;

/// Sockets that a service manager may hand over.
const MOST_HANDED: usize = 16;

/// What is read and written by root and by the group that analysisd and agentd have.
const MODE: Mode = Mode::from_bits_truncate(0o660);

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    /// Where orders come from.
    pub(super) socket: UnixDatagram,
    /// Its name; none where the service manager keeps it.
    pub(super) path: Option<PathBuf>,
    /// It was taken from a daemon that serves it still.
    pub(super) taken: bool,
}

/// Where the queue of that dialect is.
pub(super) fn path(root: &Root, dialect: Dialect) -> PathBuf {
    match dialect {
        Dialect::Ossec | Dialect::Wazuh4 => root.execq(),
        Dialect::Wazuh5 => root.execq5(),
    }
}

/// The socket that the service manager listens on for us, if it does.
pub(super) fn handed() -> Option<UnixDatagram> {
    let mut handed = ListenFd::from_env();
    (0..handed.len().min(MOST_HANDED)).find_map(|at| handed.take_unix_datagram(at).ok().flatten())
}

/// Binds the queue at `path`. A name that is left over from a daemon that is gone is
/// taken over; one that a daemon serves only with `own_queue`.
pub(super) fn bind(path: &Path, group: Option<Gid>, own_queue: bool) -> anyhow::Result<Queue> {
    let shown = path.display();
    let folder = path.parent().context("the queue has no folder")?;
    let meta = std::fs::metadata(folder)
        .with_context(|| format!("{}: the original's folders are not there", folder.display()))?;
    let taken = match std::fs::symlink_metadata(path) {
        Err(_) => false,
        Ok(meta) if meta.file_type().is_socket() => is_served(path),
        Ok(_) => bail!("{shown}: it is no socket; look at what it is, and remove it"),
    };
    if taken && !own_queue {
        bail!(
            "{shown}: another daemon serves this queue{}; stop it, or write own_queue = true under [execd] in retort.toml to take the queue from it",
            original(path).map_or_else(String::new, |pid| format!(" (its pid file says {pid})"))
        );
    }
    if path.symlink_metadata().is_ok() {
        std::fs::remove_file(path).with_context(|| format!("{shown}: remove the old name"))?;
    }
    let group = group.unwrap_or(Gid::from_raw(meta.gid()));
    let socket = bind_for(path, group).with_context(|| format!("{shown}: bind the queue"))?;
    Ok(Queue {
        socket,
        path: Some(path.to_owned()),
        taken,
    })
}

/// Binds with mode and group from the first moment: the folder is writable by that
/// group, and a name in it can be swapped before anything is changed by name.
fn bind_for(path: &Path, group: Gid) -> anyhow::Result<UnixDatagram> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
    let socket = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    // The name gets the mode of the socket that is bound to it.
    fchmod(socket.as_fd(), MODE)?;
    let masked = umask(Mode::empty());
    let own = setfsgid(group);
    let bound = bind(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &UnixAddr::new(path)?,
    );
    setfsgid(own);
    umask(masked);
    bound?;
    Ok(socket.into())
}

fn is_served(path: &Path) -> bool {
    UnixDatagram::unbound().is_ok_and(|socket| socket.connect(path).is_ok())
}

/// The original that is running, by its pid file.
fn original(queue: &Path) -> Option<i32> {
    let run = queue.ancestors().nth(3)?.join("var/run");
    let files = std::fs::read_dir(run).ok()?;
    files
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .filter_map(|name| {
            let rest = name
                .strip_prefix("ossec-execd-")
                .or_else(|| name.strip_prefix("wazuh-execd-"))?;
            rest.strip_suffix(".pid")?.parse().ok()
        })
        .find(|pid| Path::new(&format!("/proc/{pid}")).exists())
}
