//! Folders, files and links: whose they are, and whether they are what was installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{Grade, Table};
use crate::cli::manifest::{Kind, Manifest};
use crate::cli::placing;
use crate::conf::executable::Name;
use crate::conf::{ar, trust};
use crate::premises::{self, Premises};
use crate::root::Root;

pub(super) fn ownership(root: &Root, table: &mut Table) {
    for path in [
        root.path().to_owned(),
        root.own(),
        root.grants(),
        root.journal(),
        root.cache(),
        root.bin(),
    ] {
        if fs::symlink_metadata(&path).is_err() {
            if path == root.own() || path == root.bin() {
                let mend = format!(
                    "it is missing; run `retort --root {} install`",
                    root.path().display()
                );
                table.row(Grade::Error, path.display().to_string(), mend);
            }
            continue;
        }
        let checked = trust::check(&path).map(|()| "only root can write it".to_owned());
        table.result(&path.display().to_string(), checked);
    }
    let retort = premises::this_program();
    let trusted = retort.and_then(|retort| {
        trust::check(&retort)?;
        Ok(format!("{}: only root can write it", retort.display()))
    });
    table.result("this program", trusted);
    for path in [root.ossec_conf(), root.ar_conf()] {
        if let Err(untrusted) = trust::check(&path)
            && !matches!(untrusted, trust::Untrusted::Unseen { .. })
        {
            let what = format!(
                "{untrusted}\nit may say when a response runs; what it may do stands in retort.toml"
            );
            table.row(Grade::Warning, path.display().to_string(), what);
        }
    }
}

/// Links that are ours and are not there.
pub(super) fn links(root: &Root, manifest: &Manifest, table: &mut Table) {
    let mend = format!("run `retort --root {} install`", root.path().display());
    for placed in &manifest.placed {
        let path = root.bin().join(&placed.name);
        let subject = path.display().to_string();
        let ours = match placed.kind {
            Kind::Link => "link",
            Kind::Component => "component",
        };
        match placing::content(&path) {
            Some(content) if content == placed.content && placed.kind == Kind::Component => {}
            Some(content) if content == placed.content => match trust::check(Path::new(&content)) {
                Ok(()) => table.row(Grade::Ok, subject, format!("is our link to {content}")),
                Err(why) => table.row(
                    Grade::Error,
                    subject,
                    format!("our link leads nowhere good: {why}; put the program back, or {mend}"),
                ),
            },
            None if fs::symlink_metadata(&path).is_err() => {
                table.row(Grade::Error, subject, format!("our {ours} is gone; {mend}"));
            }
            Some(_) if placed.kind == Kind::Component => {
                let what = "it is not the component that was installed; if it is meant, `retort install --from` a folder with it";
                table.row(Grade::Warning, subject, what);
            }
            _ => {
                let what = format!(
                    "something else is in place of our link, as after a package upgrade: it runs UNSEALED; {mend}"
                );
                table.row(Grade::Error, subject, what);
            }
        }
    }
}

/// Executables that the configuration calls and that are not ours.
pub(super) fn called(premises: &Premises, manifest: &Manifest, table: &mut Table) {
    let root = &premises.root;
    let commands = premises
        .conf
        .commands
        .iter()
        .map(|command| command.executable.as_str());
    let called: BTreeSet<&str> = commands
        .chain(
            premises
                .ar
                .iter()
                .map(|entry: &ar::Entry| entry.executable.as_str()),
        )
        .collect();
    for executable in called {
        if manifest.find(executable).is_some() {
            continue;
        }
        let components = Name::parse(executable)
            .map(|name| name.components())
            .unwrap_or_default();
        let sealed = components
            .iter()
            .any(|file| is_present(&root.bin().join(file)));
        let mend = format!("run `retort --root {} install`", root.path().display());
        if is_present(&root.bin().join(executable)) {
            let what = "it is no link to retort: it runs as root, unsealed";
            table.row(Grade::Warning, executable, what);
        } else if sealed {
            let what = format!("there is a component for it and no link, so it never runs; {mend}");
            table.row(Grade::Warning, executable, what);
        } else if !["restart-ossec.sh", "restart-ossec.cmd", "restart-wazuh"].contains(&executable)
        {
            let what = "it is called, and there is neither a component nor a program of that name: the execd drops it in silence";
            table.row(Grade::Warning, executable, what);
        }
    }
}

/// What the grants let run outside the vessel.
pub(super) fn legacy(premises: &Premises, table: &mut Table) {
    let legacy = &premises.grants.legacy;
    for executable in &legacy.allow {
        let components = Name::parse(executable)
            .map(|name| name.components())
            .unwrap_or_default();
        let bin = premises.root.bin();
        if components.iter().any(|file| is_present(&bin.join(file))) {
            let what = format!(
                "it has a component, which runs in its place: take it out of allow under [legacy] in {}",
                premises.root.grants().display()
            );
            table.row(Grade::Warning, executable, what);
            continue;
        }
        let wall = humantime::format_duration(legacy.wall);
        let what = format!(
            "it runs UNSEALED under `retort execd` and `retort watch`, as root with an attacker's text, for at most {wall}: [legacy] allows it"
        );
        table.row(Grade::Warning, executable, what);
        if let Err(why) = trust::check(&bin.join(executable)) {
            table.row(Grade::Error, executable, why.to_string());
        }
    }
}

fn is_present(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
