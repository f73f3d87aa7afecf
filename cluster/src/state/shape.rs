//! How nouns look to a person: as the sections of the spec file, with secrets hidden.
//!
//! The audit keeps these texts in the agreed state, so they are part of `apply`: a noun that was written one way is
//! written that way for ever. A new field is left out where it says nothing; any other change needs a later version of
//! the agreed state.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use troupe_proto::command::Seats;
use troupe_proto::id::NodeId;
use troupe_proto::member::Member;
use troupe_proto::secret::{CredentialSecret, KeyHash};
use troupe_proto::spec::{
    Affinity, Auth, Breaker, Concurrency, Credential, Freshness, Key, Model, OnBreak, Pattern, Policies, Provider,
    Retries, Rules, Switch, Target, Timeouts, Wire,
};
use troupe_proto::token::{AdminToken, JoinToken};
use troupe_proto::unit::{PerMille, Wait};

/// A noun as a table, its fields in the order of the reference.
pub type Shape = Map<String, Value>;

fn put(shape: &mut Shape, name: &str, value: impl Into<Value>) {
    shape.insert(name.to_owned(), value.into());
}

fn put_some(shape: &mut Shape, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        put(shape, name, value);
    }
}

/// A table inside another; one that says nothing is left out.
fn put_table(shape: &mut Shape, name: &str, table: Shape) {
    if !table.is_empty() {
        put(shape, name, table);
    }
}

/// A provider, with a mark in the place of each secret that is another one where the secret is.
pub fn provider(provider: &Provider) -> Shape {
    let Provider { wire, base_url, auth, credentials, azure_api_version, headers, ca_pem, proxy, rules } = provider;
    let mut shape = Shape::new();
    let wire = match wire {
        Wire::OpenAi => "openai",
        Wire::Anthropic => "anthropic",
    };
    let auth = match auth {
        Auth::Bearer => "bearer",
        Auth::XApiKey => "x-api-key",
        Auth::ApiKey => "api-key",
    };
    put(&mut shape, "wire", wire);
    put(&mut shape, "base_url", base_url.to_string());
    put(&mut shape, "auth", auth);
    if !credentials.is_empty() {
        let keys: Vec<Value> =
            credentials.iter().map(|(name, key)| Value::Object(credential(name.as_str(), key))).collect();
        put(&mut shape, "keys", keys);
    }
    put_some(&mut shape, "azure", azure_api_version.as_ref().map(|version| json!({ "api_version": version })));
    put_table(&mut shape, "headers", headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect());
    put_some(&mut shape, "ca", ca_pem.as_ref().map(|pem| mark("pem", &[pem.as_bytes()])));
    put_some(&mut shape, "proxy", proxy.as_ref().map(ToString::to_string));
    put_rules(&mut shape, rules);
    shape
}

/// The switch of a provider.
pub fn switch(switch: Switch) -> Shape {
    let mut shape = Shape::new();
    put(
        &mut shape,
        "state",
        match switch {
            Switch::Off => "off",
            Switch::On => "on",
        },
    );
    shape
}

fn credential(name: &str, credential: &Credential) -> Shape {
    let Credential { secret, weight, models } = credential;
    let mut shape = Shape::new();
    put(&mut shape, "name", name);
    let secret = match secret {
        CredentialSecret::Open(_) => "(open)".to_owned(),
        CredentialSecret::Sealed(sealed) => mark("sealed", &[&sealed.nonce, &sealed.bytes]),
    };
    put(&mut shape, "secret", secret);
    put(&mut shape, "weight", *weight);
    put_some(&mut shape, "models", models.as_deref().map(patterns));
    shape
}

/// Stands for what is not shown, and differs where that does.
fn mark(what: &str, parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let digest: [u8; 32] = hash.finalize().into();
    let prefix: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("({what} {prefix})")
}

/// A model.
pub fn model(model: &Model) -> Shape {
    let Model { targets, fallbacks, rules, hedge, affinity, on_break } = model;
    let mut shape = Shape::new();
    let targets: Vec<Value> = targets.iter().map(|at| Value::Object(target(at))).collect();
    put(&mut shape, "targets", targets);
    if !fallbacks.is_empty() {
        put(&mut shape, "fallbacks", fallbacks.iter().map(|name| json!(name.as_str())).collect::<Vec<_>>());
    }
    let hedge = hedge.map(|hedge| json!({ "after": hedge.after.to_string(), "budget": hedge.budget.to_string() }));
    put_some(&mut shape, "hedge", hedge);
    match affinity {
        Affinity::Off => {}
        Affinity::Prefix => put(&mut shape, "affinity", "prefix"),
    }
    match on_break {
        OnBreak::Error => {}
        OnBreak::Continue => put(&mut shape, "on_break", "continue"),
    }
    put_rules(&mut shape, rules);
    shape
}

fn target(target: &Target) -> Shape {
    let Target { provider, model, weight, priority } = target;
    let mut shape = Shape::new();
    put(&mut shape, "provider", provider.as_str());
    put_some(&mut shape, "model", model.as_deref());
    put(&mut shape, "weight", *weight);
    put(&mut shape, "priority", *priority);
    shape
}

/// A virtual key, with the beginning of its hash.
pub fn key(key: &Key) -> Shape {
    let Key { hash, models, expires, metadata, pin } = key;
    let mut shape = Shape::new();
    put(&mut shape, "hash", hash_prefix(hash));
    put_some(&mut shape, "models", models.as_deref().map(patterns));
    put_some(&mut shape, "expires", expires.map(time));
    put_table(&mut shape, "metadata", metadata.iter().map(|(name, text)| (name.clone(), json!(text))).collect());
    if *pin {
        put(&mut shape, "pin", true);
    }
    shape
}

/// Rules, as `defaults` has them.
pub fn rules(rules: &Rules) -> Shape {
    let mut shape = Shape::new();
    put_rules(&mut shape, rules);
    shape
}

/// Policies.
pub fn policies(policies: &Policies) -> Shape {
    let Policies { freshness } = policies;
    let mut shape = Shape::new();
    match freshness {
        Freshness::Within(wait) => put(&mut shape, "freshness", wait.to_string()),
        Freshness::Never => put(&mut shape, "freshness", "never"),
    }
    shape
}

/// A member.
pub fn member(member: &Member) -> Shape {
    let Member { name, peer, admin, data, version, zone } = member;
    let mut shape = Shape::new();
    put(&mut shape, "name", name.as_str());
    put(&mut shape, "peer", peer.as_str());
    put(&mut shape, "admin", admin.as_str());
    put(&mut shape, "data", data.as_str());
    put(&mut shape, "version", *version);
    put_some(&mut shape, "zone", zone.as_deref());
    shape
}

/// A token of an operator, with the beginning of its hash.
pub fn admin_token(token: &AdminToken) -> Shape {
    let AdminToken { hash, role, expires } = token;
    let mut shape = Shape::new();
    put(&mut shape, "hash", hash_prefix(hash));
    put(&mut shape, "role", role.as_str());
    put_some(&mut shape, "expires", expires.map(time));
    shape
}

/// A token to join with, with the beginning of its hash.
pub fn join_token(token: &JoinToken) -> Shape {
    let JoinToken { hash, expires, used } = token;
    let mut shape = Shape::new();
    put(&mut shape, "hash", hash_prefix(hash));
    put(&mut shape, "expires", time(*expires));
    put_some(&mut shape, "used", used.map(|node| node.to_string()));
    shape
}

/// Who takes part: nodes by their ids, which outlive their names.
pub fn seats(seats: &Seats) -> Shape {
    let Seats { voters, learners, leader } = seats;
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| Value::from(node.to_string())).collect::<Vec<_>>();
    let mut shape = Shape::new();
    put(&mut shape, "voters", ids(voters));
    put(&mut shape, "learners", ids(learners));
    put_some(&mut shape, "leader", leader.map(|node| node.to_string()));
    shape
}

fn patterns(patterns: &[Pattern]) -> Vec<Value> {
    patterns.iter().map(|pattern| Value::from(pattern.to_string())).collect()
}

/// Enough of a hash to tell two apart.
fn hash_prefix(hash: &KeyHash) -> String {
    hash.to_string().chars().take("sha256:".len() + 12).collect()
}

/// A time of seconds since 1970 in RFC 3339; as the number where no calendar has it.
fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn put_rules(shape: &mut Shape, rules: &Rules) {
    let Rules { timeouts, retries, breaker, concurrency } = rules;
    put_table(shape, "timeouts", timeout_table(timeouts));
    put_table(shape, "retries", retry_table(retries));
    put_table(shape, "breaker", breaker_table(breaker));
    if let Some(Concurrency { min, max }) = concurrency {
        let mut table = Shape::new();
        put_some(&mut table, "min", *min);
        put_some(&mut table, "max", *max);
        // An empty table asks for a limit too.
        put(shape, "concurrency", table);
    }
}

fn timeout_table(timeouts: &Timeouts) -> Shape {
    let Timeouts { connect, first_byte, idle, total } = timeouts;
    let mut table = Shape::new();
    for (name, wait) in [("connect", connect), ("first_byte", first_byte), ("idle", idle), ("total", total)] {
        put_some(&mut table, name, wait.as_ref().map(Wait::to_string));
    }
    table
}

fn retry_table(retries: &Retries) -> Shape {
    let Retries { attempts, budget, backoff, backoff_max, wait_max } = retries;
    let mut table = Shape::new();
    put_some(&mut table, "attempts", *attempts);
    put_some(&mut table, "budget", budget.as_ref().map(PerMille::to_string));
    for (name, wait) in [("backoff", backoff), ("backoff_max", backoff_max), ("wait_max", wait_max)] {
        put_some(&mut table, name, wait.as_ref().map(Wait::to_string));
    }
    table
}

fn breaker_table(breaker: &Breaker) -> Shape {
    let Breaker { failures, window, share, rest, rest_max, credential_rest, slow_start, panic } = breaker;
    let mut table = Shape::new();
    put_some(&mut table, "failures", *failures);
    put_some(&mut table, "window", window.as_ref().map(Wait::to_string));
    put_some(&mut table, "share", share.as_ref().map(PerMille::to_string));
    let waits = [("rest", rest), ("rest_max", rest_max), ("credential_rest", credential_rest)];
    for (name, wait) in waits.into_iter().chain([("slow_start", slow_start)]) {
        put_some(&mut table, name, wait.as_ref().map(Wait::to_string));
    }
    put_some(&mut table, "panic", panic.as_ref().map(PerMille::to_string));
    table
}
