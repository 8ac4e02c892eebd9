//! `retort explain` and `retort protect`: why an address is blocked, or is not; what
//! an alert would start, and what not.

mod alert;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use anyhow::bail;
use serde::Serialize;

use super::Output;
use super::blocks::{self, Listed, PATIENCE};
use crate::address;
use crate::conf::grants::BackendName;
use crate::journal::{self, Journal, Now, Past};
use crate::report;
use crate::root::Root;

/// Runs that are shown of one address.
const SHOWN: u32 = 50;

#[derive(Serialize)]
struct Explained {
    address: IpAddr,
    /// Why it is never blocked, if it is not.
    protected: Option<String>,
    /// Seconds that the firewall keeps it; 0 for ever.
    in_firewall: Option<u64>,
    holds: Vec<Listed>,
    history: Vec<Past>,
}

/// An address, or the file of an alert.
pub(super) fn explain(root: &Root, what: &str) -> anyhow::Result<Output> {
    match address::parse(what) {
        Some(address) => explain_address(root, address),
        None if Path::new(what).exists() => alert::explain(root, Path::new(what)),
        None => bail!(
            "`{}` is neither an IP address nor a file with an alert",
            report::escape(what, 64)
        ),
    }
}

/// Everything that is known of one address.
fn explain_address(root: &Root, address: IpAddr) -> anyhow::Result<Output> {
    let mut broker = blocks::broker(root)?;
    let protected = broker
        .protect_list()
        .map_err(blocks::anyhow_of)?
        .refuses(address::host(address));
    let seen = broker.backend(BackendName::Nftables).and_then(|backend| {
        backend
            .look(address)
            .map_err(|e| crate::effect::Refusal::failed(e.to_string()))
    });
    let now = Now::read()?;
    let (holds, history) = match Journal::open_read_only(&root.journal(), PATIENCE) {
        Ok(journal) => (
            blocks::holds_on(&journal, address)?,
            journal.history(SHOWN, Some(address))?,
        ),
        Err(journal::Error::Missing { .. }) => (Vec::new(), Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut human = format!("{address}\n");
    let _ = match &protected {
        Some(why) => writeln!(human, "  it is never blocked: {why}"),
        None => writeln!(human, "  it may be blocked: nothing protects it"),
    };
    let _ = match &seen {
        Ok(Some(seen)) => match seen.expires_in {
            Some(left) => {
                let left = std::time::Duration::from_secs(left.as_secs());
                writeln!(
                    human,
                    "  it is in the firewall, for {}",
                    humantime::format_duration(left)
                )
            }
            None => writeln!(human, "  it is in the firewall"),
        },
        Ok(None) => writeln!(human, "  it is not in the firewall"),
        Err(refusal) => writeln!(human, "  the firewall does not say: {}", refusal.reason),
    };
    let holds: Vec<Listed> = holds.iter().map(|hold| Listed::of(hold, &now)).collect();
    for hold in &holds {
        let _ = writeln!(human, "  held by {}", hold.claim());
    }
    if history.is_empty() {
        human.push_str("  no response has seen it");
    } else {
        human.push_str(&blocks::in_words(&history)?);
    }
    let in_firewall = seen.ok().flatten();
    let explained = Explained {
        address,
        protected,
        in_firewall: in_firewall.map(|seen| seen.expires_in.unwrap_or_default().as_secs()),
        holds,
        history,
    };
    Output::new(human, &explained)
}

#[derive(Serialize)]
struct Protected {
    network: String,
    why: String,
}

/// Everything that is never blocked, besides what no packet comes from.
pub(super) fn protect(root: &Root) -> anyhow::Result<Output> {
    let mut broker = blocks::broker(root)?;
    let list = broker.protect_list().map_err(blocks::anyhow_of)?;
    let entries: Vec<Protected> = list
        .entries()
        .iter()
        .map(|entry| Protected {
            network: entry.network.to_string(),
            why: entry.why.clone(),
        })
        .collect();
    let mut human = String::new();
    for entry in &entries {
        let _ = writeln!(human, "{:<43} {}", entry.network, entry.why);
    }
    human.push_str(
        "and loopback, multicast, link-local and unspecified addresses, and the white list",
    );
    Output::new(human, &entries)
}
