//! `retort check`: everything that could be wrong, in one table, with what mends it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::manifest::{Kind, Manifest};
use super::{Output, blocks};
use crate::backend::nftables::Nftables;
use crate::conf::grants::{BackendName, Grants, Response, Target};
use crate::conf::{Problem, ar, trust};
use crate::effect::broker::Broker;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::premises::{self, Premises};
use crate::registry::Registry;
use crate::report::Log;
use crate::respond;
use crate::root::Root;
use crate::vessel::compile;
use crate::vessel::engine::{self, Allocation};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Ok,
    Warning,
    Error,
}

#[derive(Debug, Serialize)]
struct Row {
    grade: Grade,
    subject: String,
    what: String,
}

#[derive(Debug, Default, Serialize)]
struct Table {
    rows: Vec<Row>,
}

impl Table {
    fn row(&mut self, grade: Grade, subject: impl Into<String>, what: impl Into<String>) {
        self.rows.push(Row {
            grade,
            subject: subject.into(),
            what: what.into(),
        });
    }

    fn result<E: std::fmt::Display>(&mut self, subject: &str, result: Result<String, E>) {
        match result {
            Ok(what) => self.row(Grade::Ok, subject, what),
            Err(why) => self.row(Grade::Error, subject, format!("{why:#}")),
        }
    }
}

pub(super) fn check(root: &Root) -> anyhow::Result<Output> {
    let mut table = Table::default();
    ownership(root, &mut table);
    let premises = match Premises::read(root, None) {
        Ok(premises) => Some(premises),
        Err(why) => {
            table.row(Grade::Error, "configuration", format!("{why:#}"));
            None
        }
    };
    if let Some(premises) = &premises {
        table.row(
            Grade::Ok,
            "retort.toml",
            format!("{} responses have grants", premises.grants.responses.len()),
        );
        findings(&premises.conf.findings, &mut table);
        components(premises, &mut table);
        world(premises, &mut table);
    }
    links(root, premises.as_ref(), &mut table);
    log(root, &mut table);

    let mut human = String::new();
    for row in &table.rows {
        let grade = match row.grade {
            Grade::Ok => "ok     ",
            Grade::Warning => "warning",
            Grade::Error => "ERROR  ",
        };
        let what = row.what.replace('\n', "\n          ");
        let _ = writeln!(human, "{grade}  {}: {what}", row.subject);
    }
    let failed = table.rows.iter().any(|row| row.grade == Grade::Error);
    Ok(Output::new(human, &table)?.failed_if(failed))
}

fn ownership(root: &Root, table: &mut Table) {
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

fn findings(findings: &[Problem], table: &mut Table) {
    for finding in findings {
        table.row(Grade::Warning, "ossec.conf", finding.to_string());
    }
}

fn components(premises: &Premises, table: &mut Table) {
    let root = &premises.root;
    let opened = premises::this_program()
        .and_then(|retort| Ok(Registry::open(root, &retort)?))
        .and_then(|registry| Ok((registry, engine::engine(Allocation::OnDemand)?)));
    let (registry, engine) = match opened {
        Ok(opened) => opened,
        Err(why) => return table.row(Grade::Error, "active-response/bin", format!("{why:#}")),
    };
    let files = registry.components().unwrap_or_default();
    for file in &files {
        let name = file.strip_suffix(".wasm").unwrap_or(file);
        let loaded = registry
            .find(name)
            .and_then(|found| registry.load(&found, &premises.grants, &engine, compile::PATIENT));
        let told = loaded.map(|loaded| {
            let expect = respond::expects(&premises.conf, name, loaded.grants.expect.as_ref());
            let expect: Vec<String> = expect.iter().map(ToString::to_string).collect();
            format!(
                "sha256 {}\nimports {}\nsees {}\nmay {}",
                loaded.digest,
                list(&loaded.vessel.shape().imports),
                list(&expect),
                list(&may(&loaded.grants, &premises.grants))
            )
        });
        table.result(file, told);
    }
    for name in premises.grants.responses.keys() {
        if !files.contains(&format!("{name}.wasm")) {
            let what = format!(
                "[response.{name}] has grants, but there is no {name}.wasm in active-response/bin"
            );
            table.row(Grade::Warning, "retort.toml", what);
        }
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        "nothing".to_owned()
    } else {
        items.join(", ")
    }
}

fn may(grants: &Response, whole: &Grants) -> Vec<String> {
    let mut may = Vec::new();
    if let Some(firewall) = &grants.firewall {
        let target = match &firewall.target {
            Target::Srcip => "the srcip of its event".to_owned(),
            Target::Any => "ANY address that is not protected".to_owned(),
            Target::Networks(networks) => {
                list(&networks.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
        };
        let backend = firewall.backend.unwrap_or(whole.firewall.backend);
        may.push(format!(
            "block {target} ({backend}, {} a minute)",
            firewall.per_minute
        ));
    }
    may.extend(grants.process.keys().map(|helper| format!("run {helper}")));
    if grants.hostname {
        may.push("ask for the host's name".to_owned());
    }
    may
}

/// Journal, firewall and names.
fn world(premises: &Premises, table: &mut Table) {
    let root = &premises.root;
    let wall = Limits::default().wall;
    let open = Journal::open(&root.journal(), wall).and_then(|journal| journal.open_holds());
    table.result(
        "journal",
        open.map(|holds| format!("{} blocks stand", holds.len())),
    );
    if premises.grants.firewall.backend == BackendName::Nftables {
        let seen = Nftables::open(root.path(), wall).and_then(|mut nftables| nftables.list());
        table.result(
            "nftables",
            seen.map(|seen| format!("{} addresses are in the set", seen.len())),
        );
    }
    let Ok(retort) = premises::this_program() else {
        return;
    };
    let mut broker = Broker::new(premises.world(&retort, wall));
    for (name, found) in blocks::refresh(&mut broker) {
        match found {
            Ok(addresses) => table.row(Grade::Ok, name, format!("protected as {addresses:?}")),
            Err(why) => table.row(
                Grade::Warning,
                name,
                format!("is to be protected, but is not found: {why}"),
            ),
        }
    }
    match broker.protect_list() {
        Ok(list) => table.row(
            Grade::Ok,
            "protect list",
            format!("{} entries", list.entries().len()),
        ),
        Err(refusal) => table.row(Grade::Error, "protect list", refusal.reason),
    }
}

/// Links that are ours and are not there, and executables that are not ours.
fn links(root: &Root, premises: Option<&Premises>, table: &mut Table) {
    let manifest = Manifest::read(root).unwrap_or_default();
    let Ok(retort) = premises::this_program() else {
        return;
    };
    for placed in manifest
        .placed
        .iter()
        .filter(|placed| placed.kind == Kind::Link)
    {
        let path = root.bin().join(&placed.name);
        let subject = path.display().to_string();
        let mend = format!("run `retort --root {} install`", root.path().display());
        match fs::symlink_metadata(&path) {
            Err(_) => table.row(Grade::Error, subject, format!("our link is gone; {mend}")),
            Ok(meta) if !meta.is_symlink() => {
                let what = format!(
                    "something else is in place of our link, as after a package upgrade: it runs UNSEALED; {mend}"
                );
                table.row(Grade::Error, subject, what);
            }
            Ok(_) => match fs::read_link(&path) {
                Ok(target) if target == retort => table.row(Grade::Ok, subject, "is our link"),
                Ok(target) => table.row(
                    Grade::Warning,
                    subject,
                    format!("links to {}; {mend}", target.display()),
                ),
                Err(why) => table.row(Grade::Error, subject, why.to_string()),
            },
        }
    }
    let Some(premises) = premises else { return };
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
        if manifest.find(executable).is_none() && is_present(&root.bin().join(executable)) {
            let what = "it is no link to retort: it runs as root, unsealed";
            table.row(Grade::Warning, executable, what);
        }
    }
}

fn is_present(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn log(root: &Root, table: &mut Table) {
    let opened = cap_std::fs::Dir::open_ambient_dir(root.logs(), cap_std::ambient_authority());
    match opened {
        Ok(logs) => table.result(
            "log",
            Log::open(&logs).map(|_| "active-responses.log is a plain file".to_owned()),
        ),
        Err(why) => table.row(
            Grade::Warning,
            "log",
            format!("{}: {why}", root.logs().display()),
        ),
    }
}
