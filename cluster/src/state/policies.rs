use troupe_proto::spec::{Policies, Spec};

use super::audit::Changes;
use super::shape;

pub(super) fn put(spec: &mut Spec, policies: Policies, told: &mut Changes) {
    let before = std::mem::replace(&mut spec.policies, policies);
    told.tell("policies", "policies", || Some(shape::policies(&before)), || Some(shape::policies(&policies)));
}
