//! The nodes of a cluster, as they tell of themselves.

use bincode::{Decode, Encode};

/// The newest version of the agreed state that this build reads and writes.
///
/// A cluster is at the version that each of its members knows, and a command that needs a later one is refused: so no
/// member ever meets an entry it cannot read. Whatever changes what `apply` makes of a command needs a later version
/// too.
///
/// | version | brings |
/// |---|---|
/// | 1 | everything up to tokens and resealed secrets |
/// | 2 | the audit's lines of how who takes part was changed |
pub const VERSION: u16 = 2;

/// What a node tells the others about itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Member {
    /// What operators call it.
    pub name: String,
    /// Where other nodes reach it: `host:port`.
    pub peer: String,
    /// Where operators reach it: `host:port`.
    pub admin: String,
    /// Where clients reach it: `host:port`.
    pub data: String,
    /// The newest version of the agreed state it knows: its build's [`VERSION`].
    pub version: u16,
    /// Where it stands, in the operator's words.
    pub zone: Option<String>,
}
