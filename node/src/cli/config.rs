use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};

use super::{Exit, say};
use crate::config::{Report, validate, variable};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Checks configuration files without starting anything. Secrets they name must be there.
    Validate(Validate),
}

#[derive(Args)]
pub(super) struct Validate {
    /// The process's file: node.toml, node.yaml or node.json.
    #[arg(long, value_name = "FILE", required_unless_present = "spec")]
    config: Option<PathBuf>,
    /// The spec's file: spec.toml, spec.yaml or spec.json.
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// How to print what was found.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Validate(args) => {
            let report = validate(args.config.as_deref(), args.spec.as_deref(), Arc::new(variable));
            let text = match args.output {
                Output::Table => human(&report),
                Output::Json => serde_json::to_string_pretty(&report)? + "\n",
            };
            say(&mut std::io::stdout().lock(), &text);
            Ok(if report.is_valid { Exit::Ok } else { Exit::Failed })
        }
    }
}

fn human(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.problems {
        text.push_str(&format!("{}\n", finding.text));
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if report.is_valid {
        let counts = report.counts.as_ref().map_or(String::new(), |counts| {
            format!(": {} providers, {} models, {} keys", counts.providers, counts.models, counts.keys)
        });
        text.push_str(&format!("valid{counts}\n"));
    }
    text
}
