//! Members, tokens, policies, versions, the cluster's id, and what the audit tells of them.

use troupe_proto::command::{Resealed, Reshaped, Seats};
use troupe_proto::id::{AdminTokenId, CredentialId, JoinTokenId};
use troupe_proto::secret::{CredentialSecret, SealKeyId, Sealed};
use troupe_proto::spec::{Credential, Freshness, Policies, Switch};
use troupe_proto::token::Role;

use super::*;

fn member(version: u16) -> Member {
    let at = "gw-1:8080".to_owned();
    Member { name: "gw-1".to_owned(), peer: at.clone(), admin: at.clone(), data: at, version, zone: None }
}

fn admin_token(secret: &str, role: Role) -> AdminToken {
    AdminToken { hash: KeyHash::of(secret.as_bytes()), role, expires: None }
}

fn put_join(state: &mut State, name: &str, expires: i64) -> Reply {
    let hash = KeyHash::of(name.as_bytes());
    run(state, Command::PutJoinToken { id: JoinTokenId::new(name), hash, expires })
}

fn use_join(state: &mut State, name: &str, node: u64, at: i64) -> Reply {
    run(state, Command::UseJoinToken { hash: KeyHash::of(name.as_bytes()), node: NodeId(node), at })
}

fn audited(state: &State) -> serde_json::Value {
    serde_json::from_str(&state.audit().lines().next_back().unwrap().body).unwrap()
}

const APPLIED: Reply = Reply::Applied(Revision(0));

#[test]
fn a_join_token_is_used_once_and_its_user_may_ask_again() {
    let mut state = State::default();
    put_join(&mut state, "t", 100);

    assert_eq!(use_join(&mut state, "other", 1, 50), Reply::Refused(Refusal::UnknownJoinToken));
    assert_eq!(use_join(&mut state, "t", 1, 100), Reply::Refused(Refusal::ExpiredJoinToken));
    assert_eq!(use_join(&mut state, "t", 1, 99), APPLIED);
    assert_eq!(use_join(&mut state, "t", 1, 200), APPLIED, "the answer may not have reached it");
    assert_eq!(use_join(&mut state, "t", 2, 50), Reply::Refused(Refusal::UsedJoinToken(NodeId(1))));
    run(&mut state, Command::RemoveJoinToken(JoinTokenId::new("t")));
    assert_eq!(use_join(&mut state, "t", 1, 50), Reply::Refused(Refusal::UnknownJoinToken));
}

#[test]
fn a_token_of_an_operator_is_found_by_its_hash_and_shares_its_secret_with_none() {
    let mut state = State::default();
    let put =
        |name: &str, secret: &str, role| Command::PutAdminToken(AdminTokenId::new(name), admin_token(secret, role));
    let role = |state: &State, secret: &str| {
        state.admin_token_by_hash(&KeyHash::of(secret.as_bytes())).map(|(_, token)| token.role)
    };
    run(&mut state, put("ci", "s1", Role::Operator));

    let (first, second) = (AdminTokenId::new("ci"), AdminTokenId::new("twin"));
    let refusal = Refusal::SharedToken { first, second };
    assert_eq!(run(&mut state, put("twin", "s1", Role::Admin)), Reply::Refused(refusal));
    assert_eq!(role(&state, "s1"), Some(Role::Operator));
    run(&mut state, put("ci", "s2", Role::Viewer));
    assert_eq!((role(&state, "s1"), role(&state, "s2")), (None, Some(Role::Viewer)));
    run(&mut state, Command::RemoveAdminToken(AdminTokenId::new("ci")));
    assert_eq!(role(&state, "s2"), None);
}

#[test]
fn there_is_an_end_to_the_number_of_tokens() {
    let mut state = State::default();
    for n in 0..1_000 {
        assert_eq!(put_join(&mut state, &format!("t{n}"), 1), APPLIED);
    }

    let refusal = Refusal::TooMany { what: "join tokens".to_owned(), max: 1_000 };
    assert_eq!(put_join(&mut state, "one-more", 1), Reply::Refused(refusal));
    assert_eq!(put_join(&mut state, "t7", 2), APPLIED, "one that is there is put in its own place");
}

#[test]
fn a_node_that_was_taken_out_never_comes_back_under_its_id() {
    let mut state = State::default();
    assert_eq!(run(&mut state, Command::PutMember(NodeId(7), member(1))), APPLIED);

    run(&mut state, Command::RemoveMember(NodeId(7)));

    assert!(state.is_removed(NodeId(7)) && state.members().is_empty());
    let again = Command::PutMember(NodeId(7), member(1));
    assert_eq!(run(&mut state, again.clone()), Reply::Refused(Refusal::Removed(NodeId(7))));
    let origin = Origin { node: NodeId(7), incarnation: 9, seq: 1, settled: 1 };
    let reply = state.apply(99, &Entry { origin, note: Note::default(), command: again });
    assert_eq!(reply, Reply::Refused(Refusal::Fenced));
}

#[test]
fn a_version_is_put_in_force_as_far_as_each_member_knows_it() {
    let mut state = State::default();
    let too_new = Refusal::TooNew { needs: 2, version: 1 };
    assert_eq!(run(&mut state, Command::SetVersion(2)), Reply::Refused(too_new), "nobody said that it knows it");
    run(&mut state, Command::PutMember(NodeId(7), member(3)));
    run(&mut state, Command::PutMember(NodeId(8), member(2)));

    let behind = |node, knows, asked| Reply::Refused(Refusal::Behind { node: NodeId(node), knows, asked });
    assert_eq!(run(&mut state, Command::SetVersion(3)), behind(8, 2, 3));
    assert_eq!(run(&mut state, Command::SetVersion(2)), APPLIED);
    assert_eq!(state.cluster_version(), 2);
    assert_eq!(run(&mut state, Command::PutMember(NodeId(9), member(1))), behind(9, 1, 2));
    assert_eq!(run(&mut state, Command::SetVersion(1)), Reply::Refused(Refusal::Downgrade { asked: 1, current: 2 }));
}

#[test]
fn a_command_that_needs_a_later_version_is_refused() {
    let mut state = State { version: 0, ..State::default() };

    let refused = Reply::Refused(Refusal::TooNew { needs: 1, version: 0 });

    assert_eq!(apply(&mut state, vec![put_key("team", "sk-1")]), refused);
    assert_eq!(run(&mut state, Command::RemoveMember(NodeId(7))), refused);
    assert!(state.spec().keys.is_empty() && !state.is_removed(NodeId(7)));
}

#[test]
fn the_audit_keeps_who_took_part_before_and_after_once_all_can_read_it() {
    let mut state = State::default();
    let seats = |voters: &[u64], learners: &[u64]| Seats {
        voters: voters.iter().copied().map(NodeId).collect(),
        learners: learners.iter().copied().map(NodeId).collect(),
        leader: Some(NodeId(1)),
    };
    let command =
        Command::Reshaped { how: Reshaped::Promoted, before: seats(&[1], &[2, 3]), after: seats(&[1, 2, 3], &[]) };
    run(&mut state, Command::PutMember(NodeId(7), member(2)));

    assert_eq!(run(&mut state, command.clone()), Reply::Refused(Refusal::TooNew { needs: 2, version: 1 }));
    run(&mut state, Command::SetVersion(2));
    let revision = state.revision();
    assert_eq!(run(&mut state, command), APPLIED);

    assert_eq!(state.revision(), revision);
    let [one, two, three] = [1, 2, 3].map(|node| NodeId(node).to_string());
    let told = &audited(&state)["changes"][0];
    assert_eq!((&told["what"], &told["name"], &told["did"]), (&"votes".into(), &"promote".into(), &"changed".into()));
    assert_eq!(told["before"], serde_json::json!({"voters": [one], "learners": [two, three]}));
    assert_eq!(told["after"], serde_json::json!({"voters": [one, two, three], "learners": []}));
}

#[test]
fn a_cluster_gets_its_id_once() {
    let mut state = State::default();

    assert_eq!(run(&mut state, Command::Form { cluster: ClusterId(1) }), APPLIED);
    assert_eq!(run(&mut state, Command::Form { cluster: ClusterId(1) }), APPLIED);
    let refused = Reply::Refused(Refusal::Formed(ClusterId(1)));
    assert_eq!(run(&mut state, Command::Form { cluster: ClusterId(2) }), refused);
    assert_eq!(state.cluster(), Some(ClusterId(1)));
}

#[test]
fn a_cluster_that_is_born_again_keeps_the_spec_and_forgets_its_nodes() {
    let mut state = furnished();
    run(&mut state, Command::Form { cluster: ClusterId(1) });
    run(&mut state, Command::PutMember(NodeId(7), member(1)));
    put_join(&mut state, "t", 100);

    let reborn = state.clone().reborn(500, ClusterId(2), &Note { actor: "restore".to_owned(), ..Note::default() });

    assert_eq!((reborn.cluster(), reborn.spec()), (Some(ClusterId(2)), state.spec()));
    assert!(reborn.members().is_empty() && reborn.join_tokens().is_empty());
    assert!(reborn.changes() > state.changes());
    assert_eq!((audited(&reborn)["index"].as_u64(), audited(&reborn)["actor"].as_str()), (Some(500), Some("restore")));
}

#[test]
fn the_same_idempotency_key_changes_nothing_a_second_time() {
    let mut state = State::default();
    let ask = |state: &mut State, seq, base, key: &str| {
        let origin = Origin { node: NodeId(2), incarnation: 1, seq, settled: seq };
        let note = Note { idempotency: Some([7; 32]), ..Note::default() };
        let command = Command::Change { base: Revision(base), changes: vec![put_key(key, key)] };
        state.apply(seq, &Entry { origin, note, command })
    };

    let refused = Refusal::Conflict { base: Revision(9), current: Revision(0) };
    assert_eq!(ask(&mut state, 1, 9, "a"), Reply::Refused(refused));
    assert_eq!(ask(&mut state, 2, 0, "a"), Reply::Applied(Revision(1)), "what was refused may be tried again");
    assert_eq!(ask(&mut state, 3, 1, "b"), Reply::Repeated(Revision(1)));
    assert_eq!(state.spec().keys.len(), 1);
}

fn sealed(byte: u8) -> Sealed {
    Sealed { key: SealKeyId([byte; 8]), nonce: [byte; 24], bytes: vec![byte; 20] }
}

fn with_secret(sealed: Sealed) -> Change {
    let credential = Credential { secret: CredentialSecret::Sealed(sealed), weight: 1, models: None };
    let provider = Provider { credentials: [(CredentialId::new("main"), credential)].into(), ..provider(1) };
    Change::PutProvider(ProviderId::new("openai"), provider)
}

fn reseal(old: u8, new: u8) -> Command {
    let (provider, credential) = (ProviderId::new("openai"), CredentialId::new("main"));
    Command::Reseal(vec![Resealed { provider, credential, old: sealed(old), new: sealed(new) }])
}

#[test]
fn a_secret_is_sealed_again_unless_it_changed_meanwhile() {
    let mut state = State::default();
    apply(&mut state, vec![with_secret(sealed(1))]);
    let secret = |state: &State| state.spec().providers["openai"].credentials["main"].secret.clone();

    let before = state.changes();
    run(&mut state, reseal(9, 2));
    assert_eq!((secret(&state), state.changes()), (CredentialSecret::Sealed(sealed(1)), before));
    run(&mut state, reseal(1, 2));

    assert_eq!(secret(&state), CredentialSecret::Sealed(sealed(2)));
    assert_eq!((state.revision(), state.changes()), (Revision(1), before + 1));
    assert_eq!(audited(&state)["more"]["resealed"], 1);
}

#[test]
fn the_audit_tells_that_a_secret_changed_and_nothing_of_it() {
    let mut state = State::default();
    apply(&mut state, vec![with_secret(sealed(1))]);

    apply(&mut state, vec![with_secret(sealed(2)), put_key("team", "sk-very-secret")]);

    let line = audited(&state);
    let secret = |when: &str| line["changes"][0][when]["keys"][0]["secret"].as_str().unwrap().to_owned();
    assert!(secret("before").starts_with("(sealed ") && secret("after").starts_with("(sealed "));
    assert_ne!(secret("before"), secret("after"));
    assert_eq!(line["changes"][0]["before"].as_object().unwrap().len(), 1, "only what differs is told");
    assert_eq!(line["changes"][1]["after"]["hash"].as_str().unwrap().len(), "sha256:".len() + 12);
}

#[test]
fn policies_are_part_of_the_spec() {
    let mut state = State::default();
    assert_eq!(state.spec().policies.freshness.bound(), Some(std::time::Duration::from_secs(300)));

    apply(&mut state, vec![Change::PutPolicies(Policies { freshness: Freshness::Never })]);

    assert_eq!(state.spec().policies.freshness, Freshness::Never);
    assert_eq!(audited(&state)["changes"][0]["after"]["freshness"], "never");
}

fn switched(state: &mut State, name: &str, to: Switch) -> Reply {
    apply(state, vec![Change::SwitchProvider(ProviderId::new(name), to)])
}

/// A state with the provider `o`, as all members of version 3 have it.
fn with_a_provider() -> State {
    let mut state = State { version: 3, ..State::default() };
    apply(&mut state, vec![Change::PutProvider(ProviderId::new("o"), provider(1))]);
    state
}

#[test]
fn a_provider_stays_switched_off_whatever_is_declared_of_it() {
    let mut state = with_a_provider();
    let o = ProviderId::new("o");

    assert_eq!(switched(&mut state, "o", Switch::Off), Reply::Applied(Revision(2)));
    let told = audited(&state);
    assert_eq!(told["changes"][0]["what"], "provider switch", "{told}");
    assert_eq!(
        (&told["changes"][0]["before"]["state"], &told["changes"][0]["after"]["state"]),
        (&"on".into(), &"off".into())
    );
    apply(&mut state, vec![Change::PutProvider(o.clone(), provider(2))]);

    assert_eq!(state.spec().switch(&o), Switch::Off);
    switched(&mut state, "o", Switch::On);
    assert_eq!(state.spec().switch(&o), Switch::On);
}

#[test]
fn a_provider_that_does_not_exist_has_no_switch() {
    let mut state = with_a_provider();
    switched(&mut state, "o", Switch::Off);

    apply(&mut state, vec![Change::RemoveProvider(ProviderId::new("o"))]);
    switched(&mut state, "o", Switch::Off);

    assert!(state.spec().off.is_empty());
    apply(&mut state, vec![Change::PutProvider(ProviderId::new("o"), provider(1))]);
    assert_eq!(state.spec().switch(&ProviderId::new("o")), Switch::On, "it is another one");
}

#[test]
fn a_switch_needs_a_version_that_all_members_know() {
    let mut state = State { version: 2, ..with_a_provider() };

    let refused = Reply::Refused(Refusal::TooNew { needs: 3, version: 2 });

    assert_eq!(switched(&mut state, "o", Switch::Off), refused);
    assert_eq!(state.spec().switch(&ProviderId::new("o")), Switch::On);
}
