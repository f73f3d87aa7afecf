//! What a report of a fault needs, in one file, without secrets.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Exit;
use super::access::{Access, Ask};
use super::print::talk;
use crate::clock;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Writes what a node says of itself to a tar file: state, members, spec, metrics, audit. It holds no secret and no
    /// prompt; names of keys, models and nodes are in it.
    Bundle(Bundle),
}

#[derive(Args)]
pub(super) struct Bundle {
    /// The file to write; `troupe-debug.tar` unless given.
    #[arg(long, value_name = "FILE", default_value = "troupe-debug.tar")]
    out: PathBuf,
    #[command(flatten)]
    access: Access,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    let Command::Bundle(args) = command;
    let mut tar = Tar::new(clock::unix_seconds());
    let mut missing = Vec::new();
    // A cluster that cannot agree is what a report is often about: everything is asked for as this node holds it.
    let questions: [(&str, Ask<'_>); 6] = [
        ("node.json", Ask::get(&["node"])),
        ("status.json", Ask::get(&["status"])),
        ("cluster.json", Ask::get(&["cluster"])),
        ("members.json", Ask::get(&["cluster", "members"]).query("stale", "true")),
        ("spec.json", Ask::get(&["export"]).query("stale", "true")),
        ("audit.json", Ask::get(&["audit"]).query("stale", "true").query("limit", "200")),
    ];
    for (name, ask) in questions {
        match args.access.ask(&ask) {
            Ok(document) => tar.add(name, &(serde_json::to_string_pretty(&redacted(document))? + "\n")),
            Err(error) if missing.is_empty() && tar.is_empty() => return Err(error.into()),
            Err(error) => missing.push(format!("{name}: {error}")),
        }
    }
    match args.access.fetch(&Ask::metrics()) {
        Ok(page) => tar.add("metrics.txt", &String::from_utf8_lossy(&page)),
        Err(error) => missing.push(format!("metrics.txt: {error}")),
    }
    tar.add("version.txt", concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\n"));
    if !missing.is_empty() {
        tar.add("missing.txt", &(missing.join("\n") + "\n"));
    }
    std::fs::write(&args.out, tar.end())?;
    talk(&format!("{} is written; look through it before you send it", args.out.display()));
    Ok(Exit::Ok)
}

/// What stands in the place of a secret.
const REDACTED: &str = "(redacted)";

/// The same without anything whose name says that it is secret. Answers hold none anyway; this is the second lock.
fn redacted(document: Value) -> Value {
    let is_secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        // `hash_prefix` is what operators tell keys by, and `(set)` says only that there is one.
        ["secret", "token", "password", "authorization", "hash", "pem"].iter().any(|word| name.contains(word))
            && name != "hash_prefix"
    };
    match document {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, value)| match value {
                    Value::String(text) if is_secret(&name) && text != "(set)" => (name, REDACTED.into()),
                    other => (name, redacted(other)),
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(redacted).collect()),
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => scalar,
    }
}

/// A tar file of small texts, in the ustar format.
struct Tar {
    bytes: Vec<u8>,
    made: i64,
}

const BLOCK: usize = 512;

impl Tar {
    const fn new(made: i64) -> Self {
        Self { bytes: Vec::new(), made }
    }

    const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn add(&mut self, name: &str, text: &str) {
        let mut head = [0_u8; BLOCK];
        let mut put = |at: usize, text: &str| {
            if let Some(place) = head.get_mut(at..at + text.len()) {
                place.copy_from_slice(text.as_bytes());
            }
        };
        put(0, &format!("troupe-debug/{name}"));
        put(100, "0000600\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", text.len()));
        put(136, &format!("{:011o}\0", self.made));
        // The checksum counts itself as blanks.
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\0");
        put(263, "00");
        let sum: u32 = head.iter().copied().map(u32::from).sum();
        if let Some(place) = head.get_mut(148..156) {
            place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_secret_stays_in_a_document() {
        let document = json!({"items": [{"name": "k", "secret": "sk-1", "hash": "abc", "hash_prefix": "ab"}],
                              "keys": [{"secret": "(set)"}], "ca_pem": "-----", "tokens": 5});

        let text = redacted(document).to_string();

        assert!(!text.contains("sk-1") && !text.contains("abc") && !text.contains("-----"), "{text}");
        assert!(
            text.contains("(set)") && text.contains("\"hash_prefix\":\"ab\"") && text.contains("\"tokens\":5"),
            "{text}"
        );
    }

    #[test]
    fn the_system_s_tar_reads_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = Tar::new(1_700_000_000);
        let long = "x".repeat(3 * BLOCK);
        tar.add("a.json", "{}\n");
        tar.add("b.txt", &long);
        std::fs::write(dir.path().join("t.tar"), tar.end()).unwrap();

        let done = Process::new("tar").args(["-xf", "t.tar"]).current_dir(dir.path()).status().unwrap();

        assert!(done.success());
        let read = |name: &str| std::fs::read_to_string(dir.path().join("troupe-debug").join(name)).unwrap();
        assert_eq!((read("a.json"), read("b.txt")), ("{}\n".to_owned(), long));
    }
}
