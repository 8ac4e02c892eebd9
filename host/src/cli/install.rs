//! `retort install` and `uninstall`: components and links into place, and back.
//!
//! What stood at a place of ours is moved to `retort/replaced` byte for byte, with
//! its owner and mode, and `uninstall` moves it back.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::manifest::{Kind, Manifest, Placed};
use super::{Output, blocks, dialect, dialect_name};
use crate::backend::nftables::Nftables;
use crate::conf::executable::Name;
use crate::conf::grants::BackendName;
use crate::conf::{self, trust};
use crate::effect::broker::Broker;
use crate::event::Dialect;
use crate::limits::Limits;
use crate::premises::{self, Premises};
use crate::registry::Registry;
use crate::root::Root;
use crate::vessel::compile;
use crate::vessel::engine::{self, Allocation};
use crate::vessel::shape::{self, Shape};

/// The default grants of the responses that come with the project.
const DEFAULTS: [(&str, &str); 3] = [
    (
        "firewall-drop",
        include_str!("../../../responses/firewall-drop/grants.toml"),
    ),
    (
        "restart-ossec",
        include_str!("../../../responses/restart-ossec/grants.toml"),
    ),
    (
        "makelists",
        include_str!("../../../responses/makelists/grants.toml"),
    ),
];

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A folder with the components to install; without it only links and folders
    /// are mended.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Whose installation it is; guessed from its files where it is not given.
    #[arg(long, value_parser = dialect)]
    dialect: Option<Dialect>,
    /// The backend that the first grants name.
    #[arg(long, default_value = "nftables", value_parser = ["nftables", "record"])]
    backend: String,
    /// Only says what it would do.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize, Default)]
struct Steps {
    steps: Vec<String>,
    dry_run: bool,
}

impl Steps {
    /// Notes a step, and does it unless the run is dry.
    fn step(
        &mut self,
        what: String,
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.dry_run {
            work().with_context(|| what.clone())?;
        }
        self.steps.push(what);
        Ok(())
    }

    fn output(self, nothing: &str) -> anyhow::Result<Output> {
        let mut human = String::new();
        for step in &self.steps {
            let _ = writeln!(human, "{}{step}", if self.dry_run { "would " } else { "" });
        }
        if self.steps.is_empty() {
            human.push_str(nothing);
        }
        Output::new(human, &self)
    }
}

pub(super) fn install(root: &Root, arguments: &Arguments) -> anyhow::Result<Output> {
    let bin = root.bin();
    if !bin.is_dir() {
        bail!(
            "{}: there is no such folder; is --root right?",
            bin.display()
        );
    }
    trust::check(&bin)?;
    let retort = premises::this_program()?;
    trust::check(&retort)?;
    let mut steps = Steps {
        dry_run: arguments.dry_run,
        ..Steps::default()
    };
    for folder in [root.own(), root.cache(), root.replaced()] {
        if !folder.exists() {
            steps.step(format!("make {}", folder.display()), || {
                Ok(fs::DirBuilder::new().mode(0o700).create(&folder)?)
            })?;
        }
    }
    let dialect = arguments.dialect.unwrap_or_else(|| guess(root));
    let components = components(arguments.from.as_deref())?;
    write_grants(root, &components, dialect, &arguments.backend, &mut steps)?;

    let mut manifest = if root.own().exists() {
        Manifest::read(root)?
    } else {
        Manifest::default()
    };
    let mut names: Vec<String> = Vec::new();
    for component in &components {
        let file = format!("{}.wasm", component.name);
        let placing = Placing {
            root,
            name: &file,
            kind: Kind::Component,
        };
        placing.place(
            &mut manifest,
            &mut steps,
            |path| fs::read(path).ok().as_ref() == Some(&component.bytes),
            |path| write_new(path, &component.bytes, 0o640),
        )?;
        names.push(component.name.clone());
        if dialect == Dialect::Ossec {
            names.push(format!("{}.sh", component.name));
        }
    }
    let placed = manifest
        .placed
        .iter()
        .filter(|placed| placed.kind == Kind::Link);
    names.extend(placed.map(|placed| placed.name.clone()));
    names.dedup();
    for name in &names {
        let placing = Placing {
            root,
            name,
            kind: Kind::Link,
        };
        placing.place(
            &mut manifest,
            &mut steps,
            |path| is_link_to(path, &retort),
            |path| Ok(std::os::unix::fs::symlink(&retort, path)?),
        )?;
    }
    if !arguments.dry_run {
        settle(root, &retort, &mut steps)?;
    }
    steps.output("everything is in place")
}

/// What takes long or may wait is done now, and not with an alert.
fn settle(root: &Root, retort: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    let premises = Premises::read(root, None)?;
    let mut broker = Broker::new(premises.world(retort, Limits::default().wall));
    broker.journal().map_err(blocks::anyhow_of)?;
    for (name, found) in blocks::refresh(&mut broker) {
        steps.steps.push(match found {
            Ok(addresses) => format!("look up {name}: {addresses:?}"),
            Err(why) => format!("look up {name}: {why} (`retort sweep` tries again)"),
        });
    }
    let registry = Registry::open(root, retort)?;
    let engine = engine::engine(Allocation::OnDemand).map_err(anyhow::Error::from)?;
    for file in registry.components()? {
        let name = file.strip_suffix(".wasm").unwrap_or(&file);
        let loaded = registry
            .find(name)
            .and_then(|found| registry.load(&found, &premises.grants, &engine, compile::PATIENT));
        steps.steps.push(match loaded {
            Ok(loaded) => format!("compile {name} ({})", loaded.digest),
            Err(why) => format!("compile {name}: refused: {why}"),
        });
    }
    Ok(())
}

struct Component {
    name: String,
    bytes: Vec<u8>,
}

fn components(from: Option<&Path>) -> anyhow::Result<Vec<Component>> {
    let Some(from) = from else {
        return Ok(Vec::new());
    };
    let mut components = Vec::new();
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default()
            .to_owned();
        Name::parse(&name)?;
        let bytes =
            conf::read(&path, shape::LARGEST).with_context(|| path.display().to_string())?;
        Shape::of(&bytes).with_context(|| path.display().to_string())?;
        components.push(Component { name, bytes });
    }
    components.sort_by(|a, b| a.name.cmp(&b.name));
    if components.is_empty() {
        bail!(
            "{}: there is no component in it; `retort build` makes one",
            from.display()
        );
    }
    Ok(components)
}

/// Grants that exist are somebody's decision and stay as they are.
fn write_grants(
    root: &Root,
    components: &[Component],
    dialect: Dialect,
    backend: &str,
    steps: &mut Steps,
) -> anyhow::Result<()> {
    let path = root.grants();
    if path.exists() {
        return Ok(());
    }
    let mut text = format!(
        "# What responses may do at most. Nothing is granted unless it stands here.\n\
         # `retort check` prints what it means, and what is wrong with it.\n\
         dialect = \"{}\"\nmode = \"enforce\"\n\n[firewall]\nbackend = \"{backend}\"\nlongest = \"7 d\"\n\
         protect = []\n",
        dialect_name(dialect)
    );
    for component in components {
        if let Some((_, grants)) = DEFAULTS.iter().find(|(name, _)| *name == component.name) {
            let root = root.path().to_string_lossy();
            text.push('\n');
            text.push_str(&grants.replace("@ROOT@", &root));
        }
    }
    conf::grants::parse(&text, &path)?;
    steps.step(
        format!("write the default grants to {}", path.display()),
        || write_new(&path, text.as_bytes(), 0o600),
    )
}

/// One name in `active-response/bin` that becomes ours.
struct Placing<'a> {
    root: &'a Root,
    name: &'a str,
    kind: Kind,
}

impl Placing<'_> {
    fn place(
        &self,
        manifest: &mut Manifest,
        steps: &mut Steps,
        is_ours: impl FnOnce(&Path) -> bool,
        put: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let path = self.root.bin().join(self.name);
        let kept = self.root.replaced().join(self.name);
        let before = manifest.find(self.name).cloned();
        let exists = fs::symlink_metadata(&path).is_ok();
        if exists && before.is_some() && is_ours(&path) {
            return Ok(());
        }
        // Our own older component, or link, is no original.
        let ours = before.is_some()
            && match self.kind {
                Kind::Link => path.is_symlink(),
                Kind::Component => true,
            };
        let replaces = exists && !ours;
        let replaced = replaces || before.is_some_and(|placed| placed.replaced);
        manifest.put(Placed {
            name: self.name.to_owned(),
            kind: self.kind,
            replaced,
        });
        let what = match self.kind {
            Kind::Link => "link",
            Kind::Component => "put the component",
        };
        let keeping = if replaces {
            ", and keep what was there"
        } else {
            ""
        };
        steps.step(format!("{what} {}{keeping}", path.display()), || {
            manifest.write(self.root)?;
            if replaces {
                fs::rename(&path, &kept)
                    .with_context(|| format!("keep {} as {}", path.display(), kept.display()))?;
            } else if exists {
                fs::remove_file(&path)?;
            }
            put(&path)
        })
    }
}

fn is_link_to(path: &Path, target: &Path) -> bool {
    fs::read_link(path).is_ok_and(|link| link == target)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
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

fn guess(root: &Root) -> Dialect {
    let wazuh = ["bin/wazuh-execd", "bin/wazuh-control"];
    if wazuh.iter().any(|file| root.path().join(file).exists()) {
        Dialect::Wazuh4
    } else {
        Dialect::Ossec
    }
}

pub(super) fn uninstall(root: &Root, dry_run: bool) -> anyhow::Result<Output> {
    let mut steps = Steps {
        dry_run,
        ..Steps::default()
    };
    let mut manifest = Manifest::read(root)?;
    release_all(root, &mut steps)?;
    for placed in manifest.placed.clone() {
        let path = root.bin().join(&placed.name);
        let kept = root.replaced().join(&placed.name);
        let foreign = placed.kind == Kind::Link
            && fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_symlink());
        if foreign {
            steps.steps.push(format!(
                "leave {}: it was put there after us (what we replaced is in {})",
                path.display(),
                kept.display()
            ));
        } else {
            let what = if placed.replaced { "restore" } else { "remove" };
            steps.step(format!("{what} {}", path.display()), || {
                let kept_exists = fs::symlink_metadata(&kept).is_ok();
                match (placed.replaced, kept_exists) {
                    (true, true) => Ok(fs::rename(&kept, &path)?),
                    // A crash came between the manifest and the move: it is there still.
                    (true, false) => Ok(()),
                    (false, _) => match fs::remove_file(&path) {
                        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
                        _ => Ok(()),
                    },
                }
            })?;
        }
        manifest.placed.retain(|other| other.name != placed.name);
        if !dry_run {
            manifest.write(root)?;
        }
    }
    steps.output("nothing was installed")
}

/// Every block goes, and the table with them. Grants and journal stay.
fn release_all(root: &Root, steps: &mut Steps) -> anyhow::Result<()> {
    if !root.journal().exists() {
        return Ok(());
    }
    let premises = Premises::read(root, None)?;
    let retort = premises::this_program()?;
    let mut broker = Broker::new(premises.world(&retort, Limits::default().wall));
    let holds = broker.journal().map_err(blocks::anyhow_of)?.open_holds()?;
    for hold in &holds {
        steps.step(format!("unblock {}", hold.address), || {
            let record = broker.release(hold, "retort uninstall");
            record.answer.map(drop).map_err(blocks::anyhow_of)
        })?;
    }
    if premises.grants.firewall.backend == BackendName::Nftables {
        let mut nftables = Nftables::open(root.path(), Limits::default().wall)?;
        if !steps.dry_run && nftables.drop_table()? {
            steps.steps.push("remove the nftables table".to_owned());
        }
    }
    Ok(())
}
