//! How a datagram looks: a head that everybody can read and nobody can change, and a sealed part.
//!
//! ```text
//! 0       2         3      4       5     13        29       37            45   53        61    69      93
//! | magic | version | part | parts | key | cluster | sender | incarnation | to | unix ms | seq | nonce | sealed, tag |
//! ```
//! Numbers are little-endian. XChaCha20-Poly1305 covers the head as associated data. What chitchat wants to send may be
//! 64 KiB; it goes in parts that fit the smallest path an IPv6 network may have, so that none is ever fragmented.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use troupe_proto::id::{ClusterId, NodeId};
use troupe_proto::secret::Secret;

use super::Refused;
use crate::seal::{KEY_BYTES, Keyring, NoRandom, Random};

const MAGIC: [u8; 2] = *b"tG";
/// The layout; another one is refused, not guessed at.
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 69;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// The most bytes of a datagram: 1,280, the least that IPv6 lets a path have, less the heads of IPv6 and UDP.
pub const DATAGRAM_MAX: usize = 1232;
/// What one datagram carries of a message.
pub const PART_MAX: usize = DATAGRAM_MAX - HEAD_BYTES - NONCE_BYTES - TAG_BYTES;
/// The most parts of a message.
pub const PARTS_MAX: u8 = 64;
/// The most bytes of a message: what a UDP datagram can have, which is what chitchat keeps to.
pub const MESSAGE_MAX: usize = 65_507;

const _: () = assert!(MESSAGE_MAX <= PART_MAX * PARTS_MAX as usize, "every message can be sent");

/// What a datagram says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which part of its message it is, from 0 on.
    pub part: u8,
    /// Of how many; the parts of a message have numbers one after the other.
    pub parts: u8,
    /// What it is sealed under.
    pub key: KeyTag,
    /// Its sender's cluster.
    pub cluster: ClusterId,
    /// Its sender.
    pub from: NodeId,
    /// Which start of its sender's process.
    pub incarnation: u64,
    /// Whom it is for.
    pub to: NodeId,
    /// When it was sent by its sender's wall clock, in milliseconds since 1970.
    pub sent_ms: i64,
    /// Its number among all that this incarnation of its sender sent.
    pub seq: u64,
}

/// Names a key for datagrams.
pub type KeyTag = [u8; 8];

impl Head {
    fn write(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let fields: [&[u8]; 11] = [
            &MAGIC,
            &[VERSION],
            &[self.part],
            &[self.parts],
            &self.key,
            &self.cluster.0.to_le_bytes(),
            &self.from.0.to_le_bytes(),
            &self.incarnation.to_le_bytes(),
            &self.to.0.to_le_bytes(),
            &self.sent_ms.to_le_bytes(),
            &self.seq.to_le_bytes(),
        ];
        bytes.iter_mut().zip(fields.into_iter().flatten()).for_each(|(place, byte)| *place = *byte);
        bytes
    }
}

/// A datagram taken apart; nothing in it is proven yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// What it says of itself.
    pub head: Head,
    said: &'a [u8],
    nonce: [u8; NONCE_BYTES],
    sealed: &'a [u8],
}

/// Takes bytes apart.
///
/// # Errors
/// [`Refused::Oversized`], [`Refused::Malformed`], [`Refused::Version`].
pub fn read(bytes: &[u8]) -> Result<Datagram<'_>, Refused> {
    if bytes.len() > DATAGRAM_MAX {
        return Err(Refused::Oversized);
    }
    let (said, sealed) = bytes.split_at_checked(HEAD_BYTES + NONCE_BYTES).ok_or(Refused::Malformed)?;
    let mut rest = said;
    let [magic @ .., version] = take::<3>(&mut rest)?;
    if magic != MAGIC {
        return Err(Refused::Malformed);
    }
    if version != VERSION {
        return Err(Refused::Version);
    }
    let [part, parts] = take(&mut rest)?;
    let head = Head {
        part,
        parts,
        key: take(&mut rest)?,
        cluster: ClusterId(u128::from_le_bytes(take(&mut rest)?)),
        from: NodeId(u64::from_le_bytes(take(&mut rest)?)),
        incarnation: u64::from_le_bytes(take(&mut rest)?),
        to: NodeId(u64::from_le_bytes(take(&mut rest)?)),
        sent_ms: i64::from_le_bytes(take(&mut rest)?),
        seq: u64::from_le_bytes(take(&mut rest)?),
    };
    let nonce = take(&mut rest)?;
    let is_numbered = part < parts && parts <= PARTS_MAX && u64::from(part) <= head.seq;
    if !is_numbered || sealed.len() < TAG_BYTES {
        return Err(Refused::Malformed);
    }
    Ok(Datagram { head, said, nonce, sealed })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Refused> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(Refused::Malformed)?;
    *rest = left;
    Ok(*taken)
}

/// The keys of datagrams: sealed under the first, opened under any. They come from the keys that secrets of providers are
/// sealed under, so that a rotation of those rotates these.
#[derive(Clone)]
pub struct Keys {
    keys: Vec<(KeyTag, Secret<[u8; KEY_BYTES]>)>,
    random: Random,
}

impl Keys {
    /// The keys of a node that has these keys for secrets, in this cluster.
    pub fn of(keyring: &Keyring, cluster: ClusterId) -> Self {
        let keys = keyring
            .derived::<{ KEY_BYTES + 8 }>(b"troupe gossip 1", &cluster.0.to_le_bytes())
            .into_iter()
            .filter_map(|bytes| {
                let (tag, rest) = bytes.expose().split_first_chunk::<8>()?;
                Some((*tag, Secret::new(*rest.first_chunk::<KEY_BYTES>()?)))
            })
            .collect();
        Self { keys, random: keyring.random() }
    }

    /// The key that datagrams are sealed under.
    pub fn current(&self) -> KeyTag {
        self.keys.first().map_or([0; 8], |(tag, _)| *tag)
    }

    fn get(&self, tag: KeyTag) -> Option<XChaCha20Poly1305> {
        let (_, key) = self.keys.iter().find(|(known, _)| *known == tag)?;
        Some(XChaCha20Poly1305::new(key.expose().into()))
    }

    /// Seals a part of a message under the key that the head names.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub fn seal(&self, head: &Head, part: &[u8]) -> Result<Vec<u8>, NoRandom> {
        let mut nonce = [0; NONCE_BYTES];
        (self.random)(&mut nonce)?;
        let mut bytes = head.write().to_vec();
        bytes.extend_from_slice(&nonce);
        let payload = Payload { msg: part, aad: &bytes };
        // It fails for lengths only, and parts are short; who reads it knows by its length.
        let sealed = self.get(head.key).and_then(|cipher| cipher.encrypt(&XNonce::from(nonce), payload).ok());
        bytes.extend(sealed.unwrap_or_default());
        Ok(bytes)
    }

    /// Opens what was sealed under a key that is known here, and is as it was sent.
    ///
    /// # Errors
    /// [`Refused::UnknownKey`], [`Refused::Altered`].
    pub fn open(&self, datagram: &Datagram<'_>) -> Result<Vec<u8>, Refused> {
        let cipher = self.get(datagram.head.key).ok_or(Refused::UnknownKey)?;
        let payload = Payload { msg: datagram.sealed, aad: datagram.said };
        cipher.decrypt(&XNonce::from(datagram.nonce), payload).map_err(|_| Refused::Altered)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Keys as a node has them whose seal keys are these bytes; the first is the current one.
    pub(in super::super) fn keys(bytes: &[u8]) -> Keys {
        Keys::of(&keyring(bytes), ClusterId(7))
    }

    pub(in super::super) fn keyring(bytes: &[u8]) -> Keyring {
        let mut keys = bytes.iter().map(|byte| Secret::new([*byte; KEY_BYTES]));
        let current = keys.next().unwrap();
        Keyring::new(current, keys.collect(), crate::seal::tests::counting())
    }

    pub(in super::super) fn head(keys: &Keys) -> Head {
        Head {
            part: 0,
            parts: 1,
            key: keys.current(),
            cluster: ClusterId(7),
            from: NodeId(1),
            incarnation: 3,
            to: NodeId(2),
            sent_ms: 1_000_000,
            seq: 9,
        }
    }

    #[test]
    fn what_is_sealed_opens_under_the_same_keys_and_says_who_sent_it() {
        let keys = keys(&[1]);
        let bytes = keys.seal(&head(&keys), b"what nodes say").unwrap();

        let datagram = read(&bytes).unwrap();

        assert_eq!(datagram.head, head(&keys));
        assert_eq!(keys.open(&datagram).unwrap(), b"what nodes say");
        assert!(!bytes.windows(4).any(|part| part == b"what"));
    }

    #[test]
    fn the_longest_part_fits_a_datagram() {
        let keys = keys(&[1]);

        let bytes = keys.seal(&head(&keys), &[7; PART_MAX]).unwrap();

        assert_eq!(bytes.len(), DATAGRAM_MAX);
        assert!(read(&bytes).is_ok());
        assert_eq!(read(&[bytes.as_slice(), &[0]].concat()), Err(Refused::Oversized));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let keys = keys(&[1]);
        let bytes = keys.seal(&head(&keys), b"x").unwrap();

        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);

            let opened = read(&bytes).and_then(|datagram| keys.open(&datagram));

            assert!(opened.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_rotated_key_opens_what_the_old_one_sealed_and_a_strange_one_does_not() {
        let (old, new) = (keys(&[1]), keys(&[2, 1]));
        let bytes = old.seal(&head(&old), b"x").unwrap();

        assert_eq!(new.open(&read(&bytes).unwrap()).unwrap(), b"x");
        assert_ne!(new.current(), old.current());
        assert_eq!(keys(&[2]).open(&read(&bytes).unwrap()), Err(Refused::UnknownKey));
    }

    #[test]
    fn another_cluster_with_the_same_seal_key_has_other_keys() {
        let other = Keys::of(&keyring(&[1]), ClusterId(8));

        assert_ne!(keys(&[1]).current(), other.current());
    }

    #[test]
    fn bytes_of_strangers_are_refused_for_what_they_are() {
        let keys = keys(&[1]);
        let good = keys.seal(&head(&keys), b"x").unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };

        assert_eq!(read(b""), Err(Refused::Malformed));
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), Err(Refused::Malformed));
        assert_eq!(read(&good[..good.len() - 2]), Err(Refused::Malformed), "shorter than its tag");
        assert_eq!(read(&with(0, b'x')), Err(Refused::Malformed));
        assert_eq!(read(&with(2, VERSION + 1)), Err(Refused::Version));
        assert_eq!(read(&with(3, 1)), Err(Refused::Malformed), "part 1 of 1");
        assert_eq!(read(&with(4, PARTS_MAX + 1)), Err(Refused::Malformed), "too many parts");
    }

    /// The layout is what other builds send: it changes with [`VERSION`] only.
    #[test]
    fn the_head_is_laid_out_as_ever() {
        let keys = keys(&[1]);
        let head = Head { key: [0xaa; 8], ..head(&keys) };

        let hex: String = head.write().iter().map(|byte| format!("{byte:02x}")).collect();

        let expected = "7447\
                        01\
                        00\
                        01\
                        aaaaaaaaaaaaaaaa\
                        07000000000000000000000000000000\
                        0100000000000000\
                        0300000000000000\
                        0200000000000000\
                        40420f0000000000\
                        0900000000000000";
        assert_eq!(hex, expected);
    }
}
