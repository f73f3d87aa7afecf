use troupe_proto::id::ProviderId;
use troupe_proto::spec::{Provider, Spec};

pub(super) fn put(spec: &mut Spec, id: &ProviderId, provider: &Provider) {
    spec.providers.insert(id.clone(), provider.clone());
}

/// Taking away what is not there is no error: two operators may have had the same idea.
/// One that is still named by a model is found by `model::check`.
pub(super) fn remove(spec: &mut Spec, id: &ProviderId) {
    spec.providers.remove(id);
}
