//! Who may know whom, where versions stand, and what lies on the top level.

use std::collections::BTreeSet;
use std::process::Command;

use crate::house::{File, assert_none, files, root, sample};

/// Each crate's manifest and the crates of the house it may name. `tests` may name all.
const ARROWS: [(&str, &[&str]); 6] = [
    ("proto/Cargo.toml", &[]),
    ("proto/dialect/Cargo.toml", &["troupe-proto"]),
    ("actors/Cargo.toml", &["troupe-proto"]),
    ("cluster/Cargo.toml", &["troupe-proto"]),
    ("node/Cargo.toml", &["troupe-proto", "troupe-dialect", "troupe-actors", "troupe-cluster"]),
    ("loadtest/Cargo.toml", &["troupe-proto", "troupe-dialect"]),
];
const TOP_LEVEL: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "node",
    "cluster",
    "actors",
    "proto",
    "loadtest",
    "tests",
    "README.md",
    "LICENSE",
    "docs",
    "deploy",
];
const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

fn dependencies(manifest: &toml::Table) -> Vec<(String, toml::Value)> {
    let own = TABLES.iter().filter_map(|table| manifest.get(*table)?.as_table());
    let per_target = manifest.get("target").and_then(toml::Value::as_table).into_iter().flatten();
    let per_target =
        per_target.flat_map(|(_, target)| TABLES.iter().filter_map(|table| target.get(*table)?.as_table()));
    own.chain(per_target).flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn wrong_arrows(manifest: &File, allowed: &[&str]) -> Vec<String> {
    let parsed: toml::Table = manifest.text.parse().unwrap();
    let named = dependencies(&parsed).into_iter().map(|(name, _)| name);
    let wrong = named.filter(|name| name.starts_with("troupe-") && !allowed.contains(&name.as_str()));
    wrong.map(|name| format!("{} names {name}", manifest.path)).collect()
}

fn own_versions(manifest: &File) -> Vec<String> {
    let parsed: toml::Table = manifest.text.parse().unwrap();
    let is_own = |value: &toml::Value| value.get("workspace").and_then(toml::Value::as_bool) != Some(true);
    let own = dependencies(&parsed).into_iter().filter(|(_, value)| is_own(value));
    own.map(|(name, _)| format!("{} says where {name} comes from", manifest.path)).collect()
}

fn unexpected_at_top<'a>(entries: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names: BTreeSet<_> = entries.filter_map(|path| path.split('/').next()).collect();
    let odd = names.into_iter().filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(name));
    odd.map(|name| format!("{name} does not belong on the top level")).collect()
}

/// The manifests of the workspace; the fuzz targets are a workspace of their own.
fn manifests() -> Vec<File> {
    let is_member = |file: &File| file.path.ends_with("/Cargo.toml") && !file.path.starts_with("tests/fuzz/");
    files().into_iter().filter(is_member).collect()
}

#[test]
fn arrows_between_crates_point_one_way() {
    let manifests = manifests();
    let mut breaches = Vec::new();
    for (path, allowed) in ARROWS {
        let manifest = manifests.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is gone"));
        breaches.extend(wrong_arrows(manifest, allowed));
    }
    for manifest in &manifests {
        let is_known = manifest.path == "tests/Cargo.toml" || ARROWS.iter().any(|(path, _)| *path == manifest.path);
        if !is_known {
            breaches.push(format!("{} is a crate without arrows; add it to the table", manifest.path));
        }
    }

    assert_none("an arrow points the wrong way", &breaches);
}

#[test]
fn a_wrong_arrow_is_seen() {
    let text = "[dependencies]\ntroupe-proto.workspace = true\n[target.'cfg(unix)'.dev-dependencies]\ntroupe-node.workspace = true";

    assert_eq!(
        wrong_arrows(&sample("actors/Cargo.toml", text), &["troupe-proto"]),
        ["actors/Cargo.toml names troupe-node"]
    );
}

#[test]
fn versions_stand_in_the_root_manifest_only() {
    let breaches: Vec<_> = manifests().iter().flat_map(own_versions).collect();

    assert_none("a version outside the root manifest", &breaches);
}

#[test]
fn a_version_in_a_crate_is_seen() {
    let text = "[dependencies]\nbytes = \"1\"\nhttp = { version = \"1\" }\ntoml.workspace = true";

    assert_eq!(own_versions(&sample("node/Cargo.toml", text)).len(), 2);
}

#[test]
fn there_is_one_file_of_bans() {
    let bans: Vec<_> = files().into_iter().map(|file| file.path).filter(|path| path.ends_with("clippy.toml")).collect();

    assert_eq!(bans, [".clippy.toml"], "a second one would replace the bans of the first");
}

#[test]
fn the_top_level_shows_the_house() {
    // What git keeps, not what lies around in somebody's folder.
    let listed = Command::new("git").arg("ls-files").current_dir(root()).output();
    let listed = match listed {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        Ok(_) | Err(_) => files().into_iter().map(|file| file.path + "\n").collect(),
    };

    assert_none("top level", &unexpected_at_top(listed.lines()));
}

#[test]
fn a_stranger_on_the_top_level_is_seen() {
    assert_eq!(unexpected_at_top(["node/src/lib.rs", "justfile", ".ci/run"].into_iter()).len(), 1);
}
