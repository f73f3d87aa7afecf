use super::*;

#[tokio::test]
async fn a_call_is_answered_on_every_class_with_and_without_tls() {
    let authority = Authority::new();
    for tls in [false, true] {
        let tls = || tls.then(|| authority.node());
        let a = Node::start(introduction(1), tls()).await;
        let b = Node::start(introduction(2), tls()).await;

        for class in Class::ALL {
            assert_eq!(a.call(&b, class, b"hello").await.as_deref(), Ok(&b"hello"[..]));
        }

        let callers = b.service.callers.lock().unwrap().clone();
        let expected = Class::ALL.map(|class| Caller {
            node: NodeId(1),
            class,
            incarnation: 1,
            cluster: Some(CLUSTER),
            peer: "node-1:1".to_owned(),
            version: 1,
            is_verified: true,
        });
        assert_eq!(callers, expected);
        let each = u64::try_from(Class::ALL.len()).unwrap();
        assert_eq!((b.transport.counts().connections_in, b.transport.counts().served), (each, each));
        assert_eq!(a.transport.counts().links[&(NodeId(2), Class::Vote)].answered, 1);
    }
}

#[tokio::test]
async fn who_knocks_learns_who_is_there_and_takes_nobody_s_place() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let b = Node::start(introduction(2), Some(authority.node())).await;
    let knocking = |introduction, authority: &Authority| transport(introduction, Some(authority.node()), settings());
    let a = Node::start(introduction(1), Some(authority.node())).await;
    assert_eq!(a.call(&b, Class::Vote, b"hello").await.as_deref(), Ok(&b"hello"[..]));
    let served = b.transport.counts().served;

    // As the same node, and as an earlier process of it: what asks is a tool beside the node.
    let same = Introduction { incarnation: 0, ..introduction(1) };
    let hello = knocking(same, &authority).knock(&b.address()).await.unwrap();
    let foreign = Introduction { seal_keys: vec![[9; 8]], ..introduction(3) };
    let sealed = knocking(foreign, &authority).knock(&b.address()).await.unwrap_err();
    let untrusted = knocking(introduction(3), &stranger).knock(&b.address()).await.unwrap_err();

    assert_eq!((hello.node, hello.cluster), (NodeId(2), Some(CLUSTER)));
    assert_eq!(sealed, CallError::Refused(Rejected::ForeignSealKey));
    assert_eq!(untrusted, CallError::Refused(Rejected::CertificateUntrusted));
    assert_eq!(b.transport.counts().served, served);
    assert_eq!(a.call(&b, Class::Vote, b"still").await.as_deref(), Ok(&b"still"[..]));
    assert_eq!(a.transport.counts().links[&(NodeId(2), Class::Vote)].answered, 2);
}

#[tokio::test]
async fn many_calls_are_open_on_one_connection_and_each_gets_its_own_answer() {
    let a = Node::start(introduction(1), None).await;
    let b = Node::start(introduction(2), None).await;
    let waiting = a.call(&b, Class::Forward, b"wait");
    tokio::pin!(waiting);

    let others = futures_util::future::join_all((0..500_u32).map(|n| {
        let (a, b) = (&a, &b);
        async move { (n, a.call(b, Class::Forward, &n.to_le_bytes()).await) }
    }));
    let others = tokio::select! {
        _ = &mut waiting => panic!("nobody let it go"),
        others = others => others,
    };

    for (n, answer) in others {
        assert_eq!(answer.as_deref(), Ok(&n.to_le_bytes()[..]));
    }
    b.service.gate.0.add_permits(1);
    assert_eq!(waiting.await.as_deref(), Ok(&b"waited"[..]));
    assert_eq!(b.transport.counts().accepted, 1);
}

#[tokio::test]
async fn the_largest_call_of_each_class_passes_and_a_larger_one_is_never_sent() {
    let authority = Authority::new();
    let a = Node::start(introduction(1), Some(authority.node())).await;
    let b = Node::start(introduction(2), Some(authority.node())).await;

    for class in [Class::Vote, Class::Snapshot, Class::Append] {
        let body = vec![7; class.limit()];
        let within = Duration::from_secs(30);
        let answer = a.transport.call(b.id(), &b.address(), class, body.clone(), within).await;
        assert!(answer.as_ref() == Ok(&body), "{class:?}: {:?}", answer.map(|body| body.len()));

        let larger = a.call(&b, class, &vec![7; class.limit() + 1]).await;
        assert_eq!(larger, Err(CallError::TooLarge));
    }
}

#[tokio::test]
async fn a_call_says_whether_it_may_have_been_served() {
    let a = Node::start(introduction(1), None).await;
    let b = Node::start(introduction(2), None).await;
    let nowhere = nowhere().await.to_string();
    let short = Duration::from_millis(100);

    let refused = a.transport.call(NodeId(9), &nowhere, Class::Vote, vec![], SOON).await;
    let paused = a.transport.call(NodeId(9), &nowhere, Class::Vote, vec![], SOON).await;
    let late = a.transport.call(b.id(), &b.address(), Class::Vote, b"wait".to_vec(), short).await;
    let panicked = a.call(&b, Class::Vote, b"panic").await;
    let overflowed = a.call(&b, Class::Vote, b"too much").await;
    let unread = a.call(&b, Class::Vote, b"unknown").await;

    assert_eq!(refused, Err(CallError::Unreachable));
    assert_eq!(paused, Err(CallError::Unreachable));
    assert_eq!(late, Err(CallError::Deadline));
    assert_eq!(panicked, Err(CallError::Lost));
    assert_eq!(overflowed, Err(CallError::Lost));
    assert_eq!(unread, Err(CallError::Refused(Rejected::Version)));
    assert_eq!(b.rejected(Rejected::Version), 1);
    assert_eq!(a.call(&b, Class::Vote, b"alive").await.as_deref(), Ok(&b"alive"[..]));
    assert_eq!(b.transport.counts().accepted, 1, "all on one connection");
}

#[tokio::test]
async fn a_call_under_way_when_the_node_goes_is_lost_and_the_next_one_finds_its_successor() {
    let a = Node::start(introduction(1), None).await;
    let b = Node::start(introduction(2), None).await;
    let (address, service) = (b.listening.address(), Arc::clone(&b.service));
    let waiting = {
        let (transport, to) = (a.transport.clone(), address.to_string());
        tokio::spawn(async move { transport.call(NodeId(2), &to, Class::Append, b"wait".to_vec(), SOON).await })
    };
    eventually("it is served", || service.waiting.load(Ordering::SeqCst) == 1).await;

    drop(b);

    assert_eq!(waiting.await.unwrap(), Err(CallError::Lost));
    let successor = transport(introduction(2), None, settings());
    let listen = || successor.listen(address, Arc::new(Echo::default()));
    let _listening = {
        let mut listening = listen().await;
        while listening.is_err() {
            sleep(Duration::from_millis(5)).await;
            listening = listen().await;
        }
        listening.unwrap()
    };
    let retry = async {
        while a.transport.call(NodeId(2), &address.to_string(), Class::Append, b"x".to_vec(), SOON).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, retry).await.unwrap();
}

#[tokio::test]
async fn a_dropped_call_frees_its_place() {
    let room_for_two = Settings { calls_max: 2, ..settings() };
    let a = Node::start_with(introduction(1), None, room_for_two).await;
    let b = Node::start(introduction(2), None).await;
    let wait = || {
        let (transport, to) = (a.transport.clone(), b.address());
        tokio::spawn(async move { transport.call(NodeId(2), &to, Class::Forward, b"wait".to_vec(), SOON).await })
    };
    let (one, two) = (wait(), wait());
    eventually("both are served", || b.service.waiting.load(Ordering::SeqCst) == 2).await;
    assert_eq!(a.call(&b, Class::Forward, b"x").await, Err(CallError::Refused(Rejected::Busy)));

    one.abort();
    assert!(one.await.unwrap_err().is_cancelled());

    assert_eq!(a.call(&b, Class::Forward, b"x").await.as_deref(), Ok(&b"x"[..]));
    b.service.gate.0.add_permits(2);
    assert_eq!(two.await.unwrap().as_deref(), Ok(&b"waited"[..]));
}

#[tokio::test]
async fn more_calls_than_there_is_room_for_are_refused_and_counted() {
    let a = Node::start(introduction(1), None).await;
    let b = Node::start_with(introduction(2), None, Settings { serving_max: 1, ..settings() }).await;
    let waiting = {
        let (transport, to) = (a.transport.clone(), b.address());
        tokio::spawn(async move { transport.call(NodeId(2), &to, Class::Forward, b"wait".to_vec(), SOON).await })
    };
    eventually("it is served", || b.service.waiting.load(Ordering::SeqCst) == 1).await;

    let refused = a.call(&b, Class::Append, b"x").await;

    assert_eq!(refused, Err(CallError::Refused(Rejected::Busy)));
    assert_eq!((b.rejected(Rejected::Busy), b.transport.counts().serving), (1, 1));
    b.service.gate.0.add_permits(1);
    assert_eq!(waiting.await.unwrap().as_deref(), Ok(&b"waited"[..]));
}

#[tokio::test]
async fn a_peer_that_takes_everything_and_says_nothing_is_dialled_anew() {
    let quick = Settings { silence_max: Duration::from_millis(150), ..settings() };
    let a = transport(introduction(1), None, quick);
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap().to_string();
    let call = {
        let address = address.clone();
        tokio::spawn(async move { (a.call(NodeId(2), &address, Class::Append, b"x".to_vec(), SOON).await, a) })
    };

    let (mut socket, _) = mute.accept().await.unwrap();
    let hello = troupe_proto::wire::encode(&introduction(2).hello(Class::Append)).unwrap();
    let hello = frame::Frame::new(frame::Kind::Hello, 0, hello);
    let hello = [hello.head().unwrap().as_slice(), &hello.body].concat();
    tokio::io::AsyncWriteExt::write_all(&mut socket, &hello).await.unwrap();

    let (answer, a) = call.await.unwrap();
    assert_eq!(answer, Err(CallError::Lost));
    assert_eq!(a.counts().rejected_out[&Rejected::Slow], 1);
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_as_long_as_the_peer_lives() {
    let quick = Settings { silence_max: Duration::from_millis(100), ..settings() };
    let a = Node::start_with(introduction(1), None, quick).await;
    let b = Node::start(introduction(2), None).await;
    let waiting = {
        let (transport, to) = (a.transport.clone(), b.address());
        tokio::spawn(async move { transport.call(NodeId(2), &to, Class::Forward, b"wait".to_vec(), SOON).await })
    };
    eventually("it is served", || b.service.waiting.load(Ordering::SeqCst) == 1).await;

    // Ten times the silence that would be too much.
    sleep(Duration::from_secs(1)).await;
    b.service.gate.0.add_permits(1);

    assert_eq!(waiting.await.unwrap().as_deref(), Ok(&b"waited"[..]));
    assert_eq!(b.transport.counts().accepted, 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_by_its_caller_and_made_again_when_needed() {
    let a_settings =
        Settings { idle_max: Duration::from_millis(60), silence_max: Duration::from_millis(60), ..settings() };
    let a = Node::start_with(introduction(1), None, a_settings).await;
    let b = Node::start(introduction(2), None).await;
    assert!(a.call(&b, Class::Vote, b"x").await.is_ok());

    eventually("it is closed", || b.transport.counts().connections_in == 0).await;

    assert!(a.call(&b, Class::Vote, b"x").await.is_ok());
    assert_eq!((a.transport.counts().rejected_out, b.transport.counts().accepted), (Default::default(), 2));
}

#[tokio::test]
async fn a_restarted_node_takes_the_seat_of_its_former_self_which_does_not_get_back() {
    let b = Node::start(introduction(2), None).await;
    let former = transport(introduction(1), None, settings());
    let later = transport(Introduction { incarnation: 2, ..introduction(1) }, None, settings());
    assert!(call(&former, &b, Class::Vote, b"x").await.is_ok());

    assert!(call(&later, &b, Class::Vote, b"x").await.is_ok());

    eventually("one is left", || b.transport.counts().connections_in == 1).await;
    let refused = async {
        while call(&former, &b, Class::Vote, b"x").await != Err(CallError::Refused(Rejected::Superseded)) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, refused).await.unwrap();
    timeout(SOON, former.superseded()).await.expect("it knows that it is not wanted any more");
    assert!(call(&later, &b, Class::Vote, b"x").await.is_ok());
    assert!(later.superseded().now_or_never().is_none());
}

#[tokio::test]
async fn whoever_answers_at_an_address_can_be_asked_and_says_who_it_is() {
    let authority = Authority::new();
    let b = Node::start(introduction(2), Some(authority.node())).await;
    let fresh = Introduction { cluster: None, seal_keys: vec![], ..introduction(1) };
    let joining = Arc::new(Certificates::joining(authority.issuer.fingerprint()).unwrap());
    let a = transport(fresh, Some(joining), settings());

    let (hello, answer) = a.ask(&b.address(), b"let me in".to_vec(), SOON).await.unwrap();

    assert_eq!((hello.node, hello.cluster, answer.as_slice()), (NodeId(2), Some(CLUSTER), &b"let me in"[..]));
    let caller = b.service.callers.lock().unwrap()[0].clone();
    assert_eq!((caller.class, caller.cluster, caller.is_verified), (Class::Join, None, false));
    a.found_cluster(CLUSTER);
    assert!(a.ask(&b.address(), b"again".to_vec(), SOON).await.is_ok());
    assert_eq!(a.ask(&nowhere().await.to_string(), vec![], SOON).await, Err(CallError::Unreachable));
}
