//! What nodes say to each other before they belong to one cluster.

use bincode::{Decode, Encode};
use troupe_proto::id::{ClusterId, NodeId};
use troupe_proto::member::Member;
use troupe_proto::wire::Message;

/// What a node that belongs to no cluster asks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Ask {
    /// Who are you, and whose?
    Meet {
        /// How many nodes the asker expects to form a cluster with.
        expect: Option<u32>,
    },
    /// Let me in.
    Enter {
        /// What lets in who has no certificate yet.
        token: Option<String>,
        /// For such a one: what to sign.
        csr_pem: Option<String>,
        /// Who asks.
        member: Member,
    },
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// What this node knows of its cluster; who it is, its [`Hello`](crate::transport::Hello) said.
    Met {
        /// How many nodes it expects to form one with.
        expect: Option<u32>,
        /// Who takes part in its cluster.
        members: Vec<NodeId>,
    },
    /// The asker takes part from now on, without a vote.
    Entered {
        /// In this cluster.
        cluster: ClusterId,
        /// The certificate it asked for, and that of its CA.
        certificate: Option<(String, String)>,
    },
    /// It does not, and asking again does not help.
    Refused(String),
    /// Ask again in a moment.
    Later(String),
    /// Ask another member: this one cannot do it, for want of what only some have.
    Elsewhere(String),
}

// Kinds 80 to 95 are this module's.
impl Message for Ask {
    const KIND: u16 = 80;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 32 << 10;
}

impl Message for Answer {
    const KIND: u16 = 81;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 32 << 10;
}
