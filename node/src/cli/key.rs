use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};
use troupe_proto::unit::Wait;

use super::Exit;
use super::access::{AdminError, Ask};
use super::noun::{self, Named};
use super::output::{Output, table};
use super::print::{Asking, Changing, items, talk, text};
use crate::clock;
use crate::config::spec_file::{Sources, read_one_for_sending, time_text};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Makes a virtual key, and prints its secret this once.
    Create(Create),
    /// Lists virtual keys.
    List(Asking),
    /// Shows one virtual key.
    Show(Named),
    /// Gives a virtual key a new secret and prints it this once. The old one admits nobody from then on.
    Rotate(noun::Changed),
    /// Lets a virtual key admit nobody. It stays listed.
    Revoke(noun::Changed),
    /// Takes a virtual key away.
    Delete(noun::Changed),
}

#[derive(Args)]
pub(super) struct Create {
    /// The key's name.
    name: String,
    /// A model it may ask for, or a pattern that ends in *; may be given several times. Default: all.
    #[arg(long = "model", value_name = "PATTERN")]
    models: Vec<String>,
    /// When it stops working: a time such as 2027-01-01T00:00:00Z, or a span from now such as 30d. Default: never.
    #[arg(long, value_name = "TIME", value_parser = when)]
    expires: Option<String>,
    /// A word of your own; may be given several times.
    #[arg(long, value_name = "NAME=WORD")]
    metadata: Vec<String>,
    /// Lets it choose the target of a call by the header x-troupe-target.
    #[arg(long)]
    pin: bool,
    /// A file with the fields of `[keys.NAME]`, in place of these flags.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["models", "expires", "metadata", "pin"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    changing: Changing,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Create(args) => create(args),
        Command::List(asking) => asking.print(&asking.access.list(&["keys"])?, human_list),
        Command::Show(args) => noun::show("keys", args),
        Command::Rotate(args) => made(&args.changing, &noun::post("keys", args, "rotate")?, &args.name),
        Command::Revoke(args) => {
            let document = noun::post("keys", args, "revoke")?;
            args.changing.asking.print(&document, |_| format!("key {} admits nobody now\n", args.name))
        }
        Command::Delete(args) => noun::delete("keys", args),
    }
}

fn create(args: &Create) -> anyhow::Result<Exit> {
    let mut body = match &args.file {
        Some(path) => read_one_for_sending(path, "keys", &args.name, &Sources::of_process(None))?,
        None => fields(args)?,
    };
    body["name"] = args.name.as_str().into();
    let ask = Ask::change(Method::POST, &["keys"], args.changing.reason.as_deref()).body(&body);
    made(&args.changing, &args.changing.asking.access.ask(&ask)?, &args.name)
}

fn fields(args: &Create) -> Result<Value, AdminError> {
    let mut body = json!({});
    if !args.models.is_empty() {
        body["models"] = json!(args.models);
    }
    if let Some(expires) = &args.expires {
        body["expires"] = expiry(expires).into();
    }
    let mut metadata = Map::new();
    for pair in &args.metadata {
        let wrong = || AdminError::Usage(format!("--metadata {pair:?} is not NAME=WORD"));
        let (name, word) = pair.split_once('=').ok_or_else(wrong)?;
        metadata.insert(name.to_owned(), word.into());
    }
    if !metadata.is_empty() {
        body["metadata"] = Value::Object(metadata);
    }
    if args.pin {
        body["pin"] = true.into();
    }
    Ok(body)
}

/// A span of time that is longer than none.
pub(super) fn span(text: &str) -> Result<String, String> {
    match text.parse::<Wait>() {
        Ok(wait) if wait.0.is_zero() => Err("it is longer than no time at all".to_owned()),
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A time, or a span from now.
pub(super) fn when(text: &str) -> Result<String, String> {
    match (span(text), text.parse::<jiff::Timestamp>()) {
        (Err(problem), Err(_)) if text.parse::<Wait>().is_ok() => Err(problem),
        (Err(_), Err(_)) => {
            Err("it is a time with its zone, such as 2027-01-01T00:00:00Z, or a span such as 30d".to_owned())
        }
        (Ok(_), _) | (_, Ok(_)) => Ok(text.to_owned()),
    }
}

/// A time, or a span from now, as a time.
pub(super) fn expiry(text: &str) -> String {
    match text.parse::<Wait>() {
        Ok(span) => {
            let seconds = i64::try_from(span.0.as_secs()).unwrap_or(i64::MAX);
            time_text(clock::unix_seconds().saturating_add(seconds))
        }
        Err(_) => text.to_owned(),
    }
}

/// Prints a made secret alone, so that a script can take it.
fn made(changing: &Changing, document: &Value, name: &str) -> anyhow::Result<Exit> {
    let secret = document.get("secret").and_then(Value::as_str);
    if changing.asking.output == Output::Table {
        match secret {
            Some(_) => talk(&format!("the secret of key {name}, shown this once:")),
            None => talk(&format!("key {name} is in force; `troupe key rotate` gives it a secret that you see")),
        }
    }
    changing.asking.print(document, |_| secret.map(|secret| format!("{secret}\n")).unwrap_or_default())
}

fn human_list(document: &Value) -> String {
    let row = |key: &Value| {
        let metadata = key.get("metadata").and_then(Value::as_object);
        let words = metadata.map(|words| {
            let words: Vec<String> =
                words.iter().map(|(name, word)| format!("{name}={}", word.as_str().unwrap_or_default())).collect();
            words.join(",")
        });
        let models = if key.get("models").is_some() { text(key, "models") } else { "all".to_owned() };
        let expires = if key.get("expires").is_some() { text(key, "expires") } else { "never".to_owned() };
        let cells = [
            text(key, "name"),
            text(key, "state"),
            models,
            expires,
            text(key, "hash_prefix"),
            words.unwrap_or_else(|| "-".to_owned()),
        ];
        cells.to_vec()
    };
    let rows: Vec<Vec<String>> = items(document).iter().map(row).collect();
    table(&["NAME", "STATE", "MODELS", "EXPIRES", "HASH", "METADATA"], &rows, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_a_line_per_key() {
        let document = json!({"items": [
            {"name": "a", "state": "active", "models": ["gpt-*", "x"], "hash_prefix": "sha256:01020304", "metadata": {"o": "s"}},
            {"name": "b", "state": "revoked", "expires": "1970-01-01T00:00:00Z", "hash_prefix": "sha256:0a0b0c0d"},
        ]});

        assert_eq!(
            human_list(&document),
            "NAME  STATE    MODELS   EXPIRES               HASH             METADATA\n\
             a     active   gpt-*,x  never                 sha256:01020304  o=s\n\
             b     revoked  all      1970-01-01T00:00:00Z  sha256:0a0b0c0d  -\n"
        );
    }
}
