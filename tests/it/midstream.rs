//! Streams that break after their first content: continued elsewhere where the model says so, an error in band else.

use std::collections::BTreeMap;

use serde_json::Value;
use troupe_loadtest::mock::Strike;
use troupe_tests::ask::{Dialect, words};
use troupe_tests::{Event, World, until};

/// The first target of `w-*` breaks; behind it stands another provider of another wire.
const SPEC: &str = r#"
[providers.o1]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "k", secret = "secret-1" }]
[providers.o2]
wire = "openai"
base_url = "{mock2}/v1"
keys = [{ name = "k", secret = "secret-2" }]
[providers.a1]
wire = "anthropic"
base_url = "{mock}"
keys = [{ name = "k", secret = "secret-1" }]
[providers.a2]
wire = "anthropic"
base_url = "{mock2}"
keys = [{ name = "k", secret = "secret-2" }]
[defaults.breaker]
failures = 1000
"#;

fn model(name: &str, first: &str, second: &str, more: &str) -> String {
    format!(
        "[models.{name}]\n{more}\ntargets = [{{ provider = \"{first}\", model = \"w+words=40\" }}, \
         {{ provider = \"{second}\", model = \"w+words=40\", priority = 1 }}]\ntimeouts = {{ idle = \"500ms\" }}\n"
    )
}

/// What a client read of one stream.
struct Read {
    events: Vec<Event>,
    seams: Vec<String>,
    is_cut: bool,
    status: u16,
}

async fn read(world: &World, dialect: Dialect, model: &str) -> Read {
    let mut stream = world.client().stream(dialect.path(), dialect.ask_stream(model)).await;
    let events = stream.rest().await;
    let text = String::from_utf8_lossy(&stream.raw).into_owned();
    let seams = text.lines().filter(|line| line.starts_with(": troupe-seam")).map(str::to_owned).collect();
    Read { events, seams, is_cut: stream.is_cut, status: stream.status }
}

impl Read {
    fn text(&self, dialect: Dialect) -> String {
        self.events.iter().filter_map(|event| dialect.piece(&event.json())).collect()
    }

    fn count(&self, is_it: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| is_it(event)).count()
    }

    /// One start, one end, every word once, in one message.
    fn assert_whole(&self, dialect: Dialect, count: usize, what: &str) {
        assert_eq!((self.status, self.is_cut), (200, false), "{what}: {:?}", self.events.last());
        assert_eq!(self.text(dialect), words(count), "{what}");
        let json = |event: &Event| event.json();
        match dialect {
            Dialect::OpenAi => {
                assert_eq!(self.count(|event| event.data == "[DONE]"), 1, "{what}");
                let role = |event: &Event| json(event).pointer("/choices/0/delta/role").is_some_and(Value::is_string);
                assert_eq!(self.count(role), 1, "{what}: one start");
                let finish =
                    |event: &Event| json(event).pointer("/choices/0/finish_reason").is_some_and(Value::is_string);
                assert_eq!(self.count(finish), 1, "{what}: one end");
                let ids: std::collections::BTreeSet<String> =
                    self.events.iter().filter_map(|event| Some(json(event)["id"].as_str()?.to_owned())).collect();
                assert_eq!(ids.len(), 1, "{what}: one id");
            }
            Dialect::Anthropic => {
                for name in ["message_start", "message_delta", "message_stop"] {
                    assert_eq!(self.count(|event| event.name.as_deref() == Some(name)), 1, "{what}: {name}");
                }
                let starts = self.count(|event| event.name.as_deref() == Some("content_block_start"));
                let stops = self.count(|event| event.name.as_deref() == Some("content_block_stop"));
                assert_eq!(starts, stops, "{what}: every block that began ended");
            }
        }
    }
}

#[tokio::test]
async fn a_hundred_streams_cut_at_random_all_end_complete_with_one_seam_each() {
    let pairs = [("o1", "o2"), ("o1", "a2"), ("a1", "a2"), ("a1", "o2")];
    let spec: String = pairs
        .iter()
        .map(|(first, second)| model(&format!("{first}-{second}"), first, second, "on_break = \"continue\""))
        .collect();
    let world = World::new().spec(&(SPEC.to_owned() + &spec)).start().await;
    world.mock.fail(Strike::new("random-cut=4711")).unwrap();
    let mut asked = 0;

    for (first, second) in pairs {
        for dialect in Dialect::ALL {
            let name = format!("{first}-{second}");
            for number in 0..13 {
                let read = read(&world, dialect, &name).await;
                asked += 1;

                let what = format!("{number} of {name} to {dialect:?}, {:?}", read.seams);
                read.assert_whole(dialect, 40, &what);
                assert_eq!(read.seams.len(), 1, "{what}");
                let line = read.seams.first().unwrap();
                assert!(
                    line.contains(&format!("from={first}/k/")) && line.contains(&format!("to={second}/k/")),
                    "{what}"
                );
            }
        }
    }

    assert!(asked >= 100);
    assert_eq!((world.mock.counts().calls, world.mock2().counts().calls), (asked, asked), "two legs each");
    // Each leg is accounted once: what both providers sent is the words, and what was asked to be repeated.
    until("every leg is over", || world.mock2().bills().len() as u64 == asked).await;
    let mut legs: BTreeMap<u64, u64> = BTreeMap::new();
    for (cut, rest) in world.mock.bills().iter().zip(world.mock2().bills()) {
        assert_eq!(cut.events, rest.resumed, "the second goes on where the first was cut");
        assert!(rest.events == 40 - cut.events || rest.events == 41 - cut.events, "{cut:?} {rest:?}");
        *legs.entry(cut.events).or_default() += 1;
    }
    assert!(legs.len() > 20, "cut all over: {legs:?}");
    until("the access lines", || world.access_lines().len() as u64 == asked).await;
    for line in world.access_lines() {
        let outcomes: Vec<_> = line["attempts"].as_array().unwrap().iter().map(|leg| leg["outcome"].clone()).collect();
        assert_eq!(
            (line["outcome"].as_str(), outcomes),
            (Some("finished"), vec!["interrupted".into(), "finished".into()]),
            "{line}"
        );
    }
}

#[tokio::test]
async fn without_the_option_every_broken_stream_raises() {
    let world = World::new()
        .spec(&(SPEC.to_owned() + &model("off-o", "o1", "o2", "") + &model("off-a", "a1", "a2", "")))
        .start()
        .await;
    world.mock.fail(Strike::new("random-cut=4711")).unwrap();

    for dialect in Dialect::ALL {
        for name in ["off-o", "off-a"] {
            for _ in 0..25 {
                let read = read(&world, dialect, name).await;

                let last = read.events.last().unwrap();
                assert!(read.is_cut && last.json().pointer("/error/message").is_some(), "{last:?}");
                let text = read.text(dialect);
                assert!(words(40).starts_with(&text) && !text.is_empty() && text != words(40), "{text}");
                assert!(read.seams.is_empty());
            }
        }
    }
    assert_eq!((world.mock.counts().calls, world.mock2().counts().calls), (100, 0));
}

#[tokio::test]
async fn every_way_to_break_is_continued() {
    let world = World::new()
        .spec(
            &(SPEC.to_owned()
                + &model("go-o", "o1", "o2", "on_break = \"continue\"")
                + &model("go-a", "a1", "a2", "on_break = \"continue\"")),
        )
        .start()
        .await;

    for knobs in ["cut=7", "clean-cut=7", "error-at=7", "hang-at=7", "cut=1", "cut=39"] {
        world.mock.heal();
        world.mock.fail(Strike::new(knobs)).unwrap();
        for dialect in Dialect::ALL {
            for name in ["go-o", "go-a"] {
                let read = read(&world, dialect, name).await;

                read.assert_whole(dialect, 40, &format!("{knobs} at {name} to {dialect:?}"));
                assert_eq!(read.seams.len(), 1, "{knobs} at {name}");
            }
        }
    }
}

#[tokio::test]
async fn a_second_leg_that_breaks_too_is_continued_again_or_told() {
    let spec = r#"
[models.thrice]
on_break = "continue"
targets = [
  { provider = "o1", model = "w+words=40+cut=10" },
  { provider = "o2", model = "w+words=40+cut=10", priority = 1 },
  { provider = "a2", model = "w+words=40", priority = 2 },
]
[models.hopeless]
on_break = "continue"
targets = [{ provider = "o1", model = "h+words=40" }, { provider = "o2", model = "h+words=40", priority = 1 }]
"#;
    let world = World::new().spec(&(SPEC.to_owned() + spec)).start().await;
    // The first leg comes as far as eleven words; nobody says a twelfth.
    world.mock.fail(Strike::new("cut=11").model("h").first(1)).unwrap();
    for mock in [&world.mock, world.mock2()] {
        mock.fail(Strike::new("status=500").model("h")).unwrap();
    }

    let thrice = read(&world, Dialect::OpenAi, "thrice").await;
    let hopeless = read(&world, Dialect::OpenAi, "hopeless").await;

    thrice.assert_whole(Dialect::OpenAi, 40, "three legs");
    assert_eq!(thrice.seams.len(), 2);
    let text = hopeless.text(Dialect::OpenAi);
    assert!(hopeless.is_cut && text == words(11), "{text}");
    assert!(hopeless.events.last().unwrap().json().pointer("/error/message").is_some());
}

#[tokio::test]
async fn a_model_that_writes_on_is_handed_the_text_and_one_that_does_not_is_asked_for_the_rest() {
    let spec = r#"
[models.claude]
on_break = "continue"
targets = [{ provider = "a1", model = "claude-haiku-4-5" }, { provider = "a2", model = "claude-haiku-4-5", priority = 1 }]
[models.other]
on_break = "continue"
targets = [{ provider = "a1", model = "unheard-of" }, { provider = "a2", model = "unheard-of", priority = 1 }]
"#;
    let world = World::new().spec(&(SPEC.to_owned() + spec)).start().await;
    world.mock.fail(Strike::new("cut=4")).unwrap();

    for dialect in Dialect::ALL {
        for (name, role) in [("claude", "assistant"), ("other", "user")] {
            let read = read(&world, dialect, name).await;

            read.assert_whole(dialect, 10, name);
            let asked = world.mock2().received().pop().unwrap();
            let asked: Value = serde_json::from_str(&asked.body).unwrap();
            let last = asked["messages"].as_array().unwrap().last().unwrap();
            assert_eq!(last["role"], role, "{name}: {asked}");
        }
    }
    until("every leg is over", || world.mock2().bills().len() == 4).await;
    for bill in world.mock2().bills() {
        assert_eq!(bill.resumed, 4, "{bill:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_continued_is_told_as_before() {
    let world =
        World::new().spec(&(SPEC.to_owned() + &model("go", "o1", "o2", "on_break = \"continue\""))).start().await;
    world.mock.fail(Strike::new("cut=3+tools")).unwrap();
    let mut ask = Dialect::OpenAi.ask_stream("go");
    ask["tools"] = serde_json::json!([{"type": "function", "function": {"name": "find", "parameters": {
        "type": "object", "properties": {"place": {"type": "string"}, "country": {"type": "string"}}, "required": ["place", "country"]}}}]);

    let mut stream = world.client().stream(Dialect::OpenAi.path(), ask).await;
    let events = stream.rest().await;

    assert!(stream.is_cut, "half a tool call cannot be handed on");
    assert!(events.last().unwrap().json().pointer("/error/message").is_some(), "{:?}", events.last());
    assert_eq!(world.mock2().counts().calls, 0);
}
