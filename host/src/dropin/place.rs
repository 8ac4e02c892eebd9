//! Where we were started from, and under which name.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::conf::executable::Name;
use crate::root::Root;

/// An executable of an installation.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The installation.
    pub(super) root: Root,
    /// The name in `<executable>`.
    pub(super) executable: String,
    /// argv[0], as the original's log line has it.
    pub(super) program: String,
}

impl Place {
    /// Reads argv[0]: absolute, or relative to where the execd is.
    pub(super) fn of(argv: &[OsString]) -> anyhow::Result<Self> {
        let program = argv.first().context("it was started without a name")?;
        let path = Path::new(program);
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        Name::parse(name)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let Some(folder) = folder else {
            bail!(
                "{name}: it was started without its folder; start it as <root>/active-response/bin/{name}"
            );
        };
        let folder = folder
            .canonicalize()
            .with_context(|| folder.display().to_string())?;
        if !folder.ends_with("active-response/bin") {
            bail!(
                "{}: a response is a link in <root>/active-response/bin; `retort install` makes it",
                folder.display()
            );
        }
        let root = folder
            .ancestors()
            .nth(2)
            .context("its folder has no root")?;
        Ok(Self {
            root: Root::new(root),
            executable: name.to_owned(),
            program: program.to_string_lossy().into_owned(),
        })
    }

    /// The response's name, as far as it is known before the disk was asked.
    pub(super) fn response(&self) -> String {
        let files = Name::parse(&self.executable)
            .map(|name| name.components())
            .unwrap_or_default();
        let bin = self.root.bin();
        let file = files
            .iter()
            .find(|file| bin.join(file).exists())
            .or(files.last());
        file.and_then(|file| file.strip_suffix(".wasm"))
            .unwrap_or(&self.executable)
            .to_owned()
    }
}
