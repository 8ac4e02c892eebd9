//! `retort blocks list`, `unblock`, `sweep`: what stands, and what goes.

use std::fmt::Write as _;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::{Output, by_hand, names};
use crate::address;
use crate::conf::grants::BackendName;
use crate::control::Ask;
use crate::effect::broker::Broker;
use crate::effect::{Done, Effect, Record};
use crate::journal::{self, Effected, Hold, Journal, Now, Owner, Past};
use crate::limits::Limits;
use crate::premises::{self, Premises};
use crate::report;
use crate::root::Root;
use crate::sweep::{self, Swept};
use crate::undo;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Lists the holds, oldest first.
    List,
    /// Blocks a network by hand.
    Add {
        /// An address or a network.
        #[arg(value_parser = super::network)]
        network: IpNet,
        /// For how long: `10m`, `2h`; without it as long as a hold may last.
        #[arg(long = "for", value_parser = humantime::parse_duration)]
        lasts: Option<Duration>,
    },
    /// Gives up every hold on a network.
    Delete {
        /// An address or a network.
        #[arg(value_parser = super::network)]
        network: IpNet,
    },
}

/// How long these verbs wait for others: a person is waiting, but a burst is no
/// reason to fail.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Whatever may serve a hold.
const BACKENDS: [BackendName; 2] = [BackendName::Nftables, BackendName::Record];

/// A hold, as it is listed.
#[derive(Serialize)]
pub(super) struct Listed {
    /// A host, or a network with its prefix.
    pub(super) address: String,
    response: String,
    backend: String,
    state: journal::State,
    /// RFC 3339.
    since: String,
    left_seconds: u64,
    orphan_left_seconds: Option<u64>,
    owner_alive: Option<bool>,
    key: String,
    digest: String,
}

impl Listed {
    pub(super) fn of(hold: &Hold, now: &Now) -> Self {
        Self {
            address: address::spell(hold.network),
            response: hold.response.clone(),
            backend: hold.backend.clone(),
            state: hold.state,
            since: timestamp(hold.since).to_string(),
            left_seconds: hold.left(now).as_secs(),
            orphan_left_seconds: hold.orphan_left(now).map(|left| left.as_secs()),
            owner_alive: hold.owner.as_ref().map(Owner::alive),
            key: hold.key.clone(),
            digest: hold.digest.clone(),
        }
    }

    /// Whose it is, and for how long.
    pub(super) fn claim(&self) -> String {
        let in_words = |seconds| humantime::format_duration(Duration::from_secs(seconds));
        let left = in_words(self.left_seconds);
        let until = match (self.owner_alive, self.orphan_left_seconds) {
            (Some(true), _) => format!("until its execd sends delete, at most {left}"),
            (Some(false), Some(orphan)) => {
                format!("{} left, its execd is gone", in_words(orphan))
            }
            _ => format!("{left} left"),
        };
        let key = report::escape(&self.key, 200);
        format!("{} ({}), {until}, for {key}", self.response, self.backend)
    }
}

pub(super) fn list(root: &Root) -> anyhow::Result<Output> {
    premises::installed(root)?;
    let now = Now::read()?;
    let holds = match Journal::open_read_only(&root.journal(), PATIENCE) {
        Ok(journal) => journal.open_holds()?,
        Err(journal::Error::Missing { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let listed: Vec<Listed> = holds.iter().map(|hold| Listed::of(hold, &now)).collect();
    let mut human = String::new();
    for block in &listed {
        let _ = writeln!(human, "{:<39} {}", block.address, block.claim());
    }
    if listed.is_empty() {
        human.push_str("nothing is blocked");
    }
    Output::new(human, &listed)
}

pub(super) fn history(root: &Root, last: u32) -> anyhow::Result<Output> {
    premises::installed(root)?;
    let past = match Journal::open_read_only(&root.journal(), PATIENCE) {
        Ok(journal) => journal.history(last, None)?,
        Err(journal::Error::Missing { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let mut human = in_words(&past)?;
    if past.is_empty() {
        human.push_str("nothing ran yet");
    }
    Output::new(human, &past)
}

/// Runs, one after another.
pub(super) fn in_words(past: &[Past]) -> anyhow::Result<String> {
    let mut human = String::new();
    for run in past {
        let began = timestamp(Duration::from_secs(run.began.as_secs()));
        let verdict = run.verdict.as_deref().unwrap_or("cut off");
        let dry = if run.dry_run {
            ", nothing was to be changed"
        } else {
            ""
        };
        let _ = writeln!(
            human,
            "{began} {} {}: {verdict}{dry}",
            run.response, run.event.action
        );
        let event = serde_json::to_string(&run.event)?;
        let _ = writeln!(human, "  event   {}", report::escape(&event, 1024));
        if let Some(used) = run.told.get("used").filter(|used| !used.is_null()) {
            let _ = writeln!(human, "  used    {used}");
        }
        for line in effect_lines(run) {
            let _ = writeln!(human, "  effect  {}", report::escape(&line, 1024));
        }
    }
    Ok(human)
}

/// What the run was told, refusals too; of a run that was cut off, what it began.
fn effect_lines(run: &Past) -> Vec<String> {
    let told = run.told.get("records").cloned().unwrap_or_default();
    let told: Vec<Record> = serde_json::from_value(told).unwrap_or_default();
    if told.is_empty() {
        return run.effects.iter().map(effect_line).collect();
    }
    // What became of a hold since its run ended, and by whom.
    let since = run
        .effects
        .iter()
        .filter(|effect| matches!(effect, Effected::Hold { how: Some(_), .. }));
    told.iter()
        .map(report::effect)
        .chain(since.map(effect_line))
        .collect()
}

fn effect_line(effect: &Effected) -> String {
    match effect {
        Effected::Hold {
            address,
            state,
            how,
        } => {
            format!("block {address}: {}", how.as_deref().unwrap_or(state))
        }
        Effected::Helper {
            helper,
            argv,
            outcome,
        } => {
            let outcome = outcome.as_deref().unwrap_or("cut off");
            format!(
                "run {helper} ({}): {outcome}, which nothing takes back",
                argv.join(" ")
            )
        }
    }
}

/// A time since the epoch; the epoch itself where no calendar has it.
fn timestamp(since_epoch: Duration) -> jiff::Timestamp {
    jiff::SignedDuration::try_from(since_epoch)
        .and_then(jiff::Timestamp::from_duration)
        .unwrap_or_default()
}

pub(super) fn broker(root: &Root) -> anyhow::Result<Broker> {
    premises::installed(root)?;
    // Whoever breaks a configuration must not keep a block standing with it.
    let premises = Premises::read(root, None).unwrap_or_else(|why| {
        eprintln!("retort: {why:#}; what is held can be let go without it");
        Premises::bare(root)
    });
    let retort = premises::this_program()?;
    Ok(Broker::new(premises.world(&retort, Limits::default().wall)))
}

pub(super) fn unblock(root: &Root, network: IpNet, dry_run: bool) -> anyhow::Result<Output> {
    if !dry_run
        && let Some(records) = by_hand::records_of(root, &Ask::Unblock { network })?
        && !records.is_empty()
    {
        by_hand::log(root, "delete", &records);
        return records_output(&records, "");
    }
    let mut broker = broker(root)?;
    let spelled = address::spell(network);
    let holds = broker
        .journal()
        .map_err(anyhow_of)
        .and_then(|journal| Ok(holds_on(journal, network)?));
    let records = match holds {
        _ if dry_run => observed(&holds?),
        Ok(holds) if holds.is_empty() => {
            if let Some(wide) = around(&mut broker, network)? {
                let wide = address::spell(wide);
                anyhow::bail!(
                    "{spelled} is blocked as a part of {wide}; `retort unblock {wide}` lets all of that go"
                );
            }
            foreign(&mut broker, network)
        }
        Ok(_) => broker.unblock_by_hand(network).map_err(anyhow_of)?,
        // What the journal can't say the kernel still can.
        Err(why) => {
            let gone = match broker.take_out(network).map_err(anyhow_of)? {
                false => "the firewall does not have it",
                true => "it is out of the firewall",
            };
            anyhow::bail!(
                "{spelled}: {gone}, and its holds, which still stand in the journal, are given up by the next `retort sweep` that can read it: {why:#}"
            );
        }
    };
    if !dry_run {
        by_hand::log(root, "delete", &records);
    }
    records_output(&records, &format!("{spelled} was not blocked"))
}

/// The open holds on a host or network, whatever serves them.
pub(super) fn holds_on(journal: &Journal, network: IpNet) -> Result<Vec<Hold>, journal::Error> {
    let mut holds = Vec::new();
    for backend in BACKENDS {
        holds.extend(journal.holds_on(network, &backend.to_string())?);
    }
    Ok(holds)
}

/// The open holds on networks around it, whatever serves them.
pub(super) fn holds_around(journal: &Journal, network: IpNet) -> Result<Vec<Hold>, journal::Error> {
    let mut holds = Vec::new();
    for backend in BACKENDS {
        holds.extend(journal.holds_on_networks(&backend.to_string())?);
    }
    holds.retain(|hold| hold.network != network && hold.network.contains(&network));
    Ok(holds)
}

/// The narrowest network around it that is held.
fn around(broker: &mut Broker, network: IpNet) -> anyhow::Result<Option<IpNet>> {
    let holds = holds_around(broker.journal().map_err(anyhow_of)?, network)?;
    let wide = holds.into_iter().map(|hold| hold.network);
    Ok(wide.max_by_key(IpNet::prefix_len))
}

/// Takes out of the kernel what nobody holds.
fn foreign(broker: &mut Broker, network: IpNet) -> Vec<Record> {
    let name = BackendName::Nftables;
    if broker.backend(name).is_err() {
        return Vec::new();
    }
    let removed = broker.release_foreign(network, name, PATIENCE);
    removed.into_iter().collect()
}

fn observed(holds: &[Hold]) -> Vec<Record> {
    let effect = |hold: &Hold| Effect::Unblock {
        network: hold.network,
    };
    holds
        .iter()
        .map(|hold| Record {
            effect: effect(hold),
            answer: Ok(Done::Observed),
        })
        .collect()
}

/// What a sweep did: took something back, or put something right.
#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    Record(Record),
    Repair { repair: String },
}

pub(super) fn sweep(root: &Root, dry_run: bool) -> anyhow::Result<Output> {
    if !dry_run && let Some(records) = by_hand::records_of(root, &Ask::Sweep)? {
        return records_output(&records, "nothing is due; the daemon sweeps by itself");
    }
    let mut broker = broker(root)?;
    if dry_run {
        let now = Now::read()?;
        let holds = broker
            .journal()
            .map_err(anyhow_of)?
            .maybe_due(&now, Owner::alive, u32::MAX)?;
        let due = undo::due(holds, &now, Owner::alive);
        let holds: Vec<Hold> = due.into_iter().map(|due| due.hold).collect();
        return records_output(&observed(&holds), "nothing is due");
    }
    names::refresh(&mut broker);
    let mut records = Vec::new();
    loop {
        let swept = sweep::sweep(&mut broker, sweep::AT_ONCE).map_err(anyhow_of)?;
        let released = swept
            .iter()
            .filter(|swept| swept.record.answer.is_ok())
            .count();
        records.extend(swept.into_iter().map(|Swept { record, .. }| record));
        if released == 0 {
            break;
        }
    }
    records.extend(sweep::lift_protected(&mut broker).map_err(anyhow_of)?);
    let repairs = broker.reconcile().map_err(anyhow_of)?.said;
    let lines = records.iter().map(report::effect).chain(repairs.clone());
    let mut human = lines.collect::<Vec<String>>().join("\n");
    if human.is_empty() {
        human.push_str("nothing is due");
    }
    let failed = records.iter().any(|record| record.answer.is_err());
    let repairs = repairs.into_iter().map(|repair| Told::Repair { repair });
    let told: Vec<Told> = records
        .into_iter()
        .map(Told::Record)
        .chain(repairs)
        .collect();
    Ok(Output::new(human, &told)?.failed_if(failed))
}

pub(super) fn records_output(records: &[Record], nothing: &str) -> anyhow::Result<Output> {
    let lines: Vec<String> = records.iter().map(report::effect).collect();
    let human = if lines.is_empty() {
        nothing.to_owned()
    } else {
        lines.join("\n")
    };
    let failed = records.iter().any(|record| record.answer.is_err());
    Ok(Output::new(human, &records)?.failed_if(failed))
}

pub(super) fn anyhow_of(refusal: crate::effect::Refusal) -> anyhow::Error {
    anyhow::Error::msg(refusal.reason)
}
