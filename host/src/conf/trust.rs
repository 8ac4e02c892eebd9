//! Whether only root can have written something. What others can write is never
//! believed: neither the file nor any folder or link on the way to it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Links on the way to a file. The kernel follows forty.
const LINKS: usize = 16;

const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// What is wrong, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Not root's.
    #[error("{}: it belongs to user {owner}, not to root; mend it with `chown root {}`", path.display(), path.display())]
    Owner {
        /// What.
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// Others can write it.
    #[error("{}: its group or others can write it (mode {mode:04o}); mend it with `chmod go-w {}`", path.display(), path.display())]
    Writable {
        /// What.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It can't be looked at.
    #[error("{}: {what}", path.display())]
    Unseen {
        /// What.
        path: PathBuf,
        /// Why not.
        what: String,
    },
}

/// Checks `path` and everything on the way to it.
///
/// # Errors
/// The first thing that others can write, by its own path.
pub fn check(path: &Path) -> Result<(), Untrusted> {
    let mut links = 0;
    walk(path, &mut links)
}

fn walk(path: &Path, links: &mut usize) -> Result<(), Untrusted> {
    let unseen = |path: &Path, what: String| Untrusted::Unseen {
        path: path.to_owned(),
        what,
    };
    if !path.is_absolute() {
        return Err(unseen(path, "it is no absolute path".into()));
    }
    let mut here = PathBuf::from("/");
    let mut rest = path.components();
    while let Some(component) = rest.next() {
        match component {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                here.pop();
            }
            Component::Normal(name) => here.push(name),
        }
        let meta = std::fs::symlink_metadata(&here).map_err(|e| unseen(&here, e.to_string()))?;
        if !meta.is_symlink() {
            check_meta(&meta, &here)?;
            continue;
        }
        // A link's mode says nothing; its owner could point it elsewhere.
        owner(&meta, &here)?;
        *links = links.saturating_add(1);
        if *links > LINKS {
            return Err(unseen(path, format!("more than {LINKS} links on the way")));
        }
        let target = std::fs::read_link(&here).map_err(|e| unseen(&here, e.to_string()))?;
        here.pop();
        return walk(&here.join(target).join(rest.as_path()), links);
    }
    Ok(())
}

/// Checks one thing by what an open handle or `lstat` says of it.
///
/// # Errors
/// When it is not root's, or others can write it. A sticky folder is as good as one
/// that they can't: nobody there can rename what is ours.
pub fn check_meta(meta: &Metadata, path: &Path) -> Result<(), Untrusted> {
    owner(meta, path)?;
    let safe = meta.is_dir() && meta.mode() & STICKY != 0;
    if meta.mode() & GROUP_OR_OTHERS_WRITE != 0 && !safe {
        return Err(Untrusted::Writable {
            path: path.to_owned(),
            mode: meta.mode() & 0o7777,
        });
    }
    Ok(())
}

fn owner(meta: &Metadata, path: &Path) -> Result<(), Untrusted> {
    if meta.uid() == 0 {
        return Ok(());
    }
    Err(Untrusted::Owner {
        path: path.to_owned(),
        owner: meta.uid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn everything_on_the_way_counts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("file");
        std::fs::write(&file, "x").unwrap();
        chmod(&folder, 0o755);
        chmod(&file, 0o644);
        assert_eq!(check(&file), Ok(()));

        chmod(&file, 0o664);
        assert!(check(&file).unwrap_err().to_string().contains("chmod go-w"));
        chmod(&file, 0o644);
        chmod(&folder, 0o777);
        assert!(matches!(check(&file), Err(Untrusted::Writable { path, .. }) if path == folder));
        chmod(&folder, 0o1777);
        assert_eq!(check(&file), Ok(()), "a sticky folder");

        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        assert_eq!(check(&link), Ok(()));
        chmod(&folder, 0o757);
        assert!(check(&link).is_err(), "behind a link");
    }

    #[test]
    fn what_is_not_roots_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        assert!(matches!(
            check(&file),
            Err(Untrusted::Owner { owner: 65534, .. })
        ));
    }

    #[test]
    fn links_in_a_ring_end() {
        let dir = tempfile::tempdir().unwrap();
        symlink(dir.path().join("b"), dir.path().join("a")).unwrap();
        symlink(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert!(check(&dir.path().join("a")).is_err());
    }
}
