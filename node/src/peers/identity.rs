//! Who this node is: its data directory, the keys it seals with, and its certificates.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::sleep;
use troupe_cluster::Keyring;
use troupe_cluster::storage::{DataDir, DirError};
use troupe_cluster::transport::Certificates;
use troupe_cluster::transport::ca::{self, Issuer};
use troupe_cluster::transport::tls::{Files, TlsError};
use troupe_proto::id::{ClusterId, NodeId};
use troupe_proto::secret::Secret;

use super::{PeersError, causes, keep};
use crate::clock;
use crate::config::Boot;
use crate::config::boot::{CERTIFICATE_FILE, PeerTls};
use crate::config::spec_file::time_text;
use crate::wiring;

/// The key that a cluster of one makes for itself.
const SEAL_KEY_FILE: &str = "seal-key";
/// How long before its end a certificate is spoken of, in seconds: a week has a working day in it.
const WARN_SECONDS: i64 = 7 * 86_400;

/// Who this node is.
pub(super) struct Identity {
    dir: Mutex<DataDir>,
    certificates: Option<Arc<Certificates>>,
    /// What the operator gave.
    given: Option<PeerTls>,
    /// What a token gives: the request that goes with it, the key to what comes back, and where both are kept.
    requested: Option<Requested>,
    /// Where what a token gave is kept.
    files: Files,
    issuer: Option<Arc<Issuer>>,
    /// What was read from files last, and why it cannot be used, if so.
    read: Mutex<Read>,
}

/// What came of reading the files of certificates again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    /// They hold what is in force.
    Same,
    /// They held something else, which is in force now.
    TakenUp,
}

/// What was read from the files of certificates last.
#[derive(Default)]
struct Read {
    /// The SHA-256 of the texts in force; `None` where nobody looked yet.
    in_force: Option<[u8; 32]>,
    unusable: Option<String>,
}

struct Requested {
    secret: Secret<String>,
    csr_pem: String,
    key_pem: Secret<String>,
}

/// A join token, as `troupe cluster token` prints it: what to show, and whom to trust.
pub(crate) fn split_token(text: &str) -> Option<(Secret<String>, [u8; 32])> {
    let (secret, fingerprint) = text.split_once('.')?;
    let mut bytes = [0; 32];
    if secret.is_empty() || fingerprint.len() != 64 || !fingerprint.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(fingerprint.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some((Secret::new(secret.to_owned()), bytes))
}

impl Identity {
    /// Reads what there is, and asks for what is missing.
    pub(super) fn load(boot: &Boot, dir: DataDir) -> Result<Self, PeersError> {
        let tls = |error: &(dyn std::error::Error + 'static)| PeersError::Tls(causes(error));
        let files = kept_in(dir.path());
        let dir = Mutex::new(dir);
        let mut this =
            Self { dir, certificates: None, given: None, requested: None, files, issuer: None, read: Mutex::default() };
        if let Some(given) = &boot.cluster.tls {
            let [ca, cert, key] = [&given.ca, &given.cert, &given.key].map(|pem| pem.text.expose().as_str());
            this.certificates = Some(Arc::new(Certificates::from_pem(ca, cert, key).map_err(|error| tls(&error))?));
            if let Some(ca_key) = &given.ca_key {
                let issuer = Issuer::read(ca, ca_key.text.expose()).map_err(|error| tls(&error))?;
                this.issuer = Some(Arc::new(issuer));
            }
            let texts = [&given.ca, &given.cert, &given.key].map(|pem| pem.text.clone());
            this.read().in_force = Some(fingerprint(&texts));
            this.given = Some(given.clone());
        } else if this.files.cert.exists() {
            this.certificates = Some(Arc::new(Certificates::load(this.files.clone()).map_err(|error| tls(&error))?));
            this.read().in_force = kept(&this.files).ok().as_ref().map(fingerprint);
        } else if let Some(token) = boot.cluster.join_token.as_ref().filter(|_| !boot.cluster.is_plain) {
            let (secret, fingerprint) = split_token(token.expose()).ok_or(PeersError::JoinToken)?;
            let (csr_pem, key) = ca::request(&boot.node.name, &[]).map_err(|error| tls(&error))?;
            this.certificates = Some(Arc::new(Certificates::joining(fingerprint).map_err(|error| tls(&error))?));
            this.requested = Some(Requested { secret, csr_pem, key_pem: Secret::new(key) });
        }
        this.say_when_due(clock::unix_seconds());
        Ok(this)
    }

    fn dir(&self) -> MutexGuard<'_, DataDir> {
        self.dir.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node, which start of it this is, and its cluster.
    pub(super) fn who(&self) -> (NodeId, u64, Option<ClusterId>) {
        let dir = self.dir();
        (dir.node(), dir.incarnation(), dir.cluster())
    }

    /// Belongs to a cluster from now on, for ever.
    pub(super) fn bind(&self, cluster: ClusterId) -> Result<(), DirError> {
        self.dir().bind(cluster)
    }

    /// Writes down that this node has taken part.
    pub(super) fn begun(&self) -> Result<(), PeersError> {
        let path = self.dir().path().join(super::BEGUN_FILE);
        if path.exists() { Ok(()) } else { keep(&path, "this node has taken part in a cluster\n") }
    }

    /// What it shows to other nodes.
    pub(super) fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.clone()
    }

    /// Signs for newcomers, where the operator gave this node the CA's key.
    pub(super) fn issuer(&self) -> Option<Arc<Issuer>> {
        self.issuer.clone()
    }

    /// What to show at the door of a cluster: a token, and what to sign.
    pub(super) fn request(&self) -> Option<(Secret<String>, String)> {
        self.requested.as_ref().map(|asked| (asked.secret.clone(), asked.csr_pem.clone()))
    }

    /// Keeps what was signed, and shows it from now on.
    pub(super) fn certified(&self, cert: &str, ca: &str) -> Result<(), PeersError> {
        let (Some(asked), Some(certificates)) = (&self.requested, &self.certificates) else { return Ok(()) };
        let key = asked.key_pem.expose();
        let taken_up = certificates.reload_pem(ca, cert, key, clock::unix_seconds());
        taken_up.map_err(|error| PeersError::Tls(told(&error)))?;
        // The certificate last: with it, the three are complete.
        keep(&self.files.ca, ca)?;
        keep(&self.files.key, key)?;
        keep(&self.files.cert, cert)?;
        self.read().in_force = kept(&self.files).ok().as_ref().map(fingerprint);
        Ok(())
    }

    /// Reads the certificates again and again, so that whoever renews them need tell nobody.
    pub(super) async fn keep_certificates(&self, every: Duration) {
        loop {
            sleep(every).await;
            self.refresh();
        }
    }

    /// Why the files of certificates cannot be taken up, if so; those in force stay.
    pub(super) fn unusable(&self) -> Option<String> {
        self.read().unusable.clone()
    }

    fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the certificates again that came from files. Those that cannot be used change nothing, and those in force are
    /// not taken up again.
    pub(super) fn refresh(&self) {
        let Some(certificates) = &self.certificates else { return };
        let texts = match &self.given {
            Some(given) => again(given),
            None if self.files.cert.exists() => kept(&self.files),
            None => return,
        };
        let now = clock::unix_seconds();
        match self.take_up(certificates, texts, now) {
            Ok(Renewal::Same) => {}
            Ok(Renewal::TakenUp) => {
                tracing::info!(expires = certificates.expires_at(), "certificates for other nodes were read again");
            }
            Err(error) => {
                let file = self.place_of("cert");
                tracing::error!(%error, file, "certificates for other nodes cannot be used, those in force stay");
                self.read().unusable = Some(format!(
                    "certificates for other nodes cannot be taken up from {file} ({error}): those in force stay, and end at \
                     {}",
                    time_text(certificates.expires_at())
                ));
            }
        }
        self.say_when_due(now);
    }

    /// Takes up what stands in the files, unless it is in force already.
    fn take_up(
        &self,
        certificates: &Certificates,
        texts: Result<[Secret<String>; 3], String>,
        now: i64,
    ) -> Result<Renewal, String> {
        let texts = texts?;
        let print = fingerprint(&texts);
        let mut read = self.read();
        if read.in_force == Some(print) {
            read.unusable = None;
            return Ok(Renewal::Same);
        }
        let [ca, cert, key] = texts.each_ref().map(|text| text.expose().as_str());
        certificates.reload_pem(ca, cert, key, now).map_err(|error| told(&error))?;
        *read = Read { in_force: Some(print), unusable: None };
        Ok(Renewal::TakenUp)
    }

    /// Says that the certificates in force have ended, or soon will. A node whose certificate has ended starts all the
    /// same: it may serve by what it holds, and takes a renewed one up without a restart.
    fn say_when_due(&self, now: i64) {
        match self.due(now) {
            Some(Due { text, has_ended: true }) => tracing::error!("{text}"),
            Some(Due { text, has_ended: false }) => tracing::warn!("{text}"),
            None => {}
        }
    }

    /// What to say of the certificates in force.
    fn due(&self, now: i64) -> Option<Due> {
        let certificates = self.certificates.as_ref()?;
        let (first, node) = (certificates.expires_at(), certificates.node_expires_at());
        if first > now.saturating_add(WARN_SECONDS) {
            return None;
        }
        let (whose, file, renew) = match node == first {
            true => {
                ("this node's certificate", "cert", "`troupe cert issue --ca DIR --name NAME --out DIR` makes another")
            }
            false => (
                "the authority's certificate",
                "ca",
                "`troupe ca init --out DIR` makes another authority, and each node's `ca` names both while certificates change",
            ),
        };
        let place = self.place_of(file);
        let has_ended = first < now;
        let (tense, hint) = match has_ended {
            true => ("ended", ": no other node talks to this one"),
            false => ("ends", ": from then on no other node talks to this one"),
        };
        let text = format!(
            "{whose} {place} {tense} at {}{hint}; {renew}, and one put in its place is taken up within a minute",
            time_text(first)
        );
        Some(Due { text, has_ended })
    }

    /// Where a certificate is kept: `ca` or `cert`.
    fn place_of(&self, which: &str) -> String {
        let (given, kept) = match which {
            "ca" => (self.given.as_ref().map(|given| &given.ca), &self.files.ca),
            _ => (self.given.as_ref().map(|given| &given.cert), &self.files.cert),
        };
        match given {
            None => kept.display().to_string(),
            Some(given) => {
                given.file().map_or_else(|| format!("cluster.tls.{which}"), |path| path.display().to_string())
            }
        }
    }
}

/// Certificates whose end is near or over.
#[derive(Debug)]
struct Due {
    text: String,
    has_ended: bool,
}

/// Why certificates cannot be used, with times as people write them.
fn told(error: &TlsError) -> String {
    match error {
        TlsError::Ended(at) => format!(
            "the node's certificate ended at {}; `troupe cert issue --ca DIR --name NAME --out DIR` makes another",
            time_text(*at)
        ),
        other => causes(other),
    }
}

/// Where a node keeps what a token gave it.
fn kept_in(dir: &Path) -> Files {
    let at = |name: &str| dir.join(name);
    Files { ca: at("peer-ca.crt"), cert: at(CERTIFICATE_FILE), key: at("peer.key") }
}

fn fingerprint(texts: &[Secret<String>; 3]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in texts {
        // So that no two places of a boundary between them look alike.
        hash.update(text.expose().len().to_le_bytes());
        hash.update(text.expose());
    }
    hash.finalize().into()
}

fn again(given: &PeerTls) -> Result<[Secret<String>; 3], String> {
    Ok([given.ca.again()?, given.cert.again()?, given.key.again()?])
}

fn kept(files: &Files) -> Result<[Secret<String>; 3], String> {
    let read = |path: &Path| match std::fs::read_to_string(path) {
        Ok(text) => Ok(Secret::new(text)),
        Err(error) => Err(format!("file {} {error}", path.display())),
    };
    Ok([read(&files.ca)?, read(&files.cert)?, read(&files.key)?])
}

/// The keys that secrets of providers are kept under: given, or made once for a cluster of one.
pub(super) fn keyring(boot: &Boot, data_dir: &Path) -> Result<Keyring, PeersError> {
    if let Some(keyring) = keyring_there(boot, data_dir)? {
        return Ok(keyring);
    }
    let path: PathBuf = data_dir.join(SEAL_KEY_FILE);
    let failed = |source| PeersError::File { path: path.clone(), source };
    let bytes: [u8; 32] = clock::secret_bytes().map_err(|error| failed(std::io::Error::other(error)))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    keep(&path, &text)?;
    tracing::info!(file = %path.display(), "a key for the secrets of providers was made; back it up apart from the rest");
    let key = Secret::new(bytes);
    Ok(Keyring::new(key, older(boot), wiring::random()))
}

fn older(boot: &Boot) -> Vec<Secret<[u8; 32]>> {
    boot.cluster.seal_key_old.iter().cloned().collect()
}

/// The same without making any: `None` for a cluster of one that has not begun.
pub(crate) fn keyring_there(boot: &Boot, data_dir: &Path) -> Result<Option<Keyring>, PeersError> {
    if let Some(key) = &boot.cluster.seal_key {
        return Ok(Some(Keyring::new(key.clone(), older(boot), wiring::random())));
    }
    if boot.cluster.has_others() {
        return Err(PeersError::SealKey);
    }
    let path: PathBuf = data_dir.join(SEAL_KEY_FILE);
    let failed = |source| PeersError::File { path: path.clone(), source };
    if !path.try_exists().map_err(failed)? {
        return match data_dir.join(super::BEGUN_FILE).exists() {
            true => Err(PeersError::LostSealKey(path)),
            false => Ok(None),
        };
    }
    let text = Secret::new(std::fs::read_to_string(&path).map_err(failed)?);
    let malformed = || failed(std::io::Error::other("it holds no key of 32 bytes"));
    let key = crate::config::boot::seal_key(text.expose()).ok_or_else(malformed)?;
    Ok(Some(Keyring::new(key, older(boot), wiring::random())))
}

/// What this node shows to the others, as it is on disk; `None` where it has none, or speaks without.
pub(crate) fn certificates_there(boot: &Boot) -> Result<Option<Certificates>, PeersError> {
    let tls = |error: &TlsError| PeersError::Tls(told(error));
    if let Some(given) = &boot.cluster.tls {
        let texts = again(given).map_err(PeersError::Tls)?;
        let [ca, cert, key] = texts.each_ref().map(|text| text.expose().as_str());
        return Certificates::from_pem(ca, cert, key).map(Some).map_err(|error| tls(&error));
    }
    let files = kept_in(&boot.node.data_dir);
    if boot.cluster.is_plain || !files.cert.exists() {
        return Ok(None);
    }
    Certificates::load(files).map(Some).map_err(|error| tls(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_seal_key_is_refused_and_never_made_again_where_a_state_may_need_it() {
        let boot = Boot::load(&crate::config::Flags::default(), &|_: &str| None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SEAL_KEY_FILE);
        let first = keyring(&boot, dir.path()).unwrap().current();
        assert_eq!(keyring(&boot, dir.path()).unwrap().current(), first, "it is made once");
        keep(&dir.path().join(super::super::BEGUN_FILE), "it has taken part").unwrap();

        std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        let error = keyring(&boot, dir.path()).err().unwrap();

        assert!(matches!(&error, PeersError::LostSealKey(lost) if *lost == path), "{error}");
        let told = error.to_string();
        assert!(told.contains("seal-key is not there") && told.contains("put it back"), "{told}");
        assert!(!path.exists());
        std::fs::rename(dir.path().join("elsewhere"), &path).unwrap();
        assert_eq!(keyring(&boot, dir.path()).unwrap().current(), first);
    }

    fn identity(dir: &Path, certificates: &Arc<Certificates>, files: Files) -> Identity {
        Identity {
            dir: Mutex::new(DataDir::open(&dir.join("data"), NodeId(1)).unwrap()),
            certificates: Some(Arc::clone(certificates)),
            given: None,
            requested: None,
            files,
            issuer: None,
            read: Mutex::default(),
        }
    }

    #[test]
    fn certificates_are_taken_up_when_they_changed_and_those_that_cannot_be_are_told_until_they_can() {
        let now = clock::unix_seconds();
        let made = ca::found("CA", ca::Validity::days(now, 10)).unwrap();
        let issuer = Issuer::read(&made.cert, &made.key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let files = Files { ca: at("peer-ca.crt"), cert: at(CERTIFICATE_FILE), key: at("peer.key") };
        let write = |days| {
            let node = issuer.issue("gw-1", &[], None, ca::Validity::days(now, days)).unwrap();
            for (path, text) in [(&files.ca, &made.cert), (&files.cert, &node.cert), (&files.key, &node.key)] {
                std::fs::write(path, text).unwrap();
            }
        };
        write(1);
        let certificates = Arc::new(Certificates::load(files.clone()).unwrap());
        let identity = identity(dir.path(), &certificates, files.clone());
        let again = || identity.take_up(&certificates, kept(&files), now);

        assert_eq!((again(), again()), (Ok(Renewal::TakenUp), Ok(Renewal::Same)), "they are in force then");
        write(5);
        assert_eq!((again(), again()), (Ok(Renewal::TakenUp), Ok(Renewal::Same)));

        std::fs::write(&files.cert, "rubbish").unwrap();
        identity.refresh();
        let told = identity.unusable().unwrap();
        assert!(told.contains(files.cert.to_str().unwrap()) && told.contains("stay"), "{told}");
        std::fs::remove_file(&files.key).unwrap();
        identity.refresh();
        assert!(identity.unusable().unwrap().contains("peer.key"), "{:?}", identity.unusable());
        write(7);
        identity.refresh();
        assert_eq!((identity.unusable(), certificates.expires_at()), (None, now + 7 * 86_400));
    }

    #[test]
    fn a_certificate_that_ends_within_a_week_is_spoken_of_with_its_file_its_date_and_what_to_do() {
        let now = 1_800_000_000;
        let made = ca::found("CA", ca::Validity::days(now, 10)).unwrap();
        let issuer = Issuer::read(&made.cert, &made.key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let files = Files { ca: at("peer-ca.crt"), cert: at(CERTIFICATE_FILE), key: at("peer.key") };
        let node = issuer.issue("gw-1", &[], None, ca::Validity::days(now, 9)).unwrap();
        let certificates = Arc::new(Certificates::from_pem(&made.cert, &node.cert, &node.key).unwrap());
        let identity = identity(dir.path(), &certificates, files.clone());
        let day = |days: i64| identity.due(now + days * 86_400);

        assert!(day(1).is_none());
        let soon = day(3).unwrap();
        assert!(!soon.has_ended, "{soon:?}");
        let ended = identity.due(now + 9 * 86_400 + 1).unwrap();
        assert!(ended.has_ended, "{ended:?}");
        for due in [soon, ended] {
            let words = [files.cert.to_str().unwrap(), "2027-01-24T08:00:00Z", "troupe cert issue"];
            assert!(words.iter().all(|word| due.text.contains(word)), "{}", due.text);
        }
    }

    #[tokio::test]
    async fn renewed_certificates_are_taken_up_by_the_timer_alone() {
        let now = clock::unix_seconds();
        let made = ca::found("CA", ca::Validity::days(now, 10)).unwrap();
        let issuer = Issuer::read(&made.cert, &made.key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let files = Files { ca: at("peer-ca.crt"), cert: at(CERTIFICATE_FILE), key: at("peer.key") };
        let write_valid = |validity| {
            let node = issuer.issue("gw-1", &[], None, validity).unwrap();
            for (path, text) in [(&files.ca, &made.cert), (&files.cert, &node.cert), (&files.key, &node.key)] {
                std::fs::write(path, text).unwrap();
            }
        };
        let write = |days| write_valid(ca::Validity::days(now, days));
        write(1);
        let certificates = Arc::new(Certificates::load(files.clone()).unwrap());
        let identity = identity(dir.path(), &certificates, files.clone());
        let until = |days: i64| now + days * 86_400;
        let ends = |at: i64| {
            let certificates = &certificates;
            async move {
                while certificates.expires_at() != at {
                    sleep(Duration::from_millis(2)).await;
                }
            }
        };

        let renewed = async {
            ends(until(1)).await;
            // Half a renewal is none: what is in force stays.
            std::fs::write(&files.key, "half").unwrap();
            sleep(Duration::from_millis(20)).await;
            assert_eq!(certificates.expires_at(), until(1));
            // Nor is one that has ended, put back by mistake.
            let ended = ca::Validity { from: now - 7200, until: now - 60 };
            write_valid(ended);
            identity.refresh();
            assert_eq!(certificates.expires_at(), until(1));
            write(5);
            ends(until(5)).await;
        };
        let renewed = tokio::time::timeout(Duration::from_secs(10), renewed);
        tokio::select! {
            () = identity.keep_certificates(Duration::from_millis(5)) => {}
            renewed = renewed => renewed.expect("the timer reads them again"),
        }
    }

    #[test]
    fn a_join_token_is_a_secret_and_a_fingerprint() {
        let (secret, fingerprint) = split_token(&format!("troupe-join-x.{}", "0a".repeat(32))).unwrap();

        assert_eq!((secret.expose().as_str(), fingerprint), ("troupe-join-x", [10; 32]));
        for wrong in ["", "x", ".00", "x.00", &format!("x.{}", "g".repeat(64))] {
            assert!(split_token(wrong).is_none(), "{wrong}");
        }
    }
}
