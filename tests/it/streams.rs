//! STREAM-1: every event arrives once, whole, in order and at once; and what a stream is told while nothing comes.

use std::time::Duration;

use serde_json::{Value, json};
use troupe_node::clock;
use troupe_tests::ask::Dialect;
use troupe_tests::{Client, Event, World, until};

/// The pieces of text, in the order they came.
fn pieces(dialect: Dialect, events: &[Event]) -> Vec<String> {
    events.iter().filter_map(|event| dialect.piece(&event.json())).collect()
}

/// Whether the stream ended as this dialect ends one, once.
fn ends_well(dialect: Dialect, events: &[Event]) -> bool {
    let is_end = |event: &&Event| match dialect {
        Dialect::OpenAi => event.data == "[DONE]",
        Dialect::Anthropic => event.name.as_deref() == Some("message_stop"),
    };
    events.iter().filter(is_end).count() == 1 && events.last().is_some_and(|last| is_end(&last))
}

#[tokio::test]
async fn events_arrive_once_whole_and_in_order_however_they_were_sent() {
    let world = World::new().start().await;
    let shapes = [
        "words=40",
        "words=40+slow-bytes",
        "words=40+crlf",
        "words=40+comments",
        "words=40+unicode+slow-bytes",
        "words=40+crlf+comments+slow-bytes+unicode",
    ];

    for dialect in Dialect::ALL {
        for wire in ["o", "a"] {
            for shape in shapes {
                let model = format!("{wire}-x+{shape}");
                let mut stream = world.client().stream(dialect.path(), dialect.ask_stream(&model)).await;
                let events = stream.rest().await;

                let tail = if shape.contains("unicode") { "\u{e9}\u{20ac}\u{1d11e} " } else { " " };
                let expected: Vec<String> = (0..40).map(|n| format!("w{n}{tail}")).collect();
                assert_eq!(pieces(dialect, &events), expected, "{model} to {dialect:?}");
                assert!(ends_well(dialect, &events) && !stream.is_cut, "{model} to {dialect:?}");
                assert!(stream.between().1.is_empty(), "{model}: bytes behind the last event");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_of_the_same_dialect_is_relayed_byte_for_byte() {
    let world = World::new().start().await;
    let direct = Client::new(world.mock.addr, None).header("anthropic-version", "2023-06-01");
    for (dialect, model) in [(Dialect::OpenAi, "o-x"), (Dialect::Anthropic, "a-x")] {
        for shape in ["words=5+comments", "words=5+crlf+unicode", "words=5+slow-bytes"] {
            let mut ask = dialect.ask_stream(&format!("{model}+{shape}"));
            if dialect == Dialect::OpenAi {
                ask["stream_options"] = json!({"include_usage": true});
            }

            let relayed = world.client().post(dialect.path(), ask.clone()).await;

            let sent = direct.post(dialect.path(), ask).await;
            assert_eq!(without_numbers(&relayed.text()), without_numbers(&sent.text()), "{model}+{shape}");
        }
    }
}

/// The same text without what two calls never share: the number in ids, and the second they fall into.
fn without_numbers(text: &str) -> String {
    let cut = |text: &str, mark: &str| {
        let mut parts = text.split(mark);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |all, part| all + mark + part.trim_start_matches(|c: char| c.is_ascii_digit()))
    };
    cut(&cut(&cut(text, "mock_"), "mock-"), "\"created\":")
}

#[tokio::test]
async fn the_first_event_arrives_while_the_provider_is_still_sending() {
    let world = World::new().start().await;

    for dialect in Dialect::ALL {
        for model in ["o-x+words=40+drip=25ms", "a-x+words=40+drip=25ms"] {
            world.mock.reset();
            let mut stream = world.client().stream(dialect.path(), dialect.ask_stream(model)).await;
            let first = loop {
                let event = stream.next().await.unwrap();
                if dialect.piece(&event.json()).is_some() {
                    break event;
                }
            };

            let sent = world.mock.counts().events;
            assert!(sent < 20, "{sent} of 40 events had been sent when {first:?} came");
            let mut last = first.at;
            let rest = stream.rest().await;
            // Held back events would come in bunches: the gaps that the provider left must still be there.
            let mut gaps = 0;
            for event in rest.iter().filter(|event| dialect.piece(&event.json()).is_some()) {
                gaps += usize::from(event.at - last > Duration::from_millis(5));
                last = event.at;
            }
            assert!(gaps > 15, "only {gaps} of 39 events came by themselves");
        }
    }
}

#[tokio::test]
async fn usage_is_shown_to_a_client_only_if_it_asked() {
    let world = World::new().start().await;

    for wire in ["o", "a"] {
        for asked in [None, Some(false), Some(true)] {
            let dialect = Dialect::OpenAi;
            let model = format!("{wire}-x+words=3");
            let mut ask = dialect.ask_stream(&model);
            if let Some(asked) = asked {
                ask["stream_options"] = json!({"include_usage": asked});
            }
            let mut stream = world.client().stream(dialect.path(), ask).await;
            let events = stream.rest().await;

            let what = format!("{model}, asked {asked:?}");
            let chunks: Vec<Value> = events.iter().map(Event::json).filter(Value::is_object).collect();
            let usages: Vec<&Value> = chunks.iter().filter_map(|chunk| chunk.get("usage")).collect();
            assert_eq!(pieces(dialect, &events).len(), 3, "{what}");
            if asked == Some(true) {
                assert_eq!(usages.iter().filter(|usage| usage.is_object()).count(), 1, "{what}: {usages:?}");
                let last = chunks.last().unwrap();
                assert_eq!(
                    (last["choices"].as_array().map(Vec::len), &last["usage"]["completion_tokens"]),
                    (Some(0), &json!(3))
                );
            } else {
                assert!(usages.is_empty(), "{what}: {usages:?}");
                assert!(
                    chunks.iter().all(|chunk| chunk["choices"].as_array().is_some_and(|list| !list.is_empty())),
                    "{what}"
                );
            }
        }
    }
    // Asked for or not, the gateway knows.
    until("access lines", || world.access_lines().len() == 6).await;
    for line in world.access_lines() {
        assert_eq!(line["tokens"]["output"], 3, "{line}");
    }
}

#[tokio::test]
async fn silence_is_kept_alive_in_the_words_of_each_wire() {
    let world = World::new().start().await;
    let calls = Dialect::ALL.into_iter().flat_map(|dialect| ["o", "a"].map(|wire| (dialect, wire)));
    let watched = calls.map(|(dialect, wire)| {
        let client = world.client();
        tokio::spawn(async move {
            let ask = dialect.ask_stream(&format!("{wire}-x+hang-at=1"));
            let mut stream = client.stream(dialect.path(), ask).await;
            loop {
                let (before, piece) = (clock::now(), stream.piece().await.unwrap());
                let silence = clock::now() - before;
                if silence > Duration::from_secs(5) {
                    return (dialect, wire, silence, piece);
                }
            }
        })
    });
    for watched in watched.collect::<Vec<_>>() {
        let (dialect, wire, silence, said) = watched.await.unwrap();

        let expected = match dialect {
            Dialect::OpenAi => ": ka\n\n",
            Dialect::Anthropic => "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        };
        assert_eq!(said, expected, "{wire} to {dialect:?}");
        assert!((9..14).contains(&silence.as_secs()), "{wire} to {dialect:?}: after {silence:?}");
    }
}

#[tokio::test]
async fn a_client_hears_of_its_stream_after_ten_seconds_even_if_nothing_was_said() {
    let world = World::new().start().await;
    let began = clock::now();
    // With a head from the provider and without one.
    let models = ["o-x+hang-at=0", "a-x+hang-at=0", "o-x+hang", "a-x+hang"];
    let calls = Dialect::ALL.into_iter().flat_map(|dialect| models.map(|model| (dialect, model)));
    let heads = calls.map(|(dialect, model)| {
        let client = world.client();
        tokio::spawn(async move {
            let mut stream = client.stream(dialect.path(), dialect.ask_stream(model)).await;
            let said = stream.piece().await.unwrap();
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(said.contains(if dialect == Dialect::OpenAi { ": ka" } else { "ping" }), "{model}: {said}");
            (stream.status, stream.began)
        })
    });
    for head in heads.collect::<Vec<_>>() {
        let (status, at) = head.await.unwrap();

        assert_eq!(status, 200);
        assert!((9..14).contains(&(at - began).as_secs()), "{:?}", at - began);
    }
}

#[tokio::test]
async fn a_stream_that_began_late_is_told_to_its_end_whatever_that_is() {
    let hasty = |wire| {
        format!(
            "[models.\"{wire}-late*\"]\ntargets = [{{ provider = \"{wire}\" }}]\ntimeouts = {{ first_byte = \"11s\" }}\n"
        )
    };
    let world = World::new().spec(&format!("{}{}", hasty("o"), hasty("a"))).start().await;
    let calls = Dialect::ALL.into_iter().flat_map(|dialect| ["o", "a"].map(|wire| (dialect, wire)));
    let watched = calls.flat_map(|(dialect, wire)| {
        ["x+words=3+delay=10500ms", "late+hang"].map(|knobs| {
            let client = world.client();
            tokio::spawn(async move {
                let ask = dialect.ask_stream(&format!("{wire}-{knobs}"));
                let mut stream = client.stream(dialect.path(), ask).await;
                let events = stream.rest().await;
                (dialect, knobs, stream.status, stream.is_cut, events)
            })
        })
    });
    for watched in watched.collect::<Vec<_>>() {
        let (dialect, knobs, status, is_cut, events) = watched.await.unwrap();

        assert_eq!(status, 200, "{knobs}");
        let is_broken = knobs.ends_with("hang");
        assert_eq!(
            (is_cut, ends_well(dialect, &events)),
            (is_broken, !is_broken),
            "{knobs} to {dialect:?}: {events:?}"
        );
        let said = pieces(dialect, &events);
        assert_eq!(said, if is_broken { vec![] } else { vec!["w0 ", "w1 ", "w2 "] }, "{knobs} to {dialect:?}");
        let tells = events.iter().any(|event| event.data.contains("did not answer in time"));
        assert_eq!(tells, is_broken, "{knobs} to {dialect:?}: {events:?}");
    }
    for line in world.access_lines().iter().filter(|line| line["model_asked"].to_string().contains("hang")) {
        assert_eq!((&line["outcome"], &line["status"]), (&"failed".into(), &200.into()), "{line}");
    }
}

#[tokio::test]
async fn five_hundred_streams_at_once_lose_and_double_nothing() {
    let world = World::new().start().await;
    for connections in [None, Some(4)] {
        world.mock.reset();
        let clients: Vec<Client> = match connections {
            None => vec![world.client()],
            Some(count) => {
                let mut shared = Vec::new();
                for _ in 0..count {
                    shared.push(world.client().http2().await);
                }
                shared
            }
        };
        let streams: Vec<_> = (0..500)
            .map(|n| {
                let client = clients[n % clients.len()].clone();
                let dialect = Dialect::ALL[n % 2];
                let model = if n % 4 < 2 { "o-x+words=50+drip=10ms" } else { "a-x+words=50+drip=10ms" };
                tokio::spawn(async move {
                    let mut stream = client.stream(dialect.path(), dialect.ask_stream(model)).await;
                    let events = stream.rest().await;
                    assert!(ends_well(dialect, &events) && !stream.is_cut, "stream {n}");
                    pieces(dialect, &events)
                })
            })
            .collect();
        let expected: Vec<String> = (0..50).map(|n| format!("w{n} ")).collect();
        for (n, stream) in streams.into_iter().enumerate() {
            assert_eq!(stream.await.unwrap(), expected, "stream {n}");
        }
        assert_eq!(world.mock.counts().requests, 500);
        assert!(world.mock.counts().streams_open_max > 250, "{:?}", world.mock.counts());
    }
}
