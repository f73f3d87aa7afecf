//! A spec file on its way to a node: its secrets are found on this side, for a node reads nothing for a caller.

use std::path::Path;

use serde_json::{Map, Value};
use troupe_proto::secret::KeyHash;

use super::{Sources, key, provider, sections};
use crate::config::SET;
use crate::config::file::{Files, read_text};
use crate::config::secrets::{Secrets, Unsaid};
use crate::config::source::{ConfigError, Entry, Found, Node, Place, Problems, Value as Said};

/// Reads a spec file as what `POST /admin/v1/apply` takes. Checked is what can be told from here: what its models point
/// to may be there already.
///
/// # Errors
/// Every problem found, in the order of the file.
pub fn read_for_sending(path: &Path, sources: &Sources) -> Result<Value, ConfigError> {
    let text = read_text(path)?;
    resolved(&text.source, &text.root, sources)
}

/// Reads a file that holds one thing, of `[KIND.NAME]`, as what `PUT /admin/v1/KIND/NAME` takes.
///
/// # Errors
/// Every problem found, in the order of the file.
pub fn read_one_for_sending(path: &Path, kind: &str, name: &str, sources: &Sources) -> Result<Value, ConfigError> {
    let text = read_text(path)?;
    let wrap = |name: &str, node: Node| {
        let at = node.at;
        Node { at, value: Said::Table(vec![Entry { name: name.to_owned(), at: Place::default(), node }]) }
    };
    let mut value = resolved(&text.source, &wrap(kind, wrap(name, text.root)), sources)?;
    Ok(value.get_mut(kind).and_then(|kind| kind.get_mut(name)).map(Value::take).unwrap_or_default())
}

fn resolved(source: &str, root: &Node, sources: &Sources) -> Result<Value, ConfigError> {
    let problems = Problems::default();
    let env = |name: &str| (sources.env)(name);
    let secrets = Secrets::new(&env, sources.literals, Files::default()).unsaid(Unsaid::Later);
    let mut value = to_json(root);
    let found = Found::new(root, String::new(), source, &problems);
    if let Some(table) = found.table(&sections::ROOT) {
        if let Some(found) = table.get("providers") {
            provider::read_all(&found, &secrets);
            resolve_providers(&found, &secrets, &mut value["providers"]);
        }
        if let Some(found) = table.get("keys") {
            let keys = key::read_all(&found, &secrets);
            for (id, key) in keys {
                resolve_key(key.hash, &mut value["keys"][id.as_str()]);
            }
        }
    }
    problems.into_result()?;
    Ok(value)
}

/// The hash is sent in place of the secret: the node keeps nothing else.
fn resolve_key(hash: Option<KeyHash>, value: &mut Value) {
    if let Some((table, hash)) = value.as_object_mut().zip(hash)
        && table.remove("secret").is_some()
    {
        table.insert("hash".to_owned(), hash.to_string().into());
    }
}

fn resolve_providers(found: &Found<'_>, secrets: &Secrets<'_>, value: &mut Value) {
    // What is wrong was told when the providers were read.
    let silent = Problems::default();
    for (name, found) in found.entries() {
        let found = found.silent(&silent);
        let Some(table) = found.table(&sections::PROVIDER) else { continue };
        if let Some(pem) = table.get("ca").and_then(|found| secrets.certificates(&found)) {
            value[name]["ca"] = pem.into();
        }
        for (at, item) in table.get("keys").map(|found| found.items()).unwrap_or_default().iter().enumerate() {
            let secret = item.table(&sections::CREDENTIAL).and_then(|table| table.get("secret"));
            let Some(secret) = secret.filter(|secret| !secret.is_text(SET)) else { continue };
            if let Some(secret) = secrets.header_value(&secret) {
                value[name]["keys"][at]["secret"] = secret.expose().as_str().into();
            }
        }
    }
}

fn to_json(node: &Node) -> Value {
    match &node.value {
        Said::Null => Value::Null,
        Said::Bool(value) => Value::Bool(*value),
        Said::Whole(value) => (*value).into(),
        Said::Fraction(value) => (*value).into(),
        Said::Text(text) | Said::Time(text) => Value::from(text.as_str()),
        Said::List(items) => Value::Array(items.iter().map(to_json).collect()),
        Said::Table(entries) => {
            let members: Map<String, Value> =
                entries.iter().map(|entry| (entry.name.clone(), to_json(&entry.node))).collect();
            Value::Object(members)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Literals;
    use crate::config::source::parse_json;
    use crate::config::spec_file::{Rest, load_text, read_parts};
    use troupe_proto::spec::Spec;

    const FULL: &str = include_str!("../fixtures/spec.toml");

    #[test]
    fn what_is_sent_reads_as_what_the_file_says() {
        let env = |name: &str| Some(format!("secret-of-{name}"));
        let sources = Sources { env: Arc::new(env), literals: Literals::Refused, data_dir: None };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spec.toml");
        std::fs::write(&path, FULL).unwrap();

        let sent = read_for_sending(&path, &sources).unwrap();

        assert!(sent["keys"].as_object().unwrap().values().all(|key| key.get("secret").is_none()), "{sent}");
        let root = parse_json("body", sent.to_string().as_bytes()).unwrap();
        let parts = read_parts("body", &root, &Spec::default(), Rest::Goes).unwrap();
        let file = load_text("spec.toml", crate::config::source::Format::Toml, FULL, &sources).unwrap().spec;
        assert_eq!((parts.providers, parts.models), (file.providers, file.models));
        let made = |id: &str| parts.made.iter().any(|(made, _)| made.as_str() == id);
        assert!(file.keys.iter().all(|(id, key)| made(id.as_str()) || parts.keys.get(id) == Some(key)));
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_what_may_be_there_is_left_to_the_node() {
        let sources = Sources { env: Arc::new(|_| None), literals: Literals::Refused, data_dir: None };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spec.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_for_sending(&path, &sources).map_err(|error| error.to_string())
        };

        let error = read("[keys.a]\nsecret = \"env:NONE\"\n").unwrap_err();
        assert!(error.contains("spec.toml:2:") && error.contains("variable NONE is not set"), "{error}");
        assert!(read("[models.m]\ntargets = [{ provider = \"there-already\" }]\n").is_ok());
        let kept =
            read("[providers.p]\nwire = \"openai\"\nkeys = [{ name = \"main\", secret = \"(set)\" }]\n").unwrap();
        assert_eq!(kept["providers"]["p"]["keys"][0]["secret"], "(set)");
        std::fs::write(&path, "wire = \"opnai\"\n").unwrap();
        let one = read_one_for_sending(&path, "providers", "p", &sources).unwrap_err().to_string();
        assert!(one.contains("spec.toml:1:") && one.contains("providers.p.wire"), "{one}");
    }
}
