//! The bytes of what nodes say to each other for consensus. A node of the next version must read them, and write what
//! one of this version reads.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::path::PathBuf;

use troupe_proto::id::NodeId;
use troupe_proto::wire::{self, Message};

use super::message::{Answer, Ask, Candidacy, Forward, Forwarded, Piece, PieceAnswer};
use super::plain::{Entry, LogId, Members, Meta, Payload, Vote};
use crate::consensus::Reshape;

/// Writes the bytes of messages, and reads what was written before.
struct Golden {
    before: BTreeMap<String, Vec<u8>>,
    now: String,
    is_fresh: bool,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/raft.1.hex")
}

impl Golden {
    fn check<M: Message + PartialEq + Debug>(&mut self, name: &str, message: &M) {
        let bytes = wire::encode(message).unwrap();
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        writeln!(self.now, "{name} {hex}").unwrap();
        if !self.is_fresh {
            let before = self.before.get(name).unwrap_or_else(|| panic!("{name} has no golden bytes"));
            assert_eq!(wire::decode::<M>(before).unwrap(), *message, "{name}");
            assert!(*before == bytes, "{name} is written differently now: append a schema instead");
        }
    }
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

fn vote(is_committed: bool) -> Vote {
    Vote { term: 3, node: NodeId(0x1122_3344_5566_7788), is_committed }
}

fn members() -> Members {
    Members {
        voters: vec![[NodeId(1)].into(), [NodeId(1), NodeId(2), NodeId(3)].into()],
        nodes: (1..=4).map(|node| (NodeId(node), format!("node-{node}:9080"))).collect(),
    }
}

fn check_all(golden: &mut Golden) {
    let candidacy = |is_transfer| Candidacy { vote: vote(false), last: Some(id(2, 300)), is_transfer };
    golden.check("ask/pre-vote", &Ask::PreVote(candidacy(false)));
    golden.check("ask/vote", &Ask::Vote(candidacy(true)));
    let entries = vec![
        Entry { at: id(3, 301), payload: Payload::Blank },
        Entry { at: id(3, 302), payload: Payload::Command((*b"a command").into()) },
        Entry { at: id(3, 303), payload: Payload::Members(members()) },
    ];
    golden.check(
        "ask/append",
        &Ask::Append { vote: vote(true), before: Some(id(2, 300)), entries, committed: Some(id(2, 299)) },
    );
    golden.check("ask/heartbeat", &Ask::Append { vote: vote(true), before: None, entries: vec![], committed: None });
    golden.check("ask/transfer", &Ask::Transfer { vote: vote(true), to: NodeId(2), last: Some(id(3, 303)) });

    golden.check("answer/voted", &Answer::Voted { vote: vote(false), is_granted: true, last: Some(id(2, 300)) });
    golden.check("answer/appended", &Answer::Appended);
    golden.check("answer/appended-to", &Answer::AppendedTo(Some(id(3, 302))));
    golden.check("answer/conflict", &Answer::Conflict);
    golden.check("answer/outvoted", &Answer::Outvoted(vote(true)));
    golden.check("answer/standing", &Answer::Standing);
    golden.check("answer/vote-changed", &Answer::VoteChanged { expected: vote(true), actual: vote(false) });
    golden.check("answer/log-behind", &Answer::LogBehind { expected: Some(id(3, 303)), actual: None });
    golden.check("answer/unable", &Answer::Unable);

    let meta = Meta { last: Some(id(3, 303)), since: Some(id(3, 303)), members: members() };
    golden.check("piece", &Piece { vote: vote(true), meta, total: 9, offset: 6, bytes: b"end".to_vec() });
    golden.check("piece-answer/next", &PieceAnswer::Next(1 << 20));
    golden.check("piece-answer/done", &PieceAnswer::Done(vote(true)));
    golden.check("piece-answer/unable", &PieceAnswer::Unable);

    golden.check("forward/propose", &Forward::Propose { command: (*b"a command").into(), term: 7, within_ms: 5_000 });
    golden.check("forward/read-index", &Forward::ReadIndex);
    for (name, change) in [
        ("add-learner", Reshape::AddLearner { node: NodeId(4), peer: "node-4:9080".to_owned() }),
        ("promote", Reshape::Promote(vec![NodeId(2), NodeId(3)])),
        ("demote", Reshape::Demote(vec![NodeId(2), NodeId(3)])),
        ("remove", Reshape::Remove(NodeId(4))),
        ("replace", Reshape::Replace { old: NodeId(2), new: NodeId(4) }),
        ("transfer-leader", Reshape::TransferLeader(NodeId(2))),
    ] {
        golden.check(&format!("forward/reshape/{name}"), &Forward::Reshape { change, within_ms: 20_000 });
    }
    golden.check("forwarded/applied", &Forwarded::Applied { index: 302, reply: (*b"a reply").into() });
    golden.check("forwarded/read-at", &Forwarded::ReadAt(302));
    golden.check("forwarded/reshaped", &Forwarded::Reshaped);
    golden.check("forwarded/refused", &Forwarded::Refused("never 4".to_owned()));
    golden.check("forwarded/not-leading", &Forwarded::NotLeading);
    golden.check("forwarded/unknown", &Forwarded::Unknown);
    golden.check("forwarded/unable", &Forwarded::Unable);
}

#[test]
fn golden_bytes_of_schema_1_are_read_and_written() {
    let text = std::fs::read_to_string(path()).unwrap();
    let before = text.lines().map(|line| {
        let (name, hex) = line.split_once(' ').unwrap();
        let digits = hex.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap());
        (name.to_owned(), digits.map(|two| u8::from_str_radix(two, 16).unwrap()).collect())
    });
    let mut golden = Golden { before: before.collect(), now: String::new(), is_fresh: false };

    check_all(&mut golden);

    assert_eq!(golden.now, text);
}

#[test]
#[ignore = "writes the goldens of a new schema; run by hand, once, when one is appended"]
fn write_goldens() {
    assert!(!path().exists(), "{} exists already", path().display());
    let mut golden = Golden { before: BTreeMap::new(), now: String::new(), is_fresh: true };

    check_all(&mut golden);

    std::fs::write(path(), golden.now).unwrap();
}
