//! Runs the simulation of a whole cluster (`tests/sim`) by seed.
//!
//! ```sh
//! cargo run --release -p troupe-tests --bin sim -- --seeds 100 [--seed 1] [--span 20] [--plant lost-dedup]
//! cargo run --release -p troupe-tests --bin sim -- --seed 42 [--steps] [--twice]
//! ```
//! It prints a line of totals, and ends with 1 when a promise was broken: then the timeline of the first such seed comes
//! before it, with the command that runs it again. `--steps` prints every step of each seed, `--lines` what a reader
//! wants first; `--twice` runs each seed again and holds the two against each other.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;
use troupe_tests::sim::record::Line;
use troupe_tests::sim::{Options, Outcome, Plant, run};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The last lines of a timeline that are printed of a failing seed.
const LINES_MAX: usize = 400;

struct Asked {
    first: u64,
    seeds: u64,
    options: Options,
    has_lines: bool,
    is_twice: bool,
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match read(std::env::args().skip(1)) {
        Ok(asked) => work(&asked, &mut out),
        Err(why) => {
            writeln!(out, "{why}")?;
            Ok(ExitCode::from(2))
        }
    }
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { first: 1, seeds: 1, options: Options::default(), has_lines: false, is_twice: false };
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            value.parse().map_err(|_| format!("{word} needs a number, not {value:?}"))
        };
        match word.as_str() {
            "--seeds" => asked.seeds = number()?,
            "--seed" => asked.first = number()?,
            "--span" => asked.options.span = Duration::from_secs(number()?),
            "--steps" => (asked.options.has_steps, asked.has_lines) = (true, true),
            "--lines" => asked.has_lines = true,
            "--twice" => asked.is_twice = true,
            "--plant" => {
                let name = words.next().unwrap_or_default();
                let known = Plant::ALL.into_iter().find(|plant| plant.word() == name);
                asked.options.plant =
                    known.ok_or_else(|| format!("--plant is one of {}", Plant::ALL.map(Plant::word).join(", ")))?;
            }
            other => return Err(format!("{other:?} is not an option")),
        }
    }
    Ok(asked)
}

/// What all seeds came to together.
#[derive(Default)]
struct Totals {
    seeds: u64,
    failed: Vec<u64>,
    counts: BTreeMap<&'static str, u64>,
    virtual_time: Duration,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.virtual_time += outcome.took;
        for (what, count) in &outcome.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seeds, {} failed {:?}", self.seeds, self.failed.len(), self.failed)?;
        for (what, count) in &self.counts {
            write!(f, ", {count} {what}")?;
        }
        write!(f, ", {} s of virtual time", self.virtual_time.as_secs())
    }
}

fn work(asked: &Asked, out: &mut impl Write) -> io::Result<ExitCode> {
    let begun = Instant::now();
    let mut totals = Totals::default();
    for seed in asked.first..asked.first.saturating_add(asked.seeds) {
        let outcome = run(seed, asked.options);
        totals.add(&outcome);
        if asked.has_lines {
            print(out, &outcome, usize::MAX)?;
        }
        let again = asked.is_twice.then(|| run(seed, asked.options));
        let differs = again.filter(|again| again.trace != outcome.trace);
        if let Some(again) = &differs {
            let pairs = outcome.lines.iter().zip(&again.lines);
            let at = pairs.take_while(|(one, other)| one == other).count();
            let near = |lines: &[Line]| -> String {
                lines.iter().skip(at.saturating_sub(8)).take(12).map(|line| format!("{line}\n")).collect()
            };
            let (one, other) = (near(&outcome.lines), near(&again.lines));
            writeln!(out, "seed {seed} is not the same twice:\n{one}\nand again:\n{other}")?;
        }
        if outcome.broken.is_empty() && differs.is_none() {
            continue;
        }
        if totals.failed.is_empty() && !asked.has_lines {
            print(out, &outcome, LINES_MAX)?;
        }
        totals.failed.push(seed);
        for breach in &outcome.broken {
            writeln!(out, "seed {seed}: {breach}")?;
        }
        let Options { plant, span, .. } = asked.options;
        let (plant, span) = (plant.word(), span.as_secs());
        writeln!(
            out,
            "again: cargo run --release -p troupe-tests --bin sim -- --seed {seed} --span {span} --plant {plant}"
        )?;
    }
    writeln!(out, "{totals}, {:.1} s", begun.elapsed().as_secs_f64())?;
    Ok(if totals.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The timeline; of a long one, its beginning and the last lines before its end.
fn print(out: &mut impl Write, outcome: &Outcome, most: usize) -> io::Result<()> {
    // What follows the first breach is seldom of use.
    let first_breach = outcome.lines.iter().position(|line| line.what.starts_with("BROKEN"));
    let lines = match first_breach {
        Some(at) if most < outcome.lines.len() => &outcome.lines[..(at + 20).min(outcome.lines.len())],
        Some(_) | None => &outcome.lines[..],
    };
    let skipped = lines.len().saturating_sub(most);
    writeln!(out, "timeline of seed {} ({skipped} earlier lines left out)", outcome.seed)?;
    lines.iter().skip(skipped).try_for_each(|line| writeln!(out, "{line}"))?;
    writeln!(out, "trace {} state {}", outcome.trace, outcome.state)
}
