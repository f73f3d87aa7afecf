use troupe_proto::command::{Refusal, Reshaped};
use troupe_proto::id::NodeId;
use troupe_proto::member::Member;
use troupe_proto::spec::Table;

use super::audit::Changes;
use super::{room, shape};

/// Far beyond what one cluster can hold together.
const MEMBERS_MAX: usize = 1_000;

pub(super) type Members = Table<NodeId, Member>;

/// A member must know the version in force, or it would meet entries that it cannot read.
pub(super) fn put(
    members: &mut Members,
    node: NodeId,
    member: &Member,
    version: u16,
    told: &mut Changes,
) -> Result<(), Refusal> {
    if member.version < version {
        return Err(Refusal::Behind { node, knows: member.version, asked: version });
    }
    room(members, &node, "members", MEMBERS_MAX)?;
    let before = members.insert(node, member.clone());
    told.tell("member", &node.to_string(), || before.as_ref().map(shape::member), || Some(shape::member(member)));
    Ok(())
}

pub(super) fn remove(members: &mut Members, node: NodeId, told: &mut Changes) {
    let before = members.remove(&node);
    told.tell("member", &node.to_string(), || before.as_ref().map(shape::member), || None);
}

/// What was done to who takes part, in the words of the command line.
pub(super) const fn done(how: Reshaped) -> &'static str {
    match how {
        Reshaped::Promoted => "promote",
        Reshaped::Demoted => "demote",
        Reshaped::Replaced => "replace",
        Reshaped::Removed => "remove",
        Reshaped::Led => "transfer-leader",
    }
}

/// Whether a version can be put in force: versions go up only, and as far as each member knows them.
pub(super) fn check_version(members: &Members, current: u16, asked: u16) -> Result<(), Refusal> {
    if asked < current {
        return Err(Refusal::Downgrade { asked, current });
    }
    match members.iter().find(|(_, member)| member.version < asked) {
        Some((node, member)) => Err(Refusal::Behind { node: *node, knows: member.version, asked }),
        // A cluster that no node told of itself yet has only the version it began with.
        None if members.is_empty() && asked > current => Err(Refusal::TooNew { needs: asked, version: current }),
        None => Ok(()),
    }
}
