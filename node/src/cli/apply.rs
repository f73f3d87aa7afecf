use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::Value;

use super::access::{Access, AdminError, Ask};
use super::output::yaml;
use super::planned::{Go, Planned};
use super::print::{Asking, talk};
use super::{Exit, say};
use crate::admin::{Applied, Delta, Op};
use crate::config::spec_file::{Sources, read_for_sending};

#[derive(Args)]
pub(super) struct Apply {
    /// The spec: a TOML, YAML or JSON file.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Takes away what the file does not say. Without it, that stays.
    #[arg(long)]
    prune: bool,
    /// With --prune, a file without providers, models and keys takes all of them away. Without it, it is refused.
    #[arg(long, requires = "prune")]
    allow_empty: bool,
    #[command(flatten)]
    planned: Planned,
}

#[derive(Args)]
pub(super) struct Diff {
    /// The spec: a TOML, YAML or JSON file.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// As if what the file does not say were taken away.
    #[arg(long)]
    prune: bool,
    /// With --prune, shows what a file without providers, models and keys takes away. Without it, it is refused.
    #[arg(long, requires = "prune")]
    allow_empty: bool,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
pub(super) struct Export {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Format::Toml)]
    output: Format,
    /// With the hashes of virtual keys, so that another cluster can take them over.
    #[arg(long)]
    hashes: bool,
    #[command(flatten)]
    access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Toml,
    Json,
    Yaml,
}

pub(super) fn apply(args: &Apply) -> anyhow::Result<Exit> {
    let changing = &args.planned.changing;
    let asking = &changing.asking;
    let spec = read(&args.file)?;
    let plan = dry_run(&asking.access, &spec, rest(args.prune, args.allow_empty))?;
    let planned: Applied = serde_json::from_value(plan.clone())?;
    let grave = (planned.removed > 0).then(|| format!("{} would be taken away", things(planned.removed)));
    let is_asked = match args.planned.confirm(&plan, &planned, grave)? {
        Go::On { is_asked } => is_asked,
        Go::Home(exit) => return Ok(exit),
    };
    let mut ask = Ask::change(Method::POST, &["apply"], changing.reason.as_deref());
    for (name, value) in rest(args.prune, args.allow_empty) {
        ask = ask.query(name, value);
    }
    if planned.removed > 0 || is_asked {
        // What goes must be what was shown; what only comes or changes is what the file says, whatever happened since.
        ask = ask.at(planned.revision);
    }
    let document = asking.access.ask(&ask.body(&spec))?;
    let applied: Applied = serde_json::from_value(document.clone())?;
    if let Some(lost) = lost(&planned, &applied) {
        talk(&lost);
    }
    asking.print(&document, |_| human_done(&applied))
}

/// How many names of keys are told.
const NAMES_MAX: usize = 10;

/// Says for which keys no secret can be shown although one was to be made.
fn lost(planned: &Applied, applied: &Applied) -> Option<String> {
    let shown: BTreeSet<&str> = applied.made.iter().map(|made| made.name.as_str()).collect();
    let lost: Vec<&str> =
        planned.made.iter().map(|made| made.name.as_str()).filter(|name| !shown.contains(name)).collect();
    let more = if lost.len() > NAMES_MAX { ", ..." } else { "" };
    let names: Vec<&str> = lost.iter().take(NAMES_MAX).copied().collect();
    (!lost.is_empty()).then(|| {
        format!(
            "no secret can be shown for {} ({}{more}): an earlier try whose answer was lost made them, or somebody else did; `troupe key rotate NAME` makes a new one",
            if lost.len() == 1 { "1 key".to_owned() } else { format!("{} keys", lost.len()) },
            names.join(", ")
        )
    })
}

pub(super) fn diff(args: &Diff) -> anyhow::Result<Exit> {
    let plan = dry_run(&args.asking.access, &read(&args.file)?, rest(args.prune, args.allow_empty))?;
    let planned: Applied = serde_json::from_value(plan.clone())?;
    args.asking.print(&plan, |_| human(&planned, Tense::Future))
}

pub(super) fn export(args: &Export) -> anyhow::Result<Exit> {
    print_spec(&args.access.ask(&Ask::get(&["export"]).query("hashes", flag(args.hashes)))?, args.output)
}

/// Prints a whole spec on the standard output.
pub(super) fn print_spec(spec: &Value, format: Format) -> anyhow::Result<Exit> {
    let text = match format {
        Format::Toml => toml::to_string(spec)?,
        Format::Json => serde_json::to_string_pretty(spec)? + "\n",
        Format::Yaml => yaml(spec),
    };
    say(&mut std::io::stdout().lock(), &text);
    Ok(Exit::Ok)
}

fn read(path: &Path) -> anyhow::Result<Value> {
    Ok(read_for_sending(path, &Sources::of_process(None))?)
}

fn dry_run(access: &Access, spec: &Value, rest: Rest) -> Result<Value, AdminError> {
    let mut ask = Ask::change(Method::POST, &["apply"], None).query("dry_run", "true");
    for (name, value) in rest {
        ask = ask.query(name, value);
    }
    access.ask(&ask.body(spec))
}

/// What becomes of what a file does not say, as a node is asked for it.
type Rest = [(&'static str, &'static str); 2];

const fn rest(prune: bool, allow_empty: bool) -> Rest {
    [("prune", flag(prune)), ("allow_empty", flag(allow_empty))]
}

pub(super) const fn flag(is_set: bool) -> &'static str {
    if is_set { "true" } else { "false" }
}

/// Whether it is told before or after.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tense {
    Future,
    Past,
}

pub(super) fn things(count: usize) -> String {
    if count == 1 { "1 thing".to_owned() } else { format!("{count} things") }
}

/// What is to change, for people.
pub(super) fn human_future(applied: &Applied) -> String {
    human(applied, Tense::Future)
}

fn human(applied: &Applied, tense: Tense) -> String {
    let mut text: String = applied.changes.iter().map(told).collect();
    if applied.untold > 0 {
        text.push_str(&format!("... and {} more\n", applied.untold));
    }
    for note in &applied.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    let Applied { added, changed, removed, revision, .. } = applied;
    if added + changed + removed == 0 {
        text.push_str(&format!("nothing changes: revision {revision} says the same\n"));
    } else {
        let verb = if tense == Tense::Future { "to add" } else { "added" };
        let (change, remove) = if tense == Tense::Future { ("to change", "to remove") } else { ("changed", "removed") };
        text.push_str(&format!("{added} {verb}, {changed} {change}, {removed} {remove}\n"));
    }
    text
}

pub(super) fn human_done(applied: &Applied) -> String {
    let mut text = String::new();
    for made in &applied.made {
        let secret = made.secret.as_deref().unwrap_or("(not shown again)");
        text.push_str(&format!("key {}: {secret}\n", made.name));
    }
    if !text.is_empty() {
        text.push_str("(secrets are shown this once; only their hashes are kept)\n");
    }
    let quiet = Applied { changes: Vec::new(), untold: 0, notes: Vec::new(), ..applied.clone() };
    text.push_str(&format!("{}revision {}\n", human(&quiet, Tense::Past), applied.revision));
    text
}

fn told(delta: &Delta) -> String {
    let mark = match delta.op {
        Op::Add => '+',
        Op::Change => '~',
        Op::Remove => '-',
    };
    let mut text = format!("{mark} {} {}", delta.kind, delta.name).trim_end().to_owned() + "\n";
    for field in &delta.fields {
        text.push_str(&format!("    {}: {} -> {}\n", field.field, value(&field.before), value(&field.after)));
    }
    text
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "(absent)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_whose_secrets_were_lost_with_an_answer_are_named() {
        let applied = |made: &[&str]| -> Applied {
            let made: Vec<Value> = made.iter().map(|name| json!({ "name": name })).collect();
            serde_json::from_value(json!({
                "revision": 1, "dry_run": false, "added": 0, "changed": 0, "removed": 0, "untold": 0, "changes": [],
                "made": made,
            }))
            .unwrap()
        };

        assert_eq!(lost(&applied(&["a", "b"]), &applied(&["a", "b"])), None);
        let told = lost(&applied(&["a", "b", "c"]), &applied(&["b"])).unwrap();
        assert!(told.starts_with("no secret can be shown for 2 keys (a, c):"), "{told}");
    }

    #[test]
    fn people_read_what_goes_what_changes_and_what_comes() {
        let applied: Applied = serde_json::from_value(json!({
            "revision": 7, "dry_run": true, "added": 1, "changed": 1, "removed": 1, "untold": 0,
            "changes": [
                {"op": "remove", "kind": "key", "name": "old"},
                {"op": "change", "kind": "model", "name": "m", "fields": [
                    {"field": "targets[0].weight", "before": null, "after": 3}]},
                {"op": "add", "kind": "defaults"},
            ],
            "made": [{"name": "k", "secret": "sk-1"}],
        }))
        .unwrap();

        assert_eq!(
            human(&applied, Tense::Future),
            "- key old\n~ model m\n    targets[0].weight: (absent) -> 3\n+ defaults\n1 to add, 1 to change, 1 to remove\n"
        );
        assert_eq!(
            human_done(&applied),
            "key k: sk-1\n(secrets are shown this once; only their hashes are kept)\n\
             1 added, 1 changed, 1 removed\nrevision 7\n"
        );
    }

    #[test]
    fn an_exported_spec_reads_as_toml() {
        let spec = json!({
            "providers": {"o": {"wire": "openai", "base_url": "http://h", "keys": [{"name": "a", "secret": "(set)"}], "timeouts": {"idle": "1s"}}},
            "models": {"gpt-*": {"targets": [{"provider": "o"}]}},
            "keys": {"a": {}}
        });

        let text = toml::to_string(&spec).unwrap();

        assert_eq!(toml::from_str::<Value>(&text).unwrap(), spec, "{text}");
    }
}
