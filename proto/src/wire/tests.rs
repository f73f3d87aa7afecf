use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::command::{Change, Command, Entry, Note, Origin, Refusal, Reply, Resealed, Reshaped, Seats};
use crate::health::{
    Account, Card, Finding, Load, Millis, Opinion, Opinions, Phase, Print, Probe, Quota, Rest, Scope, Urgent, Why,
};
use crate::id::{AdminTokenId, ClusterId, CredentialId, JoinTokenId, KeyId, ModelId, NodeId, ProviderId, Revision};
use crate::member::Member;
use crate::secret::{CredentialSecret, KeyHash, SealKeyId, Sealed};
use crate::spec::{
    Affinity, Auth, Concurrency, Credential, Freshness, Hedge, Key, Model, OnBreak, Pattern, Policies, Provider, Rules,
    Switch, Target, Wire,
};
use crate::token::{AdminToken, Role};
use crate::unit::PerMille;

fn sealed(byte: u8) -> Sealed {
    Sealed { key: SealKeyId([byte; 8]), nonce: [byte; 24], bytes: vec![byte; 20] }
}

/// One command that holds every kind of change.
fn every_change() -> Command {
    let credential = Credential {
        secret: CredentialSecret::Sealed(sealed(3)),
        weight: 3,
        models: Some(vec![Pattern::parse("gpt-*").unwrap()]),
    };
    let provider = Provider {
        wire: Wire::OpenAi,
        base_url: "https://api.openai.com/v1".parse().unwrap(),
        auth: Auth::Bearer,
        credentials: [(CredentialId::new("main"), credential)].into(),
        azure_api_version: Some("2026-01-01".to_owned()),
        headers: [("x-team".to_owned(), "a".to_owned())].into(),
        ca_pem: None,
        proxy: Some("http://proxy:3128".parse().unwrap()),
        rules: Rules::built_in(),
    };
    let target =
        Target { provider: ProviderId::new("openai"), model: Some("gpt-4o".to_owned()), weight: 9, priority: 1 };
    let model = Model {
        targets: vec![target],
        fallbacks: vec![ModelId::new("b")],
        rules: Rules { concurrency: Some(Concurrency::built_in()), ..Rules::default() },
        hedge: Some(Hedge::built_in()),
        affinity: Affinity::Prefix,
        on_break: OnBreak::Continue,
    };
    let key = Key {
        hash: KeyHash::of(b"sk-1"),
        models: None,
        expires: Some(1_798_761_600),
        metadata: [("owner".to_owned(), "search".to_owned())].into(),
        pin: true,
    };
    Command::Change {
        base: Revision(7),
        changes: vec![
            Change::PutProvider(ProviderId::new("openai"), provider),
            Change::RemoveProvider(ProviderId::new("old")),
            Change::PutModel(ModelId::new("gpt-4o"), model),
            Change::RemoveModel(ModelId::new("old")),
            Change::PutKey(KeyId::new("search-team"), key),
            Change::RemoveKey(KeyId::new("old")),
            Change::PutDefaults(Rules::built_in()),
            Change::PutPolicies(Policies { freshness: Freshness::Never }),
        ],
    }
}

fn reshaped(how: Reshaped) -> Command {
    let before = Seats { voters: vec![NodeId(7)], learners: vec![NodeId(8), NodeId(9)], leader: None };
    let after = Seats { voters: vec![NodeId(7), NodeId(8), NodeId(9)], learners: Vec::new(), leader: Some(NodeId(7)) };
    Command::Reshaped { how, before, after }
}

/// Every command, each in an entry of its own. A new variant goes to the end of this list and of its enum.
fn every_entry() -> Vec<Entry> {
    let member = Member {
        name: "gw-1".to_owned(),
        peer: "gw-1:8082".to_owned(),
        admin: "gw-1:8081".to_owned(),
        data: "gw-1:8080".to_owned(),
        version: 1,
        zone: Some("eu-1a".to_owned()),
    };
    let admin = AdminToken { hash: KeyHash::of(b"t-1"), role: Role::Operator, expires: None };
    let resealed = Resealed {
        provider: ProviderId::new("openai"),
        credential: CredentialId::new("main"),
        old: sealed(1),
        new: sealed(2),
    };
    let commands = [
        every_change(),
        Command::Form { cluster: ClusterId(7) },
        Command::SetVersion(2),
        Command::PutMember(NodeId(9), member),
        Command::RemoveMember(NodeId(9)),
        Command::PutAdminToken(AdminTokenId::new("ci"), admin),
        Command::RemoveAdminToken(AdminTokenId::new("ci")),
        Command::PutJoinToken { id: JoinTokenId::new("gw-2"), hash: KeyHash::of(b"j-1"), expires: 1_798_761_600 },
        Command::RemoveJoinToken(JoinTokenId::new("gw-2")),
        Command::UseJoinToken { hash: KeyHash::of(b"j-1"), node: NodeId(9), at: 1_798_761_599 },
        Command::Reseal(vec![resealed]),
        reshaped(Reshaped::Promoted),
        reshaped(Reshaped::Demoted),
        reshaped(Reshaped::Replaced),
        reshaped(Reshaped::Removed),
        reshaped(Reshaped::Led),
    ];
    let note = Note {
        actor: "ci".to_owned(),
        reason: "because".to_owned(),
        at: 1_798_761_600_123,
        idempotency: Some([5; 32]),
    };
    let entry = |(seq, command)| Entry {
        origin: Origin { node: NodeId(u64::MAX), incarnation: 2, seq, settled: 1 },
        note: note.clone(),
        command,
    };
    (1..).zip(commands).map(entry).collect()
}

/// Commands that need a later version than 2: in entries of schema 2.
fn every_later_entry() -> Vec<Entry> {
    let switch = |to| Change::SwitchProvider(ProviderId::new("openai"), to);
    let commands = [Command::Change { base: Revision(7), changes: vec![switch(Switch::Off), switch(Switch::On)] }];
    let note = Note { actor: "ci".to_owned(), reason: "because".to_owned(), at: 1_798_761_600_123, idempotency: None };
    let entry = |(seq, command)| Entry {
        origin: Origin { node: NodeId(u64::MAX), incarnation: 2, seq, settled: 1 },
        note: note.clone(),
        command,
    };
    (1..).zip(commands).map(entry).collect()
}

/// Every answer. A new variant goes to the end of this list and of its enum.
fn every_reply() -> Vec<Reply> {
    let (model, provider, node) = (ModelId::new("m"), ProviderId::new("p"), NodeId(9));
    let refusals = [
        Refusal::Conflict { base: Revision(1), current: Revision(2) },
        Refusal::UnknownProvider { model: model.clone(), provider },
        Refusal::UnknownFallback { model, fallback: ModelId::new("f") },
        Refusal::SharedSecret { first: KeyId::new("a"), second: KeyId::new("b") },
        Refusal::SharedToken { first: AdminTokenId::new("a"), second: AdminTokenId::new("b") },
        Refusal::Fenced,
        Refusal::Stale,
        Refusal::TooNew { needs: 2, version: 1 },
        Refusal::Downgrade { asked: 1, current: 2 },
        Refusal::Behind { node, knows: 1, asked: 2 },
        Refusal::Formed(ClusterId(7)),
        Refusal::Removed(node),
        Refusal::UnknownJoinToken,
        Refusal::ExpiredJoinToken,
        Refusal::UsedJoinToken(node),
        Refusal::TooMany { what: "members".to_owned(), max: 3 },
    ];
    let others = [Reply::Applied(Revision(3)), Reply::Repeated(Revision(3))];
    others.into_iter().chain(refusals.map(Reply::Refused)).collect()
}

fn every_card() -> Vec<Card> {
    let load = Load { in_flight: 12, in_flight_max: 10_000, connections: 40, busy: Some(PerMille::new(125)) };
    let card = |phase, confirmed| Card {
        name: "gw-1".to_owned(),
        build: "0.1.0".to_owned(),
        version: 1,
        data: "gw-1:8080".to_owned(),
        admin: "gw-1:8081".to_owned(),
        phase,
        is_ready: true,
        confirmed,
        revision: 7,
        load,
    };
    vec![
        card(Phase::Starting, None),
        card(Phase::Serving, Some(Millis(40))),
        card(Phase::Draining, Some(Millis(u32::MAX))),
    ]
}

/// Every opinion there can be of a target, and every finding.
fn every_opinion() -> Vec<Opinions> {
    let whys = [Why::Failures, Why::Unreachable, Why::Credential, Why::Quota, Why::RetryAfter, Why::Paced];
    let rests = whys.map(|why| Some(Rest { why, since: Millis(5), left: Millis(30_000) }));
    let opinion = |rest| Opinion {
        model: "gpt-4o".to_owned(),
        rest,
        suspected: None,
        worked: Some(Millis(900)),
        recovered: None,
        quota: None,
    };
    let quota = Quota { remaining: PerMille::new(80), ago: Millis(10), reset: Some(Millis(60_000)) };
    let mut targets: Vec<Opinion> = rests.map(opinion).into();
    targets.push(Opinion {
        suspected: Some(Millis(3)),
        worked: None,
        recovered: Some(Millis(1)),
        quota: Some(quota),
        ..opinion(None)
    });
    let findings = [Finding::Alive, Finding::Answers, Finding::Dead, Finding::CredentialRefused, Finding::Unknown];
    let account = |finding| Account {
        credential: None,
        print: Print([9; 16]),
        probe: Some(Probe { turn: 1 << 40, finding, ago: Millis(2) }),
        targets: Vec::new(),
    };
    let mut accounts: Vec<Account> = findings.map(account).into();
    accounts.push(Account { credential: Some(CredentialId::new("main")), print: Print([7; 16]), probe: None, targets });
    let nothing = Opinions {
        provider: ProviderId::new("local"),
        incarnation: 1,
        serial: 1,
        has_uplink: true,
        accounts: Vec::new(),
    };
    let all = Opinions { provider: ProviderId::new("openai"), has_uplink: false, accounts, ..nothing.clone() };
    vec![nothing, all]
}

fn every_urgent() -> Vec<Urgent> {
    let every = Scope { provider: None, credential: None, model: None };
    let one = Scope {
        provider: Some(ProviderId::new("openai")),
        credential: Some(CredentialId::new("main")),
        model: Some("gpt-4o".to_owned()),
    };
    let opinions = every_opinion().into_iter().map(Urgent::Opinions);
    opinions.chain([Urgent::Reset(every), Urgent::Reset(one)]).collect()
}

/// What is written as one golden file: the messages one behind the other.
fn concat<M: Message>(messages: &[M]) -> Vec<u8> {
    messages.iter().flat_map(|message| encode(message).unwrap()).collect()
}

/// The bytes of a schema never change once they were released: a node of the next version must read them.
fn check_golden<M: Message + PartialEq + std::fmt::Debug>(name: &str, messages: &[M]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire").join(name);
    let golden = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));

    let mut rest = golden.as_slice();
    for message in messages {
        let written = encode(message).unwrap();
        let (first, behind) = rest.split_at_checked(written.len()).unwrap_or((rest, &[]));
        assert_eq!(&decode::<M>(first).unwrap(), message);
        assert!(first == written, "{name} is written differently now: append a schema instead: {message:?}");
        rest = behind;
    }
    assert!(rest.is_empty(), "{name} holds more than is known: variants are never taken away");
}

fn refused() -> Reply {
    Reply::Refused(Refusal::UnknownProvider { model: ModelId::new("m"), provider: ProviderId::new("p") })
}

#[test]
fn golden_bytes_of_schema_1_are_read_and_written() {
    check_golden("entry.1.bin", &every_entry());
    check_golden("reply.1.bin", &every_reply());
    check_golden("card.1.bin", &every_card());
    check_golden("opinions.1.bin", &every_opinion());
    check_golden("urgent.1.bin", &every_urgent());
}

#[test]
fn golden_bytes_of_schema_2_are_read_and_written() {
    check_golden("entry.2.bin", &every_later_entry());
}

/// An entry as a build reads it that knows schema 1 only.
#[derive(Debug, Encode, Decode)]
struct Earlier(Entry);

impl Message for Earlier {
    const KIND: u16 = Entry::KIND;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = Entry::LIMIT;
}

#[test]
fn an_earlier_build_reads_all_that_it_knows_and_refuses_the_rest_by_the_envelope() {
    for entry in every_entry() {
        let bytes = encode(&entry).unwrap();
        assert_eq!(decode::<Earlier>(&bytes).unwrap().0, entry, "an earlier member would stop at it");
    }
    for entry in every_later_entry() {
        let bytes = encode(&entry).unwrap();
        assert!(matches!(decode::<Earlier>(&bytes), Err(WireError::Schema { found: 2, known: 1 })), "{entry:?}");
    }
}

#[test]
fn what_is_written_in_one_layout_is_not_read_as_another() {
    let relabelled = |entry: &Entry, schema: u8| {
        let mut bytes = encode(entry).unwrap();
        bytes[4] = schema;
        decode::<Entry>(&bytes).unwrap_err()
    };

    let (old, new) = (&every_entry()[1], &every_later_entry()[0]);
    assert!(matches!(relabelled(old, 2), WireError::Mislabelled { found: 2, written: 1 }));
    assert!(matches!(relabelled(new, 1), WireError::Mislabelled { found: 1, written: 2 }));
    for schema in [0, 3] {
        assert!(matches!(relabelled(old, schema), WireError::Schema { known: 2, .. }), "{schema}");
    }
}

#[test]
#[ignore = "writes the goldens of a new schema or variant; run by hand, once, when one is appended"]
fn write_goldens() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire");
    let goldens = [
        ("entry.1.bin", concat(&every_entry())),
        ("entry.2.bin", concat(&every_later_entry())),
        ("reply.1.bin", concat(&every_reply())),
        ("card.1.bin", concat(&every_card())),
        ("opinions.1.bin", concat(&every_opinion())),
        ("urgent.1.bin", concat(&every_urgent())),
    ];
    for (name, bytes) in goldens {
        let path = folder.join(name);
        // What was written once stays the beginning of what is written now.
        let before = std::fs::read(&path).unwrap_or_default();
        assert!(bytes.starts_with(&before), "{} would change", path.display());
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn every_variant_has_golden_bytes() {
    let variant = |bytes: &[u8]| bytes.first().copied();
    let encoded = |command: &Command| bincode::encode_to_vec(command, config::standard()).unwrap();
    let Command::Change { base: _, mut changes } = every_change() else { unreachable!() };
    for entry in every_later_entry() {
        if let Command::Change { base: _, changes: later } = entry.command {
            changes.extend(later);
        }
    }

    let commands: Vec<_> = every_entry().iter().map(|entry| variant(&encoded(&entry.command))).collect();
    let changes: Vec<_> =
        changes.iter().map(|change| variant(&bincode::encode_to_vec(change, config::standard()).unwrap())).collect();

    assert_eq!(commands, (0..=10).chain([11; 5]).map(Some).collect::<Vec<_>>());
    assert_eq!(changes, (0..=7).chain([8; 2]).map(Some).collect::<Vec<_>>());
}

#[test]
fn an_entry_of_an_unknown_variant_is_refused() {
    let note = Note::default();
    let entry = |command| Entry { origin: Origin::default(), note: note.clone(), command };
    let mut body = bincode::encode_to_vec(entry(Command::SetVersion(1)), config::standard()).unwrap();
    let at = body.len() - 2;
    assert_eq!(body[at], 2, "the variant's place moved");

    body[at] = 200;

    assert!(matches!(decode::<Entry>(&enveloped(3, &body)), Err(WireError::Malformed(_))));
}

#[test]
fn a_readable_secret_cannot_be_written() {
    let mut change = every_change();
    let Command::Change { base: _, changes } = &mut change else { unreachable!() };
    let Some(Change::PutProvider(_, provider)) = changes.first_mut() else { unreachable!() };
    for credential in provider.credentials.values_mut() {
        credential.secret = CredentialSecret::open("sk-open");
    }
    let entry = Entry { origin: Origin::default(), note: Note::default(), command: change };

    assert!(matches!(encode(&entry), Err(WireError::Unencodable(_))));
}

/// A body in an envelope of its own, whatever it holds.
fn enveloped(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = [0x52u8, 0x74].to_vec();
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&1u16.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn each_flaw_of_an_envelope_has_its_name() {
    let good = encode(&refused()).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= byte;
        decode::<Reply>(&bytes).unwrap_err()
    };

    assert!(matches!(with(0, 1), WireError::Magic(_)));
    assert!(matches!(with(2, 1), WireError::Kind { .. }));
    assert!(matches!(with(4, 2), WireError::Schema { .. }));
    assert!(matches!(with(9, 0x80), WireError::TooLarge { .. }));
    assert!(matches!(with(10, 1), WireError::Checksum));
    assert!(matches!(with(HEAD_BYTES, 1), WireError::Checksum));
    assert!(matches!(decode::<Reply>(&good[..5]).unwrap_err(), WireError::Short { missing: 9 }));
    assert!(matches!(decode::<Reply>(&[good.clone(), vec![0]].concat()).unwrap_err(), WireError::Trailing(1)));
}

#[test]
fn a_body_that_announces_more_than_the_limit_allocates_nothing() {
    // An entry's origin, a note without words, and a command with 2^64 - 1 changes.
    let body = [vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 253], vec![0xff; 8]].concat();

    assert!(matches!(decode::<Entry>(&enveloped(3, &body)), Err(WireError::Malformed(_))));
}

#[test]
fn opinions_as_large_as_they_may_be_fit_a_datagram_and_larger_ones_are_refused() {
    let opinion = |at: usize| Opinion {
        model: format!("vendor/some-long-model-name-2026-01-01-{at:04}"),
        rest: Some(Rest { why: Why::Failures, since: Millis(u32::MAX), left: Millis(u32::MAX) }),
        suspected: Some(Millis(u32::MAX)),
        worked: Some(Millis(u32::MAX)),
        recovered: Some(Millis(u32::MAX)),
        quota: Some(Quota { remaining: PerMille::new(1000), ago: Millis(u32::MAX), reset: Some(Millis(u32::MAX)) }),
    };
    let of = |count: usize| Opinions {
        provider: ProviderId::new("openai"),
        incarnation: u64::MAX,
        serial: u64::MAX,
        has_uplink: true,
        accounts: vec![Account {
            credential: Some(CredentialId::new("main")),
            print: Print([255; 16]),
            probe: None,
            targets: (0..count).map(opinion).collect(),
        }],
    };

    assert!(encode(&of(Opinions::TARGETS_MAX)).is_ok());
    assert!(matches!(encode(&of(4 * Opinions::TARGETS_MAX)), Err(WireError::TooLarge { .. })));
}

#[test]
fn opinions_that_announce_more_than_the_limit_allocate_nothing() {
    // A provider without a name, incarnation, serial, uplink, and 2^64 - 1 accounts.
    let body = [vec![0, 0, 0, 1, 253], vec![0xff; 8]].concat();

    assert!(matches!(decode::<Opinions>(&enveloped(17, &body)), Err(WireError::Malformed(_))));
}

proptest! {
    #[test]
    fn hostile_bytes_are_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode::<Entry>(&bytes).is_err());
        prop_assert!(decode::<Opinions>(&bytes).is_err());
    }

    #[test]
    fn a_hostile_body_of_opinions_is_read_or_refused_and_never_a_panic(
        body in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        if let Ok(read) = decode::<Opinions>(&enveloped(17, &body)) {
            prop_assert_eq!(decode::<Opinions>(&encode(&read).unwrap()).unwrap(), read);
        }
    }

    #[test]
    fn every_single_bit_flip_is_noticed(bit in 0usize..4000) {
        let mut bytes = encode(&every_entry()[0]).unwrap();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);

        prop_assert!(decode::<Entry>(&bytes).is_err());
    }
}
