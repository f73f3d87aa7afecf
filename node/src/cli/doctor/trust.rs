//! Whether this node and the others would talk to each other: certificates, clusters, keys for secrets, versions.
//!
//! It is tried: a connection to each, with what this node would show, as far as the two know who is there.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;
use troupe_cluster::Keyring;
use troupe_cluster::storage::{DataDir, Owner};
use troupe_cluster::transport::{
    CallError, Certificates, Hello, Introduction, Parts, Rejected, Settings, Tcp, Transport,
};
use troupe_proto::id::NodeId;

use super::Finding;
use super::own::Own;
use crate::clock;
use crate::config::Boot;
use crate::peers::{advertised, certificates_there, keyring_there};

/// What a connection to another node may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// What the two may take to say who they are.
const SHAKE_WITHIN: Duration = Duration::from_millis(1500);

/// What this node would show, and what is wrong with it.
pub(super) fn look(boot: &Boot, own: &Own) -> Vec<Finding> {
    let mut findings = Vec::new();
    let shown = certificate(boot, &mut findings);
    let keyring = seal_key(boot, &mut findings);
    let owner = owner(boot, &mut findings);
    let peers = own.peers(boot);
    if peers.is_empty() {
        return findings;
    }
    // Whoever has no certificate, and speaks not in plain, has nothing to show yet: the way is all there is to try.
    let transport = (shown.is_some() || boot.cluster.is_plain).then(|| transport(boot, shown, keyring.as_ref(), owner));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let advice = "raise the limits of this user: threads, descriptors";
            findings.push(Finding::bad("other nodes", format!("nothing can be tried: {error}"), advice));
            return findings;
        }
    };
    let tried = peers.iter().map(|peer| knock(peer, transport.as_ref()));
    findings.extend(runtime.block_on(join_all(tried)));
    runtime.shutdown_background();
    findings
}

fn certificate(boot: &Boot, findings: &mut Vec<Finding>) -> Option<Arc<Certificates>> {
    let what = "trust in this node";
    match certificates_there(boot) {
        Ok(None) => None,
        Ok(Some(certificates)) => {
            findings.push(Finding::good(what, "its certificate is signed by its authority, and the key is its own"));
            Some(Arc::new(certificates))
        }
        Err(error) => {
            let advice = "[cluster.tls] takes `ca`, `cert` and `key` of one authority: `troupe cert issue --ca DIR` makes \
                          the two for a node (docs/howto/certificates.md)";
            findings.push(Finding::bad(what, error.to_string(), advice));
            None
        }
    }
}

fn seal_key(boot: &Boot, findings: &mut Vec<Finding>) -> Option<Keyring> {
    let what = "key for secrets";
    match keyring_there(boot, &boot.node.data_dir) {
        Ok(keyring) => {
            let ids: Vec<String> = keyring.iter().flat_map(Keyring::ids).map(|id| id.to_string()).collect();
            if let Some((current, older)) = ids.split_first() {
                let older =
                    if older.is_empty() { String::new() } else { format!(", and opens {} too", older.join(", ")) };
                findings.push(Finding::good(what, format!("it is {current}{older}")));
            }
            keyring
        }
        Err(error) => {
            let advice = "give the key that the secrets of providers were sealed under: the same on every node";
            findings.push(Finding::bad(what, error.to_string(), advice));
            None
        }
    }
}

fn owner(boot: &Boot, findings: &mut Vec<Finding>) -> Option<Owner> {
    DataDir::owner(&boot.node.data_dir).unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let advice = "run this as the user that the node runs as; a directory that is damaged is removed, and the node \
                      joins again";
        findings.push(Finding::bad("data directory", format!("{error}{cause}"), advice));
        None
    })
}

fn transport(
    boot: &Boot,
    tls: Option<Arc<Certificates>>,
    keyring: Option<&Keyring>,
    owner: Option<Owner>,
) -> Transport {
    let introduction = Introduction {
        cluster: owner.and_then(|owner| owner.cluster),
        // One that was never started has no id; nobody has this one.
        node: owner.map_or(NodeId(u64::MAX), |owner| owner.node),
        // Older than any process of it, so that none gives way to this one.
        incarnation: 0,
        peer: advertised(boot),
        seal_keys: keyring.map(|keyring| keyring.ids().iter().map(|id| id.0).collect()).unwrap_or_default(),
    };
    let settings = Settings { dial_max: SHAKE_WITHIN, ..Settings::default() };
    Transport::new(Parts { net: Arc::new(Tcp), tls, settings, introduction, dice: Arc::new(clock::dice) })
}

async fn knock(peer: &str, transport: Option<&Transport>) -> Finding {
    let what = format!("way to {peer}");
    let began = clock::now();
    let advice = "is it up? does its name resolve here, and does a firewall let TCP and UDP on that port pass?";
    match timeout(CONNECT_WITHIN, TcpStream::connect(peer)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Finding::bad(what, error.to_string(), advice),
        Err(_) => return Finding::bad(what, format!("no answer within {CONNECT_WITHIN:?}"), advice),
    }
    let reached = clock::now() - began;
    let Some(transport) = transport else {
        return Finding::good(what, format!("reached in {reached:.1?}; this node has nothing to show there yet"));
    };
    judge(what, peer, transport.knock(peer).await, reached)
}

fn judge(what: String, peer: &str, answer: Result<Hello, CallError>, reached: Duration) -> Finding {
    match answer {
        Ok(hello) => Finding::good(
            what,
            format!("node {} reached in {reached:.1?}; certificates, cluster and key for secrets fit", hello.node),
        ),
        Err(CallError::Refused(reason)) => refused(what, peer, reason),
        Err(CallError::Unreachable | CallError::Lost | CallError::Deadline | CallError::TooLarge) => Finding::bad(
            what,
            format!("it takes connections and says nothing within {SHAKE_WITHIN:.1?}: what runs there hangs"),
            "look at its process and its log; one that was stopped (SIGSTOP) or swaps is not a member that counts",
        ),
    }
}

/// Why one of the two does not want the other, and what to do.
fn refused(what: String, peer: &str, reason: Rejected) -> Finding {
    let (seen, advice) = match reason {
        Rejected::ForeignCluster => (
            "it is of another cluster than the data directory of this node",
            "cluster.join names nodes of one cluster; one that shall change it starts with an empty data directory",
        ),
        Rejected::OwnId => {
            let advice = "if that is another machine, its data directory is a copy: stop one of the two for good, and \
                          have it join with an empty one";
            return Finding::doubtful(what, format!("{peer} says to be this node itself"), advice);
        }
        Rejected::ForeignSealKey => (
            "it keeps secrets under another key than this node",
            "cluster.seal_key is the same on every node; while it changes, each names the other one as seal_key_old",
        ),
        Rejected::Version => (
            "the two have no version of the protocol in common",
            "upgrade by way of a version that speaks both: no release is left out",
        ),
        Rejected::NoCertificate => (
            "it wants a certificate, and this node shows none",
            "set [cluster.tls] here, or give a join token (`troupe cluster token`)",
        ),
        Rejected::CertificateExpired => (
            "a certificate of the two has ended, or does not count yet",
            "renew the one that has ended (docs/howto/certificates.md); if none has, the clock of one is wrong",
        ),
        Rejected::CertificateUntrusted => (
            "the two are of different authorities: one does not trust the certificate of the other",
            "`ca`, `cert` and `key` of every node's [cluster.tls] come from one authority; while that changes, `ca` names \
             both",
        ),
        Rejected::CertificateForeign => (
            "a certificate is for another node or another cluster",
            "each node shows its own certificate, issued for this cluster (`troupe cert show FILE` tells)",
        ),
        Rejected::Tls | Rejected::Malformed => (
            "what listens there speaks otherwise: no node, or one of the two is without TLS",
            "cluster.plain is set on all nodes or on none; does the address lead to listen.peer?",
        ),
        Rejected::Slow => (
            "it falls silent in the middle of the greeting",
            "what runs there hangs, or the way swallows larger packets (MTU)",
        ),
        Rejected::WrongNode | Rejected::Superseded | Rejected::TooLarge => {
            ("it is not who is expected there", "does the address lead to that node's listen.peer?")
        }
        Rejected::Busy => {
            let advice = "too many greet it at once: somebody knocks at its peer port who should not";
            return Finding::doubtful(what, "it has no room for one more connection", advice);
        }
    };
    Finding::bad(what, seen, advice)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::TcpListener;
    use std::path::Path;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use troupe_cluster::transport::ca::{self, Issued, Issuer, Validity};
    use troupe_cluster::transport::{Caller, Service};
    use troupe_proto::id::ClusterId;
    use troupe_proto::secret::Secret;

    use super::super::Verdict;
    use super::*;
    use crate::config::Flags;
    use crate::wiring;

    const KEY: [u8; 32] = [7; 32];

    struct Nobody;

    impl Service for Nobody {
        fn serve(&self, _from: Caller, _body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
            async { panic!("who knocks asks nothing") }.boxed()
        }
    }

    /// An authority, and a certificate of it for a node, as files.
    fn authority(dir: &Path) -> (Issued, Issued) {
        let now = clock::unix_seconds();
        let made = ca::found("CA", Validity::days(now, 10)).unwrap();
        let issuer = Issuer::read(&made.cert, &made.key).unwrap();
        let node = issuer.issue("gw-1", &[], None, Validity::days(now, 9)).unwrap();
        std::fs::create_dir_all(dir).unwrap();
        for (name, text) in [("ca.crt", &made.cert), ("node.crt", &node.cert), ("node.key", &node.key)] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        (made, node)
    }

    /// A node that shows what is in `tls`, keeps secrets under `key`, and has `peer` as the other one.
    fn boot(dir: &Path, ca: &Path, tls: &Path, key: [u8; 32], peer: &str) -> Boot {
        let file = |dir: &Path, name: &str| format!("file:{}", dir.join(name).display());
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let variables = BTreeMap::from([
            ("TROUPE_DATA_DIR", dir.join("data").display().to_string()),
            ("TROUPE_LISTEN_PEER", "127.0.0.1:0".to_owned()),
            ("TROUPE_CLUSTER_JOIN", peer.to_owned()),
            ("TROUPE_CLUSTER_SEAL_KEY", format!("env:{hex}")),
            ("TROUPE_CLUSTER_TLS_CA", file(ca, "ca.crt")),
            ("TROUPE_CLUSTER_TLS_CERT", file(tls, "node.crt")),
            ("TROUPE_CLUSTER_TLS_KEY", file(tls, "node.key")),
        ]);
        let env = move |name: &str| match name.len() {
            64 => Some(name.to_owned()),
            _ => variables.get(name).cloned(),
        };
        Boot::load(&Flags::default(), &env).unwrap()
    }

    /// A node that listens: its address, for as long as the runtime lives.
    fn node((made, node): &(Issued, Issued), runtime: &tokio::runtime::Runtime) -> String {
        let certificates = Certificates::from_pem(&made.cert, &node.cert, &node.key).unwrap();
        let keys = Keyring::new(Secret::new(KEY), Vec::new(), wiring::random());
        let introduction = Introduction {
            cluster: Some(ClusterId(3)),
            node: NodeId(2),
            incarnation: 1,
            peer: String::new(),
            seal_keys: keys.ids().iter().map(|id| id.0).collect(),
        };
        let transport = Transport::new(Parts {
            net: Arc::new(Tcp),
            tls: Some(Arc::new(certificates)),
            settings: Settings::default(),
            introduction,
            dice: Arc::new(clock::dice),
        });
        let listening = runtime.block_on(transport.listen(([127, 0, 0, 1], 0).into(), Arc::new(Nobody))).unwrap();
        let address = listening.address().to_string();
        std::mem::forget((listening, transport));
        address
    }

    fn found<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
        findings.iter().find(|finding| finding.what.starts_with(what)).unwrap_or_else(|| panic!("{what}: {findings:?}"))
    }

    #[test]
    fn a_wrong_authority_a_wrong_key_and_another_cluster_are_told_apart() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let temp = tempfile::tempdir().unwrap();
        let (ours, theirs) = (temp.path().join("ours"), temp.path().join("theirs"));
        let made = authority(&ours);
        authority(&theirs);
        let address = node(&made, &runtime);
        let look = |ca: &Path, tls: &Path, key| {
            let boot = boot(temp.path(), ca, tls, key, &address);
            look(&boot, &Own::absent(&boot))
        };

        let well = look(&ours, &ours, KEY);
        let other_ca = look(&theirs, &theirs, KEY);
        let mixed = look(&theirs, &ours, KEY);
        let other_key = look(&ours, &ours, [8; 32]);
        DataDir::open(&temp.path().join("data"), NodeId(5)).unwrap().bind(ClusterId(4)).unwrap();
        let other_cluster = look(&ours, &ours, KEY);

        assert!(well.iter().all(|finding| finding.verdict == Verdict::Good), "{well:?}");
        assert!(found(&well, "way to").seen.contains("fit"), "{well:?}");
        let bad = |findings: &[Finding], what: &str, words: &str| {
            let finding = found(findings, what);
            assert!(finding.verdict == Verdict::Bad && !finding.advice.is_empty(), "{finding:?}");
            assert!(finding.seen.contains(words), "{finding:?}");
        };
        bad(&other_ca, "way to", "different authorities");
        bad(&mixed, "trust in this node", "not signed by this authority");
        bad(&other_key, "way to", "under another key");
        bad(&other_cluster, "way to", "another cluster");
    }

    #[test]
    fn who_takes_connections_and_says_nothing_is_reported_within_moments() {
        let temp = tempfile::tempdir().unwrap();
        let ours = temp.path().join("ours");
        authority(&ours);
        let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
        let boot = boot(temp.path(), &ours, &ours, KEY, &hanging.local_addr().unwrap().to_string());
        let began = clock::now();

        let hangs = look(&boot, &Own::absent(&boot));
        drop(hanging);
        let gone = look(&boot, &Own::absent(&boot));

        assert!(clock::now() - began < Duration::from_secs(10));
        assert!(found(&hangs, "way to").seen.contains("hangs"), "{hangs:?}");
        assert!(found(&gone, "way to").seen.contains("refused"), "{gone:?}");
        assert!([&hangs, &gone].iter().all(|found_there| found(found_there, "way to").verdict == Verdict::Bad));
    }
}
