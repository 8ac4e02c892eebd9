//! Components: whether they load, what they see, what they may do.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Grade, Table};
use crate::cli::manifest::{Kind, Manifest};
use crate::conf::executable::Name;
use crate::conf::grants::{Argument, Grants, Response, Target};
use crate::conf::trust;
use crate::event::Expect;
use crate::premises::{self, Premises};
use crate::registry::Registry;
use crate::respond;
use crate::vessel::compile;
use crate::vessel::engine::{self, Allocation};

pub(super) fn components(premises: &Premises, manifest: &Manifest, table: &mut Table) {
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
        if let Ok(loaded) = &loaded {
            helpers(name, &loaded.grants, table);
        }
        let told = loaded.map(|loaded| {
            format!(
                "sha256 {}\nimports {}\n{}\nmay {}",
                loaded.digest,
                list(&loaded.vessel.shape().imports),
                sees(premises, manifest, name, loaded.grants.expect.as_ref()),
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

/// What it sees, under each name that it is called by.
fn sees(
    premises: &Premises,
    manifest: &Manifest,
    response: &str,
    granted: Option<&Expect>,
) -> String {
    let file = format!("{response}.wasm");
    let named = manifest.placed.iter().filter(|placed| {
        placed.kind == Kind::Link
            && Name::parse(&placed.name).is_ok_and(|name| name.components().contains(&file))
    });
    let mut by_view: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for placed in named {
        let expect = respond::expects(&premises.conf, &placed.name, granted);
        let expect: Vec<String> = expect.iter().map(ToString::to_string).collect();
        by_view.entry(list(&expect)).or_default().push(&placed.name);
    }
    let views = by_view
        .iter()
        .map(|(view, names)| format!("sees {view} as {}", names.join(", ")));
    let views: Vec<String> = views.collect();
    if views.is_empty() {
        return "is called under no name".to_owned();
    }
    views.join("\n")
}

/// The programs that a response may start.
fn helpers(response: &str, grants: &Response, table: &mut Table) {
    for (name, helper) in &grants.process {
        let Some(Argument::Fixed(program)) = helper.argv.first() else {
            continue;
        };
        let subject = format!("{response}: helper {name}");
        match trust::check(Path::new(program)) {
            Ok(()) => table.row(Grade::Ok, subject, format!("{program} can be trusted")),
            Err(untrusted @ trust::Untrusted::Unseen { .. }) => {
                table.row(
                    Grade::Warning,
                    subject,
                    format!("it can't be started: {untrusted}"),
                );
            }
            Err(untrusted) => table.row(Grade::Error, subject, untrusted.to_string()),
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
