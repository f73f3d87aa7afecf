//! The nodes of a cluster, as they tell of themselves.

use bincode::{Decode, Encode};

/// The newest version of the agreed state that this build reads and writes.
///
/// A cluster is at the version that each of its members knows, and a command that needs a later one is refused: so no
/// member ever meets an entry it cannot read. Whatever changes what `apply` makes of a command needs a later version
/// too.
///
/// | version | brings |
/// |---|---|
/// | 1 | everything up to tokens and resealed secrets |
/// | 2 | the audit's lines of how who takes part was changed |
/// | 3 | switches of providers |
pub const VERSION: u16 = 3;

/// Something that a cluster can do from a version of the agreed state on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What operators call it; stable.
    pub name: &'static str,
    /// The version it needs.
    pub since: u16,
    /// What it is good for, in one sentence.
    pub doc: &'static str,
}

const fn feature(name: &'static str, since: u16, doc: &'static str) -> Feature {
    Feature { name, since, doc }
}

/// All that this build knows, in the order of their versions. Each version brings something that has a name here.
pub const FEATURES: &[Feature] = &[
    feature("agreement", 1, "Providers, models, keys, tokens and members that all nodes agree on."),
    feature("votes_audit", 2, "The audit keeps who gave and took votes, and who was taken out."),
    feature("provider_switch", 3, "Providers can be switched off and on for all nodes at once."),
];

/// What a node tells the others about itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Member {
    /// What operators call it.
    pub name: String,
    /// Where other nodes reach it: `host:port`.
    pub peer: String,
    /// Where operators reach it: `host:port`.
    pub admin: String,
    /// Where clients reach it: `host:port`.
    pub data: String,
    /// The newest version of the agreed state it knows: its build's [`VERSION`].
    pub version: u16,
    /// Where it stands, in the operator's words.
    pub zone: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_version_brings_something_that_has_a_name_of_its_own() {
        let since: Vec<u16> = FEATURES.iter().map(|feature| feature.since).collect();
        let names: BTreeSet<&str> = FEATURES.iter().map(|feature| feature.name).collect();

        assert!(since.is_sorted(), "{since:?}");
        assert_eq!(since.into_iter().collect::<BTreeSet<_>>(), (1..=VERSION).collect());
        assert_eq!(names.len(), FEATURES.len());
    }
}
