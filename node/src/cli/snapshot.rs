use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use troupe_cluster::backup::{self, Backup, New};
use troupe_proto::command::Note;
use troupe_proto::id::{ClusterId, NodeId};

use super::access::{Access, Ask};
use super::output::{Output, yaml};
use super::print::{talk, text};
use super::{Exit, say};
use crate::clock;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Saves all that is agreed to a file. Secrets of providers are sealed in it: keep the seal key, too, elsewhere.
    Save(Save),
    /// Tells what is in such a file.
    Inspect(Inspect),
    /// Makes the data directory of a new cluster's first node of such a file. No node needs to run.
    Restore(Restore),
}

#[derive(Args)]
pub(super) struct Save {
    /// The file; one that is there already stays.
    file: PathBuf,
    /// Takes what the node has, without asking whether somebody has something newer: for when there is no leader.
    #[arg(long)]
    stale: bool,
    #[command(flatten)]
    access: Access,
}

#[derive(Args)]
pub(super) struct Inspect {
    /// What `troupe snapshot save` wrote.
    file: PathBuf,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Restore {
    /// What `troupe snapshot save` wrote.
    file: PathBuf,
    /// The node's data directory to be: empty, or not there.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Save(args) => save(args),
        Command::Inspect(args) => inspect(args),
        Command::Restore(args) => restore(args),
    }
}

fn save(args: &Save) -> anyhow::Result<Exit> {
    let ask = Ask::get(&["cluster", "snapshot"]);
    let ask = if args.stale { ask.query("stale", "true") } else { ask };
    let bytes = args.access.fetch(&ask)?;
    let read = backup::decode(&bytes).context("what the node sent is no snapshot")?;
    write(&args.file, &bytes).with_context(|| format!("{} cannot be written", args.file.display()))?;
    let document = describe(&read, bytes.len());
    talk(&format!(
        "{}: revision {} of cluster {}, {} bytes",
        args.file.display(),
        text(&document, "revision"),
        text(&document, "cluster"),
        bytes.len()
    ));
    Ok(Exit::Ok)
}

/// For its owner only. What cannot be written whole leaves nothing behind that looks like a backup.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        std::fs::remove_file(path)?;
    }
    written
}

fn read(path: &Path) -> anyhow::Result<(Backup, usize)> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let read = backup::decode(&bytes).with_context(|| path.display().to_string())?;
    Ok((read, bytes.len()))
}

fn inspect(args: &Inspect) -> anyhow::Result<Exit> {
    let (read, bytes) = read(&args.file)?;
    let document = describe(&read, bytes);
    let text = match args.output {
        Output::Table => human(&document),
        Output::Json => serde_json::to_string_pretty(&document)? + "\n",
        Output::Yaml => yaml(&document),
    };
    say(&mut std::io::stdout().lock(), &text);
    Ok(Exit::Ok)
}

fn describe(read: &Backup, bytes: usize) -> Value {
    let Backup { head, state } = read;
    let taken = jiff::Timestamp::from_millisecond(head.at).map(|at| at.to_string()).ok();
    let seal_keys: Vec<String> = backup::seal_keys(state).iter().map(ToString::to_string).collect();
    json!({
        "cluster": head.cluster.map(|cluster| cluster.to_string()),
        "revision": head.revision,
        "index": head.index,
        "taken": taken,
        "version": head.version,
        "providers": state.spec().providers.len(),
        "models": state.spec().models.len(),
        "keys": state.spec().keys.len(),
        "members": state.members().len(),
        "seal_keys": seal_keys,
        "bytes": bytes,
    })
}

fn human(document: &Value) -> String {
    const ROWS: [&str; 11] = [
        "cluster",
        "revision",
        "index",
        "taken",
        "version",
        "providers",
        "models",
        "keys",
        "members",
        "seal_keys",
        "bytes",
    ];
    ROWS.map(|name| format!("{:<10} {}\n", name.replace('_', " "), text(document, name))).concat()
}

fn restore(args: &Restore) -> anyhow::Result<Exit> {
    let (read, bytes) = read(&args.file)?;
    let seal_keys = text(&describe(&read, bytes), "seal_keys");
    let new = new_cluster("restore")?;
    backup::restore(&args.data_dir, read, &new)?;
    talk(&format!(
        "{} is the data directory of node {}, the only one of the new cluster {}\nits secrets are sealed under {}: start \
         the node with that seal key, as cluster.seal_key or in the file seal-key of the data directory",
        args.data_dir.display(),
        new.node,
        new.cluster,
        if seal_keys.is_empty() { "nothing yet" } else { &seal_keys },
    ));
    Ok(Exit::Ok)
}

/// A cluster that was never before, with one node that was never before.
pub(super) fn new_cluster(why: &str) -> anyhow::Result<New> {
    let no_random = |error: getrandom::Error| anyhow::anyhow!("the system has no randomness: {error}");
    let cluster = ClusterId(u128::from_le_bytes(clock::secret_bytes().map_err(no_random)?));
    let node = NodeId(u64::from_le_bytes(clock::secret_bytes().map_err(no_random)?).max(1));
    let note =
        Note { actor: "operator".to_owned(), reason: why.to_owned(), at: clock::unix_millis(), ..Note::default() };
    Ok(New { cluster, node, note })
}
