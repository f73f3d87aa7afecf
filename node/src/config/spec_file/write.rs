//! A checked spec, written again as a person writes it. Secrets are never written; that there is one is.

use serde_json::{Map, Value};
use troupe_proto::spec::{
    Affinity, Auth, Breaker, Concurrency, Credential, Freshness, Hedge, Key, Model, OnBreak, Pattern, Policies,
    Provider, Retries, Rules, Spec, Target, Timeouts, Wire,
};

use crate::config::secrets::SET;

/// What is written of a virtual key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashes {
    /// Nothing: a document without them keeps those in force.
    Omitted,
    /// All of it, so that another cluster can take the keys over.
    Written,
}

/// A whole spec.
pub fn write_spec(spec: &Spec, hashes: Hashes) -> Value {
    let mut root = Map::new();
    put_table(&mut root, "providers", spec.providers.iter().map(|(id, p)| (id.to_string(), write_provider(p))));
    put_table(&mut root, "models", spec.models.iter().map(|(id, model)| (id.to_string(), write_model(model))));
    put_table(&mut root, "keys", spec.keys.iter().map(|(id, key)| (id.to_string(), write_key(key, hashes))));
    if spec.policies != Policies::default() {
        root.insert("policies".to_owned(), Value::Object(write_policies(&spec.policies)));
    }
    let defaults = write_rules(&spec.defaults);
    if !defaults.is_empty() {
        root.insert("defaults".to_owned(), Value::Object(defaults));
    }
    Value::Object(root)
}

fn put_table(root: &mut Map<String, Value>, name: &str, items: impl Iterator<Item = (String, Value)>) {
    let items: Map<String, Value> = items.collect();
    if !items.is_empty() {
        root.insert(name.to_owned(), Value::Object(items));
    }
}

/// A provider as it stands below `[providers.NAME]`.
pub fn write_provider(provider: &Provider) -> Value {
    let Provider { wire, base_url, auth, credentials, azure_api_version, headers, ca_pem, proxy, rules } = provider;
    let mut table = Map::new();
    let word = match wire {
        Wire::OpenAi => "openai",
        Wire::Anthropic => "anthropic",
    };
    table.insert("wire".to_owned(), word.into());
    table.insert("base_url".to_owned(), base_url.to_string().into());
    let usual = match wire {
        _ if azure_api_version.is_some() => Auth::ApiKey,
        Wire::OpenAi => Auth::Bearer,
        Wire::Anthropic => Auth::XApiKey,
    };
    if *auth != usual {
        let word = match auth {
            Auth::Bearer => "bearer",
            Auth::XApiKey => "x-api-key",
            Auth::ApiKey => "api-key",
        };
        table.insert("auth".to_owned(), word.into());
    }
    if !credentials.is_empty() {
        let keys = credentials.iter().map(|(id, credential)| write_credential(id.as_str(), credential));
        table.insert("keys".to_owned(), Value::Array(keys.collect()));
    }
    if let Some(version) = azure_api_version {
        table.insert("azure".to_owned(), serde_json::json!({ "api_version": version }));
    }
    put_words(&mut table, "headers", headers);
    if let Some(pem) = ca_pem {
        table.insert("ca".to_owned(), pem.as_str().into());
    }
    if let Some(proxy) = proxy {
        table.insert("proxy".to_owned(), proxy.to_string().into());
    }
    table.append(&mut write_rules(rules));
    Value::Object(table)
}

fn write_credential(name: &str, credential: &Credential) -> Value {
    let Credential { secret: _, weight, models } = credential;
    let mut table = Map::new();
    table.insert("name".to_owned(), name.into());
    table.insert("secret".to_owned(), SET.into());
    if *weight != 1 {
        table.insert("weight".to_owned(), (*weight).into());
    }
    put_patterns(&mut table, models.as_deref());
    Value::Object(table)
}

/// A model as it stands below `[models.NAME]`.
pub fn write_model(model: &Model) -> Value {
    let Model { targets, fallbacks, rules, hedge, affinity, on_break } = model;
    let mut table = Map::new();
    table.insert("targets".to_owned(), Value::Array(targets.iter().map(write_target).collect()));
    if !fallbacks.is_empty() {
        let names = fallbacks.iter().map(|id| Value::from(id.as_str()));
        table.insert("fallbacks".to_owned(), Value::Array(names.collect()));
    }
    if let Some(Hedge { after, budget }) = hedge {
        let hedge = serde_json::json!({ "after": after.to_string(), "budget": budget.to_string() });
        table.insert("hedge".to_owned(), hedge);
    }
    match affinity {
        Affinity::Off => {}
        Affinity::Prefix => {
            table.insert("affinity".to_owned(), "prefix".into());
        }
    }
    match on_break {
        OnBreak::Error => {}
        OnBreak::Continue => {
            table.insert("on_break".to_owned(), "continue".into());
        }
    }
    table.append(&mut write_rules(rules));
    Value::Object(table)
}

fn write_target(target: &Target) -> Value {
    let Target { provider, model, weight, priority } = target;
    let mut table = Map::new();
    table.insert("provider".to_owned(), provider.as_str().into());
    if let Some(model) = model {
        table.insert("model".to_owned(), model.as_str().into());
    }
    if *weight != 1 {
        table.insert("weight".to_owned(), (*weight).into());
    }
    if *priority != 0 {
        table.insert("priority".to_owned(), (*priority).into());
    }
    Value::Object(table)
}

/// A virtual key as it stands below `[keys.NAME]`.
pub fn write_key(key: &Key, hashes: Hashes) -> Value {
    let Key { hash, models, expires, metadata, pin } = key;
    let mut table = Map::new();
    if hashes == Hashes::Written {
        table.insert("hash".to_owned(), hash.to_string().into());
    }
    put_patterns(&mut table, models.as_deref());
    if let Some(expires) = expires {
        table.insert("expires".to_owned(), time_text(*expires).into());
    }
    put_words(&mut table, "metadata", metadata);
    if *pin {
        table.insert("pin".to_owned(), true.into());
    }
    Value::Object(table)
}

/// Seconds since 1970 as a time that a reader takes.
pub fn time_text(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn put_words(table: &mut Map<String, Value>, name: &str, words: &std::collections::BTreeMap<String, String>) {
    if !words.is_empty() {
        let words = words.iter().map(|(name, word)| (name.clone(), Value::from(word.as_str())));
        table.insert(name.to_owned(), Value::Object(words.collect()));
    }
}

fn put_patterns(table: &mut Map<String, Value>, patterns: Option<&[Pattern]>) {
    if let Some(patterns) = patterns {
        let patterns = patterns.iter().map(|pattern| Value::from(pattern.to_string()));
        table.insert("models".to_owned(), Value::Array(patterns.collect()));
    }
}

/// Policies as they stand in `[policies]`.
pub fn write_policies(policies: &Policies) -> Map<String, Value> {
    let Policies { freshness } = policies;
    let word = match freshness {
        Freshness::Within(wait) => wait.to_string(),
        Freshness::Never => "never".to_owned(),
    };
    Map::from_iter([("freshness".to_owned(), word.into())])
}

/// Rules as they stand in `[defaults]`, a provider or a model.
pub fn write_rules(rules: &Rules) -> Map<String, Value> {
    let Rules { timeouts, retries, breaker, concurrency } = rules;
    let Timeouts { connect, first_byte, idle, total } = timeouts;
    let mut table = Map::new();
    put_fields(
        &mut table,
        "timeouts",
        [
            ("connect", connect.map(text)),
            ("first_byte", first_byte.map(text)),
            ("idle", idle.map(text)),
            ("total", total.map(text)),
        ],
    );
    let Retries { attempts, budget, backoff, backoff_max, wait_max } = retries;
    put_fields(
        &mut table,
        "retries",
        [
            ("attempts", attempts.map(Value::from)),
            ("budget", budget.map(text)),
            ("backoff", backoff.map(text)),
            ("backoff_max", backoff_max.map(text)),
            ("wait_max", wait_max.map(text)),
        ],
    );
    let Breaker { failures, window, share, rest, rest_max, credential_rest, slow_start, panic } = breaker;
    put_fields(
        &mut table,
        "breaker",
        [
            ("failures", failures.map(Value::from)),
            ("window", window.map(text)),
            ("share", share.map(text)),
            ("rest", rest.map(text)),
            ("rest_max", rest_max.map(text)),
            ("credential_rest", credential_rest.map(text)),
            ("slow_start", slow_start.map(text)),
            ("panic", panic.map(text)),
        ],
    );
    if let Some(Concurrency { min, max }) = concurrency {
        // Empty, it still asks for a limit.
        table.insert("concurrency".to_owned(), Value::Object(Map::new()));
        put_fields(&mut table, "concurrency", [("min", min.map(Value::from)), ("max", max.map(Value::from))]);
    }
    table
}

fn text(quantity: impl ToString) -> Value {
    Value::from(quantity.to_string())
}

fn put_fields<const N: usize>(table: &mut Map<String, Value>, name: &str, fields: [(&str, Option<Value>); N]) {
    let fields: Map<String, Value> =
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    if !fields.is_empty() {
        table.insert(name.to_owned(), Value::Object(fields));
    }
}
