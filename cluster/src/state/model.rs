use troupe_proto::command::Refusal;
use troupe_proto::id::ModelId;
use troupe_proto::spec::{Model, Spec, Table};

use super::audit::Changes;
use super::shape;

pub(super) fn put(spec: &mut Spec, id: &ModelId, model: &Model, told: &mut Changes) {
    let before = spec.models.insert(id.clone(), model.clone());
    told.tell("model", id.as_str(), || before.as_ref().map(shape::model), || Some(shape::model(model)));
}

/// Taking away what is not there is no error. One that others fall back to is found by `check`.
pub(super) fn remove(spec: &mut Spec, id: &ModelId, told: &mut Changes) {
    let before = spec.models.remove(id);
    told.tell("model", id.as_str(), || before.as_ref().map(shape::model), || None);
}

/// The model that serves a name clients ask for: the one of that name, else the one with the longest beginning of it
/// before its `*`.
pub fn resolve_model<'a, M>(models: &'a Table<ModelId, M>, name: &str) -> Option<(&'a ModelId, &'a M)> {
    let mut pattern = format!("{name}*");
    models.get_key_value(name).or_else(|| {
        loop {
            if let Some(found) = models.get_key_value(pattern.as_str()) {
                return Some(found);
            }
            pattern.pop();
            pattern.pop()?;
            pattern.push('*');
        }
    })
}

/// Checks that whatever a model names exists (STATE-1, STATE-2).
pub(super) fn check(spec: &Spec) -> Result<(), Refusal> {
    for (id, model) in &spec.models {
        for target in &model.targets {
            if !spec.providers.contains_key(&target.provider) {
                return Err(Refusal::UnknownProvider { model: id.clone(), provider: target.provider.clone() });
            }
        }
        for fallback in &model.fallbacks {
            if resolve_model(&spec.models, fallback.as_str()).is_none() {
                return Err(Refusal::UnknownFallback { model: id.clone(), fallback: fallback.clone() });
            }
        }
    }
    Ok(())
}
