//! What an operator does by hand: by the daemon where one serves the installation.

use std::time::Duration;

use cap_std::fs::Dir;
use ipnet::IpNet;

use super::Output;
use super::blocks::{self, PATIENCE};
use crate::control::{self, Ask, Told};
use crate::effect::by_hand::BY_HAND;
use crate::effect::{Effect, Record};
use crate::premises;
use crate::report;
use crate::root::Root;

pub(super) fn add(root: &Root, network: IpNet, lasts: Option<Duration>) -> anyhow::Result<Output> {
    premises::installed(root)?;
    let ask = Ask::Block {
        network,
        seconds: lasts.map(|lasts| lasts.as_secs().max(1)),
    };
    let records = match records_of(root, &ask)? {
        Some(records) => records,
        None => {
            let answer = blocks::broker(root)?.block_by_hand(network, lasts);
            let effect = Effect::Block { network };
            vec![Record { effect, answer }]
        }
    };
    log(root, "add", &records);
    blocks::records_output(&records, "nothing was done")
}

/// What was done by hand stands in the log with everything else. One that can't be
/// written is no reason not to act; `retort check` says what is wrong with it.
pub(super) fn log(root: &Root, action: &str, records: &[Record]) {
    if records.is_empty() {
        return;
    }
    let outcome = report::Outcome {
        response: BY_HAND.to_owned(),
        action: action.to_owned(),
        verdict: "by hand".to_owned(),
        effects: records.iter().map(report::effect).collect(),
        ..report::Outcome::default()
    };
    let line = report::outcome_line(&outcome, &report::now());
    let logs = Dir::open_ambient_dir(root.logs(), cap_std::ambient_authority());
    let written = logs
        .map_err(anyhow::Error::from)
        .and_then(|logs| Ok(report::Log::open(&logs)?.append(&line)?));
    if let Err(why) = written {
        eprintln!("retort: {why:#}");
    }
}

/// What the daemon did; none where there is no daemon.
pub(super) fn records_of(root: &Root, ask: &Ask) -> anyhow::Result<Option<Vec<Record>>> {
    match control::ask(root, ask, PATIENCE).transpose()? {
        None => Ok(None),
        Some(Told::Records(records)) => Ok(Some(records)),
        Some(other) => anyhow::bail!("the daemon says something else: {other:?}"),
    }
}
