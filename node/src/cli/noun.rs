//! What can be done with any thing of the spec.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::Exit;
use super::access::Ask;
use super::output::{table, yaml};
use super::print::{Asking, Changing, items, text};
use crate::config::spec_file::{Sources, read_one_for_sending};

/// Providers and models.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Lists them.
    List(Asking),
    /// Shows one.
    Show(Named),
    /// Adds one or puts another in its place.
    Put(Put),
    /// Takes one away.
    Delete(Changed),
}

#[derive(Args)]
pub(super) struct Named {
    /// Its name.
    name: String,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
pub(super) struct Changed {
    /// Its name.
    pub(super) name: String,
    #[command(flatten)]
    pub(super) changing: Changing,
}

#[derive(Args)]
pub(super) struct Put {
    /// Its name.
    name: String,
    /// A TOML, YAML or JSON file with its fields, as they stand below its section of a spec file.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    changing: Changing,
}

/// What distinguishes the kinds.
pub(super) struct Kind {
    /// As paths and files name them: `providers`.
    pub(super) plural: &'static str,
    /// The table's head behind the name, and how a row is made.
    pub(super) head: &'static [&'static str],
    pub(super) row: fn(&Value) -> Vec<String>,
}

/// Providers.
pub(super) const PROVIDERS: Kind = Kind {
    plural: "providers",
    head: &["NAME", "WIRE", "URL", "KEYS", "STATE"],
    row: |thing| {
        let keys = thing.get("keys").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let keys: Vec<String> = keys.iter().map(|key| text(key, "name")).collect();
        let keys = if keys.is_empty() { "-".to_owned() } else { keys.join(",") };
        vec![text(thing, "name"), text(thing, "wire"), text(thing, "base_url"), keys, text(thing, "state")]
    },
};

/// Models.
pub(super) const MODELS: Kind = Kind {
    plural: "models",
    head: &["NAME", "TARGETS", "FALLBACKS"],
    row: |thing| {
        let targets = thing.get("targets").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let target = |target: &Value| match target.get("model").and_then(Value::as_str) {
            Some(model) => format!("{}/{model}", text(target, "provider")),
            None => text(target, "provider"),
        };
        let targets: Vec<String> = targets.iter().map(target).collect();
        vec![text(thing, "name"), targets.join(","), text(thing, "fallbacks")]
    },
};

pub(super) fn run(kind: &Kind, command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(asking) => {
            let document = asking.access.list(&[kind.plural])?;
            let rows =
                |document: &Value| table(kind.head, &items(document).iter().map(kind.row).collect::<Vec<_>>(), &[]);
            asking.print(&document, rows)
        }
        Command::Show(args) => show(kind.plural, args),
        Command::Put(args) => {
            let body = read_one_for_sending(&args.file, kind.plural, &args.name, &Sources::of_process(None))?;
            let path = [kind.plural, args.name.as_str()];
            let ask = Ask::change(Method::PUT, &path, args.changing.reason.as_deref()).body(&body);
            let document = args.changing.asking.access.ask(&ask)?;
            let revision = text(&document, "revision");
            args.changing.asking.print(&document, |_| format!("{} is in force at revision {revision}\n", args.name))
        }
        Command::Delete(args) => delete(kind.plural, args),
    }
}

/// Shows one thing. People read it as YAML.
pub(super) fn show(plural: &str, args: &Named) -> anyhow::Result<Exit> {
    let document = args.asking.access.ask(&Ask::get(&[plural, &args.name]))?;
    args.asking.print(&document, yaml)
}

/// Takes one thing away.
pub(super) fn delete(plural: &str, args: &Changed) -> anyhow::Result<Exit> {
    let ask = Ask::change(Method::DELETE, &[plural, &args.name], args.changing.reason.as_deref());
    let document = args.changing.asking.access.ask(&ask)?;
    args.changing.asking.print(&document, |_| format!("{} is gone\n", args.name))
}

/// Has something done with one thing.
pub(super) fn post(plural: &str, args: &Changed, verb: &str) -> anyhow::Result<Value> {
    let ask = Ask::change(Method::POST, &[plural, &args.name, verb], args.changing.reason.as_deref());
    Ok(args.changing.asking.access.ask(&ask)?)
}
