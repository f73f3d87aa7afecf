use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::command::{Change, Command, Refusal, Reply};
use crate::id::{CredentialId, KeyId, ModelId, ProviderId, Revision};
use crate::secret::{KeyHash, Secret};
use crate::spec::{
    Affinity, Auth, Concurrency, Credential, Hedge, Key, Model, OnBreak, Pattern, Provider, Rules, Target, Wire,
};

/// One command that holds every kind of change.
fn every_change() -> Command {
    let credential = Credential {
        secret: Secret::new("sk-upstream".to_owned()),
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
        ],
    }
}

/// The bytes of a schema never change once they were released: a node of the next version must read them.
fn check_golden<M: Message + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire").join(name);
    let golden = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));

    assert_eq!(&decode::<M>(&golden).unwrap(), message);
    assert_eq!(encode(message).unwrap(), golden, "{name} is written differently now: append a schema instead");
}

fn refused() -> Reply {
    Reply::Refused(Refusal::UnknownProvider { model: ModelId::new("m"), provider: ProviderId::new("p") })
}

#[test]
fn golden_bytes_of_schema_1_are_read_and_written() {
    check_golden("command.1.bin", &every_change());
    check_golden("reply.1.bin", &refused());
}

#[test]
#[ignore = "writes the goldens of a new schema; run by hand, once, when one is appended"]
fn write_goldens() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire");
    for (name, bytes) in [("command.1.bin", encode(&every_change())), ("reply.1.bin", encode(&refused()))] {
        let path = folder.join(name);
        assert!(!path.exists(), "{} exists already", path.display());
        std::fs::write(path, bytes.unwrap()).unwrap();
    }
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
    let body = [vec![0, 7, 253], vec![0xff; 8]].concat();
    let mut bytes = [0x52u8, 0x74, 1, 0, 1, 0].to_vec();
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);

    assert!(matches!(decode::<Command>(&bytes), Err(WireError::Malformed(_))));
}

proptest! {
    #[test]
    fn hostile_bytes_are_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode::<Command>(&bytes).is_err());
    }

    #[test]
    fn every_single_bit_flip_is_noticed(bit in 0usize..4000) {
        let mut bytes = encode(&every_change()).unwrap();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);

        prop_assert!(decode::<Command>(&bytes).is_err());
    }
}
