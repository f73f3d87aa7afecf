use serde_json::{Value, json};

use super::*;
use crate::config::source::parse_json;
use crate::config::spec_file::{Hashes, Sources, load_text, write_spec};

const FULL: &str = include_str!("../../fixtures/spec.toml");

fn sources() -> Sources {
    let env = |name: &str| Some(format!("secret-of-{name}"));
    Sources { env: std::sync::Arc::new(env), literals: Literals::Allowed, data_dir: None }
}

fn full() -> Spec {
    load_text("spec.toml", crate::config::source::Format::Toml, FULL, &sources()).unwrap().spec
}

fn take(document: &Value, in_force: &Spec, rest: Rest) -> Result<Parts, String> {
    let root = parse_json("body", document.to_string().as_bytes()).unwrap();
    read_parts("body", &root, in_force, rest).map_err(|error| error.to_string())
}

#[test]
fn what_is_written_reads_as_the_same_spec_and_keeps_its_secrets() {
    let spec = full();
    assert!(!spec.providers.is_empty() && !spec.models.is_empty() && !spec.keys.is_empty());

    for hashes in [Hashes::Omitted, Hashes::Written] {
        let written = write_spec(&spec, hashes);
        let parts = take(&written, &spec, Rest::Goes).unwrap();

        assert_eq!(parts.changes(&spec, Rest::Goes), [], "{written}");
        assert!(parts.made.is_empty());
        assert!(!written.to_string().contains("secret-of-"), "{written}");
    }
}

#[test]
fn a_spec_with_hashes_can_be_taken_over_by_an_empty_cluster_but_for_its_providers_secrets() {
    let spec = full();
    let mut written = write_spec(&spec, Hashes::Written);

    let error = take(&written, &Spec::default(), Rest::Goes).unwrap_err();
    for provider in written["providers"].as_object_mut().unwrap().values_mut() {
        for key in provider["keys"].as_array_mut().into_iter().flatten() {
            key["secret"] = "literal".into();
        }
    }
    let parts = take(&written, &Spec::default(), Rest::Goes).unwrap();

    assert!(error.contains("none is in force under this name"), "{error}");
    assert!(parts.keys.iter().eq(&spec.keys));
}

#[test]
fn parts_may_lean_on_what_is_in_force_unless_that_goes() {
    let spec = full();
    let provider = spec.providers.keys().next().unwrap().as_str();
    let document = json!({"models": {"new": {"targets": [{"provider": provider}]}}});

    let parts = take(&document, &spec, Rest::Stays).unwrap();

    assert_eq!(parts.changes(&spec, Rest::Stays).len(), 1);
    assert!(take(&document, &spec, Rest::Goes).unwrap_err().contains("there is no provider"));
}

#[test]
fn a_key_without_a_secret_keeps_its_own_or_is_given_one() {
    let spec = full();
    let known = spec.keys.keys().next().unwrap().as_str();
    let document = json!({"keys": {known: {}, "new-one": {"pin": true}}});

    let parts = take(&document, &spec, Rest::Stays).unwrap();

    assert_eq!(parts.keys.get(known).unwrap().hash, spec.keys.get(known).unwrap().hash);
    let [(id, secret)] = parts.made.as_slice() else { panic!("{:?}", parts.made) };
    assert_eq!(id.as_str(), "new-one");
    assert_eq!(parts.keys.get(id).unwrap().hash, KeyHash::of(secret.expose().as_bytes()));
}

#[test]
fn a_node_reads_no_variables_or_files_for_a_caller() {
    let body = |secret: &str| json!({"keys": {"a": {"secret": secret}}});

    for secret in ["env:PATH", "file:/etc/hostname"] {
        let error = take(&body(secret), &Spec::default(), Rest::Stays).unwrap_err();
        assert!(error.contains("keys.a.secret: a node reads no variables or files"), "{error}");
    }
    assert!(take(&body("sk-literal"), &Spec::default(), Rest::Stays).is_ok());
}

#[test]
fn all_that_is_wrong_is_told_by_field() {
    let document = json!({
        "providers": {"p": {"wire": "opnai", "headers": {"authorization": "x"}}},
        "keys": {"Bad": {"model": []}}
    });

    let error = take(&document, &Spec::default(), Rest::Stays).unwrap_err();

    for told in
        ["body: providers.p.wire: \"opnai\" is none of", "providers.p.headers.authorization", "did you mean `models`?"]
    {
        assert!(error.contains(told), "{told}: {error}");
    }
}
