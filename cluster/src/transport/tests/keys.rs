//! Certificates over time.

use super::*;

#[tokio::test]
async fn certificates_are_reloaded_without_a_dropped_call_and_an_expired_one_is_refused_afterwards() {
    let authority = Authority::new();
    let (a_tls, b_tls) = (authority.node(), authority.node());
    let a = Node::start(introduction(1), Some(Arc::clone(&a_tls))).await;
    let b = Node::start(introduction(2), Some(b_tls)).await;
    let waiting = {
        let (transport, to) = (a.transport.clone(), b.address());
        tokio::spawn(async move { transport.call(NodeId(2), &to, Class::Forward, b"wait".to_vec(), SOON).await })
    };
    eventually("it is served", || b.service.waiting.load(Ordering::SeqCst) == 1).await;
    let reload = |validity: Validity| {
        let node = authority.issuer.issue("again", &[], None, validity).unwrap();
        // It counted when it was taken up.
        let then = validity.until.min(now());
        a_tls.reload_pem(&authority.made.cert, &node.cert, &node.key, then).unwrap();
    };

    reload(Validity::days(now(), 2));
    assert_eq!(a_tls.expires_at() / 60, (now() + 2 * 86_400) / 60);
    assert!(a.call(&b, Class::Vote, b"x").await.is_ok(), "a new connection by the new certificate");
    reload(Validity { from: now() - 3000, until: now() - 1 });

    b.service.gate.0.add_permits(1);
    assert_eq!(waiting.await.unwrap().as_deref(), Ok(&b"waited"[..]));
    assert!(a.call(&b, Class::Forward, b"x").await.is_ok(), "what is open stays open");
    assert_eq!(a.call(&b, Class::Append, b"x").await, Err(CallError::Refused(Rejected::CertificateExpired)));
    assert_eq!(b.rejected(Rejected::CertificateExpired), 1);

    reload(Validity::days(now(), 1));
    let retry = async {
        while a.call(&b, Class::Append, b"x").await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, retry).await.unwrap();
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named_and_leave_the_old_ones_in_force() {
    let authority = Authority::new();
    let other = Authority::new();
    let tls = authority.node();
    let node = authority.issuer.issue("n", &[], None, Validity::days(now(), 1)).unwrap();
    let stranger = other.issuer.issue("n", &[], None, Validity::days(now(), 1)).unwrap();
    let before = tls.expires_at();
    let ca = &authority.made.cert;
    use tls::TlsError;
    let ended = Validity { from: now() - 3000, until: now() - 1 };
    let old = authority.issuer.issue("n", &[], None, ended).unwrap();

    assert!(matches!(tls.reload_pem("", &node.cert, &node.key, now()), Err(TlsError::Ca(_))));
    assert!(matches!(tls.reload_pem(&node.cert, &node.cert, &node.key, now()), Err(TlsError::Ca(_))));
    assert!(matches!(tls.reload_pem(ca, "", &node.key, now()), Err(TlsError::Certificate(_))));
    assert!(matches!(tls.reload_pem(ca, &node.cert, "", now()), Err(TlsError::Key(_))));
    assert!(matches!(tls.reload_pem(ca, &node.cert, &stranger.key, now()), Err(TlsError::Tls(_))));
    assert!(matches!(tls.reload_pem(ca, &stranger.cert, &stranger.key, now()), Err(TlsError::Untrusted)));
    assert!(matches!(tls.reload_pem(ca, ca, &authority.made.key, now()), Err(TlsError::NotNode)));
    let renewed = tls.reload_pem(ca, &old.cert, &old.key, now());
    assert!(matches!(renewed, Err(TlsError::Ended(at)) if at == ended.until), "{renewed:?}");
    assert!(matches!(tls.reload(now()), Err(TlsError::NoFiles)));
    assert_eq!(tls.expires_at(), before);
}

#[tokio::test]
async fn certificates_are_read_again_from_their_files() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let write = |days| {
        let node = authority.issuer.issue("n", &[], None, Validity::days(now(), days)).unwrap();
        std::fs::write(path("peer.crt"), node.cert).unwrap();
        std::fs::write(path("peer.key"), node.key).unwrap();
    };
    std::fs::write(path("ca.crt"), &authority.made.cert).unwrap();
    write(1);
    let files = tls::Files { ca: path("ca.crt"), cert: path("peer.crt"), key: path("peer.key") };
    let tls = Certificates::load(files.clone()).unwrap();
    let first = tls.expires_at();

    write(2);
    tls.reload(now()).unwrap();

    assert!(tls.expires_at() > first + 80_000);
    std::fs::remove_file(path("peer.key")).unwrap();
    assert!(matches!(tls.reload(now()), Err(tls::TlsError::File { path, .. }) if path == files.key));
}

#[tokio::test]
async fn an_authority_is_changed_in_three_steps_without_an_outage() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = old.made.cert.clone() + &new.made.cert;
    let issued = |authority: &Authority, ca: &str| {
        let node = authority.issuer.issue("n", &[], None, Validity::days(now(), 1)).unwrap();
        Arc::new(Certificates::from_pem(ca, &node.cert, &node.key).unwrap())
    };
    let by_old = issued(&old, &both);
    let by_new = issued(&new, &both);
    let a = Node::start(introduction(1), Some(by_old)).await;
    let b = Node::start(introduction(2), Some(by_new)).await;

    assert!(a.call(&b, Class::Vote, b"x").await.is_ok());
    assert!(b.call(&a, Class::Vote, b"x").await.is_ok());
}
