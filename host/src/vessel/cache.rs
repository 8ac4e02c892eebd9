//! Compiled components on disk: `<root>/retort/cache`, root's, 0700.
//!
//! A file is named after the component's digest and the engine it was made for,
//! and begins with the SHA-256 of what follows. A file that is not exactly that
//! is not there: the component is compiled anew.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use super::bare::Compiled;
use super::compile;

/// How long an alert does not try again what took too long: the machine may have been
/// busy, but every try costs as much.
const LATE_FOR: Duration = Duration::from_secs(300);

/// How often a compiler at work is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The bytes of a SHA-256.
const DIGEST: usize = 32;

/// The cache folder, by its handle.
#[derive(Debug)]
pub struct Cache {
    dir: Dir,
}

impl Cache {
    /// The cache in `dir`, which only root may write: the caller has checked it.
    #[must_use]
    pub fn new(dir: Dir) -> Self {
        Self { dir }
    }

    /// The machine code of the component with that digest.
    pub(super) fn get(&self, digest: &str, engine: &str) -> Option<Compiled> {
        let content = self.read(&format!("{digest}-{engine}.cwasm"))?;
        let (sum, code) = content.split_at_checked(DIGEST)?;
        (sum == Sha256::digest(code).as_slice()).then(|| Compiled::vouched(code.to_vec()))
    }

    /// Keeps machine code. A cache that can't be written costs time, not safety.
    pub(super) fn put(&self, digest: &str, engine: &str, code: &[u8]) -> std::io::Result<()> {
        let mut content = Sha256::digest(code).to_vec();
        content.extend_from_slice(code);
        self.write(&format!("{digest}-{engine}.cwasm"), &content)
    }

    /// Why the compiler gave up on that component, so that a compile bomb costs its
    /// limits once and not with every alert.
    pub(super) fn refusal(&self, digest: &str, engine: &str) -> Option<compile::Error> {
        let name = format!("{digest}-{engine}.refused");
        let content = self.read(&name)?;
        let text = String::from_utf8(content).ok()?;
        let (kind, what) = text.split_once(' ')?;
        match kind {
            "limit" => Some(compile::Error::Limit(what.to_owned())),
            "invalid" => Some(compile::Error::Invalid(what.to_owned())),
            "late" => {
                let age = self
                    .dir
                    .symlink_metadata(&name)
                    .ok()?
                    .modified()
                    .ok()?
                    .into_std()
                    .elapsed();
                (age.ok()? < LATE_FOR).then(|| compile::Error::Late(what.to_owned()))
            }
            _ => None,
        }
    }

    /// One compiler for a component at a time: a burst of alerts for what is not compiled yet starts
    /// one child, and the others wait for its answer, at most `patience`.
    pub(super) fn alone(&self, digest: &str, patience: Duration) -> Option<Flock<std::fs::File>> {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .mode(0o600)
            .follow(FollowSymlinks::No);
        let mut file = self
            .dir
            .open_with(format!("{digest}.lock"), &options)
            .ok()?
            .into_std();
        let started = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Some(locked),
                Err((again, _)) if started.elapsed() < patience => {
                    file = again;
                    std::thread::sleep(LOOK_EVERY);
                }
                Err(_) => return None,
            }
        }
    }

    /// Remembers why the compiler gave up.
    pub(super) fn refuse(&self, digest: &str, engine: &str, why: &compile::Error) {
        let text = match why {
            compile::Error::Limit(what) => format!("limit {what}"),
            compile::Error::Invalid(what) => format!("invalid {what}"),
            compile::Error::Late(what) => format!("late {what}"),
            compile::Error::Child(_) => return,
        };
        let _ = self.write(&format!("{digest}-{engine}.refused"), text.as_bytes());
    }

    /// Forgets a refusal, so that a patient caller may try again.
    pub(super) fn forgive(&self, digest: &str, engine: &str) {
        let _ = self.dir.remove_file(format!("{digest}-{engine}.refused"));
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No);
        let mut file = self.dir.open_with(name, &options).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content).ok()?;
        Some(content)
    }

    /// Written beside and renamed, so that several processes at once see the old
    /// file or the new one.
    fn write(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        let draft = format!(".{name}.{}", std::process::id());
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .follow(FollowSymlinks::No);
        let _ = self.dir.remove_file(&draft);
        let written = self.dir.open_with(&draft, &options).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        let kept = written.and_then(|()| self.dir.rename(&draft, &self.dir, name));
        if kept.is_err() {
            let _ = self.dir.remove_file(&draft);
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let handle = Dir::open_ambient_dir(dir.path(), cap_std::ambient_authority()).unwrap();
        (dir, Cache::new(handle))
    }

    #[test]
    fn a_flipped_byte_is_a_miss() {
        let (dir, cache) = cache();
        cache.put("d", "e", b"machine code").unwrap();
        assert!(cache.get("d", "e").is_some());
        let path = dir.path().join("d-e.cwasm");
        let mut bytes = std::fs::read(&path).unwrap();
        for at in [0, bytes.len() - 1] {
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(cache.get("d", "e").is_none(), "byte {at}");
            bytes[at] ^= 1;
        }
        std::fs::write(&path, b"short").unwrap();
        assert!(cache.get("d", "e").is_none());
    }

    #[test]
    fn a_link_is_a_miss() {
        let (dir, cache) = cache();
        cache.put("d", "e", b"machine code").unwrap();
        std::os::unix::fs::symlink("d-e.cwasm", dir.path().join("l-e.cwasm")).unwrap();
        assert!(cache.get("l", "e").is_none());
    }

    #[test]
    fn a_refusal_is_remembered_until_it_is_forgiven() {
        let (_dir, cache) = cache();
        let why = compile::Error::Limit("60 s".into());
        cache.refuse("d", "e", &why);
        assert_eq!(cache.refusal("d", "e"), Some(why));
        cache.forgive("d", "e");
        assert_eq!(cache.refusal("d", "e"), None);
    }
}
