//! A status as Prometheus reads it. No address is ever a label, and responses are at most
//! some hundreds.

use std::fmt::Write as _;

use crate::status::Status;

/// The text exposition format, version 0.0.4.
#[must_use]
pub fn prometheus(status: &Status) -> String {
    let mut page = Page::default();
    let journal = &status.journal;
    page.family(
        "retort_up",
        "gauge",
        "Whether a daemon serves the installation.",
    );
    page.sample("retort_up", &[], u64::from(status.daemon.is_some()));
    page.family("retort_holds", "gauge", "Holds that stand, by response.");
    for (response, holds) in &journal.holds {
        page.sample("retort_holds", &[("response", response)], *holds);
    }
    for (name, help, value) in [
        (
            "retort_undo_pending",
            "Blocks that are to be undone.",
            journal.pending,
        ),
        (
            "retort_undo_overdue",
            "Blocks over their deadline.",
            journal.overdue,
        ),
        (
            "retort_offenders",
            "Offenders that are remembered.",
            journal.offenders,
        ),
    ] {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
    let Some(daemon) = &status.daemon else {
        return page.text;
    };
    let counts = &daemon.counts;
    page.family(
        "retort_invocations_total",
        "counter",
        "Runs by response and verdict.",
    );
    for (response, verdicts) in &counts.runs {
        for (verdict, count) in verdicts {
            let labels = [
                ("response", response.as_str()),
                ("verdict", verdict.as_str()),
            ];
            page.sample("retort_invocations_total", &labels, *count);
        }
    }
    page.family(
        "retort_denied_total",
        "counter",
        "Effects that were forbidden, by response.",
    );
    for (response, count) in &counts.denied {
        page.sample("retort_denied_total", &[("response", response)], *count);
    }
    for (name, help, value) in [
        (
            "retort_orders_total",
            "Messages that came.",
            counts.received,
        ),
        (
            "retort_malformed_total",
            "Messages that were no order.",
            counts.malformed,
        ),
        (
            "retort_not_found_total",
            "Orders without a response.",
            counts.not_found,
        ),
        (
            "retort_refused_total",
            "Orders that found their queue full.",
            counts.refused,
        ),
        (
            "retort_repeated_total",
            "Orders that a restart read again.",
            counts.repeated,
        ),
        (
            "retort_rationed_total",
            "Blocks above the budget.",
            counts.rationed,
        ),
        (
            "retort_undone_total",
            "Blocks that were undone.",
            counts.undone,
        ),
        (
            "retort_swept_total",
            "Holds taken back without a guest.",
            counts.swept,
        ),
        (
            "retort_repaired_total",
            "Repairs of the firewall.",
            counts.repaired,
        ),
        (
            "retort_queue_lost_total",
            "Seconds in which the queue was somebody else's.",
            counts.lost_queue,
        ),
        (
            "retort_misconfigured_total",
            "Configurations that could not be read.",
            counts.misconfigured,
        ),
        (
            "retort_journal_commits_total",
            "Transactions of the journal.",
            daemon.commits.count,
        ),
        (
            "retort_journal_failed_total",
            "Transactions that failed.",
            daemon.commits.failed,
        ),
    ] {
        page.family(name, "counter", help);
        page.sample(name, &[], value);
    }
    for (name, help, kind, micros) in [
        (
            "retort_journal_commit_seconds_total",
            "Time of all transactions.",
            "counter",
            daemon.commits.total_us,
        ),
        (
            "retort_journal_commit_longest_seconds",
            "The longest transaction.",
            "gauge",
            daemon.commits.longest_us,
        ),
        (
            "retort_undo_latest_seconds",
            "The latest undo after its deadline.",
            "gauge",
            counts.latest_undo_us,
        ),
    ] {
        page.family(name, kind, help);
        page.seconds(name, micros);
    }
    for (name, help, value) in [
        ("retort_queue_depth", "Orders that wait.", daemon.waiting),
        ("retort_running", "Orders that run.", daemon.running),
        (
            "retort_uptime_seconds",
            "How long the daemon has run.",
            daemon.seconds,
        ),
    ] {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", quoted(value)))
            .collect();
        let _ = if labels.is_empty() {
            writeln!(self.text, "{name} {value}")
        } else {
            writeln!(self.text, "{name}{{{}}} {value}", labels.join(","))
        };
    }

    /// Microseconds, as seconds.
    fn seconds(&mut self, name: &str, micros: u64) {
        let (whole, rest) = (micros.checked_div(1_000_000), micros.checked_rem(1_000_000));
        let _ = writeln!(
            self.text,
            "{name} {}.{:06}",
            whole.unwrap_or_default(),
            rest.unwrap_or_default()
        );
    }
}

/// A label's value: an order may name anything.
fn quoted(value: &str) -> String {
    crate::escape::escape(value, 128)
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Serving;

    #[test]
    fn a_name_that_an_order_brought_stays_a_label() {
        let mut serving = Serving::default();
        let name = "x\"} 1\nretort_up 0";
        let verdicts = [("ok".to_owned(), 3)].into();
        serving.counts.runs.insert(name.to_owned(), verdicts);
        serving.commits.total_us = 1_500_000;
        let status = Status {
            daemon: Some(serving),
            ..Status::default()
        };
        let page = prometheus(&status);
        assert!(page.lines().any(|line| line == "retort_up 1"), "{page}");
        assert!(!page.lines().any(|line| line == "retort_up 0"), "{page}");
        assert!(
            page.contains("retort_journal_commit_seconds_total 1.500000\n"),
            "{page}"
        );
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (_, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}
