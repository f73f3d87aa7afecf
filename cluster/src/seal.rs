//! Envelope keys: secrets of providers are sealed under them wherever they are kept or sent.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use troupe_proto::id::{CredentialId, ProviderId};
use troupe_proto::secret::{CredentialSecret, SealKeyId, Sealed, Secret};
use troupe_proto::spec::Provider;

/// Bytes of an envelope key.
pub const KEY_BYTES: usize = 32;

/// Fills a place with random bytes fit for a secret. Given by who starts the process, so that a simulation can seed it.
pub type Random = Arc<dyn Fn(&mut [u8]) -> Result<(), NoRandom> + Send + Sync>;

/// Says that the system has no randomness to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoRandom;

/// Why a secret could not be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is under a key that this node does not have.
    #[error("provider {provider}, key {credential}: sealed under envelope key {key}, which this node was not given")]
    UnknownKey {
        /// Whose secret.
        provider: ProviderId,
        /// Which one.
        credential: CredentialId,
        /// The envelope key.
        key: SealKeyId,
    },
    /// It was changed since it was sealed, or stands in the place of another one.
    #[error("provider {provider}, key {credential}: the sealed secret is damaged")]
    Damaged {
        /// Whose secret.
        provider: ProviderId,
        /// Which one.
        credential: CredentialId,
    },
    /// A nonce could not be drawn.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// The envelope keys of a node: everything is sealed under the current one, and opened under any. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    /// The current one first; never empty.
    keys: Arc<[(SealKeyId, Secret<[u8; KEY_BYTES]>)]>,
    random: Random,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl Keyring {
    /// A keyring with a current key and older ones, which are needed until [`crate::Handle::reseal`] was through.
    pub fn new(current: Secret<[u8; KEY_BYTES]>, older: Vec<Secret<[u8; KEY_BYTES]>>, random: Random) -> Self {
        let keys = std::iter::once(current).chain(older).map(|key| (key_id(&key), key)).collect();
        Self { keys, random }
    }

    /// A keyring with a key that lives as long as this process: for a state that does, too.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn ephemeral(random: Random) -> Result<Self, NoRandom> {
        let mut key = [0; KEY_BYTES];
        random(&mut key)?;
        Ok(Self::new(Secret::new(key), Vec::new(), random))
    }

    /// The keys that secrets can be opened with; the first one is the one they are sealed under.
    pub fn ids(&self) -> Vec<SealKeyId> {
        self.keys.iter().map(|(id, _)| *id).collect()
    }

    /// The key that secrets are sealed under.
    pub fn current(&self) -> SealKeyId {
        self.keys.first().map_or(SealKeyId([0; 8]), |(id, _)| *id)
    }

    /// Keys for another purpose, one from each of these and in their order, by HKDF-SHA256: nobody learns anything of one
    /// key from another.
    pub(crate) fn derived<const N: usize>(&self, purpose: &[u8], salt: &[u8]) -> Vec<Secret<[u8; N]>> {
        let derive = |key: &Secret<[u8; KEY_BYTES]>| {
            let mut bytes = [0; N];
            // It fails for lengths beyond 8 KiB only.
            Hkdf::<Sha256>::new(Some(salt), key.expose()).expand(purpose, &mut bytes).ok()?;
            Some(Secret::new(bytes))
        };
        self.keys.iter().filter_map(|(_, key)| derive(key)).collect()
    }

    /// Where nonces come from.
    pub(crate) fn random(&self) -> Random {
        Arc::clone(&self.random)
    }

    /// Seals a provider's secret for its place: it opens there and nowhere else. One that is sealed stays as it is.
    ///
    /// # Errors
    /// [`SealError::NoRandom`].
    pub fn seal(
        &self,
        provider: &ProviderId,
        credential: &CredentialId,
        secret: &CredentialSecret,
    ) -> Result<Sealed, SealError> {
        let open = match secret {
            CredentialSecret::Open(open) => open,
            CredentialSecret::Sealed(sealed) => return Ok(sealed.clone()),
        };
        let damaged = || SealError::Damaged { provider: provider.clone(), credential: credential.clone() };
        let (id, key) = self.keys.first().ok_or_else(damaged)?;
        let mut nonce = [0; 24];
        (self.random)(&mut nonce)?;
        let place = place(provider, credential);
        let payload = Payload { msg: open.expose().as_bytes(), aad: &place };
        let bytes = cipher(key).encrypt(&XNonce::from(nonce), payload).map_err(|_| damaged())?;
        Ok(Sealed { key: *id, nonce, bytes })
    }

    /// Opens a provider's secret. One that is open stays as it is.
    ///
    /// # Errors
    /// [`SealError`]; it says which secret.
    pub fn open(
        &self,
        provider: &ProviderId,
        credential: &CredentialId,
        secret: &CredentialSecret,
    ) -> Result<Secret<String>, SealError> {
        let sealed = match secret {
            CredentialSecret::Open(open) => return Ok(open.clone()),
            CredentialSecret::Sealed(sealed) => sealed,
        };
        let (provider_id, credential_id) = (provider.clone(), credential.clone());
        let Some((_, key)) = self.keys.iter().find(|(id, _)| *id == sealed.key) else {
            return Err(SealError::UnknownKey { provider: provider_id, credential: credential_id, key: sealed.key });
        };
        let place = place(provider, credential);
        let payload = Payload { msg: &sealed.bytes, aad: &place };
        cipher(key)
            .decrypt(&XNonce::from(sealed.nonce), payload)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map(Secret::new)
            .ok_or(SealError::Damaged { provider: provider_id, credential: credential_id })
    }

    /// The provider with each of its secrets sealed.
    ///
    /// # Errors
    /// [`SealError::NoRandom`].
    pub fn seal_provider(&self, id: &ProviderId, provider: &mut Provider) -> Result<(), SealError> {
        for (name, credential) in &mut provider.credentials {
            credential.secret = CredentialSecret::Sealed(self.seal(id, name, &credential.secret)?);
        }
        Ok(())
    }

    /// The provider with each of its secrets open.
    ///
    /// # Errors
    /// [`SealError`]; it says which secret.
    pub fn open_provider(&self, id: &ProviderId, provider: &mut Provider) -> Result<(), SealError> {
        for (name, credential) in &mut provider.credentials {
            credential.secret = CredentialSecret::Open(self.open(id, name, &credential.secret)?);
        }
        Ok(())
    }
}

fn cipher(key: &Secret<[u8; KEY_BYTES]>) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.expose().into())
}

/// Binds a sealed secret to its place. Names have no zero bytes.
fn place(provider: &ProviderId, credential: &CredentialId) -> Vec<u8> {
    ["troupe credential", provider.as_str(), credential.as_str()].join("\0").into_bytes()
}

fn key_id(key: &Secret<[u8; KEY_BYTES]>) -> SealKeyId {
    let digest: [u8; 32] = Sha256::digest(key.expose()).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    SealKeyId([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Bytes that differ from call to call, for tests only.
    pub(crate) fn counting() -> Random {
        let count = AtomicU64::new(1);
        Arc::new(move |bytes| {
            let digest = Sha256::digest(count.fetch_add(1, Ordering::Relaxed).to_le_bytes());
            bytes.iter_mut().zip(digest.iter().cycle()).for_each(|(byte, random)| *byte = *random);
            Ok(())
        })
    }

    fn ring(keys: &[u8]) -> Keyring {
        let mut keys = keys.iter().map(|byte| Secret::new([*byte; KEY_BYTES]));
        let current = keys.next().unwrap();
        Keyring::new(current, keys.collect(), counting())
    }

    fn names() -> (ProviderId, CredentialId) {
        (ProviderId::new("openai"), CredentialId::new("main"))
    }

    #[test]
    fn a_sealed_secret_opens_in_its_place_and_says_nothing_of_itself() {
        let (provider, main) = names();
        let ring = ring(&[1]);

        let sealed = ring.seal(&provider, &main, &CredentialSecret::open("sk-secret")).unwrap();
        let again = ring.seal(&provider, &main, &CredentialSecret::open("sk-secret")).unwrap();

        assert_ne!(sealed, again, "each sealing has its own nonce");
        assert!(!sealed.bytes.windows(4).any(|part| part == b"sk-s"));
        let kept = CredentialSecret::Sealed(sealed);
        assert_eq!(ring.open(&provider, &main, &kept).unwrap().expose(), "sk-secret");
        let elsewhere = CredentialId::new("spare");
        let damaged = SealError::Damaged { provider: provider.clone(), credential: elsewhere.clone() };
        assert_eq!(ring.open(&provider, &elsewhere, &kept), Err(damaged));
    }

    #[test]
    fn a_secret_opens_under_an_older_key_and_under_no_strange_one() {
        let (provider, main) = names();
        let sealed = ring(&[1]).seal(&provider, &main, &CredentialSecret::open("sk")).unwrap();
        let key = sealed.key;
        let kept = CredentialSecret::Sealed(sealed);

        assert!(ring(&[2, 1]).open(&provider, &main, &kept).is_ok());
        let error = SealError::UnknownKey { provider: provider.clone(), credential: main.clone(), key };
        assert_eq!(ring(&[2]).open(&provider, &main, &kept), Err(error));
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let (provider, main) = names();
        let ring = ring(&[1]);
        let sealed = ring.seal(&provider, &main, &CredentialSecret::open("sk")).unwrap();

        for bit in 0..sealed.bytes.len() * 8 {
            let mut sealed = sealed.clone();
            sealed.bytes[bit / 8] ^= 1 << (bit % 8);

            assert!(ring.open(&provider, &main, &CredentialSecret::Sealed(sealed)).is_err(), "bit {bit}");
        }
    }
}
