//! What an operator does by hand: by the daemon where one serves the installation.

use std::time::Duration;

use ipnet::IpNet;

use super::Output;
use super::blocks::{self, PATIENCE};
use crate::control::{self, Ask, Told};
use crate::effect::{Effect, Record};
use crate::premises;
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
    blocks::records_output(&records, "nothing was done")
}

/// What the daemon did; none where there is no daemon.
pub(super) fn records_of(root: &Root, ask: &Ask) -> anyhow::Result<Option<Vec<Record>>> {
    match control::ask(root, ask, PATIENCE).transpose()? {
        None => Ok(None),
        Some(Told::Records(records)) => Ok(Some(records)),
        Some(other) => anyhow::bail!("the daemon says something else: {other:?}"),
    }
}
