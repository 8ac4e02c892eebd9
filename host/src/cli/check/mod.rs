//! `retort check`: everything that could be wrong, in one table, with what mends it.

mod placed;
mod responses;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ipnet::IpNet;
use serde::Serialize;

use super::manifest::Manifest;
use super::{Output, names};
use crate::address;
use crate::backend::nftables::Nftables;
use crate::conf::Problem;
use crate::conf::grants::BackendName;
use crate::effect::broker::Broker;
use crate::journal::{Journal, Owed};
use crate::limits::Limits;
use crate::premises::{self, Premises};
use crate::report::Log;
use crate::root::Root;

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
    placed::ownership(root, &mut table);
    let manifest = Manifest::read(root).unwrap_or_else(|why| {
        table.row(Grade::Error, "installed.json", format!("{why:#}"));
        Manifest::default()
    });
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
        findings("ossec.conf", &premises.conf.findings, &mut table);
        findings("watch", &premises.site().findings, &mut table);
        responses::components(premises, &manifest, &mut table);
        world(premises, &mut table);
    }
    placed::links(root, &manifest, &mut table);
    if let Some(premises) = &premises {
        placed::called(premises, &manifest, &mut table);
        placed::legacy(premises, &mut table);
    }
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

fn findings(subject: &str, findings: &[Problem], table: &mut Table) {
    for finding in findings {
        table.row(Grade::Warning, subject, finding.to_string());
    }
}

/// Journal, firewall and names.
fn world(premises: &Premises, table: &mut Table) {
    let root = &premises.root;
    let wall = Limits::default().wall;
    let open = Journal::open(&root.journal(), wall).and_then(|journal| journal.open_holds());
    let held: Option<BTreeSet<IpNet>> = open.as_ref().ok().map(|holds| {
        let nftables = BackendName::Nftables.to_string();
        let in_nftables = holds.iter().filter(|hold| hold.backend == nftables);
        let (hosts, networks): (Vec<IpNet>, Vec<IpNet>) = in_nftables
            .map(|hold| hold.network)
            .partition(|network| address::only(*network).is_some());
        hosts
            .into_iter()
            .chain(IpNet::aggregate(&networks))
            .collect()
    });
    table.result(
        "journal",
        open.map(|holds| format!("{} blocks stand", holds.len())),
    );
    if premises.grants.firewall.backend == BackendName::Nftables {
        let seen = Nftables::open(root.path(), wall).and_then(|mut nftables| {
            let hosts = nftables.list()?.into_iter();
            let mut seen: BTreeSet<IpNet> = hosts.map(|(a, _)| address::host(a)).collect();
            seen.extend(nftables.networks()?);
            Ok((seen, nftables.is_whole()?))
        });
        if let (Ok((seen, _)), Some(held)) = (&seen, held) {
            differences(seen, &held, table);
        }
        if let Ok((_, false)) = seen {
            let what = "somebody changed our table, and it may let everything through; `retort sweep` mends it";
            table.row(Grade::Error, "nftables", what);
        }
        table.result(
            "nftables",
            seen.map(|(seen, _)| format!("{} addresses and networks are in the sets", seen.len())),
        );
    }
    let owed = Owed::open(&root.owed()).and_then(|owed| owed.left_behind());
    match owed {
        Ok(owed) if owed.is_empty() => {}
        Ok(owed) => {
            let what = format!(
                "{} deletes were cut short; `retort sweep` does them, or the next response",
                owed.len()
            );
            table.row(Grade::Warning, "owed", what);
        }
        Err(why) => table.row(
            Grade::Error,
            root.owed().display().to_string(),
            why.to_string(),
        ),
    }
    let Ok(retort) = premises::this_program() else {
        return;
    };
    let mut broker = Broker::new(premises.world(&retort, wall));
    for (name, found) in names::refresh(&mut broker) {
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
        Ok(list) => {
            for hold in broker.open_holds().unwrap_or_default() {
                if let Some(why) = list.refuses(hold.network) {
                    let what = format!(
                        "it is blocked for {} and protected ({why}); `retort sweep` lifts it",
                        hold.response
                    );
                    table.row(Grade::Warning, address::spell(hold.network), what);
                }
            }
            let what = format!("{} entries", list.entries().len());
            table.row(Grade::Ok, "protect list", what);
            if let Some(why) = broker.unknown_sessions() {
                table.row(Grade::Warning, "protect list", why);
            }
        }
        Err(refusal) => table.row(Grade::Error, "protect list", refusal.reason),
    }
}

/// What the journal has and the firewall has not, and the other way round.
fn differences(seen: &BTreeSet<IpNet>, held: &BTreeSet<IpNet>, table: &mut Table) {
    let some = |addresses: Vec<&IpNet>| {
        let shown = addresses
            .iter()
            .take(5)
            .map(|network| address::spell(**network));
        let shown: Vec<String> = shown.collect();
        let more = if addresses.len() > shown.len() {
            ", …"
        } else {
            ""
        };
        format!("{} ({}{more})", addresses.len(), shown.join(", "))
    };
    let lost: Vec<&IpNet> = held.difference(seen).collect();
    if !lost.is_empty() {
        let what = format!(
            "{} are held and not in the firewall: somebody took them out; `retort sweep` puts them back",
            some(lost)
        );
        table.row(Grade::Warning, "nftables", what);
    }
    let foreign: Vec<&IpNet> = seen.difference(held).collect();
    if !foreign.is_empty() {
        let what = format!(
            "{} are in the firewall and not held: blocked without the journal, or by somebody else; `retort sweep` takes out what does not end by itself",
            some(foreign)
        );
        table.row(Grade::Warning, "nftables", what);
    }
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

/// Links that something else took the place of, as a package upgrade does.
pub(super) fn overwritten(root: &Root) -> Vec<String> {
    let manifest = Manifest::read(root).unwrap_or_default();
    let mut table = Table::default();
    placed::links(root, &manifest, &mut table);
    let rows = table.rows.into_iter();
    rows.filter(|row| row.grade == Grade::Error)
        .map(|row| row.subject)
        .collect()
}
