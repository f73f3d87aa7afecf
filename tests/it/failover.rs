//! A provider that fails before the commit point costs its client nothing: the next target serves, once.

use std::time::Duration;

use serde_json::Value;
use troupe_node::clock;
use troupe_tests::ask::{Dialect, words};
use troupe_tests::{Reply, World, until};

/// Two providers of each wire, with a name at the front that fails and one at the back that serves seven words.
const SPEC: &str = r#"
[providers.o1]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "k", secret = "secret-o1" }]
[providers.a1]
wire = "anthropic"
base_url = "{mock}"
keys = [{ name = "k", secret = "secret-a1" }]
[providers.o2]
wire = "openai"
base_url = "{mock2}/v1"
keys = [{ name = "k", secret = "secret-o2" }]
[providers.a2]
wire = "anthropic"
base_url = "{mock2}"
keys = [{ name = "k", secret = "secret-a2" }]
"#;

/// Which replies a fault can strike.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strikes {
    Both,
    Whole,
    Streams,
}

/// A fault of the first target, and the word for it by that target's wire, `OpenAI`'s first.
struct Case {
    knobs: &'static str,
    strikes: Strikes,
    outcome: [&'static str; 2],
}

const fn case(knobs: &'static str, strikes: Strikes, outcome: [&'static str; 2]) -> Case {
    Case { knobs, strikes, outcome }
}

const CASES: &[Case] = &[
    case("status=500", Strikes::Both, ["provider"; 2]),
    // Anthropic's 503 and 529 say "overloaded": capacity, not ill health.
    case("status=503", Strikes::Both, ["provider", "capacity"]),
    case("status=529", Strikes::Both, ["capacity"; 2]),
    case("status=429+retry-after=7", Strikes::Both, ["capacity"; 2]),
    case("status=429", Strikes::Both, ["capacity"; 2]),
    case("status=401", Strikes::Both, ["credential"; 2]),
    case("status=403", Strikes::Both, ["credential"; 2]),
    case("status=402", Strikes::Both, ["quota"; 2]),
    case("context-length", Strikes::Both, ["context_length"; 2]),
    case("hang", Strikes::Both, ["provider"; 2]),
    case("reset", Strikes::Both, ["provider"; 2]),
    case("garbage", Strikes::Both, ["provider"; 2]),
    case("truncated", Strikes::Whole, ["provider"; 2]),
    case("unstreamed", Strikes::Streams, ["provider"; 2]),
    case("cut=0", Strikes::Streams, ["provider"; 2]),
    case("clean-cut=0", Strikes::Streams, ["provider"; 2]),
    case("hang-at=0", Strikes::Streams, ["provider"; 2]),
    case("error-at=0", Strikes::Streams, ["provider", "capacity"]),
];

/// A model of this name, whose first target obeys `knobs`.
fn pair(name: &str, knobs: &str, first: &str, second: &str) -> String {
    format!(
        "[models.\"{name}\"]\ntargets = [{{ provider = \"{first}\", model = \"{name}+{knobs}\" }}, \
         {{ provider = \"{second}\", model = \"second-{name}+words=7\", priority = 1 }}]\n\
         timeouts = {{ first_byte = \"400ms\", idle = \"400ms\" }}\n"
    )
}

#[tokio::test]
async fn each_fault_before_the_commit_point_is_served_by_the_next_target_once() {
    let mut calls = Vec::new();
    for (index, case) in CASES.iter().enumerate() {
        for (dialect, is_stream) in Dialect::ALL.into_iter().flat_map(|dialect| [(dialect, false), (dialect, true)]) {
            let is_struck = match case.strikes {
                Strikes::Both => true,
                Strikes::Whole => !is_stream,
                Strikes::Streams => is_stream,
            };
            for (wire, (first, second)) in [("o1", "a2"), ("o1", "o2"), ("a1", "o2"), ("a1", "a2")].iter().enumerate() {
                if is_struck {
                    // A name of its own for each, so that no breaker of one case speaks in another.
                    let name = format!("case-{index}-{dialect:?}-{is_stream}-{first}-{second}");
                    calls.push((case, dialect, is_stream, name, wire / 2, *first, *second));
                }
            }
        }
    }
    let spec: String =
        calls.iter().map(|(case, .., name, _, first, second)| pair(name, case.knobs, first, second)).collect();
    let world = World::new().spec(&(SPEC.to_owned() + &spec)).start().await;

    for (case, dialect, is_stream, name, wire, first, second) in &calls {
        let ask = if *is_stream { dialect.ask_stream(name) } else { dialect.ask(name) };
        let reply = world.client().post(dialect.path(), ask).await;

        let what = format!("{name} to {dialect:?}, stream: {is_stream}: {}", reply.text());
        assert_eq!(reply.status, 200, "{what}");
        assert_text(*dialect, *is_stream, &reply, &what);
        let second_name = format!("second-{name}+words=7");
        let served = format!("{second}/k/{second_name}");
        assert_eq!(reply.header("x-troupe-target"), Some(served.as_str()), "{what}");
        assert_eq!(reply.header("x-troupe-attempts"), Some("2"), "{what}");
        let tried = reply.header("x-troupe-tried").unwrap_or_default();
        let expected = format!("{first}/k/{name}+{}={}", case.knobs, case.outcome[*wire]);
        assert!(tried.split(", ").next() == Some(expected.as_str()), "{tried} for {what}");
        let (at_first, at_second) = (world.mock.counts().calls_of(name), world.mock2().counts().calls_of(&second_name));
        assert_eq!((at_first, at_second), (1, 1), "{what}");
    }
    until("the access lines", || world.access_lines().len() == calls.len()).await;
    for line in world.access_lines() {
        assert_eq!((line["outcome"].as_str(), line["attempts"].as_array().map(Vec::len)), (Some("finished"), Some(2)));
    }
}

/// Seven words, from one reply that ended well.
fn assert_text(dialect: Dialect, is_stream: bool, reply: &Reply, what: &str) {
    assert!(!reply.is_cut, "{what}");
    if !is_stream {
        return assert_eq!(dialect.text(&reply.json()), words(7), "{what}");
    }
    let data: Vec<String> =
        reply.text().lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect();
    let json = |text: &String| serde_json::from_str::<Value>(text).unwrap_or_default();
    let text: String = data.iter().filter_map(|text| dialect.piece(&json(text))).collect();
    assert_eq!(text, words(7), "{what}");
    let is_start = |text: &&String| match dialect {
        Dialect::OpenAi => json(text).pointer("/choices/0/delta/role").is_some(),
        Dialect::Anthropic => json(text)["type"] == "message_start",
    };
    assert_eq!(data.iter().filter(is_start).count(), 1, "one reply and no more: {what}");
}

#[tokio::test]
async fn a_provider_that_is_not_there_costs_no_call() {
    let world = World::new().spec(&(SPEC.to_owned() + &pair("gone", "words=10", "o1", "o2"))).start().await;
    world.mock.kill();

    for dialect in Dialect::ALL {
        for is_stream in [false, true] {
            let ask = if is_stream { dialect.ask_stream("gone") } else { dialect.ask("gone") };
            let reply = world.client().post(dialect.path(), ask).await;

            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_text(dialect, is_stream, &reply, "gone");
        }
    }
    assert_eq!(world.mock2().counts().calls, 4);
}

/// Both ends of `pair` fail; what `x-troupe-error` says, and what happened at the providers.
async fn both_down(first: &str, second: &str, deadline: &str) -> (Reply, Duration, u64) {
    let spec = format!(
        "[models.down]\ntargets = [{{ provider = \"o1\", model = \"x+{first}\" }}, \
         {{ provider = \"o2\", model = \"y+{second}\", priority = 1 }}]\ntimeouts = {{ first_byte = \"20s\" }}\n"
    );
    let world = World::new().spec(&(SPEC.to_owned() + &spec)).start().await;
    let client = world.client().header("x-troupe-deadline", deadline);
    let began = clock::now();
    let reply = client.post("/v1/chat/completions", Dialect::OpenAi.ask("down")).await;
    let took = clock::now() - began;
    (reply, took, world.mock.counts().calls + world.mock2().counts().calls)
}

#[tokio::test]
async fn both_down_ends_within_the_deadline_with_few_calls_and_the_last_error() {
    let cases = [
        ("status=500", "status=503", [(500, "provider_error"), (503, "provider_error")]),
        ("reset", "status=529", [(502, "provider_unreachable"), (529, "provider_overloaded")]),
        ("status=500", "hang", [(500, "provider_error"), (504, "provider_timeout")]),
        ("hang", "hang", [(504, "provider_timeout"), (504, "provider_timeout")]),
    ];
    for (first, second, told) in cases {
        let (reply, took, calls) = both_down(first, second, "2s").await;

        let what = format!("{first}, {second}: {} after {took:?}, {:?}", reply.text(), reply.headers);
        // Whoever was asked last is who the client hears.
        let last = reply.header("x-troupe-tried").and_then(|tried| tried.rsplit(", ").next()).unwrap_or_default();
        let expected = if last.starts_with("o1/") { told[0] } else { told[1] };
        assert_eq!((reply.status, reply.header("x-troupe-error").unwrap_or_default()), expected, "{what}");
        assert!(took < Duration::from_millis(2300), "{what}");
        assert!((2..=3).contains(&calls), "{calls} calls: {what}");
        assert_eq!(reply.header("x-should-retry"), Some("false"), "{what}");
        assert_eq!(reply.header("x-troupe-attempts"), Some(calls.to_string().as_str()), "{what}");
    }
}

#[tokio::test]
async fn no_client_hears_of_our_credential_while_another_error_can_be_told() {
    for (first, second) in [("status=401", "status=500"), ("status=500", "status=401"), ("status=500", "status=403")] {
        let (reply, _, _) = both_down(first, second, "2s").await;

        assert_eq!(
            (reply.status, reply.header("x-troupe-error")),
            (500, Some("provider_error")),
            "{first}, {second}: {}",
            reply.text()
        );
    }
    // Where there is nothing else to tell, it is our failure, never a 401 (KEY-2).
    let (reply, _, calls) = both_down("status=401", "status=401", "2s").await;
    assert_eq!((reply.status, reply.header("x-troupe-error"), calls), (502, Some("provider_credential"), 2));
    assert!(!reply.text().contains("secret-"), "{}", reply.text());
}

#[tokio::test]
async fn a_client_fault_is_told_at_once_and_costs_one_call() {
    for status in [400, 413, 422] {
        let (reply, _, calls) = both_down(&format!("status={status}"), "words=7", "2s").await;

        assert_eq!((reply.status, calls), (status, 1), "{}", reply.text());
    }
}

#[tokio::test]
async fn a_model_that_one_provider_does_not_have_is_served_by_another() {
    let (reply, _, calls) = both_down("status=404", "words=7", "2s").await;

    assert_eq!((reply.status, calls), (200, 2), "{}", reply.text());
}

#[tokio::test]
async fn another_key_of_the_provider_is_tried_before_another_provider() {
    let spec = r#"
[providers.two]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "bad", secret = "secret-bad", weight = 1000000 }, { name = "good", secret = "secret-good" }]
[models.keys]
targets = [{ provider = "two", model = "x" }, { provider = "o2", model = "y", priority = 1 }]
"#;
    let world = World::new().spec(&(SPEC.to_owned() + spec)).start().await;
    world.mock.fail(troupe_loadtest::mock::Strike::new("status=401").credential("secret-bad")).unwrap();

    for _ in 0..3 {
        let reply = world.client().post("/v1/chat/completions", Dialect::OpenAi.ask("keys")).await;

        assert_eq!((reply.status, reply.header("x-troupe-target")), (200, Some("two/good/x")), "{}", reply.text());
    }
    let counts = world.mock.counts();
    assert!(counts.calls_by("secret-bad") <= 1, "a refused credential rests at once: {counts:?}");
    assert_eq!((counts.calls_by("secret-good"), world.mock2().counts().calls), (3, 0));
}

#[tokio::test]
async fn the_list_of_fallbacks_is_tried_when_no_target_of_the_model_serves() {
    let spec = r#"
[models.main]
targets = [{ provider = "o1", model = "x+status=503" }]
fallbacks = ["spare"]
[models.spare]
targets = [{ provider = "a2", model = "y+words=7" }]
"#;
    let world = World::new().spec(&(SPEC.to_owned() + spec)).start().await;

    for dialect in Dialect::ALL {
        for is_stream in [false, true] {
            let ask = if is_stream { dialect.ask_stream("main") } else { dialect.ask("main") };
            let reply = world.client().post(dialect.path(), ask).await;

            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_text(dialect, is_stream, &reply, "fallback");
            assert_eq!(reply.header("x-troupe-target"), Some("a2/k/y+words=7"));
        }
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_goes_to_a_larger_model_and_rests_nobody() {
    let spec = r#"
[models.small]
targets = [{ provider = "o1", model = "small+context-length" }]
fallbacks = ["large"]
[models.large]
targets = [{ provider = "o2", model = "large" }]
"#;
    let world = World::new().spec(&(SPEC.to_owned() + spec)).start().await;

    for _ in 0..20 {
        let reply = world.client().post("/v1/chat/completions", Dialect::OpenAi.ask("small")).await;

        assert_eq!((reply.status, reply.header("x-troupe-target")), (200, Some("o2/k/large")), "{}", reply.text());
        let tried = reply.header("x-troupe-tried").unwrap_or_default();
        assert!(tried.starts_with("o1/k/small+context-length=context_length"), "{tried}");
    }
    // No breaker opened: the small one was asked every time.
    assert_eq!(world.mock.counts().calls, 20);
}

#[tokio::test]
async fn a_client_that_leaves_during_a_retry_ends_it() {
    let spec = pair("left", "status=500", "o1", "o2").replace("+words=7", "+hang");
    let world = World::new().spec(&(SPEC.to_owned() + &spec.replace("400ms", "20s"))).start().await;
    let client = world.client();

    let call = tokio::spawn(async move {
        client.post("/v1/chat/completions", Dialect::OpenAi.ask("left")).await;
    });
    until("the second target has the call", || world.mock2().counts().in_flight == 1).await;
    call.abort();

    until("nobody works for nobody", || world.mock2().counts().in_flight == 0).await;
    until("the access line", || world.access_lines().len() == 1).await;
    let line = world.access_lines().remove(0);
    assert_eq!(line["outcome"], "client_gone", "{line}");
    assert_eq!(world.mock2().counts().calls, 1);
}
