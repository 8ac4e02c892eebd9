//! What `install` and `uninstall` did, step by step.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Serialize;

use super::Output;

/// What was done, or would be, and what was not.
#[derive(Serialize, Default)]
pub(super) struct Steps {
    steps: Vec<String>,
    refused: Vec<String>,
    pub(super) dry_run: bool,
}

impl Steps {
    pub(super) fn new(dry_run: bool) -> Self {
        Self {
            dry_run,
            ..Self::default()
        }
    }

    /// Notes what is not done, and why.
    pub(super) fn refuse(&mut self, what: String) {
        self.refused.push(what);
    }

    /// Notes what is left as it is.
    pub(super) fn note(&mut self, what: String) {
        self.steps.push(what);
    }

    /// Notes a step, and does it unless the run is dry.
    pub(super) fn step(
        &mut self,
        what: String,
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.dry_run {
            work().with_context(|| what.clone())?;
        }
        self.steps.push(what);
        Ok(())
    }

    pub(super) fn output(self, nothing: &str) -> anyhow::Result<Output> {
        let mut human = String::new();
        for step in &self.steps {
            let _ = writeln!(human, "{}{step}", if self.dry_run { "would " } else { "" });
        }
        for refused in &self.refused {
            let _ = writeln!(human, "NOT DONE  {refused}");
        }
        if human.is_empty() {
            human.push_str(nothing);
        }
        let failed = !self.refused.is_empty();
        Ok(Output::new(human, &self)?.failed_if(failed))
    }
}
