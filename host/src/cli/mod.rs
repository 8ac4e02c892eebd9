//! The command line: arguments in, one [`Output`] out.

mod blocks;
pub mod build;
mod by_hand;
mod check;
mod daemons;
mod explain;
mod follow;
mod inspect;
pub mod install;
mod manifest;
mod names;
mod placing;
mod run;
mod status;
mod steps;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use serde::Serialize;

use crate::effect::helper::{self, SUPERVISE};
use crate::event::Dialect;
use crate::report;
use crate::root::Root;
use crate::vessel::compile::{self, COMPILE};

/// Active responses inside a sealed vessel.
#[derive(Debug, Parser)]
#[command(name = "retort", version, about)]
struct Arguments {
    /// The installation of OSSEC or Wazuh.
    #[arg(long, global = true, default_value = Root::DEFAULT)]
    root: PathBuf,
    /// How to answer.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    output: Format,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
    /// Of `status` alone.
    Prometheus,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Looks at configuration, grants, components, links and ownership.
    Check,
    /// Runs a response on an event, as the host would.
    Run(run::Arguments),
    /// Says what a component is and what it asks for.
    Inspect {
        /// The component.
        file: PathBuf,
    },
    /// The blocks that stand.
    Blocks {
        #[command(subcommand)]
        verb: Option<blocks::Verb>,
    },
    /// The last runs: what each saw, how it ended, what it did.
    History {
        /// How many.
        #[arg(long, default_value_t = 20)]
        last: u32,
        /// Goes on with what comes, until it is interrupted.
        #[arg(long)]
        follow: bool,
    },
    /// Why a host or network is blocked, or is not; which responses an alert starts, and why
    /// the others not.
    Explain {
        /// An address, a network, or a file with an alert as JSON.
        what: String,
    },
    /// What is never blocked.
    Protect {
        #[command(subcommand)]
        verb: Option<explain::Protect>,
    },
    /// How the installation and its daemon are doing.
    Status,
    /// Gives up every hold on a host or network.
    Unblock {
        /// An address, or a network such as 203.0.113.0/24.
        #[arg(value_parser = network)]
        network: IpNet,
        /// Only says what it would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Takes back what is due: deadlines, orphans, interrupted runs. Puts right what
    /// somebody changed in the firewall.
    Sweep {
        /// Only says what it would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Serves the queue of ossec-execd or wazuh-execd in its place.
    Execd(daemons::Execd),
    /// Follows the alerts, and decides by itself which responses run.
    Watch(daemons::Watch),
    /// Puts components and links into place, and keeps what it replaces.
    Install(install::Arguments),
    /// Restores what `install` replaced.
    Uninstall {
        /// Only says what it would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Builds a crate into a component.
    Build {
        /// The package.
        package: String,
        /// Its workspace.
        #[arg(long, default_value = ".")]
        workspace: PathBuf,
        /// Where the component goes: a file.
        #[arg(long, short)]
        to: Option<PathBuf>,
    },
}

/// What a verb has to say.
#[derive(Debug)]
pub(crate) struct Output {
    human: String,
    json: serde_json::Value,
    ok: bool,
}

impl Output {
    fn new(human: impl Into<String>, of: &impl Serialize) -> anyhow::Result<Self> {
        Ok(Self {
            human: human.into(),
            json: serde_json::to_value(of)?,
            ok: true,
        })
    }

    fn failed_if(mut self, failed: bool) -> Self {
        self.ok = !failed;
        self
    }
}

/// Reads the arguments and does what they say: 0 done, 1 failed, 2 usage.
#[must_use]
pub fn main(argv: &[OsString]) -> ExitCode {
    let word = |at: usize| argv.get(at).and_then(|word| word.to_str());
    match word(1) {
        Some(COMPILE) => return ExitCode::from(compile::child()),
        Some(SUPERVISE) => {
            let limit = word(2).and_then(|ms| ms.parse().ok()).unwrap_or(0);
            let helper: Vec<String> = argv
                .iter()
                .skip(4)
                .map(|a| a.to_string_lossy().into_owned())
                .collect();
            return ExitCode::from(helper::supervise(Duration::from_millis(limit), &helper));
        }
        _ => {}
    }
    let arguments = match Arguments::try_parse_from(argv) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let format = arguments.output;
    if format == Format::Prometheus && !matches!(arguments.verb, Verb::Status) {
        eprintln!("retort: `--output prometheus` is for `retort status`; write --output json");
        return ExitCode::from(2);
    }
    match dispatch(arguments) {
        Ok(output) => {
            let text = match format {
                Format::Human | Format::Prometheus => output.human.trim_end().to_owned(),
                Format::Json => output.json.to_string(),
            };
            // A reader that has seen enough is no failure.
            let _ = writeln!(std::io::stdout(), "{text}");
            if output.ok {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            match format {
                Format::Human | Format::Prometheus => eprintln!("retort: {error:#}"),
                Format::Json => {
                    println!("{}", serde_json::json!({ "error": format!("{error:#}") }))
                }
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Arguments) -> anyhow::Result<Output> {
    // The table in the firewall is named after the root, however it was spelled.
    let root = arguments.root.canonicalize().unwrap_or(arguments.root);
    let root = Root::new(root);
    match arguments.verb {
        Verb::Check => check::check(&root),
        Verb::Execd(arguments) => daemons::execd(&root, &arguments),
        Verb::Watch(arguments) => daemons::watch(&root, arguments),
        Verb::Run(arguments) => run::run(&root, &arguments),
        Verb::Inspect { file } => inspect::inspect(&file),
        Verb::Blocks {
            verb: None | Some(blocks::Verb::List),
        } => blocks::list(&root),
        Verb::Blocks {
            verb: Some(blocks::Verb::Add { network, lasts }),
        } => by_hand::add(&root, network, lasts),
        Verb::Blocks {
            verb: Some(blocks::Verb::Delete { network }),
        } => blocks::unblock(&root, network, false),
        Verb::History { last, follow: true } => follow::follow(&root, last),
        Verb::History { last, .. } => blocks::history(&root, last),
        Verb::Explain { what } => explain::explain(&root, &what),
        Verb::Protect {
            verb: None | Some(explain::Protect::List),
        } => explain::protect(&root),
        Verb::Protect {
            verb: Some(explain::Protect::Check { network }),
        } => explain::protects(&root, network),
        Verb::Status => status::status(&root, arguments.output),
        Verb::Unblock { network, dry_run } => blocks::unblock(&root, network, dry_run),
        Verb::Sweep { dry_run } => blocks::sweep(&root, dry_run),
        Verb::Install(arguments) => install::install(&root, &arguments),
        Verb::Uninstall { dry_run } => install::uninstall(&root, dry_run),
        Verb::Build {
            package,
            workspace,
            to,
        } => {
            let component = build::build(&workspace, &package, None)?;
            let to = to.unwrap_or_else(|| PathBuf::from(format!("{package}.wasm")));
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            }
            std::fs::write(&to, &component).with_context(|| to.display().to_string())?;
            inspect::inspect(&to)
        }
    }
}

/// The dialect as it is written in the grants.
fn dialect_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Ossec => "ossec",
        Dialect::Wazuh4 => "wazuh4",
        Dialect::Wazuh5 => "wazuh5",
    }
}

fn network(word: &str) -> Result<IpNet, String> {
    crate::address::parse_network(word).ok_or_else(|| {
        let word = report::escape(word, 64);
        format!("`{word}` is no IP address, and no network without bits behind its prefix")
    })
}

/// Whether the word is a dialect's.
fn dialect(word: &str) -> Result<Dialect, String> {
    [Dialect::Ossec, Dialect::Wazuh4, Dialect::Wazuh5]
        .into_iter()
        .find(|dialect| dialect_name(*dialect) == word)
        .ok_or_else(|| format!("`{word}` is none of ossec, wazuh4, wazuh5"))
}
