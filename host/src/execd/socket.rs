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
    /// Where orders come from; none once somebody listens there.
    socket: Option<UnixDatagram>,
    /// Its name; none where the service manager keeps it.
    post: Option<Post>,
    /// It was taken from a daemon that serves it still.
    pub(super) taken: bool,
}

/// A name that is ours to keep.
#[derive(Debug)]
struct Post {
    path: PathBuf,
    group: Option<Gid>,
    own_queue: bool,
    /// What stands there when it is ours.
    inode: Option<(u64, u64)>,
}

impl Queue {
    /// One that the service manager handed over, and whose name it keeps.
    pub(super) fn handed(socket: UnixDatagram) -> Self {
        Self {
            socket: Some(socket),
            post: None,
            taken: false,
        }
    }

    /// Binds the queue at `path`. A name that is left over from a daemon that is gone is
    /// taken over; one that a daemon serves only with `own_queue`.
    pub(super) fn bind(path: PathBuf, group: Option<Gid>, own_queue: bool) -> anyhow::Result<Self> {
        let (socket, taken) = bind(&path, group, own_queue)?;
        let inode = inode(&path);
        Ok(Self {
            socket: Some(socket),
            post: Some(Post {
                path,
                group,
                own_queue,
                inode,
            }),
            taken,
        })
    }

    /// The socket, for whoever listens.
    pub(super) fn socket(&mut self) -> anyhow::Result<tokio::net::UnixDatagram> {
        let socket = self.socket.take().context("somebody listens already")?;
        socket.set_nonblocking(true)?;
        Ok(tokio::net::UnixDatagram::from_std(socket)?)
    }

    /// Whether its name leads to us no more, in words.
    pub(super) fn lost(&self) -> Option<String> {
        let post = self.post.as_ref()?;
        let shown = post.path.display();
        match inode(&post.path) {
            now if now == post.inode => None,
            None => Some(format!("{shown}: the queue was removed")),
            Some(_) => Some(format!("{shown}: somebody else has bound the queue")),
        }
    }

    /// Binds the name again, under the same conditions as the first time.
    pub(super) fn bind_again(&mut self) -> anyhow::Result<()> {
        let post = self.post.as_mut().context("the service manager keeps it")?;
        let (socket, _) = bind(&post.path, post.group, post.own_queue)?;
        post.inode = inode(&post.path);
        self.socket = Some(socket);
        Ok(())
    }
}

impl Drop for Queue {
    /// The name goes with the daemon, if it is ours.
    fn drop(&mut self) {
        if let Some(post) = &self.post
            && inode(&post.path) == post.inode
        {
            let _ = std::fs::remove_file(&post.path);
        }
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
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

/// The socket, and whether it was taken from a daemon that serves it still.
fn bind(path: &Path, group: Option<Gid>, own_queue: bool) -> anyhow::Result<(UnixDatagram, bool)> {
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
    Ok((socket, taken))
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
