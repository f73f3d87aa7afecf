use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use troupe_cluster::State;
use troupe_cluster::consensus::Machine;

use super::access::{Access, Ask};
use super::output::{Output, yaml};
use super::print::{talk, text};
use super::{Exit, say};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Writes everything agreed into a file. Secrets are sealed or hashed in it.
    Save(Save),
    /// Shows what a file holds, without any node.
    Inspect(Inspect),
}

#[derive(Args)]
pub(super) struct Save {
    /// The file; one that is there already stays.
    file: PathBuf,
    #[command(flatten)]
    access: Access,
}

#[derive(Args)]
pub(super) struct Inspect {
    /// The file.
    file: PathBuf,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Save(args) => save(args),
        Command::Inspect(args) => {
            let bytes = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
            let document = described(&args.file, &bytes)?;
            let text = match args.output {
                Output::Table => human(&document),
                Output::Json => serde_json::to_string_pretty(&document)? + "\n",
                Output::Yaml => yaml(&document),
            };
            say(&mut std::io::stdout().lock(), &text);
            Ok(Exit::Ok)
        }
    }
}

fn save(args: &Save) -> anyhow::Result<Exit> {
    let bytes = args.access.ask_bytes(&Ask::get(&["cluster", "snapshot"]))?;
    // What cannot be read back is no backup.
    let document = described(&args.file, &bytes)?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.file)
        .with_context(|| args.file.display().to_string())?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).with_context(|| args.file.display().to_string())?;
    talk(&format!("saved revision {} into {}", text(&document, "revision"), args.file.display()));
    Ok(Exit::Ok)
}

fn described(file: &Path, bytes: &[u8]) -> anyhow::Result<Value> {
    let state =
        State::load(bytes).with_context(|| format!("{} is no snapshot that this version reads", file.display()))?;
    let spec = state.spec();
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let members: Vec<&str> = state.members().values().map(|member| member.name.as_str()).collect();
    Ok(json!({
        "cluster": state.cluster().map(|id| id.to_string()),
        "version": state.cluster_version(),
        "revision": state.revision().0,
        "changes": state.changes(),
        "providers": spec.providers.len(),
        "models": spec.models.len(),
        "keys": spec.keys.len(),
        "tokens": state.admin_tokens().len(),
        "members": members,
        "bytes": bytes.len(),
        "hash": hash,
    }))
}

fn human(document: &Value) -> String {
    let members = document.as_object().into_iter().flatten();
    members.map(|(name, _)| format!("{name:<9} {}\n", text(document, name))).collect()
}
