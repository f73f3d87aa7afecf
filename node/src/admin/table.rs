//! Every path behind the token: what it takes, who may ask, and who answers. Routing, roles, the OpenAPI document and the
//! reference are made of this one table.

use futures_util::future::BoxFuture;
use troupe_proto::spec::Switch;
use troupe_proto::token::Role;

use super::call::Call;
use super::failure::Failure;
use super::reply::Reply;
use super::{apply, nouns, query, rollback};

/// The largest body of most routes.
const BODY_BYTES: usize = 1 << 20;
/// The largest spec: 100,000 keys take about 15 MiB.
const SPEC_BYTES: usize = 64 << 20;

/// One path and method.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// `{name}` stands for one segment, percent-encoded.
    pub(super) path: &'static str,
    pub(super) role: Role,
    /// One sentence.
    pub(super) doc: &'static str,
    pub(super) query: &'static [Parameter],
    pub(super) body: Takes,
    pub(super) answer: Gives,
    pub(super) run: for<'a> fn(&'a Call<'a>) -> BoxFuture<'a, Result<Reply, Failure>>,
}

/// A value behind the `?`.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) takes: &'static str,
    pub(super) doc: &'static str,
}

/// What a route's body is.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    /// There is none.
    Nothing,
    /// A section of the spec file.
    Section(&'static str),
    /// The whole spec file.
    Spec,
    /// Fields of its own.
    Fields(&'static [Member]),
}

/// What a route answers with.
#[derive(Clone, Copy)]
pub(super) enum Gives {
    /// Not JSON, of this media type.
    Text(&'static str),
    /// A section of the spec file, and more fields.
    Section(&'static str, &'static [Member]),
    /// Pages of a section of the spec file, and more fields of each item.
    Page(&'static str, &'static [Member]),
    /// The whole spec file.
    Spec,
    /// Fields of its own.
    Fields(&'static [Member]),
    /// Pages of items with fields of their own.
    Items(&'static [Member]),
    /// The same, and more fields of the page.
    ItemsAnd(&'static [Member], &'static [Member]),
    /// An object that is described in the reference.
    Object,
}

/// A field of a body or an answer.
pub(super) struct Member {
    pub(super) name: &'static str,
    /// `text`, `whole`, `yes or no`, `time`, `list`, `object`.
    pub(super) takes: &'static str,
    pub(super) doc: &'static str,
}

impl Route {
    /// The names in a path of this route; `None` where it is none.
    pub(super) fn matches(&self, path: &str) -> Option<Vec<String>> {
        let (mut own, mut theirs) = (self.path.split('/'), path.split('/'));
        let mut names = Vec::new();
        loop {
            match (own.next(), theirs.next()) {
                (None, None) => return Some(names),
                (Some(hole), Some(name)) if hole.starts_with('{') && !name.is_empty() => {
                    names.push(query::decode(name)?)
                }
                (Some(a), Some(b)) if a == b => {}
                (Some(_) | None, Some(_) | None) => return None,
            }
        }
    }

    /// The largest body it takes.
    pub(super) const fn body_bytes(&self) -> usize {
        match self.body {
            Takes::Nothing | Takes::Section(_) | Takes::Fields(_) => BODY_BYTES,
            Takes::Spec => SPEC_BYTES,
        }
    }
}

const fn member(name: &'static str, takes: &'static str, doc: &'static str) -> Member {
    Member { name, takes, doc }
}

const fn parameter(name: &'static str, takes: &'static str, doc: &'static str) -> Parameter {
    Parameter { name, takes, doc }
}

const PAGE: &[Parameter] = &[
    parameter("limit", "whole", "Items of the page, from 1 to 1000; 100 unless given."),
    parameter("after", "text", "The name behind which the page begins: `next` of the page before."),
    STALE,
];
const STALE: Parameter = parameter(
    "stale",
    "yes or no",
    "Answers from what this node holds, without asking whether somebody holds something newer.",
);

const NAME: Member = member("name", "text", "Its name.");
const REVISION: Member = member("revision", "whole", "The revision that the answer is of.");
const PROVIDER: &[Member] = &[NAME, REVISION];
const SWITCHED: &[Member] = &[NAME, REVISION, SWITCH];
const SWITCH: Member = member("state", "text", "`enabled` or `disabled`.");
const KEY: &[Member] = &[NAME, REVISION, HASH_PREFIX, STATE];
const HASH_PREFIX: Member = member("hash_prefix", "text", "The beginning of its secret's hash.");
const STATE: Member = member("state", "text", "`active`, `expired` or `revoked`.");
const SECRET: Member = member("secret", "text", "The secret. It is shown this once.");
const KEY_MADE: &[Member] = &[NAME, REVISION, HASH_PREFIX, STATE, SECRET];
const REMOVED: Gives = Gives::Fields(&[NAME, REVISION]);

const CLUSTER: &[Member] = &[
    member("cluster", "text", "The cluster's id; null before there is one."),
    member("version", "whole", "The version of the agreed state in force."),
    REVISION,
    member("node", "text", "The node's id."),
    NAME,
    member("role", "text", "`leader`, `follower`, `candidate`, `learner` or `stopped`."),
    member("leader", "text", "The id of the node that leads, as far as this one knows."),
    member("term", "whole", "The term of the vote it gave last."),
    member("last_log", "whole", "The index of the last entry in its log."),
    member("committed", "whole", "The index of the last entry known to be agreed."),
    member("applied", "whole", "The index of the last entry applied here."),
    member("voters", "whole", "Nodes with a vote."),
    member("learners", "whole", "Nodes without."),
    member("confirmed_ms", "whole", "Milliseconds since a quorum confirmed that this node knew all there was."),
    member("quorum", "yes or no", "Whether that was a moment ago. Without it, one that leads only believes so."),
    PROBLEMS,
    member(
        "voters_lost",
        "list",
        "Other voters that gossip finds dead, or never heard of: `node`, `name`, `seen_ms` (absent: never).",
    ),
    member("state_hash", "text", "With `hash`: the SHA-256 of the state."),
];
const EXPIRES_IN: Parameter =
    parameter("expires_in", "text", "How long it works, such as `1h`, where the body does not say; 24h unless given.");
const JOIN_TOKEN_NEW: &[Member] = &[
    member("expires", "time", "When it stops working."),
    member("expires_in", "text", "How long it works, such as `1h`, in the place of `expires`; 24h unless given."),
];
const JOIN_TOKEN: &[Member] = &[
    NAME,
    member("expires", "time", "When it stops working."),
    member("token", "text", "The token. It is shown this once: not in the answer to a repeated call."),
];

const ROLE: Member = member("role", "`viewer`, `operator` or `admin`", "What it may do.");
const EXPIRES: Member = member("expires", "time", "When it stops working; absent: never.");
const TOKEN: &[Member] = &[NAME, REVISION, ROLE, EXPIRES, STATE];
const TOKEN_NEW: &[Member] = &[NAME, ROLE, EXPIRES];
const TOKEN_MADE: &[Member] = &[NAME, REVISION, ROLE, EXPIRES, STATE, SECRET];
const AUDIT: &[Parameter] = &[
    parameter(
        "from",
        "text",
        "The first entry: its index, or a time. Without it, the last entries up to `to` are given.",
    ),
    parameter("to", "text", "The last entry: its index, or a time."),
    parameter("limit", "whole", "Entries of the page, from 1 to 1000; 100 unless given."),
    STALE,
];
const AUDIT_LINE: &[Member] = &[
    member("index", "whole", "Its place in the log."),
    member("revision", "whole", "The revision it led to."),
    member("at", "time", "When it was asked for, by the clock of the node that was asked."),
    member("actor", "text", "The name of the token it was asked for with, or the node that asked by itself."),
    member("reason", "text", "Why, in the asker's words."),
    member("changes", "list", "What changed, each with the fields before and after. Never a secret."),
    member("hash", "text", "SHA-256 of the hash of the entry before and of this one."),
];

const AUDIT_PAGE: &[Member] = &[member(
    "gaps",
    "list",
    "What of the asked span this node does not have, because it was given a snapshot instead or keeps no more: all entries behind `after` (absent: from the first on) and before `before`.",
)];

const NODE: &[Member] = &[
    NAME,
    member("node", "text", "Its id."),
    member("incarnation", "whole", "Which start of its process this is."),
    member("version", "text", "The version of its program."),
    member("phase", "text", "`starting`, `serving` or `draining`."),
    member("ready", "text", "What `/readyz` says: `ready`, or why not."),
    member("uptime_seconds", "whole", "How long it has run."),
    member("time_ms", "whole", "What its clock says, in milliseconds since 1970."),
    member("in_flight", "whole", "Requests it serves."),
    member("connections", "whole", "Client connections that a drain waits for."),
    member("drained", "yes or no", "Whether it is out of rotation, and none of these is left."),
    PROBLEMS,
];
const PROBLEMS: Member =
    member("problems", "list", "What keeps it from doing all that it should, in sentences with what to do about it.");

const BREAKER: &[Member] = &[
    member("target", "text", "`provider/key/model`."),
    member(
        "state",
        "text",
        "`closed`: it takes calls; `rests`; `probation`: its rest is over and one call decides; `disabled`: its provider is switched off.",
    ),
    member("rests_for", "text", "`failures`, `unreachable`, `credential`, `quota`, `retry_after` or `paced`."),
    member("rest_ends_in_ms", "whole", "How long it still rests."),
    member("is_told", "yes or no", "Whether it rests because other nodes say so."),
    member("failures", "whole", "Failures that count now."),
    member("streak", "whole", "Rests that followed each other closely."),
    member(
        "nodes",
        "list",
        "What other nodes believe of it: `node`, `says`, `counts`, `rests_for`, `rest_ends_in_ms`.",
    ),
];
const BREAKERS_MEANT: &[Member] = &[
    member("provider", "text", "Only its targets; absent: all."),
    member("key", "text", "Of these, only those with this key of the provider."),
    member("model", "text", "Of these, only those of this model there."),
];
const PROVIDER_TESTED: &[Member] = &[
    NAME,
    SWITCH,
    member(
        "items",
        "list",
        "By key: `key`, `finding` (`alive`, `answers`, `dead`, `credential_refused`, `unknown`), `status`, `problem`, `url`, `took_ms`.",
    ),
];
const PAGE_OF_NOW: &[Parameter] = &[
    parameter("limit", "whole", "Items of the page, from 1 to 1000; 100 unless given."),
    parameter("after", "text", "The target behind which the page begins: `next` of the page before."),
];

/// The table, in the order of the reference.
pub(super) static ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/metrics",
        role: Role::Viewer,
        doc: "The node's metrics, for Prometheus.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Text(crate::telemetry::metrics::CONTENT_TYPE),
        run: |call| Box::pin(nouns::node::metrics(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/openapi.json",
        role: Role::Viewer,
        doc: "This API as an OpenAPI 3.1 document.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Object,
        run: |call| Box::pin(nouns::node::openapi(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/status",
        role: Role::Viewer,
        doc: "How the node is, and the size of what it serves.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Object,
        run: |call| Box::pin(nouns::node::status(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/node",
        role: Role::Viewer,
        doc: "Who this node is, and whether it takes traffic.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Fields(NODE),
        run: |call| Box::pin(nouns::node::show(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/node/drain",
        role: Role::Operator,
        doc: "Takes this node out of its balancers' rotation: it is unready at once, closes its connections behind their requests after the drain delay, and serves whoever comes all the same.",
        query: &[parameter(
            "stop",
            "yes or no",
            "Stops the process once everybody is gone who was there, or the drain timeout is over.",
        )],
        body: Takes::Nothing,
        answer: Gives::Fields(NODE),
        run: |call| Box::pin(nouns::node::drain(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/node/undrain",
        role: Role::Operator,
        doc: "Puts this node back into rotation, if its process is not ending yet.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Fields(NODE),
        run: |call| Box::pin(nouns::node::undrain(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/route/explain",
        role: Role::Viewer,
        doc: "Which target would serve a call of a model now, and why each other would not.",
        query: &[
            parameter("model", "text", "Required. The model's name as a client writes it."),
            parameter("key", "text", "As if the call came with this virtual key."),
            parameter("target", "text", "As if the call chose this target."),
        ],
        body: Takes::Nothing,
        answer: Gives::Object,
        run: |call| Box::pin(nouns::node::explain(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/providers",
        role: Role::Viewer,
        doc: "The providers, by name. Secrets are not shown: `(set)` stands in their place.",
        query: PAGE,
        body: Takes::Nothing,
        answer: Gives::Page("providers.NAME", SWITCHED),
        run: |call| Box::pin(nouns::provider::list(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/providers/{name}",
        role: Role::Viewer,
        doc: "One provider.",
        query: &[STALE],
        body: Takes::Nothing,
        answer: Gives::Section("providers.NAME", SWITCHED),
        run: |call| Box::pin(nouns::provider::show(call)),
    },
    Route {
        method: "PUT",
        path: "/admin/v1/providers/{name}",
        role: Role::Operator,
        doc: "Adds a provider or puts another in its place. A key without a secret, or with `(set)`, keeps its own.",
        query: &[],
        body: Takes::Section("providers.NAME"),
        answer: Gives::Section("providers.NAME", PROVIDER),
        run: |call| Box::pin(nouns::provider::put(call)),
    },
    Route {
        method: "DELETE",
        path: "/admin/v1/providers/{name}",
        role: Role::Operator,
        doc: "Takes a provider away that no model names.",
        query: &[],
        body: Takes::Nothing,
        answer: REMOVED,
        run: |call| Box::pin(nouns::provider::delete(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/providers/{name}/test",
        role: Role::Operator,
        doc: "Asks a provider with each of its keys, from the node that is asked, now. It costs no tokens and moves no breaker.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Fields(PROVIDER_TESTED),
        run: |call| Box::pin(nouns::breaker::test(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/breakers",
        role: Role::Viewer,
        doc: "The breakers of this node's targets, and what other nodes believe of them.",
        query: PAGE_OF_NOW,
        body: Takes::Nothing,
        answer: Gives::Items(BREAKER),
        run: |call| Box::pin(nouns::breaker::list(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/breakers/reset",
        role: Role::Operator,
        doc: "Has every live node forget why targets rest: they take calls again until new evidence says otherwise.",
        query: &[],
        body: Takes::Fields(BREAKERS_MEANT),
        answer: Gives::Fields(&[member("reset", "whole", "How many targets of this node were meant.")]),
        run: |call| Box::pin(nouns::breaker::reset(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/providers/{name}/disable",
        role: Role::Operator,
        doc: "Switches a provider off at all nodes: it gets no calls and no probes. Calls that it serves go on to their end. What is applied later leaves the switch as it is.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Fields(SWITCHED),
        run: |call| Box::pin(nouns::provider::switch(call, Switch::Off)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/providers/{name}/enable",
        role: Role::Operator,
        doc: "Switches a provider on again, as if it were new: nothing is held against it.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Fields(SWITCHED),
        run: |call| Box::pin(nouns::provider::switch(call, Switch::On)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/models",
        role: Role::Viewer,
        doc: "The models, by name.",
        query: PAGE,
        body: Takes::Nothing,
        answer: Gives::Page("models.NAME", PROVIDER),
        run: |call| Box::pin(nouns::model::list(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/models/{name}",
        role: Role::Viewer,
        doc: "One model.",
        query: &[STALE],
        body: Takes::Nothing,
        answer: Gives::Section("models.NAME", PROVIDER),
        run: |call| Box::pin(nouns::model::show(call)),
    },
    Route {
        method: "PUT",
        path: "/admin/v1/models/{name}",
        role: Role::Operator,
        doc: "Adds a model or puts another in its place.",
        query: &[],
        body: Takes::Section("models.NAME"),
        answer: Gives::Section("models.NAME", PROVIDER),
        run: |call| Box::pin(nouns::model::put(call)),
    },
    Route {
        method: "DELETE",
        path: "/admin/v1/models/{name}",
        role: Role::Operator,
        doc: "Takes a model away that no other falls back to.",
        query: &[],
        body: Takes::Nothing,
        answer: REMOVED,
        run: |call| Box::pin(nouns::model::delete(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/keys",
        role: Role::Viewer,
        doc: "The virtual keys, by name.",
        query: PAGE,
        body: Takes::Nothing,
        answer: Gives::Page("keys.NAME", KEY),
        run: |call| Box::pin(nouns::key::list(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/keys",
        role: Role::Operator,
        doc: "Makes a virtual key. Without `secret` or `hash` its secret is made too, and shown in the answer and never again.",
        query: &[],
        body: Takes::Section("keys.NAME"),
        answer: Gives::Section("keys.NAME", KEY_MADE),
        run: |call| Box::pin(nouns::key::create(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/keys/{name}",
        role: Role::Viewer,
        doc: "One virtual key.",
        query: &[STALE],
        body: Takes::Nothing,
        answer: Gives::Section("keys.NAME", KEY),
        run: |call| Box::pin(nouns::key::show(call)),
    },
    Route {
        method: "PUT",
        path: "/admin/v1/keys/{name}",
        role: Role::Operator,
        doc: "Adds a virtual key or puts another in its place. Without `secret` or `hash` it keeps its secret; one that has none is given one.",
        query: &[],
        body: Takes::Section("keys.NAME"),
        answer: Gives::Section("keys.NAME", KEY_MADE),
        run: |call| Box::pin(nouns::key::put(call)),
    },
    Route {
        method: "DELETE",
        path: "/admin/v1/keys/{name}",
        role: Role::Operator,
        doc: "Takes a virtual key away.",
        query: &[],
        body: Takes::Nothing,
        answer: REMOVED,
        run: |call| Box::pin(nouns::key::delete(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/keys/{name}/rotate",
        role: Role::Operator,
        doc: "Gives a virtual key a new secret, shown this once. The old one admits nobody from then on.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Section("keys.NAME", KEY_MADE),
        run: |call| Box::pin(nouns::key::rotate(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/keys/{name}/revoke",
        role: Role::Operator,
        doc: "Lets a virtual key admit nobody from now on. It stays listed, expired since 1970.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Section("keys.NAME", KEY),
        run: |call| Box::pin(nouns::key::revoke(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/defaults",
        role: Role::Viewer,
        doc: "The rules for whatever says nothing nearer.",
        query: &[STALE],
        body: Takes::Nothing,
        answer: Gives::Section("defaults", &[REVISION]),
        run: |call| Box::pin(nouns::defaults::show(call)),
    },
    Route {
        method: "PUT",
        path: "/admin/v1/defaults",
        role: Role::Operator,
        doc: "Puts other defaults in their place.",
        query: &[],
        body: Takes::Section("defaults"),
        answer: Gives::Section("defaults", &[REVISION]),
        run: |call| Box::pin(nouns::defaults::put(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/policies",
        role: Role::Viewer,
        doc: "The rules of the cluster as a whole.",
        query: &[STALE],
        body: Takes::Nothing,
        answer: Gives::Section("policies", &[REVISION]),
        run: |call| Box::pin(nouns::policies::show(call)),
    },
    Route {
        method: "PUT",
        path: "/admin/v1/policies",
        role: Role::Operator,
        doc: "Puts other policies in their place.",
        query: &[],
        body: Takes::Section("policies"),
        answer: Gives::Section("policies", &[REVISION]),
        run: |call| Box::pin(nouns::policies::put(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/apply",
        role: Role::Operator,
        doc: "Makes what the body says be in force, all of it or nothing.",
        query: &[
            parameter("dry_run", "yes or no", "Changes nothing: the answer says what would change."),
            parameter("prune", "yes or no", "What the body does not say is taken away. Without it, it stays."),
            parameter(
                "allow_empty",
                "yes or no",
                "With `prune`, a body without providers, models and keys takes all of them away; without this it is refused.",
            ),
        ],
        body: Takes::Spec,
        answer: Gives::Fields(apply::ANSWER),
        run: |call| Box::pin(apply::apply(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/export",
        role: Role::Viewer,
        doc: "The whole spec, as `apply` takes it: secrets are left out, and stay as they are when it is applied here again.",
        query: &[
            parameter(
                "hashes",
                "yes or no",
                "With the hashes of virtual keys, so that another cluster can take them over.",
            ),
            STALE,
        ],
        body: Takes::Nothing,
        answer: Gives::Spec,
        run: |call| Box::pin(apply::export(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/cluster",
        role: Role::Viewer,
        doc: "How this node takes part in its cluster.",
        query: &[parameter(
            "hash",
            "yes or no",
            "With the hash of the state, the same on all nodes that hold the same.",
        )],
        body: Takes::Nothing,
        answer: Gives::Fields(CLUSTER),
        run: |call| Box::pin(nouns::cluster::status(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/cluster/members",
        role: Role::Viewer,
        doc: "The nodes of the cluster.",
        query: &[STALE],
        body: Takes::Nothing,
        answer: Gives::Object,
        run: |call| Box::pin(nouns::cluster::members(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/cluster/features",
        role: Role::Viewer,
        doc: "What each node can read, what is in force of it, and who holds the rest back: while a cluster is upgraded, what is new waits for the last node.",
        query: &[STALE],
        body: Takes::Nothing,
        answer: Gives::Fields(nouns::features::ANSWER),
        run: |call| Box::pin(nouns::features::show(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/cluster/members/{name}/promote",
        role: Role::Admin,
        doc: "Gives nodes a vote, by id or name.",
        query: &[parameter("with", "text", "Further nodes, with commas between them: voters are 1, 3 or 5.")],
        body: Takes::Nothing,
        answer: Gives::Object,
        run: |call| Box::pin(nouns::cluster::promote(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/cluster/members/{name}/demote",
        role: Role::Admin,
        doc: "Takes the votes of nodes; they stay.",
        query: &[parameter("with", "text", "Further nodes, with commas between them: voters are 1, 3 or 5.")],
        body: Takes::Nothing,
        answer: Gives::Object,
        run: |call| Box::pin(nouns::cluster::demote(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/cluster/members/{name}/remove",
        role: Role::Admin,
        doc: "Takes a node out for ever: its id is never taken in again.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Object,
        run: |call| Box::pin(nouns::cluster::remove(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/cluster/members/{name}/replace",
        role: Role::Admin,
        doc: "Gives the vote of one node to another in one step, and takes the first out.",
        query: &[parameter("by", "text", "Required. Who gets the vote.")],
        body: Takes::Nothing,
        answer: Gives::Object,
        run: |call| Box::pin(nouns::cluster::replace(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/cluster/transfer-leader",
        role: Role::Admin,
        doc: "Has another node lead.",
        query: &[parameter("to", "text", "Required. Who is to lead.")],
        body: Takes::Nothing,
        answer: Gives::Object,
        run: |call| Box::pin(nouns::cluster::transfer_leader(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/cluster/leave",
        role: Role::Admin,
        doc: "Takes the node that is asked out for ever, and has it stop. If it has a vote, a learner gets it.",
        query: &[parameter("by", "text", "Who gets its vote; the first learner unless given.")],
        body: Takes::Nothing,
        answer: Gives::Object,
        run: |call| Box::pin(nouns::cluster::leave(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/cluster/reseal",
        role: Role::Admin,
        doc: "Has all secrets of providers sealed again under the key in force: the key before is then of no more use.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Fields(&[member("resealed", "whole", "How many secrets were sealed again.")]),
        run: |call| Box::pin(nouns::cluster::reseal(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/cluster/snapshot",
        role: Role::Admin,
        doc: "The whole state as one file with a checksum: what `troupe snapshot restore` takes. Secrets of providers are sealed in it.",
        query: &[STALE],
        body: Takes::Nothing,
        answer: Gives::Text("application/octet-stream"),
        run: |call| Box::pin(nouns::cluster::snapshot(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/join-tokens",
        role: Role::Admin,
        doc: "The tokens that nodes can join with.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Object,
        run: |call| Box::pin(nouns::cluster::list_tokens(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/join-tokens",
        role: Role::Admin,
        doc: "Makes a token that one node can join with, once. It is shown this once.",
        query: &[EXPIRES_IN],
        body: Takes::Fields(JOIN_TOKEN_NEW),
        answer: Gives::Fields(JOIN_TOKEN),
        run: |call| Box::pin(nouns::cluster::make_token(call)),
    },
    Route {
        method: "DELETE",
        path: "/admin/v1/join-tokens/{name}",
        role: Role::Admin,
        doc: "Takes a join token away.",
        query: &[],
        body: Takes::Nothing,
        answer: Gives::Fields(&[NAME]),
        run: |call| Box::pin(nouns::cluster::remove_token(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/tokens",
        role: Role::Admin,
        doc: "The tokens that operators enter with, by name.",
        query: PAGE,
        body: Takes::Nothing,
        answer: Gives::Items(TOKEN),
        run: |call| Box::pin(nouns::token::list(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/tokens",
        role: Role::Admin,
        doc: "Makes a token for an operator. It is shown in the answer and never again.",
        query: &[],
        body: Takes::Fields(TOKEN_NEW),
        answer: Gives::Fields(TOKEN_MADE),
        run: |call| Box::pin(nouns::token::create(call)),
    },
    Route {
        method: "DELETE",
        path: "/admin/v1/tokens/{name}",
        role: Role::Admin,
        doc: "Takes a token away: it opens nothing from then on.",
        query: &[],
        body: Takes::Nothing,
        answer: REMOVED,
        run: |call| Box::pin(nouns::token::delete(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/audit",
        role: Role::Viewer,
        doc: "Who changed what, when and why, the oldest first. Each entry's hash says everything before it.",
        query: AUDIT,
        body: Takes::Nothing,
        answer: Gives::ItemsAnd(AUDIT_LINE, AUDIT_PAGE),
        run: |call| Box::pin(nouns::audit::list(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/audit/as-of",
        role: Role::Viewer,
        doc: "The whole spec as it was behind an earlier entry, told by the audit.",
        query: &[parameter("index", "whole", "Required. The entry."), STALE],
        body: Takes::Nothing,
        answer: Gives::Fields(rollback::WAS),
        run: |call| Box::pin(rollback::as_of(call)),
    },
    Route {
        method: "GET",
        path: "/admin/v1/audit/diff",
        role: Role::Viewer,
        doc: "What changed in the spec between two entries, whatever came and went in between. It answers as a dry run of `apply` does.",
        query: &[
            parameter("from", "whole", "Required. The entry behind which it begins."),
            parameter("to", "whole", "The entry behind which it ends; what is in force unless given."),
            STALE,
        ],
        body: Takes::Nothing,
        answer: Gives::Fields(apply::ANSWER),
        run: |call| Box::pin(rollback::diff(call)),
    },
    Route {
        method: "POST",
        path: "/admin/v1/rollback",
        role: Role::Operator,
        doc: "Puts the spec in force again that was in force behind an earlier entry, all of it or nothing, as one change whose reason names the entry. A secret that was replaced since is not brought back: the present one stays, and a note says so.",
        query: &[
            parameter("to", "whole", "Required. The entry."),
            parameter("dry_run", "yes or no", "Changes nothing: the answer says what would change."),
            parameter(
                "leave_gone",
                "yes or no",
                "What cannot come back because its secret is gone stays as it is now; without this, the call is refused then.",
            ),
        ],
        body: Takes::Nothing,
        answer: Gives::Fields(apply::ANSWER),
        run: |call| Box::pin(rollback::rollback(call)),
    },
];
