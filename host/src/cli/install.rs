//! `retort install` and `uninstall`: components and links into place, and back.
//!
//! What stood at a place of ours is moved to `retort/replaced` byte for byte, with
//! its owner and mode, and `uninstall` moves it back.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use super::manifest::{Kind, Manifest};
use super::placing::{self, Placing};
use super::steps::Steps;
use super::{Output, blocks, dialect, dialect_name, names};
use crate::backend;
use crate::backend::nftables::Nftables;
use crate::conf::executable::Name;
use crate::conf::grants::Grants;
use crate::conf::ossec::OssecConf;
use crate::conf::{self, trust};
use crate::effect::broker::Broker;
use crate::event::Dialect;
use crate::limits::Limits;
use crate::premises::{self, Premises};
use crate::registry::{self, Registry};
use crate::root::Root;
use crate::vessel::compile;
use crate::vessel::engine::{self, Allocation};
use crate::vessel::run::{LoadError, Vessel, Workshop};
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
    let mut steps = Steps::new(arguments.dry_run);
    // Whatever is wrong is said before anything is moved.
    let components = components(arguments.from.as_deref())?;
    let (grants, fresh) = grants(root, &components, arguments)?;
    let conf = premises::read_ossec_conf(root, grants.dialect)?;
    let mut manifest = Manifest::read(root)?;
    for folder in [root.own(), root.cache(), root.replaced()] {
        if !folder.exists() {
            steps.step(format!("make {}", folder.display()), || {
                Ok(fs::DirBuilder::new().mode(0o700).create(&folder)?)
            })?;
        }
    }
    if let Some(text) = fresh {
        let path = root.grants();
        steps.step(
            format!("write the default grants to {}", path.display()),
            || placing::write_new(&path, text.as_bytes(), 0o600),
        )?;
    }
    let engine = engine::engine(Allocation::OnDemand).map_err(anyhow::Error::from)?;
    // A dry run leaves nothing behind, not even machine code.
    let cache = (!arguments.dry_run)
        .then(|| registry::cache(root))
        .flatten();
    let workshop = Workshop {
        engine: &engine,
        cache: cache.as_ref(),
        retort: &retort,
        patience: compile::PATIENT,
    };
    let mut good: Vec<String> = Vec::new();
    for component in &components {
        match compiled(&workshop, component, &grants) {
            Ok(()) => good.push(component.name.clone()),
            Err(why) => steps.refuse(format!("{}: not installed: {why}", component.name)),
        }
    }
    let mut place = Placing {
        root,
        manifest: &mut manifest,
        steps: &mut steps,
    };
    for component in components.iter().filter(|c| good.contains(&c.name)) {
        place.component(&component.name, &component.bytes)?;
    }
    for name in links(root, &grants, &conf, &good, place.manifest)? {
        place.link(&name, &retort)?;
    }
    if !arguments.dry_run {
        settle(root, &retort, &mut steps)?;
    }
    steps.output("everything is in place")
}

/// Whether the component loads with its grants; it is in the cache then.
fn compiled(
    workshop: &Workshop<'_>,
    component: &Component,
    grants: &Grants,
) -> Result<(), LoadError> {
    let granted = grants.response(&component.name);
    let digest = hex::encode(Sha256::digest(&component.bytes));
    Vessel::load(
        workshop,
        &component.name,
        &component.bytes,
        &digest,
        &granted,
    )
    .map(drop)
}

/// The names under which an execd will ask for what is installed: each component's
/// own, those of links that are ours already, and those that the configuration calls.
fn links(
    root: &Root,
    grants: &Grants,
    conf: &OssecConf,
    good: &[String],
    manifest: &Manifest,
) -> anyhow::Result<Vec<String>> {
    let mut names: BTreeSet<String> = good.iter().cloned().collect();
    if grants.dialect == Dialect::Ossec {
        let plain = good.iter().filter(|name| !name.ends_with(".sh"));
        names.extend(plain.map(|name| format!("{name}.sh")));
    }
    let ours = |kind| {
        manifest
            .placed
            .iter()
            .filter(move |placed| placed.kind == kind)
    };
    let components: BTreeSet<String> = good
        .iter()
        .map(|name| format!("{name}.wasm"))
        .chain(ours(Kind::Component).map(|placed| placed.name.clone()))
        .collect();
    let ar = premises::read_ar_conf(root)?;
    let called = conf
        .commands
        .iter()
        .map(|command| command.executable.as_str());
    for executable in called.chain(ar.iter().map(|entry| entry.executable.as_str())) {
        let Ok(name) = Name::parse(executable) else {
            continue;
        };
        if name
            .components()
            .iter()
            .any(|file| components.contains(file))
        {
            names.insert(executable.to_owned());
        }
    }
    names.extend(ours(Kind::Link).map(|placed| placed.name.clone()));
    Ok(names.into_iter().collect())
}

/// What may wait is done now, and not with an alert.
fn settle(root: &Root, retort: &Path, steps: &mut Steps) -> anyhow::Result<()> {
    let premises = Premises::read(root, None)?;
    let mut broker = Broker::new(premises.world(retort, Limits::default().wall));
    broker.journal().map_err(blocks::anyhow_of)?;
    broker.owed()?;
    for (name, found) in names::refresh(&mut broker) {
        steps.note(match found {
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
        match loaded {
            Ok(loaded) => steps.note(format!("compile {name} ({})", loaded.digest)),
            Err(why) => steps.refuse(format!("compile {name}: refused: {why}")),
        }
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

/// The grants, and the text of the first ones. Grants that exist are somebody's
/// decision and stay as they are.
fn grants(
    root: &Root,
    components: &[Component],
    arguments: &Arguments,
) -> anyhow::Result<(Grants, Option<String>)> {
    if fs::symlink_metadata(root.grants()).is_ok() {
        return Ok((premises::read_grants(root)?, None));
    }
    let dialect = arguments.dialect.unwrap_or_else(|| guess(root));
    let mut text = format!(
        "# What responses may do at most. Nothing is granted unless it stands here.\n\
         # `retort check` prints what it means, and what is wrong with it.\n\
         dialect = \"{}\"\nmode = \"enforce\"\n\n[firewall]\nbackend = \"{}\"\nlongest = \"7 d\"\n\
         protect = []\n",
        dialect_name(dialect),
        arguments.backend
    );
    let control = match dialect {
        Dialect::Ossec => "ossec-control",
        Dialect::Wazuh4 | Dialect::Wazuh5 => "wazuh-control",
    };
    for component in components {
        if let Some((_, grants)) = DEFAULTS.iter().find(|(name, _)| *name == component.name) {
            let root = root.path().to_string_lossy();
            text.push('\n');
            text.push_str(
                &grants
                    .replace("@ROOT@", &root)
                    .replace("@CONTROL@", control),
            );
        }
    }
    Ok((conf::grants::parse(&text, &root.grants())?, Some(text)))
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
    let mut steps = Steps::new(dry_run);
    let mut manifest = Manifest::read(root)?;
    let kept = fs::read_dir(root.replaced()).is_ok_and(|mut entries| entries.next().is_some());
    if manifest.placed.is_empty() && kept {
        bail!(
            "{}: it has originals, but what was installed is not written down any more; run `retort --root {} install`, which writes it down, and then uninstall",
            root.replaced().display(),
            root.path().display()
        );
    }
    release_all(root, &mut steps)?;
    Placing {
        root,
        manifest: &mut manifest,
        steps: &mut steps,
    }
    .take_back()?;
    steps.output("nothing was installed")
}

/// Every block goes, and the table with them. Grants and journal stay.
fn release_all(root: &Root, steps: &mut Steps) -> anyhow::Result<()> {
    if fs::symlink_metadata(root.journal()).is_err() {
        return Ok(());
    }
    let mut broker = blocks::broker(root)?;
    let holds = broker.open_holds().map_err(blocks::anyhow_of)?;
    for hold in &holds {
        steps.step(
            format!("unblock {}", crate::address::spell(hold.network)),
            || {
                let record = broker.release(hold, "retort uninstall");
                record.answer.map(drop).map_err(blocks::anyhow_of)
            },
        )?;
    }
    // Whatever backend is named today: the table may be an earlier one's.
    match Nftables::open(root.path(), Limits::default().wall) {
        Ok(mut nftables) => {
            if !steps.dry_run && nftables.drop_table()? {
                steps.note("remove the nftables table".to_owned());
            }
            Ok(())
        }
        Err(backend::Error::NotSupported(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
