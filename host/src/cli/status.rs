//! `retort status`: how it is doing, for people and for Prometheus.

use std::fmt::Write as _;
use std::time::Duration;

use super::blocks::PATIENCE;
use super::{Format, Output, check};
use crate::control::{self, Ask, Told};
use crate::journal::{self, Journal, Now};
use crate::premises;
use crate::report;
use crate::root::Root;
use crate::status::Status;

pub(super) fn status(root: &Root, format: Format) -> anyhow::Result<Output> {
    premises::installed(root)?;
    let told = control::ask(root, &Ask::Status, PATIENCE).transpose()?;
    let status = match told {
        Some(Told::Status(status)) => *status,
        Some(other) => anyhow::bail!("the daemon says something else: {other:?}"),
        None => without_daemon(root)?,
    };
    let overwritten = check::overwritten(root);
    if format == Format::Prometheus {
        let text = report::prometheus(&status);
        return Output::new(text, &status);
    }
    let mut human = in_words(&status);
    for link in &overwritten {
        let _ = writeln!(
            human,
            "OVERWRITTEN  {link}: it is not ours any more; run `retort install`"
        );
    }
    Ok(Output::new(human, &status)?.failed_if(!overwritten.is_empty()))
}

fn without_daemon(root: &Root) -> anyhow::Result<Status> {
    let journal = match Journal::open_read_only(&root.journal(), PATIENCE) {
        Ok(journal) => journal.tallied(&Now::read()?)?,
        Err(journal::Error::Missing { .. }) => journal::Tallied::default(),
        Err(error) => return Err(error.into()),
    };
    Ok(Status {
        daemon: None,
        journal,
    })
}

fn in_words(status: &Status) -> String {
    let mut text = String::new();
    match &status.daemon {
        None => text.push_str("no daemon serves it: an execd starts the links, `retort sweep` takes back what is due\n"),
        Some(daemon) => {
            let since = humantime::format_duration(Duration::from_secs(daemon.seconds));
            let counts = &daemon.counts;
            let _ = writeln!(text, "daemon       pid {}, for {since}", daemon.pid);
            let _ = writeln!(
                text,
                "orders       {} came, {} run, {} wait, {} were no orders, {} found no response, {} found the queue full",
                counts.received, daemon.running, daemon.waiting, counts.malformed, counts.not_found, counts.refused
            );
            for (response, verdicts) in &counts.runs {
                let verdicts: Vec<String> = verdicts.iter().map(|(v, n)| format!("{v} {n}")).collect();
                let denied = counts.denied.get(response).copied().unwrap_or_default();
                let _ = writeln!(
                    text,
                    "response     {}: {}; {denied} denied",
                    report::escape(response, 128),
                    verdicts.join(", ")
                );
            }
            for (count, what) in [
                (counts.rationed, "blocks above the budget, for a minute each"),
                (counts.lost_queue, "seconds in which the queue was SOMEBODY ELSE'S"),
                (counts.misconfigured, "configurations that could not be read; the one before each holds"),
            ] {
                if count > 0 {
                    let _ = writeln!(text, "look         {count} {what}");
                }
            }
            let late = humantime::format_duration(Duration::from_micros(counts.latest_undo_us));
            let _ = writeln!(
                text,
                "undone       {}, the latest {late} after its deadline; {} swept without a guest, {} put right in the firewall",
                counts.undone, counts.swept, counts.repaired
            );
            let commits = &daemon.commits;
            let mean = commits.total_us.checked_div(commits.count).unwrap_or_default();
            let _ = writeln!(
                text,
                "journal      {} transactions, {mean} us each, {} us the longest, {} failed",
                commits.count, commits.longest_us, commits.failed
            );
        }
    }
    let journal = &status.journal;
    let held: u64 = journal.holds.values().sum();
    let _ = writeln!(
        text,
        "blocks       {held} held; {} to be undone, of these {} over their deadline",
        journal.pending, journal.overdue
    );
    let _ = writeln!(
        text,
        "remembered   {} runs, {} offenders",
        journal.runs, journal.offenders
    );
    text
}
