//! Those who are refused: each for its reason, each counted, and none of them disturbs the others.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use troupe_proto::wire;

use super::frame::{Frame, Kind};
use super::*;

/// Two nodes that talk to each other, before and after what `intrude` does to the first. Gives what was counted there.
async fn besieged(tls: bool, intrude: impl AsyncFnOnce(&Node, &Authority)) -> Counts {
    let authority = Authority::new();
    let certificates = || tls.then(|| authority.node());
    let node = Node::start(introduction(1), certificates()).await;
    let friend = Node::start(introduction(2), certificates()).await;
    let waiting = {
        let (transport, to) = (friend.transport.clone(), node.address());
        tokio::spawn(async move { transport.call(NodeId(1), &to, Class::Forward, b"wait".to_vec(), SOON).await })
    };
    eventually("it is served", || node.service.waiting.load(Ordering::SeqCst) == 1).await;

    intrude(&node, &authority).await;

    node.service.gate.0.add_permits(1);
    assert_eq!(waiting.await.unwrap().as_deref(), Ok(&b"waited"[..]), "a call from before");
    assert_eq!(friend.call(&node, Class::Vote, b"x").await.as_deref(), Ok(&b"x"[..]), "a new connection");
    eventually("intruders are gone", || node.transport.counts().connections_in == 2).await;
    node.transport.counts()
}

/// What a node counts when somebody comes with these.
async fn refused(introduction: Introduction, tls: Option<Arc<Certificates>>, node: &Node) -> CallError {
    let intruder = transport(introduction, tls, settings());
    call(&intruder, node, Class::Append, b"take this").await.unwrap_err()
}

fn bytes(frame: &Frame) -> Vec<u8> {
    [frame.head().unwrap().as_slice(), &frame.body].concat()
}

fn hello(introduction: &Introduction, class: Class) -> Vec<u8> {
    bytes(&Frame::new(Kind::Hello, 0, wire::encode(&introduction.hello(class)).unwrap()))
}

/// Sends bytes in plain text and gives what comes back until the end.
async fn throw(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(node.address()).await.unwrap();
    // The node may hang up before it has taken everything.
    drop(socket.write_all(bytes).await);
    rest(&mut socket).await
}

async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    // A reset is a way to hang up, too.
    drop(timeout(SOON, socket.read_to_end(&mut heard)).await.expect("the node hangs up"));
    heard
}

#[tokio::test]
async fn without_a_certificate_one_may_only_ask_to_join() {
    let counts = besieged(true, async |node, authority| {
        let bare = Arc::new(Certificates::joining(authority.issuer.fingerprint()).unwrap());

        assert_eq!(refused(introduction(3), Some(bare), node).await, CallError::Refused(Rejected::NoCertificate));
    })
    .await;

    assert_eq!(counts.rejected_in, [(Rejected::NoCertificate, 1)].into());
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_both_sides() {
    let counts = besieged(true, async |node, _| {
        let other = Authority::new();

        // The intruder looks at the node first, and finds it strange as well.
        assert_eq!(
            refused(introduction(3), Some(other.node()), node).await,
            CallError::Refused(Rejected::CertificateUntrusted)
        );
    })
    .await;
    assert_eq!(counts.rejected_in, [(Rejected::CertificateUntrusted, 1)].into());

    // One that trusts the node's authority, but is not trusted by it.
    let counts = besieged(true, async |node, authority| {
        let other = Authority::new();
        let forged = other.issuer.issue("n", &[], None, Validity::days(now(), 1)).unwrap();
        let both = authority.made.cert.clone() + &other.made.cert;
        let forged = Arc::new(Certificates::from_pem(&both, &forged.cert, &forged.key).unwrap());

        assert_eq!(
            refused(introduction(3), Some(forged), node).await,
            CallError::Refused(Rejected::CertificateUntrusted)
        );
    })
    .await;
    assert_eq!(counts.rejected_in, [(Rejected::CertificateUntrusted, 1)].into());
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let counts = besieged(true, async |node, authority| {
        let expired = authority.issue(None, Validity { from: now() - 3000, until: now() - 10 });

        assert_eq!(
            refused(introduction(3), Some(expired), node).await,
            CallError::Refused(Rejected::CertificateExpired)
        );
    })
    .await;

    assert_eq!(counts.rejected_in, [(Rejected::CertificateExpired, 1)].into());
}

#[tokio::test]
async fn a_certificate_for_another_cluster_or_for_no_node_is_refused() {
    let counts = besieged(true, async |node, authority| {
        let other = authority.issue(Some(ClusterId(99)), Validity::days(now(), 1));
        let fresh = Introduction { cluster: None, ..introduction(3) };

        assert_eq!(refused(fresh, Some(other), node).await, CallError::Refused(Rejected::CertificateForeign));
        let own = authority.issue(Some(CLUSTER), Validity::days(now(), 1));
        let member = transport(introduction(3), Some(own), settings());
        assert!(call(&member, node, Class::Append, b"x").await.is_ok());
    })
    .await;

    assert_eq!(counts.rejected_in, [(Rejected::CertificateForeign, 1)].into());
}

#[tokio::test]
async fn a_certificate_that_names_a_node_lets_nobody_speak_as_another() {
    let counts = besieged(true, async |node, authority| {
        let (request, key) = ca::request("gw-3", &[]).unwrap();
        let cert = authority.issuer.sign(&request, Some(CLUSTER), Some(NodeId(3)), Validity::days(now(), 1)).unwrap();
        let third = || Some(Arc::new(Certificates::from_pem(&authority.made.cert, &cert, &key).unwrap()));

        // As the node whose call is being served, and as one that is not there: neither gets in, and the seat stays.
        for other in [2, 4] {
            let said = refused(introduction(other), third(), node).await;
            assert_eq!(said, CallError::Refused(Rejected::CertificateForeign), "{other}");
        }
        let joining = transport(introduction(2), third(), settings());
        let said = joining.ask(&node.address(), b"let me in".to_vec(), SOON).await;
        assert_eq!(said.unwrap_err(), CallError::Refused(Rejected::CertificateForeign));
        let itself = transport(introduction(3), third(), settings());
        assert!(call(&itself, node, Class::Append, b"x").await.is_ok());

        // Who is dialled may not speak as another either.
        let posing = Node::start(introduction(5), third()).await;
        let said = node.call(&posing, Class::Append, b"x").await;
        assert_eq!(said, Err(CallError::Refused(Rejected::CertificateForeign)));
        assert!(posing.service.callers.lock().unwrap().is_empty());
    })
    .await;

    assert_eq!(counts.rejected_in, [(Rejected::CertificateForeign, 3)].into());
}

#[tokio::test]
async fn one_address_cannot_take_all_places_of_the_handshake() {
    let few = Settings { handshakes_max: 8, handshakes_each_max: 3, handshake_max: SOON, ..settings() };
    let node = Node::start_with(introduction(1), None, few).await;
    let to = node.listening.address();
    let knock = async |from: [u8; 4]| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(to).await.unwrap()
    };
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(knock([127, 0, 0, 1]).await);
    }
    eventually("the surplus is turned away", || node.rejected(Rejected::Busy) == 17).await;

    // Another address still gets in; so does the first one once it has made room.
    let mut other = knock([127, 0, 0, 2]).await;
    other.write_all(&hello(&introduction(2), Class::Vote)).await.unwrap();
    let mut first = [0; 1];
    timeout(SOON, other.read_exact(&mut first)).await.unwrap().unwrap();
    drop(silent);
    let friend = transport(introduction(3), None, settings());
    let let_in = async {
        while call(&friend, &node, Class::Vote, b"x").await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, let_in).await.unwrap();
}

#[tokio::test]
async fn nodes_of_another_cluster_with_other_keys_or_our_own_name_are_refused() {
    let counts = besieged(true, async |node, authority| {
        let cases = [
            (Introduction { cluster: Some(ClusterId(8)), ..introduction(3) }, Rejected::ForeignCluster),
            (introduction(1), Rejected::OwnId),
            (Introduction { seal_keys: vec![[9; 8]], ..introduction(3) }, Rejected::ForeignSealKey),
        ];
        for (introduction, reason) in cases {
            let tls = Some(authority.node());
            assert_eq!(refused(introduction, tls, node).await, CallError::Refused(reason));
        }
    })
    .await;

    let each = [Rejected::ForeignCluster, Rejected::OwnId, Rejected::ForeignSealKey].map(|reason| (reason, 1));
    assert_eq!(counts.rejected_in, each.into());
}

#[tokio::test]
async fn another_node_at_a_known_address_gets_no_call() {
    let a = Node::start(introduction(1), None).await;
    let b = Node::start(introduction(2), None).await;

    let answer = a.transport.call(NodeId(3), &b.address(), Class::Append, b"for three".to_vec(), SOON).await;

    assert_eq!(answer, Err(CallError::Refused(Rejected::WrongNode)));
    assert_eq!(a.transport.counts().rejected_out, [(Rejected::WrongNode, 1)].into());
    assert!(b.service.callers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_node_of_a_later_protocol_is_told_that_there_is_no_common_version() {
    let counts = besieged(false, async |node, _| {
        let later = Hello { versions: (2, 3), ..introduction(3).hello(Class::Vote) };
        let later = bytes(&Frame::new(Kind::Hello, 0, wire::encode(&later).unwrap()));
        assert_eq!(throw(node, &later).await, bytes(&Frame::refuse(0, Rejected::Version)));

        let mut unknown_layout = hello(&introduction(3), Class::Vote);
        unknown_layout[frame::HEAD_BYTES + 4] = 2;
        assert_eq!(throw(node, &unknown_layout).await, bytes(&Frame::refuse(0, Rejected::Version)));

        let mut another_message = hello(&introduction(3), Class::Vote);
        another_message[frame::HEAD_BYTES + 2] = 1;
        assert_eq!(throw(node, &another_message).await, bytes(&Frame::refuse(0, Rejected::Malformed)));
    })
    .await;

    assert_eq!(counts.rejected_in, [(Rejected::Version, 2), (Rejected::Malformed, 1)].into());
}

#[tokio::test]
async fn a_message_the_service_cannot_read_is_refused_and_the_connection_goes_on() {
    let counts = besieged(false, async |node, _| {
        let peer = transport(introduction(3), None, settings());

        assert_eq!(call(&peer, node, Class::Append, b"unknown").await, Err(CallError::Refused(Rejected::Version)));
        assert!(call(&peer, node, Class::Append, b"known").await.is_ok());
    })
    .await;

    assert_eq!((counts.rejected_in, counts.accepted), ([(Rejected::Version, 1)].into(), 3));
}

#[tokio::test]
async fn frames_over_their_limit_are_refused_before_they_are_sent() {
    let counts = besieged(false, async |node, _| {
        // A stranger may say hello, and no more.
        let long_hello = [&1_100_u32.to_le_bytes()[..], &[0; 9]].concat();
        throw(node, &long_hello).await;
        let huge = [&u32::MAX.to_le_bytes()[..], &[0; 8], &[1]].concat();
        throw(node, &huge).await;
        // A friend may send what its class allows.
        let over = u32::try_from(Class::Vote.limit() + 1).unwrap();
        let over = [&over.to_le_bytes()[..], &[0; 8], &[1]].concat();
        let heard = throw(node, &[hello(&introduction(3), Class::Vote), over].concat()).await;
        assert!(heard.ends_with(&bytes(&Frame::refuse(0, Rejected::TooLarge))));
    })
    .await;

    assert_eq!(counts.rejected_in, [(Rejected::TooLarge, 3)].into());
}

#[tokio::test]
async fn garbage_is_refused_at_every_stage() {
    let counts = besieged(false, async |node, _| {
        throw(node, &[0xff; 64]).await;
        throw(node, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let call_first = bytes(&Frame::new(Kind::Call, 1, b"x".to_vec()));
        throw(node, &call_first).await;
        let twice = [hello(&introduction(3), Class::Vote), hello(&introduction(3), Class::Vote)].concat();
        throw(node, &twice).await;
        let answer = bytes(&Frame::new(Kind::Answer, 1, b"x".to_vec()));
        throw(node, &[hello(&introduction(3), Class::Append), answer].concat()).await;
        let garbled: Vec<u8> = hello(&introduction(3), Class::Vote).into_iter().rev().collect();
        throw(node, &garbled).await;
    })
    .await;

    let total: u64 = counts.rejected_in.values().sum();
    let kinds: Vec<_> = counts.rejected_in.keys().copied().collect();
    assert_eq!((total, kinds), (6, vec![Rejected::Malformed, Rejected::TooLarge]), "{counts:?}");
}

#[tokio::test]
async fn garbage_and_plain_text_at_a_tls_port_are_refused() {
    let counts = besieged(true, async |node, _| {
        throw(node, &[0xff; 64]).await;
        throw(node, &hello(&introduction(3), Class::Vote)).await;
        throw(node, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    })
    .await;

    assert_eq!(counts.rejected_in, [(Rejected::Tls, 3)].into());
}

#[tokio::test]
async fn half_a_frame_and_then_silence_is_waited_for_no_longer_than_the_deadline() {
    let counts = besieged(false, async |node, _| {
        // Nothing at all, half a Hello, half a call.
        throw(node, b"").await;
        let whole = hello(&introduction(3), Class::Vote);
        throw(node, &whole[..20]).await;
        let call = bytes(&Frame::new(Kind::Call, 1, vec![7; 100]));
        throw(node, &[whole, call[..50].to_vec()].concat()).await;
    })
    .await;

    assert_eq!(counts.rejected_in, [(Rejected::Slow, 3)].into());
}

#[tokio::test]
async fn strangers_who_say_nothing_do_not_keep_friends_out() {
    let a_few = Settings { handshakes_max: 3, ..settings() };
    let node = Node::start_with(introduction(1), None, a_few).await;
    let friend = transport(introduction(2), None, settings());
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(TcpStream::connect(node.address()).await.unwrap());
    }
    eventually("the others are turned away", || node.rejected(Rejected::Busy) == 7).await;

    let retry = async {
        while call(&friend, &node, Class::Vote, b"x").await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };

    timeout(SOON, retry).await.unwrap();
    assert_eq!(node.rejected(Rejected::Slow), 3);
}

#[tokio::test]
async fn connections_have_a_bound_and_those_without_a_certificate_one_of_their_own() {
    let authority = Authority::new();
    let tight = Settings { connections_max: 2, joins_max: 1, ..settings() };
    let node = Node::start_with(introduction(1), Some(authority.node()), tight).await;
    let join = |id| {
        let tls = Arc::new(Certificates::joining(authority.issuer.fingerprint()).unwrap());
        transport(introduction(id), Some(tls), settings())
    };
    let (one, two) = (join(10), join(11));
    assert!(call(&one, &node, Class::Join, b"x").await.is_ok());
    assert_eq!(call(&two, &node, Class::Join, b"x").await, Err(CallError::Refused(Rejected::Busy)));

    let friends = [2, 3, 4].map(|id| transport(introduction(id), Some(authority.node()), settings()));
    assert!(call(&friends[0], &node, Class::Vote, b"x").await.is_ok());
    assert!(call(&friends[1], &node, Class::Vote, b"x").await.is_ok());
    assert_eq!(call(&friends[2], &node, Class::Vote, b"x").await, Err(CallError::Refused(Rejected::Busy)));

    assert_eq!(node.rejected(Rejected::Busy), 2);
    drop(one);
    let retry = async {
        while call(&two, &node, Class::Join, b"x").await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, retry).await.unwrap();
}
