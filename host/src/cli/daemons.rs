//! The verbs that do not end by themselves.

use std::path::PathBuf;

use anyhow::Context as _;

use super::Output;
use crate::execd;
use crate::premises::{self, Premises};
use crate::root::Root;
use crate::watch::{self, Source};

/// The flags of the original.
#[derive(Debug, clap::Args)]
#[command(version, disable_version_flag = true)]
pub(super) struct Execd {
    /// Says the version.
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Says more; it may be given several times.
    #[arg(short = 'd', long, action = clap::ArgAction::Count)]
    debug: u8,
    /// Reads the configuration, says what is wrong with it, and ends.
    #[arg(short = 't', long)]
    test: bool,
    /// Stays in the foreground.
    #[arg(short = 'f', long)]
    foreground: bool,
    /// The group that may write to the queue; that of its folder unless told otherwise.
    #[arg(short = 'g', long)]
    group: Option<String>,
    /// The configuration; it has to be that of the installation.
    #[arg(short = 'c', long)]
    config: Option<PathBuf>,
}

pub(super) fn execd(root: &Root, arguments: &Execd) -> anyhow::Result<Output> {
    if let Some(config) = &arguments.config {
        let is = |path: &PathBuf| {
            path.canonicalize()
                .with_context(|| path.display().to_string())
        };
        let own = root.ossec_conf();
        anyhow::ensure!(
            is(config)? == is(&own)?,
            "{}: a daemon reads {}; name another installation with --root",
            config.display(),
            own.display()
        );
    }
    if arguments.test {
        let premises = Premises::read(root, None)?;
        let findings: Vec<String> = premises
            .conf
            .findings
            .iter()
            .map(ToString::to_string)
            .collect();
        let mut human = findings.join("\n");
        if human.is_empty() {
            human.push_str("the configuration is good");
        }
        return Output::new(human, &findings);
    }
    let options = execd::Options {
        foreground: arguments.foreground,
        group: arguments.group.clone(),
        debug: arguments.debug > 0,
    };
    execd::serve(root, &premises::this_program()?, &options)?;
    Output::new("", &serde_json::Value::Null)
}

#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    /// The alerts, one JSON object a line; those of the grants or of the installation
    /// unless told otherwise.
    #[arg(long, conflicts_with = "stdin")]
    file: Option<PathBuf>,
    /// Reads alerts from stdin, and ends with it.
    #[arg(long)]
    stdin: bool,
}

pub(super) fn watch(root: &Root, arguments: Watch) -> anyhow::Result<Output> {
    let source = match (arguments.file, arguments.stdin) {
        (Some(file), _) => Source::File(file),
        (None, true) => Source::Stdin,
        (None, false) => Source::Usual,
    };
    watch::serve(root, &premises::this_program()?, source)?;
    Output::new("", &serde_json::Value::Null)
}
