use std::sync::Arc;

use troupe_proto::command::Resealed;
use troupe_proto::id::ProviderId;
use troupe_proto::secret::CredentialSecret;
use troupe_proto::spec::{Provider, Spec, Switch};

use super::audit::Changes;
use super::shape;

pub(super) fn put(spec: &mut Spec, id: &ProviderId, provider: &Provider, told: &mut Changes) {
    let before = spec.providers.insert(id.clone(), provider.clone());
    told.tell("provider", id.as_str(), || before.as_ref().map(shape::provider), || Some(shape::provider(provider)));
}

/// Taking away what is not there is no error: two operators may have had the same idea.
/// One that is still named by a model is found by `model::check`.
pub(super) fn remove(spec: &mut Spec, id: &ProviderId, told: &mut Changes) {
    let before = spec.providers.remove(id);
    spec.off.remove(id);
    told.tell("provider", id.as_str(), || before.as_ref().map(shape::provider), || None);
}

/// A provider that was taken away in the meantime has no switch any more, which is no error either.
pub(super) fn switch(spec: &mut Spec, id: &ProviderId, to: Switch, told: &mut Changes) {
    if !spec.providers.contains_key(id) {
        return;
    }
    let before = spec.switch(id);
    match to {
        Switch::Off => spec.off.insert(id.clone(), ()),
        Switch::On => spec.off.remove(id),
    };
    told.tell("provider switch", id.as_str(), || Some(shape::switch(before)), || Some(shape::switch(to)));
}

/// Puts secrets under another envelope key where they are still what they were. Gives whether there were any.
pub(super) fn reseal(spec: &mut Arc<Spec>, resealed: &[Resealed], told: &mut Changes) {
    let secret = |spec: &Spec, at: &Resealed| {
        spec.providers
            .get(&at.provider)
            .and_then(|provider| provider.credentials.get(&at.credential))
            .map(|c| c.secret.clone())
    };
    for at in resealed {
        if secret(spec, at) != Some(CredentialSecret::Sealed(at.old.clone())) {
            continue;
        }
        let credential = Arc::make_mut(spec)
            .providers
            .get_mut(&at.provider)
            .and_then(|provider| provider.credentials.get_mut(&at.credential));
        if let Some(credential) = credential {
            credential.secret = CredentialSecret::Sealed(at.new.clone());
            told.count("resealed");
        }
    }
}
