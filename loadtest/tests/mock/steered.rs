//! A mock whose behaviour changes while it runs: faults by switch, names that recover, quotas, texts continued.

use serde_json::json;
use troupe_loadtest::mock::Strike;

use super::*;

fn status(mock: &MockHandle, model: &str) -> u16 {
    call(mock, "POST", "/v1/chat/completions", &chat(model, json!({}))).status()
}

/// A call that shows a credential.
fn shown(mock: &MockHandle, path: &str, credential: &str, body: &str) -> Reply {
    let mut socket = connect(mock);
    let method = if body.is_empty() { "GET" } else { "POST" };
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nhost: mock\r\nauthorization: Bearer {credential}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut all = String::new();
    socket.read_to_string(&mut all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    Reply { head: head.to_lowercase(), body: body.as_bytes().to_vec(), broken: false }
}

#[test]
fn a_running_mock_fails_and_heals() {
    let mock = start();

    mock.fail(Strike::new("status=503").model("bad")).unwrap();
    let struck = (status(&mock, "bad-x"), status(&mock, "good-x"), call(&mock, "GET", "/v1/models", "").status());
    mock.fail(Strike::new("status=529")).unwrap();
    let all = (status(&mock, "bad-x"), status(&mock, "good-x"), call(&mock, "GET", "/v1/models", "").status());
    mock.heal();

    assert_eq!(struck, (503, 200, 200));
    assert_eq!(all, (503, 529, 529));
    assert_eq!((status(&mock, "bad-x"), call(&mock, "GET", "/v1/models", "").status()), (200, 200));
}

#[test]
fn a_killed_mock_refuses_connections_and_serves_again_when_revived() {
    let mock = start();
    let mut open = send(&mock, "POST", "/v1/chat/completions", &chat("x+hang", json!({})));
    until("the call is in flight", || mock.counts().in_flight == 1);

    mock.kill();

    let ends = open.read(&mut [0; 16]);
    assert!(matches!(ends, Ok(0) | Err(_)), "{ends:?}");
    assert!(TcpStream::connect(mock.addr).is_err());
    mock.revive().unwrap();
    assert_eq!(status(&mock, "x"), 200);
    assert_eq!((mock.counts().calls, mock.counts().in_flight), (2, 0), "it counts on");
}

#[test]
fn other_processes_steer_it_over_http() {
    let mock = start();

    let taken = call(&mock, "POST", "/mock/fault", r#"{"knobs":"status=500","first":1}"#).status();
    let wrong = call(&mock, "POST", "/mock/fault", r#"{"knobs":"statsu=500"}"#).text();
    let first = [status(&mock, "x"), status(&mock, "x")];
    call(&mock, "POST", "/mock/fault", r#"{"knobs":"status=429+retry-after=3"}"#);
    let second = status(&mock, "x");
    call(&mock, "DELETE", "/mock/fault", "");

    assert_eq!((taken, first, second, status(&mock, "x")), (200, [500, 200], 429, 200));
    assert!(wrong.contains("unknown knob `statsu`"), "{wrong}");
}

#[test]
fn a_bad_credential_is_refused_in_calls_and_lists_and_counted_apart() {
    let mock = start();
    mock.fail(Strike::new("status=401").credential("bad")).unwrap();

    for credential in ["bad", "good", "good"] {
        let expected = if credential == "bad" { 401 } else { 200 };
        assert_eq!(shown(&mock, "/v1/models", credential, "").status(), expected);
        assert_eq!(shown(&mock, "/v1/chat/completions", credential, &chat("x", json!({}))).status(), expected);
    }

    let counts = mock.counts();
    assert_eq!((counts.requests, counts.calls, counts.probes), (6, 3, 3));
    assert_eq!((counts.calls_by("good"), counts.probes_by("good"), counts.calls_by("bad")), (2, 2, 1));
    assert_eq!(counts.calls_of("x"), 3);
}

#[test]
fn a_name_fails_so_often_and_recovers() {
    let mock = start();

    let seen: Vec<u16> = (0..4).map(|_| status(&mock, "x+status=503+fail=2")).collect();
    let cut: Vec<bool> = (0..2).map(|_| chat_stream(&mock, "y+cut=1+fail=1").broken).collect();

    assert_eq!(seen, [503, 503, 200, 200]);
    assert_eq!(cut, [true, false]);
}

#[test]
fn a_quota_counts_down_and_refuses_what_is_beyond() {
    let mock = start();
    let body = chat("x+quota=2/300ms", json!({}));
    let ask = || shown(&mock, "/v1/chat/completions", "a", &body);

    let replies = [ask(), ask(), ask()];
    let other = shown(&mock, "/v1/chat/completions", "b", &body);

    assert_eq!(replies.each_ref().map(Reply::status), [200, 200, 429]);
    assert!(replies[0].head.contains("x-ratelimit-limit-requests: 2"), "{}", replies[0].head);
    assert!(replies[0].head.contains("x-ratelimit-remaining-requests: 1"), "{}", replies[0].head);
    assert!(replies[2].head.contains("retry-after: 1"), "{}", replies[2].head);
    assert_eq!(other.status(), 200);
    until("a new window", || ask().status() == 200);
}

#[test]
fn a_random_cut_falls_inside_and_differs_from_call_to_call() {
    let mock = start();

    let cuts: Vec<usize> = (0..12)
        .map(|_| words(&chat_stream(&mock, "x+words=20+random-cut=5").events()).split_whitespace().count())
        .collect();

    assert!(cuts.iter().all(|cut| (1..20).contains(cut)), "{cuts:?}");
    assert!(cuts.windows(2).any(|two| two[0] != two[1]), "{cuts:?}");
}

#[test]
fn an_unfinished_text_is_continued_and_billed_from_there() {
    let mock = start();
    let unfinished = |text: &str| {
        json!({"stream": true, "messages": [
            {"role": "user", "content": "hello"}, {"role": "assistant", "content": text}]})
    };

    let chat_leg = call(&mock, "POST", "/v1/chat/completions", &chat("x+words=5", unfinished("w0 w1 ")));
    let leg = call(&mock, "POST", "/v1/messages", &messages("x+words=5", unfinished("w0 w1")));
    let spaced = call(&mock, "POST", "/v1/messages", &messages("x+words=5", unfinished("w0 w1 ")));
    let refused = call(&mock, "POST", "/v1/messages", &messages("x+no-prefill", unfinished("w0")));

    assert_eq!(words(&chat_leg.events()), "w2 w3 w4 ");
    let said: String = leg.events().iter().filter_map(|event| event.pointer("/delta/text")?.as_str()).collect();
    assert_eq!(said, " w2 w3 w4 ", "a model goes on with the space that the text could not end in");
    assert_eq!((spaced.status(), refused.status()), (400, 400));
    until("the replies are over", || mock.bills().len() == 4);
    let bills = mock.bills();
    let told: Vec<_> = bills.iter().map(|bill| (bill.status, bill.events, bill.resumed, bill.has_left)).collect();
    assert_eq!(
        told,
        [(Some(200), 3, 2, false), (Some(200), 3, 2, false), (Some(400), 0, 0, false), (Some(400), 0, 0, false)]
    );
    assert_eq!(call(&mock, "GET", "/mock/bills", "").json()[0]["events"], 3);
}
