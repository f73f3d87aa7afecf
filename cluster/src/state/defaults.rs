use troupe_proto::spec::{Rules, Spec};

pub(super) fn put(spec: &mut Spec, rules: Rules) {
    spec.defaults = rules;
}
