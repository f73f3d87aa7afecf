//! Reads the house as text.

use std::fs;
use std::path::{Path, PathBuf};

/// What is made, not written (`.git` is a file in a worktree).
const MADE: [&str; 9] = [
    ".git",
    "target",
    "node_modules",
    ".venv",
    "__pycache__",
    "corpus",
    "artifacts",
    "troupe-data",
    "proptest-regressions",
];
/// Files whose text somebody wrote.
const TEXTS: [&str; 15] =
    ["rs", "toml", "md", "sh", "py", "js", "mjs", "ts", "json", "jsonl", "yaml", "yml", "sse", "txt", "html"];

/// One text file.
pub(crate) struct File {
    /// Its path from the root, with `/` between.
    pub(crate) path: String,
    /// What it holds.
    pub(crate) text: String,
}

impl File {
    pub(crate) fn has_ending(&self, ending: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|e| e == ending)
    }

    /// The lines of a program that are neither comment nor test, with their numbers.
    pub(crate) fn program(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test =
            self.path.ends_with("tests.rs") || self.path.contains("/tests/") || self.path.starts_with("tests/");
        let lines = if is_test { "" } else { self.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or("") };
        lines
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// The root of the house.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every text file of the house.
pub(crate) fn files() -> Vec<File> {
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    assert!(found.len() > 50, "only {} files: the walk is broken", found.len());
    found
}

fn walk(dir: &Path, prefix: &str, found: &mut Vec<File>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().unwrap();
        if MADE.contains(&name.as_str()) {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), found);
        } else if kind.is_file()
            && is_text(&name)
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            found.push(File { path, text });
        }
    }
}

/// Files without an ending are scripts, manifests of tools and licences.
fn is_text(name: &str) -> bool {
    match Path::new(name).extension() {
        Some(ending) => ending.to_str().is_some_and(|ending| TEXTS.contains(&ending)),
        None => !name.starts_with(".DS_"),
    }
}

/// A file for a rule's own test.
pub(crate) fn sample(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

/// Fails with every breach on a line of its own.
pub(crate) fn assert_none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}
