//! A machine for tests: adds numbers, and remembers which.

use bincode::{Decode, Encode};
use troupe_proto::id::NodeId;
use troupe_proto::wire::{self, Message, WireError};

use crate::consensus::Machine;

/// The sum of all numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Counter {
    pub(crate) sum: u64,
    pub(crate) added: Vec<u64>,
    /// Makes snapshots large.
    pub(crate) ballast: Vec<u8>,
}

impl Message for Counter {
    const KIND: u16 = 900;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 8 << 20;
}

/// Adds a number.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Add(pub(crate) u64, pub(crate) Vec<u8>);

/// Adds a number, without ballast.
pub(crate) fn add(number: u64) -> Add {
    Add(number, Vec::new())
}

impl Message for Add {
    const KIND: u16 = 901;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 64 << 20;
}

/// The sum after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Sum(pub(crate) u64);

impl Message for Sum {
    const KIND: u16 = 902;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 64;
}

/// A number that nobody may add: it stands for a command in the name of another node.
pub(crate) const FORGED: u64 = u64::MAX;

/// A number that the leader puts its time in the place of.
pub(crate) const TIME: u64 = u64::MAX - 1;

impl Machine for Counter {
    type Command = Add;
    type Reply = Sum;

    /// A number that was added before is not added again: what a real machine knows by an entry's origin.
    fn apply(&mut self, _index: u64, Add(number, _ballast): &Add) -> Sum {
        if !self.added.contains(number) {
            self.sum += number;
            self.added.push(*number);
        }
        Sum(self.sum)
    }

    fn is_from(_from: NodeId, Add(number, _ballast): &Add) -> bool {
        *number != FORGED
    }

    fn stamp(Add(number, _ballast): &mut Add, at_ms: i64) -> bool {
        let is_judged = *number == TIME;
        if is_judged {
            *number = at_ms.unsigned_abs();
        }
        is_judged
    }

    fn version(&self) -> u64 {
        self.sum
    }

    fn save(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(self)
    }

    fn load(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes)
    }
}
