//! The handshake's decisions: whether two nodes talk to each other at all.

use troupe_proto::id::{ClusterId, NodeId};
use troupe_proto::wire::{self, Message, WireError};

use super::{Class, Hello, Rejected};

/// The versions of the protocol that this build speaks.
pub const VERSIONS: (u16, u16) = (1, 1);

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The cluster, once there is one.
    pub cluster: Option<ClusterId>,
    /// The node.
    pub node: NodeId,
    /// Which start of its process it is.
    pub incarnation: u64,
    /// Where other nodes reach it.
    pub peer: String,
    /// The keys it can open secrets with, by id; the first is the one it seals with. None: it has no opinion.
    pub seal_keys: Vec<[u8; 8]>,
}

impl Introduction {
    /// The first message of a connection of this class.
    pub(super) fn hello(&self, class: Class) -> Hello {
        Hello {
            cluster: self.cluster,
            node: self.node,
            incarnation: self.incarnation,
            versions: VERSIONS,
            class,
            seal_key: self.seal_keys.first().copied(),
            peer: self.peer.clone(),
        }
    }

    /// Whether to talk to who said `hello`, where `expected` was dialled, and by which version.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn judge(&self, hello: &Hello, expected: Option<NodeId>) -> Result<u16, Rejected> {
        let version = VERSIONS.1.min(hello.versions.1);
        if version < VERSIONS.0.max(hello.versions.0) {
            return Err(Rejected::Version);
        }
        // A node without a cluster is about to join one; that it may is for its certificate or token to show.
        if let (Some(own), Some(theirs)) = (self.cluster, hello.cluster)
            && own != theirs
        {
            return Err(Rejected::ForeignCluster);
        }
        if hello.node == self.node {
            return Err(Rejected::OwnId);
        }
        if expected.is_some_and(|expected| expected != hello.node) {
            return Err(Rejected::WrongNode);
        }
        // While keys are rotated, nodes seal with different ones; what counts is that each can open the other's.
        if let Some(theirs) = hello.seal_key
            && !self.seal_keys.is_empty()
            && !self.seal_keys.contains(&theirs)
        {
            return Err(Rejected::ForeignSealKey);
        }
        Ok(version)
    }
}

/// Reads a Hello.
///
/// # Errors
/// [`Rejected::Version`] for one of another layout, [`Rejected::Malformed`] for anything else that is none.
pub fn read(body: &[u8]) -> Result<Hello, Rejected> {
    wire::decode(body).map_err(|error| unreadable(&error))
}

/// Looks at a call's envelope, for [`super::Service::check`].
///
/// # Errors
/// [`Rejected::Version`] for a layout that is not known here, [`Rejected::TooLarge`] for a message over its limit, and
/// [`Rejected::Malformed`] for anything else that is not this message.
pub fn readable<M: Message>(body: &[u8]) -> Result<(), Rejected> {
    wire::check::<M>(body).map_err(|error| unreadable(&error))
}

const fn unreadable(error: &WireError) -> Rejected {
    match error {
        WireError::Schema { .. } => Rejected::Version,
        WireError::Mislabelled { .. } => Rejected::Malformed,
        WireError::TooLarge { .. } => Rejected::TooLarge,
        WireError::Short { .. }
        | WireError::Magic(_)
        | WireError::Kind { .. }
        | WireError::Checksum
        | WireError::Trailing(_)
        | WireError::Malformed(_)
        | WireError::Unencodable(_) => Rejected::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> Introduction {
        Introduction {
            cluster: Some(ClusterId(7)),
            node: NodeId(id),
            incarnation: 1,
            peer: "gw:1".into(),
            seal_keys: vec![[1; 8]],
        }
    }

    #[test]
    fn nodes_of_one_cluster_talk() {
        let hello = node(2).hello(Class::Vote);

        assert_eq!(node(1).judge(&hello, Some(NodeId(2))), Ok(1));
        assert_eq!(node(1).judge(&hello, None), Ok(1));
    }

    #[test]
    fn a_node_without_a_cluster_or_seal_key_is_let_in_by_its_certificate_alone() {
        let fresh = Introduction { cluster: None, seal_keys: vec![], ..node(2) };

        assert_eq!(node(1).judge(&fresh.hello(Class::Join), None), Ok(1));
        assert_eq!(fresh.judge(&node(1).hello(Class::Vote), None), Ok(1));
    }

    #[test]
    fn each_mismatch_has_its_own_reason() {
        let own = node(1);
        let hello = |change: fn(&mut Hello)| {
            let mut hello = node(2).hello(Class::Vote);
            change(&mut hello);
            own.judge(&hello, Some(NodeId(2)))
        };

        assert_eq!(hello(|h| h.cluster = Some(ClusterId(8))), Err(Rejected::ForeignCluster));
        assert_eq!(hello(|h| h.node = NodeId(1)), Err(Rejected::OwnId));
        assert_eq!(hello(|h| h.node = NodeId(3)), Err(Rejected::WrongNode));
        assert_eq!(hello(|h| h.seal_key = Some([2; 8])), Err(Rejected::ForeignSealKey));
        assert_eq!(hello(|h| h.versions = (2, 3)), Err(Rejected::Version));
        assert_eq!(hello(|h| h.versions = (0, 0)), Err(Rejected::Version));
        assert_eq!(hello(|h| h.versions = (0, 9)), Ok(1));
    }

    #[test]
    fn nodes_in_the_middle_of_a_key_rotation_talk() {
        let rotated = Introduction { seal_keys: vec![[2; 8], [1; 8]], ..node(2) };
        let prepared = Introduction { seal_keys: vec![[1; 8], [2; 8]], ..node(1) };

        assert_eq!(prepared.judge(&rotated.hello(Class::Vote), None), Ok(1));
        assert_eq!(node(1).judge(&rotated.hello(Class::Vote), None), Err(Rejected::ForeignSealKey));
    }

    #[test]
    fn a_hello_looks_like_this_for_ever() {
        let hello = Hello { versions: (1, 2), ..node(0x1234).hello(Class::Forward) };

        let bytes = wire::encode(&hello).unwrap();

        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "527440000100170000008271f05e0107fb3412010102030101010101010101010467773a31");
        assert_eq!(read(&bytes), Ok(hello));
    }

    #[test]
    fn a_hello_of_another_layout_is_another_version() {
        let mut bytes = wire::encode(&node(2).hello(Class::Vote)).unwrap();
        bytes[4] = 2;

        assert_eq!(read(&bytes), Err(Rejected::Version));
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), Err(Rejected::Malformed));
        assert_eq!(read(b""), Err(Rejected::Malformed));
    }

    #[test]
    fn a_call_is_known_by_its_envelope() {
        let hello = wire::encode(&node(2).hello(Class::Vote)).unwrap();
        let changed = |at: usize, byte: u8| {
            let mut bytes = hello.clone();
            bytes[at] = byte;
            readable::<Hello>(&bytes)
        };

        assert_eq!(readable::<Hello>(&hello), Ok(()));
        assert_eq!(changed(0, 1), Err(Rejected::Malformed));
        assert_eq!(changed(2, 99), Err(Rejected::Malformed));
        assert_eq!(changed(4, 2), Err(Rejected::Version));
        assert_eq!(changed(8, 1), Err(Rejected::TooLarge));
        assert_eq!(readable::<Hello>(&hello[..20]), Err(Rejected::Malformed));
    }
}
