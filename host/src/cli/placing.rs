//! One name after another in `active-response/bin` becomes ours, and is given back.
//! What stood there is moved, never copied or deleted: with its owner, its mode, its
//! target if it is a link, its content if it is a folder.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::manifest::{Kind, Manifest, Placed};
use super::steps::Steps;
use crate::root::Root;

/// The work on one installation.
pub(super) struct Placing<'a> {
    pub(super) root: &'a Root,
    pub(super) manifest: &'a mut Manifest,
    pub(super) steps: &'a mut Steps,
}

impl Placing<'_> {
    /// Puts a component into place.
    pub(super) fn component(&mut self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let placed = Placed {
            name: format!("{name}.wasm"),
            kind: Kind::Component,
            replaced: false,
            content: hex::encode(Sha256::digest(bytes)),
        };
        self.place(placed, |path| write_new(path, bytes, 0o640))
    }

    /// Puts a link to `retort` into place.
    pub(super) fn link(&mut self, name: &str, retort: &Path) -> anyhow::Result<()> {
        let placed = Placed {
            name: name.to_owned(),
            kind: Kind::Link,
            replaced: false,
            content: retort.to_string_lossy().into_owned(),
        };
        self.place(placed, |path| Ok(std::os::unix::fs::symlink(retort, path)?))
    }

    fn place(
        &mut self,
        mut placed: Placed,
        put: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let path = self.root.bin().join(&placed.name);
        let kept = self.kept(&placed.name);
        let before = self.manifest.find(&placed.name).cloned();
        let there = content(&path);
        let ours = before
            .as_ref()
            .is_some_and(|b| there == Some(b.content.clone()));
        if there.as_ref() == Some(&placed.content) {
            // Also where the manifest was lost: what is ours is no original.
            if before.is_none() {
                placed.replaced = fs::symlink_metadata(&kept).is_ok();
                self.manifest.put(placed);
                if !self.steps.dry_run {
                    self.manifest.write(self.root)?;
                }
            }
            return Ok(());
        }
        let exists = fs::symlink_metadata(&path).is_ok();
        let replaces = exists && !ours;
        placed.replaced = replaces || before.is_some_and(|before| before.replaced);
        let what = match placed.kind {
            Kind::Link => "link",
            Kind::Component => "put the component",
        };
        let keeping = if replaces {
            format!(", and keep what was there as {}", kept.display())
        } else {
            String::new()
        };
        self.manifest.put(placed);
        let (manifest, root) = (&*self.manifest, self.root);
        self.steps
            .step(format!("{what} {}{keeping}", path.display()), || {
                if replaces {
                    make_room(&kept)?;
                }
                manifest.write(root)?;
                if replaces {
                    fs::rename(&path, &kept).with_context(|| {
                        format!("keep {} as {}", path.display(), kept.display())
                    })?;
                } else if exists {
                    fs::remove_file(&path)?;
                }
                put(&path)
            })
    }

    /// Gives every name back. What somebody else put there after us stays.
    pub(super) fn take_back(&mut self) -> anyhow::Result<()> {
        for placed in self.manifest.placed.clone() {
            let path = self.root.bin().join(&placed.name);
            let kept = self.kept(&placed.name);
            let there = content(&path);
            let ours = there.as_ref() == Some(&placed.content);
            let gone = fs::symlink_metadata(&path).is_err();
            let original = fs::symlink_metadata(&kept).is_ok();
            if !ours && !gone {
                // After a crash between manifest and move it is the original itself.
                let kept = if original {
                    format!("; what we replaced is {}", kept.display())
                } else {
                    String::new()
                };
                let path = path.display();
                self.steps
                    .note(format!("leave {path}: it is not what we put there{kept}"));
            } else if placed.replaced && !original {
                self.steps.refuse(format!(
                    "{}: what stood here before us was {}, and is gone; put it back by hand",
                    path.display(),
                    kept.display()
                ));
                continue;
            } else {
                let what = if original { "restore" } else { "remove" };
                self.steps.step(format!("{what} {}", path.display()), || {
                    if !gone {
                        fs::remove_file(&path)?;
                    }
                    if original {
                        fs::rename(&kept, &path)?;
                    }
                    Ok(())
                })?;
            }
            self.manifest
                .placed
                .retain(|other| other.name != placed.name);
            if !self.steps.dry_run {
                self.manifest.write(self.root)?;
            }
        }
        Ok(())
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.root.replaced().join(name)
    }
}

/// What stands there, in the words of [`Placed::content`]; none for what we never put
/// anywhere.
pub(super) fn content(path: &Path) -> Option<String> {
    let meta = fs::symlink_metadata(path).ok()?;
    if meta.is_symlink() {
        return Some(fs::read_link(path).ok()?.to_string_lossy().into_owned());
    }
    if meta.is_file() {
        return Some(hex::encode(Sha256::digest(fs::read(path).ok()?)));
    }
    None
}

/// An original that was kept before makes room for a later one, and is kept too.
fn make_room(kept: &Path) -> anyhow::Result<()> {
    if fs::symlink_metadata(kept).is_err() {
        return Ok(());
    }
    let free = (1_u32..).map(|n| {
        let mut name = kept.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    });
    let mut free = free.skip_while(|path| fs::symlink_metadata(path).is_ok());
    if let Some(free) = free.next() {
        fs::rename(kept, &free)
            .with_context(|| format!("keep {} as {}", kept.display(), free.display()))?;
    }
    Ok(())
}

/// Writes a file that is not there yet, whole and on the disk.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    Ok(())
}
