//! A state as it was saved once stays one that is read, and is written the same.

use std::path::{Path, PathBuf};

use troupe_proto::id::{AdminTokenId, CredentialId, JoinTokenId};
use troupe_proto::secret::{CredentialSecret, SealKeyId, Sealed};
use troupe_proto::spec::{Affinity, Credential, Freshness, Hedge, OnBreak, Pattern, Policies, Switch};
use troupe_proto::token::Role;
use troupe_proto::wire;

use super::*;

/// A state that holds one of everything, with what the audit tells of it. What is applied here must come to the same for
/// ever: it is what `apply` promises between versions.
fn everything() -> State {
    let mut state = furnished();
    let sealed = Sealed { key: SealKeyId([1; 8]), nonce: [2; 24], bytes: vec![3; 20] };
    let pattern = |text: &str| vec![Pattern::parse(text).unwrap()];
    let credential = Credential { secret: CredentialSecret::Sealed(sealed), weight: 3, models: Some(pattern("gpt-*")) };
    let full = Provider {
        auth: Auth::ApiKey,
        credentials: [(CredentialId::new("main"), credential)].into(),
        azure_api_version: Some("2026-01-01".to_owned()),
        headers: [("x-team".to_owned(), "a".to_owned())].into(),
        ca_pem: Some("-----BEGIN CERTIFICATE-----".to_owned()),
        proxy: Some("http://proxy:3128".parse().unwrap()),
        rules: Rules { concurrency: Some(troupe_proto::spec::Concurrency::built_in()), ..Rules::built_in() },
        ..provider(8_000)
    };
    let chat = Model {
        fallbacks: vec![ModelId::new("chat")],
        rules: Rules::built_in(),
        hedge: Some(Hedge::built_in()),
        affinity: Affinity::Prefix,
        on_break: OnBreak::Continue,
        ..model("azure", &[])
    };
    let full_key = Key {
        models: Some(pattern("claude-*")),
        expires: Some(1_798_761_600),
        metadata: [("owner".to_owned(), "search".to_owned())].into(),
        pin: true,
        ..key("sk-2")
    };
    apply(
        &mut state,
        vec![
            Change::PutProvider(ProviderId::new("azure"), full),
            Change::PutModel(ModelId::new("gpt-4o"), chat),
            Change::PutKey(KeyId::new("full"), full_key),
            Change::PutDefaults(Rules::built_in()),
            Change::PutPolicies(Policies { freshness: Freshness::Never }),
        ],
    );
    apply(&mut state, vec![Change::RemoveKey(KeyId::new("team")), put_key("full", "sk-3")]);
    let at = "gw-1:8080".to_owned();
    let zone = Some("eu-1a".to_owned());
    let member = Member { name: "gw-1".to_owned(), peer: at.clone(), admin: at.clone(), data: at, version: 1, zone };
    let token = AdminToken { hash: KeyHash::of(b"t"), role: Role::Admin, expires: Some(1_798_761_600) };
    for command in [
        Command::Form { cluster: ClusterId(7) },
        Command::PutMember(NodeId(70), member),
        Command::RemoveMember(NodeId(71)),
        Command::PutAdminToken(AdminTokenId::new("ci"), token),
        Command::PutJoinToken { id: JoinTokenId::new("j"), hash: KeyHash::of(b"j"), expires: 1_798_761_600 },
        Command::UseJoinToken { hash: KeyHash::of(b"j"), node: NodeId(72), at: 1 },
    ] {
        assert!(matches!(run(&mut state, command), Reply::Applied(_)));
    }
    let origin = Origin { node: NodeId(70), incarnation: 3, seq: 5, settled: 4 };
    let note =
        Note { actor: "ci".to_owned(), reason: "why".to_owned(), at: 1_798_761_600_123, idempotency: Some([9; 32]) };
    let command = Command::Change { base: state.revision(), changes: vec![put_key("last", "sk-last")] };
    state.apply(50, &Entry { origin, note: note.clone(), command: command.clone() });
    state.apply(51, &Entry { origin: Origin { seq: 6, ..origin }, note: Note { idempotency: None, ..note }, command });
    state
}

/// What version 3 brings, behind all that.
fn everything_of_3() -> State {
    let mut state = State { version: 3, ..everything() };
    let switch = |name, to| Change::SwitchProvider(ProviderId::new(name), to);
    let reply = apply(&mut state, vec![switch("azure", Switch::Off), switch("openai", Switch::On)]);
    assert!(matches!(reply, Reply::Applied(_)), "{reply:?}");
    state
}

/// A state for each schema.
fn goldens() -> [(PathBuf, State); 2] {
    let path = |schema| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/state.{schema}.bin"));
    [(path(1), everything()), (path(2), everything_of_3())]
}

fn path() -> PathBuf {
    let [(path, _), _] = goldens();
    path
}

#[test]
fn golden_bytes_of_a_state_are_read_and_written() {
    for (path, state) in goldens() {
        let golden = std::fs::read(path).unwrap();

        assert_eq!(wire::decode::<State>(&golden).unwrap(), state, "the same entries come to something else now");
        assert!(wire::encode(&state).unwrap() == golden, "a state is written differently now: append a schema instead");
    }
}

#[test]
fn a_state_is_written_as_the_members_of_its_version_read_it() {
    let schema = |state: &State| wire::encode(state).unwrap()[4];

    assert_eq!([1, 2, 3].map(|version| schema(&State { version, ..everything() })), [1, 1, 2]);
}

#[test]
#[ignore = "writes the golden of a new schema; run by hand, once, when one is appended"]
fn write_golden() {
    for (path, state) in goldens() {
        if !path.exists() {
            std::fs::write(path, wire::encode(&state).unwrap()).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn a_snapshot_with_a_flipped_bit_or_hostile_bytes_is_an_error(
        bit in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut saved = std::fs::read(path()).unwrap();
        let bit = bit.index(saved.len() * 8);
        saved[bit / 8] ^= 1 << (bit % 8);

        prop_assert!(wire::decode::<State>(&saved).is_err());
        prop_assert!(wire::decode::<State>(&bytes).is_err());
    }
}
