//! What the nodes agree on, and how an entry of the log changes it: pure, deterministic, one file per noun.
//!
//! | invariant | says |
//! |---|---|
//! | STATE-1 | each provider a model names exists |
//! | STATE-2 | each name a model falls back to is served by some model, be it by wildcard |
//! | STATE-3 | the key index holds each key's hash once, and nothing else |
//! | STATE-4 | each provider that is switched off exists |
//!
//! A command is applied as a whole: what counts is that the outcome is sound, not each step on the way. So two models
//! may swap providers in one command, and keys may swap secrets.
//!
//! ```text
//! entry -> applied before? -> idempotency key known? -> version in force? -> command -> audit
//! ```
//! Time is in the entry where it matters. What one version makes of an entry, each later one must make of it too, texts
//! of the audit included: a change of that needs a later version of the agreed state.

pub mod audit;
pub mod past;
pub mod shape;

mod defaults;
mod key;
mod member;
mod model;
mod once;
mod policies;
mod provider;
mod saved;
mod session;
mod token;

use std::sync::Arc;

use troupe_proto::command::{Change, Command, Entry, Note, Refusal, Reply};
use troupe_proto::id::{AdminTokenId, ClusterId, JoinTokenId, KeyId, ModelId, NodeId, ProviderId, Revision};
use troupe_proto::member::Member;
use troupe_proto::secret::KeyHash;
use troupe_proto::spec::{Key, Model, Spec, Table};
use troupe_proto::token::{AdminToken, JoinToken};

pub use model::resolve_model;

/// Everything agreed. A clone shares what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// How many entries changed anything that readers see.
    changes: u64,
    revision: Revision,
    cluster: Option<ClusterId>,
    /// The version of the agreed state in force.
    version: u16,
    spec: Arc<Spec>,
    /// Made of the spec.
    keys_by_hash: key::Index,
    members: member::Members,
    admin_tokens: token::AdminTokens,
    join_tokens: token::JoinTokens,
    sessions: session::Sessions,
    once: once::Once,
    audit: audit::Ring,
}

impl Default for State {
    fn default() -> Self {
        Self {
            changes: 0,
            revision: Revision(0),
            cluster: None,
            version: 1,
            spec: Arc::default(),
            keys_by_hash: Table::new(),
            members: Table::new(),
            admin_tokens: Table::new(),
            join_tokens: Table::new(),
            sessions: session::Sessions::default(),
            once: once::Once::default(),
            audit: audit::Ring::default(),
        }
    }
}

impl State {
    /// An empty state at the newest version: for a cluster of one process that no other build will ever read.
    pub fn newest() -> Self {
        Self { version: troupe_proto::member::VERSION, ..Self::default() }
    }

    /// How many commands made the spec what it is.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// How many entries changed anything that readers see: it grows with each of them.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// The cluster's id; `None` until it was formed.
    pub const fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// The version of the agreed state in force.
    pub const fn cluster_version(&self) -> u16 {
        self.version
    }

    /// What operators declared, its secrets sealed.
    pub const fn spec(&self) -> &Arc<Spec> {
        &self.spec
    }

    /// The nodes, as they told of themselves.
    pub const fn members(&self) -> &Table<NodeId, Member> {
        &self.members
    }

    /// Whether a node was taken out of the cluster, for ever.
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.sessions.is_removed(node)
    }

    /// Which start of a node's process proposed something last; `None` for a node that never did, or was taken out.
    pub fn incarnation(&self, node: NodeId) -> Option<u64> {
        self.sessions.incarnation(node)
    }

    /// The tokens of operators.
    pub const fn admin_tokens(&self) -> &Table<AdminTokenId, AdminToken> {
        &self.admin_tokens
    }

    /// The token of an operator known by this hash. Whether it has expired is for the asker to say.
    pub fn admin_token_by_hash(&self, hash: &KeyHash) -> Option<(&AdminTokenId, &AdminToken)> {
        self.admin_tokens.iter().find(|(_, token)| token.hash == *hash)
    }

    /// The tokens that nodes join with.
    pub const fn join_tokens(&self) -> &Table<JoinTokenId, JoinToken> {
        &self.join_tokens
    }

    /// The newest part of what was changed, by whom and why.
    pub const fn audit(&self) -> &audit::Ring {
        &self.audit
    }

    /// The revision at which a command with this idempotency key was applied, while that is remembered.
    pub fn repeated(&self, idempotency: &[u8; 32]) -> Option<Revision> {
        self.once.revision(idempotency)
    }

    /// The virtual key known by this hash.
    pub fn key_by_hash(&self, hash: &KeyHash) -> Option<(&KeyId, &Key)> {
        self.spec.keys.get_key_value(self.keys_by_hash.get(hash)?)
    }

    /// The model that serves a name clients ask for: the one of that name, else the wildcard with the longest beginning.
    pub fn model_for(&self, name: &str) -> Option<(&ModelId, &Model)> {
        resolve_model(&self.spec.models, name)
    }

    /// Applies the entry at `index` of the log, all of it or nothing, and says which. It never panics.
    ///
    /// An entry that was applied before gets its reply again and changes nothing.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Reply {
        if let Some(reply) = self.sessions.known(&entry.origin) {
            return reply;
        }
        let reply = match entry.note.idempotency.and_then(|key| self.once.revision(&key)) {
            Some(revision) => Reply::Repeated(revision),
            None => self.run(index, &entry.note, &entry.command),
        };
        if let (Some(key), Reply::Applied(revision)) = (entry.note.idempotency, &reply) {
            self.once.note(key, *revision);
        }
        self.sessions.note(index, &entry.origin, &reply);
        debug_assert_eq!(self.check_invariants(), Ok(()));
        reply
    }

    fn run(&mut self, index: u64, note: &Note, command: &Command) -> Reply {
        let needs = command.needs();
        if needs > self.version {
            return Reply::Refused(Refusal::TooNew { needs, version: self.version });
        }
        let mut next = self.clone();
        let mut told = audit::Changes::default();
        if let Err(refusal) = next.change(index, command, &mut told) {
            return Reply::Refused(refusal);
        }
        // What changes nothing leaves no trace; a change of the spec always counts, as its revision does.
        if next.revision != self.revision || !told.is_empty() {
            // 2^64 commands are out of reach of any log.
            next.changes = next.changes.saturating_add(1);
            next.audit.push(index, next.revision, note, told);
        }
        *self = next;
        Reply::Applied(self.revision)
    }

    /// Works on a clone of the state: on a refusal it is thrown away.
    fn change(&mut self, index: u64, command: &Command, told: &mut audit::Changes) -> Result<(), Refusal> {
        match command {
            Command::Change { base, changes } => self.change_spec(*base, changes, told),
            Command::Form { cluster } => self.form(*cluster, told),
            Command::SetVersion(version) => {
                member::check_version(&self.members, self.version, *version)?;
                told.tell(
                    "cluster version",
                    "cluster version",
                    || version_shape(self.version),
                    || version_shape(*version),
                );
                self.version = *version;
                Ok(())
            }
            Command::PutMember(node, _) if self.sessions.is_removed(*node) => Err(Refusal::Removed(*node)),
            Command::PutMember(node, member) => member::put(&mut self.members, *node, member, self.version, told),
            Command::RemoveMember(node) => {
                member::remove(&mut self.members, *node, told);
                self.sessions.remove(index, *node);
                Ok(())
            }
            Command::PutAdminToken(id, token) => token::put_admin(&mut self.admin_tokens, id, token, told),
            Command::RemoveAdminToken(id) => {
                token::remove_admin(&mut self.admin_tokens, id, told);
                Ok(())
            }
            Command::PutJoinToken { id, hash, expires } => {
                let token = JoinToken { hash: *hash, expires: *expires, used: None };
                token::put_join(&mut self.join_tokens, id, &token, told)
            }
            Command::RemoveJoinToken(id) => {
                token::remove_join(&mut self.join_tokens, id, told);
                Ok(())
            }
            Command::UseJoinToken { hash, node, at } => token::use_join(&mut self.join_tokens, hash, *node, *at, told),
            Command::Reseal(resealed) => {
                provider::reseal(&mut self.spec, resealed, told);
                Ok(())
            }
            Command::Reshaped { how, before, after } => {
                let seats = |seats| move || Some(shape::seats(seats));
                told.tell("votes", member::done(*how), seats(before), seats(after));
                Ok(())
            }
        }
    }

    fn change_spec(&mut self, base: Revision, changes: &[Change], told: &mut audit::Changes) -> Result<(), Refusal> {
        if base != self.revision {
            return Err(Refusal::Conflict { base, current: self.revision });
        }
        let spec = Arc::make_mut(&mut self.spec);
        let mut keys = key::Changes::default();
        let mut are_models_touched = false;
        for change in changes {
            are_models_touched |= match change {
                Change::PutProvider(..) | Change::RemoveProvider(_) | Change::PutModel(..) | Change::RemoveModel(_) => {
                    true
                }
                Change::PutKey(..)
                | Change::RemoveKey(_)
                | Change::PutDefaults(_)
                | Change::PutPolicies(_)
                | Change::SwitchProvider(..) => false,
            };
            match change {
                Change::PutProvider(id, provider) => provider::put(spec, id, provider, told),
                Change::RemoveProvider(id) => provider::remove(spec, id, told),
                Change::PutModel(id, model) => model::put(spec, id, model, told),
                Change::RemoveModel(id) => model::remove(spec, id, told),
                Change::PutKey(id, key) => keys.put(spec, id, key, told),
                Change::RemoveKey(id) => keys.remove(spec, id, told),
                Change::PutDefaults(rules) => defaults::put(spec, *rules, told),
                Change::PutPolicies(policies) => policies::put(spec, *policies, told),
                Change::SwitchProvider(id, to) => provider::switch(spec, id, *to, told),
            }
        }
        if are_models_touched {
            model::check(spec)?;
        }
        keys.reindex(spec, &mut self.keys_by_hash)?;
        self.revision = Revision(self.revision.0.saturating_add(1));
        Ok(())
    }

    fn form(&mut self, cluster: ClusterId, told: &mut audit::Changes) -> Result<(), Refusal> {
        match self.cluster {
            Some(current) if current == cluster => Ok(()),
            Some(current) => Err(Refusal::Formed(current)),
            None => {
                self.cluster = Some(cluster);
                told.tell("cluster", &cluster.to_string(), || None, || Some(shape::Shape::new()));
                Ok(())
            }
        }
    }

    /// The state of a new cluster made of this one's: the same spec, operators and audit, and no members, so that no
    /// node of the old cluster can be taken for one of the new. `index` is the last entry's that it holds.
    #[must_use]
    pub fn reborn(mut self, index: u64, cluster: ClusterId, note: &Note) -> Self {
        let mut told = audit::Changes::default();
        told.tell("cluster", &cluster.to_string(), || None, || Some(shape::Shape::new()));
        self.cluster = Some(cluster);
        self.members = Table::new();
        self.join_tokens = Table::new();
        self.sessions = session::Sessions::default();
        self.once = once::Once::default();
        self.changes = self.changes.saturating_add(1);
        self.audit.push(index, self.revision, note, told);
        self
    }

    /// Checks the invariants named at the head of this module.
    ///
    /// # Errors
    /// What is broken.
    pub fn check_invariants(&self) -> Result<(), Broken> {
        model::check(&self.spec).map_err(Broken::Model)?;
        if key::index(&self.spec)? != self.keys_by_hash {
            return Err(Broken::Index);
        }
        if let Some(id) = self.spec.off.keys().find(|id| !self.spec.providers.contains_key(*id)) {
            return Err(Broken::Switch(id.clone()));
        }
        Ok(())
    }
}

/// Refuses what would be one too many.
fn room<K: Ord, V>(table: &Table<K, V>, name: &K, what: &str, max: usize) -> Result<(), Refusal> {
    if table.len() < max || table.contains_key(name) {
        return Ok(());
    }
    Err(Refusal::TooMany { what: what.to_owned(), max: u32::try_from(max).unwrap_or(u32::MAX) })
}

/// Shows the version of the agreed state.
#[expect(clippy::unnecessary_wraps, reason = "it is told like a noun that was there before and after")]
fn version_shape(version: u16) -> Option<shape::Shape> {
    Some([("version".to_owned(), version.into())].into_iter().collect())
}

/// Which invariant does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// STATE-1 or STATE-2.
    #[error("a model names what does not exist: {0}")]
    Model(Refusal),
    /// STATE-3: two keys have one hash.
    #[error("two keys have one hash: {0}")]
    Hash(Refusal),
    /// STATE-3: the index is not that of the keys.
    #[error("the key index does not fit the keys")]
    Index,
    /// STATE-4.
    #[error("provider {0:?} is switched off and does not exist")]
    Switch(ProviderId),
}

#[cfg(test)]
mod tests;
