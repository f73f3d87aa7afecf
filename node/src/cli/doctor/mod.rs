//! Looks at a node's machine, and at the other nodes from there, and says what to do about what is wrong.

mod clocks;
mod datagrams;
mod here;
mod others;
mod own;
mod ports;
mod trust;
mod versions;

use clap::Args;
use serde_json::{Value, json};

use super::output::{Output, yaml};
use super::print::talk;
use super::{Exit, say};
use crate::config::{Boot, Flags, variable};
use own::Own;
pub(super) use own::access;
pub(super) use ports::process;

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
pub(super) struct Finding {
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

/// Exits with 6 when something is bad, and with 2 when the configuration cannot be read at all.
pub(super) fn run(args: &Doctor) -> anyhow::Result<Exit> {
    let boot = Boot::load(&args.flags, &variable)?;
    let findings = look(&boot);
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Good);
    let text = match args.output {
        Output::Table => human(&findings),
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

/// Everything that is looked at. Nobody who hangs is waited for longer than a moment.
pub(super) fn look(boot: &Boot) -> Vec<Finding> {
    let own = Own::ask(boot);
    let mut findings = here::look(boot);
    findings.extend(ports::look(boot, own.is_running()));
    findings.extend(trust::look(boot, &own));
    findings.extend(own.findings(boot));
    findings.extend(others::look(&own));
    findings.extend(own.refused_meanwhile());
    findings
}

/// Findings for people, each with what to do about it.
pub(super) fn human(findings: &[Finding]) -> String {
    findings.iter().map(line).collect()
}

fn line(finding: &Finding) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_has_a_mark_and_says_what_to_do_where_it_is_not_good() {
        let findings = [Finding::good("a", "well"), Finding::bad("b", "broken", "mend it")];

        assert_eq!(human(&findings), format!("[+] {:<28} well\n[x] {:<28} broken\n      -> mend it\n", "a", "b"));
        assert_eq!(
            machine(&findings)["items"][1],
            json!({ "what": "b", "verdict": "bad", "seen": "broken", "advice": "mend it" })
        );
    }
}
