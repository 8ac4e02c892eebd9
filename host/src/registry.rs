//! From an executable's name to a response that can run: grants, component,
//! digest, vessel. Asks the disk, never a guest.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use crate::conf::executable::{Name, Refused};
use crate::conf::grants::{Grants, Response};
use crate::conf::trust::{self, Untrusted};
use crate::root::Root;
use crate::vessel::cache::Cache;
use crate::vessel::run::{LoadError, Vessel, Workshop};
use crate::vessel::shape;

/// A response, ready to run.
#[derive(Debug)]
pub struct Loaded {
    /// Its name in the grants: the component's file without `.wasm`.
    pub name: String,
    /// The SHA-256 of the component, as hex.
    pub digest: String,
    /// What it may do.
    pub grants: Response,
    /// The component, linked with that.
    pub vessel: Vessel,
}

/// Why an executable has no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No name that could be one.
    #[error(transparent)]
    Name(#[from] Refused),
    /// No file.
    #[error("{}: there is no component for `{executable}` (looked for {looked_for}); put one there, or run `retort install`", bin.display())]
    Missing {
        /// `active-response/bin`.
        bin: PathBuf,
        /// The executable.
        executable: String,
        /// The names that were tried.
        looked_for: String,
    },
    /// A file that can't be read as one.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file or a folder above it that others can write.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// Not the file that the grants pin.
    #[error("{}: its SHA-256 is {is}, but retort.toml pins {pinned}; if the new file is right, write sha256 = \"{is}\" under [response.{name}]", path.display())]
    OtherDigest {
        /// The file.
        path: PathBuf,
        /// The response.
        name: String,
        /// What it has.
        is: String,
        /// What it should have.
        pinned: String,
    },
    /// The component is no response or does not load.
    #[error("{}: {why}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        why: LoadError,
    },
}

/// Where responses are looked for.
#[derive(Debug)]
pub struct Registry {
    bin: Dir,
    bin_path: PathBuf,
    cache: Option<Cache>,
    retort: PathBuf,
}

impl Registry {
    /// Opens `active-response/bin` and the cache. `retort` is the program that
    /// compiles.
    ///
    /// # Errors
    /// When a folder is not there, or others can write it.
    pub fn open(root: &Root, retort: &Path) -> Result<Self, Error> {
        let bin_path = root.bin();
        trust::check(&bin_path)?;
        let bin = open_dir(&bin_path)?;
        Ok(Self {
            bin,
            bin_path,
            cache: cache(root),
            retort: retort.to_owned(),
        })
    }

    /// The component of `executable`, its bytes read once.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn find(&self, executable: &str) -> Result<Found, Error> {
        let name = Name::parse(executable)?;
        let files = name.components();
        for file in &files {
            if let Some(bytes) = self.read(file)? {
                let name = file.strip_suffix(".wasm").unwrap_or(file).to_owned();
                let digest = hex::encode(Sha256::digest(&bytes));
                return Ok(Found {
                    name,
                    path: self.bin_path.join(file),
                    digest,
                    bytes,
                });
            }
        }
        Err(Error::Missing {
            bin: self.bin_path.clone(),
            executable: executable.to_owned(),
            looked_for: files.join(", "),
        })
    }

    /// Loads what was found, with what is granted to it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn load(
        &self,
        found: &Found,
        grants: &Grants,
        engine: &Engine,
        patience: Duration,
    ) -> Result<Loaded, Error> {
        let granted = grants.response(&found.name);
        if let Some(pinned) = granted.sha256.map(hex::encode)
            && pinned != found.digest
        {
            return Err(Error::OtherDigest {
                path: found.path.clone(),
                name: found.name.clone(),
                is: found.digest.clone(),
                pinned,
            });
        }
        let workshop = Workshop {
            engine,
            cache: self.cache.as_ref(),
            retort: &self.retort,
            patience,
        };
        let vessel = Vessel::load(
            &workshop,
            &found.name,
            &found.bytes,
            &found.digest,
            &granted,
        )
        .map_err(|why| Error::Load {
            path: found.path.clone(),
            why,
        })?;
        Ok(Loaded {
            name: found.name.clone(),
            digest: found.digest.clone(),
            grants: granted,
            vessel,
        })
    }

    /// Every component of the folder, by file name.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn components(&self) -> Result<Vec<String>, Error> {
        let entries = self
            .bin
            .entries()
            .map_err(|e| file_error(&self.bin_path, &e))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".wasm"))
            .collect();
        names.sort();
        Ok(names)
    }

    /// A component by its file name; none where there is no such file. Opened
    /// once, through the folder's handle, not through a link, and never waiting on
    /// a pipe.
    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.bin_path.join(file);
        let wrong = |what: String| Error::File {
            path: path.clone(),
            what,
        };
        let mut options = OpenOptions::new();
        options
            .read(true)
            .follow(FollowSymlinks::No)
            .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
        let opened = match self.bin.open_with(file, &options) {
            Ok(opened) => opened.into_std(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e)
                if self
                    .bin
                    .symlink_metadata(file)
                    .is_ok_and(|m| m.is_symlink()) =>
            {
                return Err(wrong(format!(
                    "it is a link, and components are not read through links ({e})"
                )));
            }
            Err(e) => return Err(wrong(format!("can't open it: {e}"))),
        };
        let meta = opened
            .metadata()
            .map_err(|e| wrong(format!("can't look at it: {e}")))?;
        if !meta.is_file() {
            return Err(wrong("it is no regular file".into()));
        }
        trust::check_meta(&meta, &path)?;
        if meta.len() > shape::LARGEST {
            return Err(wrong(format!(
                "it has {} MiB; a component has at most {} MiB",
                meta.len() >> 20,
                shape::LARGEST >> 20
            )));
        }
        let mut bytes = Vec::new();
        opened
            .take(shape::LARGEST)
            .read_to_end(&mut bytes)
            .map_err(|e| wrong(format!("can't read it: {e}")))?;
        Ok(Some(bytes))
    }
}

/// A component as it lies on the disk.
pub struct Found {
    /// The file without `.wasm`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256, as hex.
    pub digest: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found")
            .field("path", &self.path)
            .field("digest", &self.digest)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

fn open_dir(path: &Path) -> Result<Dir, Error> {
    Dir::open_ambient_dir(path, cap_std::ambient_authority()).map_err(|e| file_error(path, &e))
}

/// The cache, made where it is missing. Without one each start compiles; that is
/// slow, and `check` says so.
#[must_use]
pub fn cache(root: &Root) -> Option<Cache> {
    use std::os::unix::fs::DirBuilderExt as _;
    let path = root.cache();
    if std::fs::symlink_metadata(&path).is_err() {
        std::fs::DirBuilder::new().mode(0o700).create(&path).ok()?;
    }
    trust::check(&path).ok()?;
    open_dir(&path).ok().map(Cache::new)
}

fn file_error(path: &Path, error: &std::io::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        what: error.to_string(),
    }
}
