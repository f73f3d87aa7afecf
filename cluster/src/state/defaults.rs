use troupe_proto::spec::{Rules, Spec};

use super::audit::Changes;
use super::shape;

pub(super) fn put(spec: &mut Spec, rules: Rules, told: &mut Changes) {
    let before = std::mem::replace(&mut spec.defaults, rules);
    told.tell("defaults", "defaults", || Some(shape::rules(&before)), || Some(shape::rules(&rules)));
}
