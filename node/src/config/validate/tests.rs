use std::sync::Arc;

use super::*;

fn files(node: &str, spec: &str) -> (tempfile::TempDir, Report) {
    let dir = tempfile::tempdir().unwrap();
    let (node_path, spec_path) = (dir.path().join("node.toml"), dir.path().join("spec.toml"));
    std::fs::write(&node_path, node).unwrap();
    std::fs::write(&spec_path, spec).unwrap();
    let env: SharedEnv = Arc::new(|name| (!name.starts_with("TROUPE_")).then(|| format!("sk-{name}")));
    let report = validate(Some(&node_path), Some(&spec_path), env);
    (dir, report)
}

#[test]
fn good_files_are_counted_and_leave_nothing_behind() {
    let (dir, report) = files("", "[keys.made]\n[keys.given]\nsecret = \"env:A\"\n");

    assert!(report.is_valid);
    assert_eq!(report.counts, Some(Counts { providers: 0, models: 0, keys: 2 }));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn problems_of_both_files_are_told_together() {
    let (_dir, report) = files("[log]\nlevel = \"loud\"\n", "[providers.a]\nwire = \"openai\"\nkey = 1\n");

    assert!(!report.is_valid);
    let told: Vec<_> = report.problems.iter().map(|p| (p.field.as_str(), p.line, p.column)).collect();
    assert_eq!(told, [("log.level", Some(2), Some(9)), ("providers.a.key", Some(3), Some(1))]);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["problems"][1]["message"], "unknown field `key`, did you mean `keys`?");
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let env: SharedEnv = Arc::new(|_| None);

    let report = validate(None, Some(Path::new("/does/not/exist.toml")), env);

    assert!(report.problems[0].text.starts_with("/does/not/exist.toml: cannot be read: "), "{:?}", report.problems);
}
