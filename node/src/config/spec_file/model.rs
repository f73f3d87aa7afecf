use std::collections::BTreeSet;

use troupe_cluster::state::resolve_model;
use troupe_proto::id::{ModelId, ProviderId};
use troupe_proto::spec::{self, Affinity, Hedge, Model, OnBreak, Provider, Target};
use troupe_proto::unit::Wait;

use super::rules::{self, within};
use super::sections::{HEDGE, MODEL, TARGET};
use crate::config::names::check_model_name;
use crate::config::source::{Found, Table, nearest};

/// More targets than this are a mistake.
const TARGETS_MAX: usize = 64;

/// More fallbacks than this are a mistake.
const FALLBACKS_MAX: usize = 16;

/// The longest name that is passed on to a provider.
const UPSTREAM_NAME_MAX: usize = 512;

/// The words of `affinity`.
const AFFINITY: [(&str, Affinity); 2] = [("off", Affinity::Off), ("prefix", Affinity::Prefix)];

/// The words of `on_break`.
const ON_BREAK: [(&str, OnBreak); 2] = [("error", OnBreak::Error), ("continue", OnBreak::Continue)];

type Providers = spec::Table<ProviderId, Provider>;
type Models = spec::Table<ModelId, Model>;

/// Reads models that may name `providers`, and stand beside `others`, which they may fall back to.
pub(super) fn read_all(found: &Found<'_>, providers: &Providers, others: &Models) -> Models {
    let entries = found.entries();
    let mut models = Models::new();
    for (name, found) in &entries {
        if let Err(error) = check_model_name(name) {
            found.problem(error);
        }
        let Some(table) = found.table(&MODEL) else { continue };
        let targets = read_targets(&table, providers);
        let fallbacks = table.get("fallbacks").map(|found| read_fallbacks(&found)).unwrap_or_default();
        let hedge = table.get("hedge").and_then(|found| found.table(&HEDGE)).map(|table| read_hedge(&table));
        let affinity = table.get("affinity").and_then(|found| found.word(&AFFINITY)).unwrap_or_default();
        let on_break = table.get("on_break").and_then(|found| found.word(&ON_BREAK)).unwrap_or_default();
        let rules = rules::read(&table);
        models.insert(ModelId::new(name), Model { targets, fallbacks, rules, hedge, affinity, on_break });
    }
    let mut all = others.clone();
    all.extend(models.iter().map(|(id, model)| (id.clone(), model.clone())));
    for (name, found) in &entries {
        check_fallbacks(name, found, &all);
    }
    models
}

fn read_targets(table: &Table<'_>, providers: &Providers) -> Vec<Target> {
    let Some(found) = table.required("targets") else { return Vec::new() };
    let mut targets: Vec<Target> = Vec::new();
    let items = found.items();
    if !(1..=TARGETS_MAX).contains(&items.len()) {
        found.problem(format_args!("a model has 1 to {TARGETS_MAX} targets"));
        return targets;
    }
    for item in items {
        let Some(target) = item.table(&TARGET).and_then(|table| read_target(&table, providers)) else { continue };
        if targets.iter().any(|other| other.provider == target.provider && other.model == target.model) {
            item.problem("this target stands twice; give one of them the whole weight");
        }
        targets.push(target);
    }
    targets
}

fn read_target(table: &Table<'_>, providers: &Providers) -> Option<Target> {
    let provider = table.required("provider").and_then(|found| {
        let name = found.text()?;
        if !providers.contains_key(name) {
            let hint = nearest(name, providers.keys().map(ProviderId::as_str));
            let hint = hint.map(|name| format!(", did you mean {name:?}?")).unwrap_or_default();
            found.problem(format_args!("there is no provider {name:?}{hint}"));
        }
        Some(ProviderId::new(name))
    });
    let model = table.get("model").map(|found| {
        let name = found.text()?;
        let is_name = (1..=UPSTREAM_NAME_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic())
            && !name.contains('*');
        if !is_name {
            found.problem(
                "expected one model's name as the provider has it; leave `model` out to pass on the asked name",
            );
        }
        is_name.then(|| name.to_owned())
    });
    let weight = table.get("weight").map_or(Some(1), |found| found.whole(1, 1_000_000));
    let priority = table.get("priority").map_or(Some(0), |found| found.whole(0, 1000));
    let model = model.map_or(Some(None), |model| model.map(Some));
    Some(Target { provider: provider?, model: model?, weight: weight?, priority: priority? })
}

fn read_hedge(table: &Table<'_>) -> Hedge {
    let built_in = Hedge::built_in();
    Hedge {
        after: table.get("after").and_then(|found| within::<Wait>(&found, "10ms", "5m")).unwrap_or(built_in.after),
        budget: table.get("budget").and_then(|found| found.parsed()).unwrap_or(built_in.budget),
    }
}

fn read_fallbacks(found: &Found<'_>) -> Vec<ModelId> {
    let mut fallbacks: Vec<ModelId> = Vec::new();
    let items = found.items();
    if items.len() > FALLBACKS_MAX {
        found.problem(format_args!("a model has at most {FALLBACKS_MAX} fallbacks"));
    }
    for item in items {
        let Some(name) = item.text() else { continue };
        if name.contains('*') {
            item.problem("a fallback is one name, not a pattern");
        } else if fallbacks.iter().any(|other| other.as_str() == name) {
            item.problem(format_args!("{name:?} stands twice"));
        }
        fallbacks.push(ModelId::new(name));
    }
    fallbacks
}

/// Checks that each fallback is served by this file, and that none leads back to where it began.
fn check_fallbacks(name: &str, found: &Found<'_>, models: &Models) {
    let Some(model) = models.get(name) else { return };
    for fallback in &model.fallbacks {
        if resolve_model(models, fallback.as_str()).is_none() && !fallback.as_str().contains('*') {
            let hint = nearest(fallback.as_str(), models.keys().map(ModelId::as_str));
            let hint = hint.map(|name| format!(", did you mean {name:?}?")).unwrap_or_default();
            found.problem(format_args!("it falls back to {fallback:?}, which no model serves{hint}"));
        }
    }
    if leads_back(name, models) {
        found.problem("its fallbacks lead back to itself");
    }
}

/// Whether following the fallbacks of `start` comes to `start` again. A wildcard comes back to itself when a fallback of
/// its own, or one behind it, is a name that it serves.
fn leads_back(start: &str, models: &Models) -> bool {
    let mut seen = BTreeSet::new();
    let mut ahead = vec![start];
    while let Some(name) = ahead.pop() {
        let Some((_, model)) = resolve_model(models, name) else { continue };
        for fallback in &model.fallbacks {
            let is_start = resolve_model(models, fallback.as_str()).is_some_and(|(id, _)| id.as_str() == start);
            if is_start {
                return true;
            }
            if seen.insert(fallback.as_str()) {
                ahead.push(fallback.as_str());
            }
        }
    }
    false
}
