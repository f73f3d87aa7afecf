//! Secrets that do not print, and the hashes virtual keys are known by.

use std::fmt;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A value that must reach neither log nor wire nor disk. `Debug` says nothing, it has no form as bytes, and the memory is
/// wiped when it is dropped.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that must send it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<T: Zeroize + AsRef<[u8]>> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().ct_eq(other.0.as_ref()).into()
    }
}

impl<T: Zeroize + AsRef<[u8]>> Eq for Secret<T> {}

/// Names an envelope key without telling it: the first 8 bytes of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SealKeyId(pub [u8; 8]);

impl fmt::Display for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret under an envelope key: what is agreed on, written down and sent to other nodes in its place.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Sealed {
    /// The envelope key it is under.
    pub key: SealKeyId,
    /// Drawn for this one sealing.
    pub nonce: [u8; 24],
    /// The secret, encrypted and authenticated.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(under {})", self.key)
    }
}

/// The secret of a provider's key: readable in the memory of one process, sealed everywhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSecret {
    /// Readable. It has no form as bytes, so that it cannot get into a log, onto a wire or onto a disk.
    Open(Secret<String>),
    /// Under an envelope key.
    Sealed(Sealed),
}

impl CredentialSecret {
    /// A readable secret.
    pub fn open(text: &str) -> Self {
        Self::Open(Secret::new(text.to_owned()))
    }

    /// The secret itself, for the one place that must send it; `None` while it is sealed.
    pub const fn exposed(&self) -> Option<&String> {
        match self {
            Self::Open(secret) => Some(secret.expose()),
            Self::Sealed(_) => None,
        }
    }
}

/// Leaves room for other ways to keep a secret.
const SEALED: u8 = 1;

impl Encode for CredentialSecret {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Open(_) => Err(EncodeError::Other("a secret that is not sealed is never written")),
            Self::Sealed(sealed) => {
                SEALED.encode(encoder)?;
                sealed.encode(encoder)
            }
        }
    }
}

impl<C> Decode<C> for CredentialSecret {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u8::decode(decoder)? {
            SEALED => Sealed::decode(decoder).map(Self::Sealed),
            _ => Err(DecodeError::Other("a secret is kept in a way that is not known")),
        }
    }
}

impl<'de, C> bincode::BorrowDecode<'de, C> for CredentialSecret {
    fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// SHA-256 of a virtual key's secret: all that is kept of it.
///
/// A plain fast hash is enough because made keys carry 256 random bits, and it is taken on every request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a secret as a client sends it.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits, with or without `sha256:` before them.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok().filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new("sk-very-secret".to_owned());

        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn a_readable_secret_of_a_provider_has_no_form_as_bytes_and_a_sealed_one_prints_its_envelope_only() {
        let config = bincode::config::standard();
        let open = CredentialSecret::open("sk-very-secret");
        let sealed = Sealed { key: SealKeyId([0xab; 8]), nonce: [1; 24], bytes: vec![7; 30] };
        let kept = CredentialSecret::Sealed(sealed);

        let bytes = bincode::encode_to_vec(&kept, config).unwrap();

        assert!(bincode::encode_to_vec(&open, config).is_err());
        assert_eq!(format!("{open:?}"), "Open(Secret(..))");
        assert_eq!(format!("{kept:?}"), "Sealed(Sealed(under abababababababab))");
        assert_eq!(bincode::decode_from_slice::<CredentialSecret, _>(&bytes, config).unwrap().0, kept);
        assert!(bincode::decode_from_slice::<CredentialSecret, _>(&[0, 1, b'x'], config).is_err());
    }

    #[test]
    fn a_hash_reads_what_it_prints() {
        let hash = KeyHash::of(b"sk-1");

        assert_eq!(KeyHash::from_hex(&hash.to_string()), Some(hash));
        assert_eq!(KeyHash::from_hex("sha256:12"), None);
        assert_eq!(KeyHash::from_hex(&format!("+1{}", "0".repeat(62))), None);
    }
}
