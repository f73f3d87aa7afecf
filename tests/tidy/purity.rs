//! Logic is pure: no clock, no chance, no surroundings, no sockets, no tasks.

use crate::house::{File, assert_none, files, sample};

/// What pure code may not name.
const IMPURE: [&str; 17] = [
    "tokio::",
    "hyper::",
    "hyper_util::",
    "futures_util::",
    "std::net::",
    "std::fs::",
    "std::env::",
    "std::thread::",
    "std::process::",
    "Instant::now",
    "SystemTime::now",
    "rand::",
    "fastrand::",
    "getrandom::",
    "tracing::",
    "println!",
    "mpsc::",
];
/// What the manifests of pure crates may not name.
const IMPURE_CRATES: [&str; 8] =
    ["tokio", "hyper", "hyper-util", "futures-util", "rand", "fastrand", "getrandom", "tracing"];

fn is_pure_ground(path: &str) -> bool {
    let is_logic = path.ends_with("/logic.rs");
    let is_inside = ["proto/src/", "proto/dialect/src/", "cluster/src/state"].iter().any(|dir| path.starts_with(dir));
    path.ends_with(".rs") && (is_logic || is_inside)
}

fn impurities(file: &File) -> Vec<String> {
    let mut breaches = Vec::new();
    for (number, line) in file.program() {
        for word in IMPURE.iter().filter(|word| names(line, word)) {
            breaches.push(format!("{}:{number} uses {word}", file.path));
        }
    }
    breaches
}

/// Whether `line` has `word` where no longer name ends in it (`operand::` is not `rand::`).
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).unwrap_or("").chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn pure_ground_stays_pure() {
    let files = files();
    let pure: Vec<_> = files.iter().filter(|file| is_pure_ground(&file.path)).collect();
    assert!(pure.len() > 10, "only {} pure files: the filter is broken", pure.len());

    let breaches: Vec<_> = pure.into_iter().flat_map(impurities).collect();

    assert_none("impure", &breaches);
}

#[test]
fn a_clock_in_logic_is_seen_and_one_in_a_comment_or_test_is_not() {
    let text = "// Instant::now is not for us\nlet operand = operand::new();\nlet now = Instant::now();\n\
                \n#[cfg(test)]\nmod tests {\n    use std::fs::read;\n}\n";

    assert_eq!(impurities(&sample("actors/src/pool/logic.rs", text)), ["actors/src/pool/logic.rs:3 uses Instant::now"]);
    assert!(is_pure_ground("actors/src/pool/logic.rs") && !is_pure_ground("node/src/clock.rs"));
}

#[test]
fn pure_crates_stand_on_nothing_impure() {
    for path in ["proto/Cargo.toml", "proto/dialect/Cargo.toml"] {
        let manifest = files().into_iter().find(|file| file.path == path).unwrap();
        let manifest: toml::Table = manifest.text.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();

        let impure: Vec<_> = IMPURE_CRATES.iter().filter(|name| dependencies.contains_key(**name)).collect();

        assert!(impure.is_empty(), "{path} names {impure:?}");
    }
}

/// Rooms that may read clocks, draw lots or look at the surroundings.
const CLOCK_ROOMS: [&str; 4] =
    ["node/src/clock.rs", "cluster/src/clock.rs", "loadtest/src/clock.rs", "node/src/config/"];

fn clock_readers(file: &File) -> Vec<String> {
    if CLOCK_ROOMS.iter().any(|room| file.path.starts_with(room)) {
        return Vec::new();
    }
    let banned = ["Instant::now(", "SystemTime::now(", "Timestamp::now(", "Zoned::now(", "std::env::var", "env::var("];
    let mut breaches = Vec::new();
    for (number, line) in file.program() {
        if let Some(word) = banned.iter().find(|word| names(line, word)) {
            breaches.push(format!("{}:{number} uses {word}", file.path));
        }
    }
    breaches
}

#[test]
fn clocks_and_variables_are_read_in_their_own_rooms() {
    let files = files();
    let programs = files.iter().filter(|file| file.has_ending("rs") && file.path.contains("/src/"));

    assert_none("a second clock", &programs.flat_map(clock_readers).collect::<Vec<_>>());
}

#[test]
fn a_second_clock_is_seen() {
    assert_eq!(clock_readers(&sample("node/src/pipeline/admit.rs", "let now = Timestamp::now();")).len(), 1);
    assert_eq!(clock_readers(&sample("node/src/clock.rs", "Instant::now()")).len(), 0);
}
