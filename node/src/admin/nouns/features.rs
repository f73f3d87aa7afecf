//! What the builds of a cluster's nodes can read, and what waits for the last of them.

use serde_json::{Value, json};
use troupe_cluster::consensus::Vitals;
use troupe_cluster::state::State;
use troupe_cluster::transport::hello;
use troupe_proto::command::Entry;
use troupe_proto::id::NodeId;
use troupe_proto::member::{FEATURES, VERSION};
use troupe_proto::wire::Message;

use crate::admin::call::Call;
use crate::admin::failure::Failure;
use crate::admin::reply::{self, Reply};
use crate::admin::table::Member;

/// The answer as the reference describes it.
pub(in crate::admin) const ANSWER: &[Member] = &[
    Member { name: "version", takes: "whole", doc: "The version of the agreed state in force." },
    Member { name: "common", takes: "whole", doc: "The newest that all nodes know; null while one did not tell yet." },
    Member { name: "newest", takes: "whole", doc: "The newest that the asked node knows." },
    Member {
        name: "envelopes",
        takes: "object",
        doc: "The layouts that the asked node reads, oldest and newest: of the `protocol` between nodes, of an `entry` of the log, of the `state` in a snapshot.",
    },
    Member {
        name: "members",
        takes: "list",
        doc: "The nodes: `node`, `name`, `version` (the newest that it knows; null if it did not tell yet), `lacks` (names of features).",
    },
    Member {
        name: "features",
        takes: "list",
        doc: "What there is: `name`, `since` (the version that it needs), `doc`, `in_force`, `held_back_by` (names of nodes).",
    },
];

/// Which versions of the agreed state the nodes of a cluster know.
pub(in crate::admin) struct Standing {
    in_force: u16,
    nodes: Vec<Node>,
}

struct Node {
    id: NodeId,
    /// What it is called; its id before it told.
    name: String,
    /// The newest version that it knows, once it told.
    knows: Option<u16>,
}

impl Node {
    const fn lacks(&self, since: u16) -> bool {
        match self.knows {
            Some(knows) => knows < since,
            None => true,
        }
    }
}

impl Standing {
    /// Of all that take part, and of those that told of themselves and are to.
    pub(in crate::admin) fn of(state: &State, vitals: &Vitals) -> Self {
        let members = state.members();
        let mut ids: Vec<NodeId> = vitals.voters.iter().chain(&vitals.learners).map(|(node, _)| *node).collect();
        ids.extend(members.keys());
        ids.sort_unstable();
        ids.dedup();
        let node = |id: NodeId| {
            let told = members.get(&id);
            let name = told.map_or_else(|| id.to_string(), |member| member.name.clone());
            Node { id, name, knows: told.map(|member| member.version) }
        };
        Self { in_force: state.cluster_version(), nodes: ids.into_iter().map(node).collect() }
    }

    /// Who keeps a version from being put in force.
    fn held_back_by(&self, since: u16) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| since > self.in_force && node.lacks(since))
    }
}

/// Why a change that needs a later version is refused, and what to do.
pub(in crate::admin) fn too_new(needs: u16, in_force: u16, standing: &Standing) -> String {
    let behind: Vec<String> = standing
        .held_back_by(needs)
        .map(|node| match node.knows {
            Some(knows) => format!("{} (knows {knows})", node.name),
            None => format!("{} (did not tell yet)", node.name),
        })
        .collect();
    let begin = format!("this needs version {needs} of the agreed state, and {in_force} is in force");
    if behind.is_empty() {
        return format!("{begin}: it is raised in a moment, try again");
    }
    let is_old = standing.held_back_by(needs).any(|node| node.knows.is_some());
    let cure = if is_old { "upgrade what runs there" } else { "a node that comes tells of itself in a moment" };
    format!("{begin}: held back by {}; {cure} (`troupe cluster features` tells more)", behind.join(", "))
}

pub(in crate::admin) async fn show(call: &Call<'_>) -> Result<Reply, Failure> {
    if !call.flag("stale")? {
        call.synchronised().await?;
    }
    let handle = &call.state.cluster;
    Ok(reply::json(&document(&Standing::of(&handle.state(), &handle.vitals()))))
}

fn document(standing: &Standing) -> Value {
    let members: Vec<Value> = standing
        .nodes
        .iter()
        .map(|node| {
            let lacks = FEATURES.iter().filter(|feature| node.lacks(feature.since)).map(|feature| feature.name);
            json!({
                "node": node.id.to_string(),
                "name": node.name,
                "version": node.knows,
                "lacks": lacks.collect::<Vec<_>>(),
            })
        })
        .collect();
    let features: Vec<Value> = FEATURES
        .iter()
        .map(|feature| {
            let behind: Vec<&str> = standing.held_back_by(feature.since).map(|node| node.name.as_str()).collect();
            json!({
                "name": feature.name,
                "since": feature.since,
                "doc": feature.doc,
                "in_force": feature.since <= standing.in_force,
                "held_back_by": behind,
            })
        })
        .collect();
    // Without nodes there is nobody to wait for: a node that follows a file agrees with itself.
    let common = standing.nodes.iter().map(|node| node.knows).min().unwrap_or(Some(standing.in_force));
    json!({
        "version": standing.in_force,
        "common": common,
        "newest": VERSION,
        "envelopes": {
            "protocol": [hello::VERSIONS.0, hello::VERSIONS.1],
            "entry": [Entry::OLDEST, Entry::SCHEMA],
            "state": [State::OLDEST, State::SCHEMA],
        },
        "members": members,
        "features": features,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(in_force: u16, knows: &[Option<u16>]) -> Standing {
        let node = |(id, knows): (u64, &Option<u16>)| Node { id: NodeId(id), name: format!("gw-{id}"), knows: *knows };
        Standing { in_force, nodes: (1..).zip(knows).map(node).collect() }
    }

    fn feature<'d>(document: &'d Value, name: &str) -> &'d Value {
        document["features"].as_array().unwrap().iter().find(|feature| feature["name"] == name).unwrap()
    }

    #[test]
    fn what_is_new_is_held_back_by_the_nodes_that_lack_it() {
        let told = document(&standing(2, &[Some(3), Some(2), None]));

        assert_eq!((&told["version"], &told["common"]), (&json!(2), &Value::Null));
        let switch = feature(&told, "provider_switch");
        assert_eq!((&switch["in_force"], &switch["held_back_by"]), (&json!(false), &json!(["gw-2", "gw-3"])));
        assert_eq!(feature(&told, "votes_audit")["held_back_by"], json!([]), "in force already");
        let lacks: Vec<&Value> = told["members"].as_array().unwrap().iter().map(|node| &node["lacks"]).collect();
        assert_eq!(lacks[..2], [&json!([]), &json!(["provider_switch"])]);
    }

    #[test]
    fn a_cluster_whose_nodes_all_know_it_is_held_back_by_nobody() {
        let told = document(&standing(3, &[Some(3), Some(4)]));

        assert_eq!((&told["version"], &told["common"]), (&json!(3), &json!(3)));
        assert!(
            told["features"].as_array().unwrap().iter().all(|feature| feature["in_force"] == json!(true)),
            "{told}"
        );
    }

    #[test]
    fn a_refusal_names_who_is_behind_and_what_to_do() {
        let told = too_new(3, 2, &standing(2, &[Some(3), Some(2), None]));
        assert!(told.contains("gw-2 (knows 2), gw-3 (did not tell yet)") && told.contains("upgrade"), "{told}");

        let told = too_new(3, 2, &standing(2, &[Some(3)]));
        assert!(told.contains("try again"), "{told}");
    }
}
