//! Each fault of a provider reaches the client once, in its dialect, and nothing of the provider's leaks.

use http::HeaderMap;
use serde_json::Value;
use troupe_tests::ask::{Dialect, words};
use troupe_tests::world::{SECRET_A, SECRET_O};
use troupe_tests::{Reply, World, until};

/// Which replies a fault can strike.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strikes {
    Both,
    Whole,
    Streams,
}

/// A fault, and what the client is told: status and code by the provider's wire, OpenAI's first.
struct Case {
    knobs: &'static str,
    strikes: Strikes,
    told: [(u16, &'static str); 2],
    retry_after: Option<&'static str>,
}

const fn case(knobs: &'static str, told: [(u16, &'static str); 2]) -> Case {
    Case { knobs, strikes: Strikes::Both, told, retry_after: None }
}

const fn same(knobs: &'static str, status: u16, code: &'static str) -> Case {
    case(knobs, [(status, code), (status, code)])
}

const CASES: &[Case] = &[
    same("status=500", 500, "provider_error"),
    // Anthropic's 503 says "overloaded": it is healthy and asks to slow down.
    case("status=503", [(503, "provider_error"), (503, "provider_overloaded")]),
    case("status=529", [(529, "provider_overloaded"), (529, "provider_overloaded")]),
    Case { retry_after: Some("7"), ..same("status=429+retry-after=7", 429, "provider_rate_limited") },
    Case { retry_after: Some("2"), ..same("status=429+retry-after-ms=1500", 429, "provider_rate_limited") },
    Case {
        retry_after: Some("9"),
        ..case("status=503+retry-after=9", [(503, "provider_error"), (503, "provider_overloaded")])
    },
    same("status=401", 502, "provider_credential"),
    same("status=403", 502, "provider_credential"),
    same("status=402", 503, "provider_quota"),
    case("status=429+code=insufficient_quota", [(503, "provider_quota"), (429, "provider_rate_limited")]),
    same("status=400", 400, "provider_rejected"),
    same("status=404", 404, "provider_rejected"),
    same("status=422", 422, "provider_rejected"),
    same("context-length", 400, "context_length_exceeded"),
    same("status=307", 502, "provider_invalid_reply"),
    same("hang", 504, "provider_timeout"),
    same("reset", 502, "provider_unreachable"),
    same("garbage", 502, "provider_invalid_reply"),
    Case { strikes: Strikes::Whole, ..same("truncated", 502, "provider_invalid_reply") },
    Case { strikes: Strikes::Streams, ..same("unstreamed", 502, "provider_invalid_reply") },
    Case { strikes: Strikes::Streams, ..same("cut=0", 502, "stream_interrupted") },
    Case { strikes: Strikes::Streams, ..same("clean-cut=0", 502, "stream_interrupted") },
    Case { strikes: Strikes::Streams, ..same("hang-at=0", 504, "provider_timeout") },
    // Anthropic's in-band error is an overload.
    Case { strikes: Strikes::Streams, ..case("error-at=0", [(502, "provider_error"), (529, "provider_overloaded")]) },
];

/// Models whose providers lose patience soon.
const HASTY: &str = r#"
[models."o-hasty*"]
targets = [{ provider = "o" }]
timeouts = { first_byte = "400ms", idle = "400ms" }
[models."a-hasty*"]
targets = [{ provider = "a" }]
timeouts = { first_byte = "400ms", idle = "400ms" }
"#;

#[tokio::test]
async fn each_fault_reaches_an_openai_client_once_and_in_its_dialect() {
    every_case(Dialect::OpenAi).await;
}

#[tokio::test]
async fn each_fault_reaches_an_anthropic_client_once_and_in_its_dialect() {
    every_case(Dialect::Anthropic).await;
}

async fn every_case(dialect: Dialect) {
    for (index, case) in CASES.iter().enumerate() {
        for (wire, told) in ["o", "a"].into_iter().zip(case.told) {
            for is_stream in [false, true] {
                let is_struck = match case.strikes {
                    Strikes::Both => true,
                    Strikes::Whole => !is_stream,
                    Strikes::Streams => is_stream,
                };
                if !is_struck {
                    continue;
                }
                // A world for each: some of them rest the target.
                let world = World::new().spec(HASTY).once().start().await;
                let base = if case.knobs.starts_with("hang") { "hasty" } else { "case" };
                let model = format!("{wire}-{base}-{index}-{is_stream}+{}", case.knobs);
                let ask = if is_stream { dialect.ask_stream(&model) } else { dialect.ask(&model) };

                let reply = world.client().post(dialect.path(), ask).await;

                let seen = (reply.status, reply.header("x-troupe-error").unwrap_or_default());
                assert_eq!(seen, told, "{model} to {dialect:?}: {}", reply.text());
                assert_eq!(reply.header("retry-after"), case.retry_after, "{model} to {dialect:?}");
                assert_error(dialect, &reply.json(), &reply, &model);
                assert_nothing_leaks(&world, &reply.headers, &reply.body, &model);
                assert_eq!(world.mock.counts().by_model.get(&model), Some(&1), "{model} was called once");
            }
        }
    }
}

/// An error as the SDKs of this dialect read it.
fn assert_error(dialect: Dialect, body: &Value, reply: &Reply, what: &str) {
    let is_text = |at: &str| body.pointer(at).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    assert!(is_text("/error/message") && is_text("/error/type"), "{what}: {body}");
    match dialect {
        Dialect::OpenAi => {
            assert!(body["error"].get("code").is_some() && body["error"].get("param").is_some(), "{body}")
        }
        Dialect::Anthropic => assert!(body["type"] == "error" && is_text("/request_id"), "{what}: {body}"),
    }
    assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
    let id = reply.header("x-request-id").unwrap();
    assert!(id.starts_with("req_") && reply.header("request-id") == Some(id), "{what}: {id}");
}

fn assert_nothing_leaks(world: &World, headers: &HeaderMap, body: &[u8], what: &str) {
    let all = format!("{headers:?}\n{}", String::from_utf8_lossy(body)).to_lowercase();
    let base_url = world.mock.addr.to_string();
    let private = ["set-cookie", "openai-organization", "anthropic-organization", "ratelimit-", "mock-org", "location"];
    for secret in [SECRET_O, SECRET_A, &base_url].into_iter().chain(private) {
        assert!(!all.contains(secret), "{what} leaks {secret}: {all}");
    }
}

#[tokio::test]
async fn a_good_reply_leaks_nothing_either() {
    let world = World::new().once().start().await;

    for dialect in Dialect::ALL {
        for model in ["o-x", "a-x"] {
            for ask in [dialect.ask(model), dialect.ask_stream(model)] {
                let reply = world.client().post(dialect.path(), ask).await;

                assert_eq!(reply.status, 200);
                assert_nothing_leaks(&world, &reply.headers, &reply.body, model);
                assert!(reply.header("x-upstream-request-id").is_some_and(|id| id.starts_with("req_mock_")));
            }
        }
    }
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_said_to_be_so() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let spec = format!(
        "[providers.dead]\nwire = \"openai\"\nbase_url = \"http://{dead}/v1\"\n\
         [models.dead]\ntargets = [{{ provider = \"dead\" }}]\n"
    );
    let world = World::new().spec(&spec).once().start().await;

    for dialect in Dialect::ALL {
        let reply = world.client().post(dialect.path(), dialect.ask("dead")).await;

        assert_eq!((reply.status, reply.header("x-troupe-error")), (502, Some("provider_unreachable")));
        assert_error(dialect, &reply.json(), &reply, "dead");
        assert!(!reply.text().contains(&dead.to_string()), "{}", reply.text());
    }
}

#[tokio::test]
async fn a_break_in_mid_stream_ends_in_an_error_of_the_wire_and_a_cut() {
    let world = World::new().spec(HASTY).once().start().await;
    let cases = [
        ("cut=3", ["stream_interrupted"; 2]),
        ("clean-cut=3", ["stream_interrupted"; 2]),
        ("hang-at=3", ["provider_timeout"; 2]),
        ("error-at=3", ["provider_error", "provider_overloaded"]),
    ];
    let mut asked = 0;

    for dialect in Dialect::ALL {
        for (knobs, codes) in cases {
            for (wire, code) in ["o", "a"].into_iter().zip(codes) {
                for is_h2 in [false, true] {
                    let model = format!("{wire}-hasty-{dialect:?}-{is_h2}+{knobs}");
                    let client = if is_h2 { world.client().http2().await } else { world.client() };

                    let mut stream = client.stream(dialect.path(), dialect.ask_stream(&model)).await;
                    let events = stream.rest().await;

                    let pieces: String = events.iter().filter_map(|event| dialect.piece(&event.json())).collect();
                    assert_eq!((stream.status, pieces), (200, words(3)), "{model}");
                    assert!(stream.is_cut, "{model} must not end like one that finished");
                    let last = events.last().unwrap();
                    assert!(last.json().pointer("/error/message").is_some_and(Value::is_string), "{model}: {last:?}");
                    match dialect {
                        Dialect::OpenAi => assert_eq!(last.name, None),
                        Dialect::Anthropic => {
                            assert_eq!((last.name.as_deref(), &last.json()["type"]), (Some("error"), &"error".into()))
                        }
                    }
                    let is_end = |data: &str| data == "[DONE]" || data.contains("message_stop");
                    assert!(!events.iter().any(|event| is_end(&event.data)), "{model} pretends to have finished");
                    assert_nothing_leaks(&world, &stream.headers, &stream.raw, &model);
                    assert_eq!(world.mock.counts().by_model.get(&model), Some(&1));
                    asked += 1;
                    let line = world.line(asked, &model).await;
                    assert_eq!(
                        (line["outcome"].as_str(), line["status"].as_u64(), line["error"].as_str()),
                        (Some("interrupted"), Some(200), Some(code)),
                        "{line}"
                    );
                }
            }
        }
    }
}

trait Lines {
    async fn line(&self, count: usize, model: &str) -> Value;
}

impl Lines for World {
    /// The access line of a model, once there are so many lines.
    async fn line(&self, count: usize, model: &str) -> Value {
        until("the access line", || self.access_lines().len() >= count).await;
        let lines = self.access_lines();
        assert_eq!(lines.len(), count, "one line a request");
        lines.into_iter().find(|line| line["model_asked"] == model).unwrap()
    }
}

#[tokio::test]
async fn a_reply_too_large_to_be_checked_is_cut_where_it_broke_and_never_translated() {
    let world = World::new().once().start().await;

    let whole = world.client().post("/v1/chat/completions", Dialect::OpenAi.ask("o-x+size=12MiB")).await;
    let broken = world.client().post("/v1/chat/completions", Dialect::OpenAi.ask("o-x+size=20MiB+truncated")).await;
    let translated = world.client().post("/v1/messages", Dialect::Anthropic.ask("o-x+size=12MiB")).await;

    assert!(whole.status == 200 && whole.json().is_object() && !whole.is_cut);
    assert!(broken.status == 200 && broken.is_cut && broken.body.len() > 8 << 20, "{}", broken.body.len());
    assert_eq!((translated.status, translated.header("x-troupe-error")), (502, Some("provider_invalid_reply")));
    until("three access lines", || world.access_lines().len() == 3).await;
    let outcomes: Vec<_> = world.access_lines().iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, ["finished", "interrupted", "failed"]);
}
