//! Looks at a node's machine, and at the other nodes from there, and says what to do about what is wrong.

mod here;
mod others;

use clap::Args;
use serde_json::{Value, json};

use super::output::{Output, yaml};
use super::print::talk;
use super::{Exit, say};
use crate::config::{Boot, Flags, variable};

#[derive(Args)]
pub(super) struct Doctor {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    flags: Flags,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// As it should be.
    Good,
    /// It works, and should be looked at.
    Doubtful,
    /// It does not work, or will not for long.
    Bad,
}

/// What was looked at, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    what: String,
    verdict: Verdict,
    /// What was found.
    seen: String,
    /// What to do about it; nothing where it is good.
    advice: &'static str,
}

impl Finding {
    fn good(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Good, seen: seen.into(), advice: "" }
    }

    fn doubtful(what: impl Into<String>, seen: impl Into<String>, advice: &'static str) -> Self {
        Self { what: what.into(), verdict: Verdict::Doubtful, seen: seen.into(), advice }
    }

    fn bad(what: impl Into<String>, seen: impl Into<String>, advice: &'static str) -> Self {
        Self { what: what.into(), verdict: Verdict::Bad, seen: seen.into(), advice }
    }
}

/// Exits with 6 when something is bad, and with 1 when the configuration cannot be read at all.
pub(super) fn run(args: &Doctor) -> anyhow::Result<Exit> {
    let boot = Boot::load(&args.flags, &variable)?;
    let mut findings = here::look(&boot);
    findings.extend(others::look(&boot));
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Good);
    let text = match args.output {
        Output::Table => findings.iter().map(human).collect(),
        Output::Json => serde_json::to_string_pretty(&machine(&findings))? + "\n",
        Output::Yaml => yaml(&machine(&findings)),
    };
    say(&mut std::io::stdout().lock(), &text);
    match worst {
        Verdict::Good => Ok(Exit::Ok),
        Verdict::Doubtful => {
            talk("it works; look at what is marked with !");
            Ok(Exit::Ok)
        }
        Verdict::Bad => {
            talk("something is wrong; see what is marked with x");
            Ok(Exit::Unhealthy)
        }
    }
}

fn human(finding: &Finding) -> String {
    let mark = match finding.verdict {
        Verdict::Good => '+',
        Verdict::Doubtful => '!',
        Verdict::Bad => 'x',
    };
    let advice = if finding.advice.is_empty() { String::new() } else { format!("      -> {}\n", finding.advice) };
    format!("[{mark}] {:<28} {}\n{advice}", finding.what, finding.seen)
}

fn machine(findings: &[Finding]) -> Value {
    let word = |verdict| match verdict {
        Verdict::Good => "good",
        Verdict::Doubtful => "doubtful",
        Verdict::Bad => "bad",
    };
    let item = |finding: &Finding| json!({ "what": finding.what, "verdict": word(finding.verdict), "seen": finding.seen, "advice": finding.advice });
    json!({ "items": findings.iter().map(item).collect::<Vec<_>>() })
}
