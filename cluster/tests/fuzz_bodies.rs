//! The bodies of the fuzz targets, run over messages as nodes send them, over damaged ones, and over random bytes: so
//! they compile and hold on every change, where the fuzzer itself runs seldom.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail by panicking, as tests do")]

#[path = "../../tests/fuzz/bodies/datagrams.rs"]
mod datagrams;
#[path = "../../tests/fuzz/bodies/frames.rs"]
mod frames;
#[path = "../../tests/fuzz/bodies/messages.rs"]
mod messages;

use std::collections::BTreeMap;

use proptest::prelude::*;
use troupe_cluster::consensus::Reshape;
use troupe_cluster::raft::plain::{self, LogId, Members, Meta, Payload, Vote};
use troupe_cluster::raft::{Answer, Ask, Candidacy, Forward, Forwarded, Piece, PieceAnswer};
use troupe_cluster::storage::{Snapshot, encode_snapshot};
use troupe_cluster::transport::frame::{Frame, Kind};
use troupe_cluster::transport::{Class, Hello, Rejected};
use troupe_cluster::{State, backup, forming};
use troupe_proto::command::{Change, Command, Entry, Note, Origin, Resealed};
use troupe_proto::id::{
    AdminTokenId, ClusterId, CredentialId, JoinTokenId, KeyId, ModelId, NodeId, ProviderId, Revision,
};
use troupe_proto::member::Member;
use troupe_proto::secret::{CredentialSecret, KeyHash, SealKeyId, Sealed};
use troupe_proto::spec::{Auth, Credential, Key, Model, Pattern, Policies, Provider, Rules, Target, Wire};
use troupe_proto::token::{AdminToken, Role};
use troupe_proto::wire::{HEAD_BYTES, encode};

fn sealed(byte: u8) -> Sealed {
    Sealed { key: SealKeyId([1; 8]), nonce: [2; 24], bytes: vec![byte; 20] }
}

fn changes() -> Vec<Change> {
    let credential = Credential { secret: CredentialSecret::Sealed(sealed(3)), weight: 1, models: None };
    let provider = Provider {
        wire: Wire::OpenAi,
        base_url: "http://127.0.0.1:1".parse().unwrap(),
        auth: Auth::Bearer,
        credentials: BTreeMap::from([(CredentialId::new("main"), credential)]),
        azure_api_version: None,
        headers: BTreeMap::from([("x-a".to_owned(), "b".to_owned())]),
        ca_pem: None,
        proxy: None,
        rules: Rules::default(),
    };
    let target = Target { provider: ProviderId::new("openai"), model: None, weight: 1, priority: 0 };
    let model = Model { targets: vec![target], ..Model::default() };
    let key = Key {
        hash: KeyHash::of(b"sk-1"),
        models: Some(vec![Pattern::parse("gpt-*").unwrap()]),
        expires: Some(5),
        metadata: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        pin: true,
    };
    vec![
        Change::PutProvider(ProviderId::new("openai"), provider),
        Change::PutModel(ModelId::new("gpt-*"), model),
        Change::PutKey(KeyId::new("team"), key),
        Change::PutDefaults(Rules::default()),
        Change::PutPolicies(Policies::default()),
        Change::RemoveKey(KeyId::new("team")),
    ]
}

fn member() -> Member {
    Member {
        name: "gw-1".into(),
        peer: "gw-1:8082".into(),
        admin: "gw-1:8081".into(),
        data: "gw-1:8080".into(),
        version: 1,
        zone: Some("a".into()),
    }
}

fn entries() -> Vec<Entry> {
    let token = AdminToken { hash: KeyHash::of(b"t"), role: Role::Operator, expires: Some(9) };
    let (id, hash) = (JoinTokenId::new("j"), KeyHash::of(b"j"));
    let resealed = Resealed {
        provider: ProviderId::new("openai"),
        credential: CredentialId::new("main"),
        old: sealed(3),
        new: sealed(4),
    };
    let commands = vec![
        Command::Form { cluster: ClusterId(7) },
        Command::Change { base: Revision(0), changes: changes() },
        Command::SetVersion(1),
        Command::PutMember(NodeId(1), member()),
        Command::RemoveMember(NodeId(2)),
        Command::PutAdminToken(AdminTokenId::new("ops"), token),
        Command::RemoveAdminToken(AdminTokenId::new("other")),
        Command::PutJoinToken { id: id.clone(), hash, expires: 100 },
        Command::UseJoinToken { hash, node: NodeId(3), at: 50 },
        Command::RemoveJoinToken(id),
        Command::Reseal(vec![resealed]),
    ];
    let note = Note { actor: "ops".into(), reason: "why".into(), at: 1, idempotency: Some([5; 32]) };
    (1..)
        .zip(commands)
        .map(|(seq, command)| {
            let origin = Origin { node: NodeId(1), incarnation: 1, seq, settled: 1 };
            let note = if seq == 2 { note.clone() } else { Note::default() };
            Entry { origin, note, command }
        })
        .collect()
}

/// What nodes say for consensus, and before they belong to one cluster.
fn talk() -> Vec<Vec<u8>> {
    let vote = Vote { term: 3, node: NodeId(1), is_committed: true };
    let at = LogId { term: 3, index: 9 };
    let candidacy = Candidacy { vote, last: Some(at), is_transfer: false };
    let command = encode(&entries()[0]).unwrap();
    let entries = vec![
        plain::Entry { at, payload: Payload::Blank },
        plain::Entry { at, payload: Payload::Command(command.clone().into()) },
        plain::Entry { at, payload: Payload::Members(Members::default()) },
    ];
    let piece = Piece { vote, meta: Meta::default(), total: 10, offset: 5, bytes: vec![1; 5] };
    let reshape = Reshape::Replace { old: NodeId(1), new: NodeId(2) };
    let member = member();
    vec![
        encode(&Ask::Vote(candidacy)).unwrap(),
        encode(&Ask::Append { vote, before: Some(at), entries, committed: None }).unwrap(),
        encode(&Answer::Voted { vote, is_granted: true, last: None }).unwrap(),
        encode(&Answer::AppendedTo(Some(at))).unwrap(),
        encode(&piece).unwrap(),
        encode(&PieceAnswer::Done(vote)).unwrap(),
        encode(&Forward::Propose { command: command.into(), term: 7, within_ms: 5 }).unwrap(),
        encode(&Forward::Reshape { change: reshape, within_ms: 5 }).unwrap(),
        encode(&Forwarded::Refused("no".to_owned())).unwrap(),
        encode(&forming::Ask::Enter { token: Some("t".to_owned()), csr_pem: None, member }).unwrap(),
        encode(&forming::Answer::Entered { cluster: ClusterId(7), certificate: None }).unwrap(),
        encode_snapshot(&Snapshot { meta: Meta::default(), state: vec![1; 9].into() }).unwrap(),
        backup::encode(&State::default(), 7, 8).unwrap(),
    ]
}

/// Messages in their envelopes.
fn sent() -> Vec<Vec<u8>> {
    let hello = Hello {
        cluster: Some(ClusterId(7)),
        node: NodeId(1),
        incarnation: 2,
        versions: (1, 1),
        class: Class::Append,
        seal_key: Some([1; 8]),
        peer: "gw-1:8082".to_owned(),
    };
    let mut state = State::default();
    let mut sent = vec![encode(&hello).unwrap()];
    for (index, entry) in (1..).zip(entries()) {
        sent.push(encode(&state.apply(index, &entry)).unwrap());
        sent.push(encode(&entry).unwrap());
        sent.push(encode(&state).unwrap());
    }
    sent.extend(talk());
    sent
}

/// What the bodies are fed: whole messages, their bodies alone, and streams of frames around them.
fn inputs() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for message in sent() {
        let bytes = |frame: Frame| [frame.head().unwrap().as_slice(), &frame.body].concat();
        let mut stream = bytes(Frame::new(Kind::Hello, 0, message.clone()));
        stream.extend(bytes(Frame::new(Kind::Call, 1, message.clone())));
        stream.extend(bytes(Frame::new(Kind::Ping, 0, Vec::new())));
        stream.extend(bytes(Frame::refuse(1, Rejected::Busy)));
        inputs.push(message[HEAD_BYTES..].to_vec());
        inputs.push(message);
        inputs.push(stream);
    }
    inputs
}

fn run_all(cut: u8, input: &[u8]) {
    datagrams::run(input);
    frames::run((cut, input));
    messages::run(input);
}

#[test]
fn every_fuzz_body_holds_over_what_nodes_send() {
    let inputs = inputs();
    assert!(inputs.len() > 90);
    for datagram in datagrams::sent() {
        datagrams::run(&datagram);
    }
    for input in inputs {
        for cut in [0, 1, 7, 255] {
            run_all(cut, &input);
        }
    }
}

#[test]
fn every_fuzz_body_holds_over_damaged_messages() {
    let mut inputs = inputs();
    inputs.extend(datagrams::sent());
    let damage = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0_u8..4, any::<u8>());
    proptest!(ProptestConfig::with_cases(2048), |((which, place, byte, kind, cut) in damage)| {
        let mut input = which.get(&inputs).clone();
        let at = place.index(input.len());
        match kind {
            0 => input.truncate(at),
            1 => input.insert(at, byte),
            2 => input[at] = byte,
            _ => input.splice(at..at, input.clone()).for_each(drop),
        }
        run_all(cut, &input);
    });
}

proptest! {
    #[test]
    fn every_fuzz_body_holds_over_random_bytes(cut in any::<u8>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        run_all(cut, &bytes);
    }
}
