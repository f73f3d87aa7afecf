mod copies;
mod golden;
mod nouns;
mod past;

use std::collections::BTreeMap;

use proptest::prelude::*;
use troupe_proto::command::Origin;
use troupe_proto::id::ProviderId;
use troupe_proto::spec::{Auth, Provider, Rules, Target, Wire};

use super::*;

fn provider(port: u16) -> Provider {
    Provider {
        wire: Wire::OpenAi,
        base_url: format!("http://127.0.0.1:{}", port.max(1)).parse().unwrap(),
        auth: Auth::Bearer,
        credentials: BTreeMap::new(),
        azure_api_version: None,
        headers: BTreeMap::new(),
        ca_pem: None,
        proxy: None,
        rules: Rules::default(),
    }
}

fn model(provider: &str, fallbacks: &[&str]) -> Model {
    let target = Target { provider: ProviderId::new(provider), model: None, weight: 1, priority: 0 };
    Model {
        targets: vec![target],
        fallbacks: fallbacks.iter().map(|name| ModelId::new(name)).collect(),
        ..Model::default()
    }
}

fn key(secret: &str) -> Key {
    Key { hash: KeyHash::of(secret.as_bytes()), models: None, expires: None, metadata: BTreeMap::new(), pin: false }
}

fn put_key(name: &str, secret: &str) -> Change {
    Change::PutKey(KeyId::new(name), key(secret))
}

fn apply(state: &mut State, changes: Vec<Change>) -> Reply {
    let base = state.revision();
    run(state, Command::Change { base, changes })
}

/// Applies a command as the next one of a process.
fn run(state: &mut State, command: Command) -> Reply {
    let origin = |seq| Origin { node: NodeId(1), incarnation: 1, seq, settled: seq };
    let origin = (1..).map(origin).find(|origin| state.sessions.known(origin).is_none()).unwrap();
    state.apply(origin.seq, &Entry { origin, note: Note::default(), command })
}

impl State {
    /// What is left of it besides who proposed what: a refused command is remembered there, and nowhere else.
    fn without_sessions(&self) -> Self {
        Self { sessions: session::Sessions::default(), ..self.clone() }
    }
}

/// A state with a provider, a model on it, one that falls back to it, and a key.
fn furnished() -> State {
    let mut state = State::default();
    let changes = vec![
        Change::PutModel(ModelId::new("spare"), model("openai", &["chat"])),
        Change::PutModel(ModelId::new("chat"), model("openai", &[])),
        Change::PutProvider(ProviderId::new("openai"), provider(1)),
        put_key("team", "sk-1"),
    ];
    assert_eq!(apply(&mut state, changes), Reply::Applied(Revision(1)));
    state
}

#[test]
fn a_key_is_found_by_its_hash_until_it_is_removed() {
    let mut state = furnished();
    let hash = KeyHash::of(b"sk-1");

    assert_eq!(state.key_by_hash(&hash).map(|(id, _)| id.as_str()), Some("team"));
    apply(&mut state, vec![Change::RemoveKey(KeyId::new("team"))]);

    assert_eq!(state.key_by_hash(&hash), None);
}

#[test]
fn a_new_secret_puts_the_old_one_out_of_use() {
    let mut state = furnished();

    apply(&mut state, vec![put_key("team", "sk-2")]);

    assert_eq!(state.key_by_hash(&KeyHash::of(b"sk-1")), None);
    assert!(state.key_by_hash(&KeyHash::of(b"sk-2")).is_some());
}

#[test]
fn two_keys_may_swap_secrets_but_never_share_one() {
    let mut state = furnished();
    apply(&mut state, vec![put_key("other", "sk-2")]);

    assert_eq!(apply(&mut state, vec![put_key("team", "sk-2"), put_key("other", "sk-1")]), Reply::Applied(Revision(3)));
    assert_eq!(state.key_by_hash(&KeyHash::of(b"sk-2")).map(|(id, _)| id.as_str()), Some("team"));
    let reply = apply(&mut state, vec![put_key("third", "sk-2")]);

    assert_eq!(reply, Reply::Refused(Refusal::SharedSecret { first: KeyId::new("team"), second: KeyId::new("third") }));
}

#[test]
fn a_provider_that_a_model_still_names_cannot_go() {
    let mut state = furnished();

    let reply = apply(&mut state, vec![Change::RemoveProvider(ProviderId::new("openai"))]);

    let refusal = Refusal::UnknownProvider { model: ModelId::new("chat"), provider: ProviderId::new("openai") };
    assert_eq!(reply, Reply::Refused(refusal));
    assert_eq!(state.without_sessions(), furnished().without_sessions());
}

#[test]
fn a_model_that_others_fall_back_to_cannot_go() {
    let mut state = furnished();

    let reply = apply(&mut state, vec![Change::RemoveModel(ModelId::new("chat"))]);

    let refusal = Refusal::UnknownFallback { model: ModelId::new("spare"), fallback: ModelId::new("chat") };
    assert_eq!(reply, Reply::Refused(refusal));
}

#[test]
fn a_name_is_served_by_its_own_model_or_the_longest_wildcard() {
    let mut state = furnished();
    let put = |name: &str, fallbacks: &[&str]| Change::PutModel(ModelId::new(name), model("openai", fallbacks));
    let changes = vec![put("*", &["claude-haiku"]), put("claude-*", &[]), put("claude-son*", &[])];
    assert_eq!(apply(&mut state, changes), Reply::Applied(Revision(2)));
    let served = |name: &str| state.model_for(name).map(|(id, _)| id.as_str());

    assert_eq!(served("chat"), Some("chat"));
    assert_eq!(served("claude-haiku"), Some("claude-*"));
    assert_eq!(served("claude-son"), Some("claude-son*"));
    assert_eq!(served("claude-sonnet-\u{1F600}"), Some("claude-son*"));
    assert_eq!(served(""), Some("*"));
    assert_eq!(furnished().model_for("claude-haiku"), None);
}

#[test]
fn a_change_made_for_another_revision_is_refused() {
    let mut state = furnished();

    let reply = run(&mut state, Command::Change { base: Revision(0), changes: vec![put_key("late", "sk-9")] });

    assert_eq!(reply, Reply::Refused(Refusal::Conflict { base: Revision(0), current: Revision(1) }));
    assert_eq!(state.without_sessions(), furnished().without_sessions());
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn any_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.to_vec())
}

fn any_change() -> impl Strategy<Value = Change> {
    let fallbacks = prop::collection::vec(any_name(), 0..2);
    prop_oneof![
        (any_name(), any::<u16>()).prop_map(|(id, port)| Change::PutProvider(ProviderId::new(id), provider(port))),
        any_name().prop_map(|id| Change::RemoveProvider(ProviderId::new(id))),
        (any_name(), any_name(), fallbacks).prop_map(|(id, at, to)| Change::PutModel(ModelId::new(id), model(at, &to))),
        any_name().prop_map(|id| Change::RemoveModel(ModelId::new(id))),
        (any_name(), any_name()).prop_map(|(id, secret)| put_key(id, secret)),
        any_name().prop_map(|id| Change::RemoveKey(KeyId::new(id))),
        Just(Change::PutDefaults(Rules::built_in())),
    ]
}

/// Commands whose base is mostly, but not always, the one in force if all before it were applied.
fn any_log() -> impl Strategy<Value = Vec<(bool, Vec<Change>)>> {
    prop::collection::vec((prop::bool::weighted(0.95), prop::collection::vec(any_change(), 0..5)), 0..30)
}

proptest! {
    #[test]
    fn a_refused_command_changes_nothing_and_an_applied_one_keeps_the_invariants(log in any_log()) {
        let mut state = State::default();
        for (is_fresh, changes) in log {
            let before = state.clone();
            let base = if is_fresh { before.revision() } else { Revision(before.revision().0 + 1) };

            let reply = run(&mut state, Command::Change { base, changes });

            prop_assert_eq!(state.check_invariants(), Ok(()));
            match reply {
                Reply::Applied(revision) => {
                    prop_assert!(is_fresh);
                    prop_assert_eq!(revision, Revision(before.revision().0 + 1));
                    prop_assert_eq!(state.revision(), revision);
                }
                Reply::Refused(_) => prop_assert_eq!(state.without_sessions(), before.without_sessions()),
                Reply::Repeated(_) => prop_assert!(false, "nothing has an idempotency key here"),
            }
        }
    }

    #[test]
    fn the_same_commands_make_the_same_state(log in any_log()) {
        let mut twins = [State::default(), State::default()];
        for (_, changes) in log {
            let replies = twins.each_mut().map(|twin| apply(twin, changes.clone()));

            prop_assert_eq!(&replies[0], &replies[1]);
            prop_assert_eq!(&twins[0], &twins[1]);
        }
    }
}
