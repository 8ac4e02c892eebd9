//! An outcome in words.

use crate::effect::{Done, Effect, Record};
use crate::respond::{self, NotRun};
use crate::vessel::run::Level;

use super::line::Outcome;

impl Outcome {
    /// What came of a run.
    #[must_use]
    pub fn of(outcome: &respond::Outcome) -> Self {
        let warnings = outcome
            .records
            .iter()
            .filter_map(|record| match &record.answer {
                Ok(Done::Blocked { warning, .. }) => warning.clone(),
                _ => None,
            });
        let said = outcome.lines.iter().map(|(level, line)| match level {
            Level::Debug => format!("guest debug: {line}"),
            Level::Info => format!("guest: {line}"),
            Level::Warning => format!("guest warning: {line}"),
            Level::Error => format!("guest error: {line}"),
        });
        let used = &outcome.used;
        Self {
            response: outcome.response.clone(),
            action: outcome.event.action.to_string(),
            verdict: outcome
                .verdict
                .as_ref()
                .map_or_else(|| "stands already".to_owned(), ToString::to_string),
            effects: outcome.records.iter().map(effect).chain(said).collect(),
            used: format!(
                "fuel {}, memory {} KiB, host calls {}, log {} B, {} us",
                used.fuel,
                used.memory >> 10,
                used.host_calls,
                used.log_bytes,
                used.wall.as_micros()
            ),
            warnings: warnings.collect(),
        }
    }

    /// Why there was no run.
    #[must_use]
    pub fn not_run(executable: &str, action: &str, why: &NotRun) -> Self {
        let verdict = match why {
            NotRun::Declined(_) => "declined",
            NotRun::Disabled => "disabled",
            NotRun::Load(_) => "refused",
            NotRun::NoAnswer(_) => "no answer",
        };
        Self::failed(executable, action, &format!("{verdict}: {why}"))
    }

    /// A call that failed before it came to a run.
    #[must_use]
    pub fn failed(executable: &str, action: &str, why: &str) -> Self {
        Self {
            response: executable.to_owned(),
            action: action.to_owned(),
            verdict: why.to_owned(),
            ..Self::default()
        }
    }
}

/// An effect and what came of it, in a few words.
#[must_use]
pub fn effect(record: &Record) -> String {
    let asked = match &record.effect {
        Effect::Block { network } => format!("block {network}"),
        Effect::Unblock { network } => format!("unblock {network}"),
        Effect::IsBlocked { network } => format!("is-blocked {network}"),
        Effect::Release => "release".to_owned(),
        Effect::Run { helper } => format!("run {helper}"),
    };
    let came = match &record.answer {
        Ok(Done::Blocked {
            expires_in,
            renewed,
            ..
        }) => {
            let how = if *renewed { "renewed" } else { "done" };
            match expires_in {
                Some(left) => {
                    let seconds = std::time::Duration::from_secs(left.as_secs_f64().round() as u64);
                    format!("{how}, for {}", humantime::format_duration(seconds))
                }
                None => how.to_owned(),
            }
        }
        Ok(Done::Unblocked { holds: 0 }) => "nothing was held".to_owned(),
        Ok(Done::Unblocked { holds }) => format!("done ({holds})"),
        Ok(Done::IsBlocked { blocked }) => blocked.to_string(),
        Ok(Done::Exited { code }) => format!("exit code {code}"),
        Ok(Done::Started) => "started".to_owned(),
        Ok(Done::Observed) => "observed: nothing was changed".to_owned(),
        Err(refusal) => format!("{}: {}", refusal.kind, refusal.reason),
    };
    format!("{asked}: {came}")
}
