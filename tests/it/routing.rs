//! Which target, credential and model a call goes to.

use std::collections::BTreeMap;

use troupe_tests::World;
use troupe_tests::ask::Dialect;
use troupe_tests::world::{KEY_EXPIRED, KEY_LIMITED};

const SPEC: &str = r#"
[providers.p]
wire = "openai"
base_url = "{mock}/v1"
keys = [
  { name = "main", secret = "secret-main", weight = 3 },
  { name = "spare", secret = "secret-spare" },
  { name = "mini", secret = "secret-mini", models = ["mini-*", "only"] },
]
[models.weighted]
targets = [{ provider = "p" }]
[models."mini-*"]
targets = [{ provider = "p" }]
[models.restricted]
targets = [{ provider = "narrow" }]
[providers.narrow]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "only", secret = "secret-only", models = ["something-else"] }]
[models.shares]
targets = [
  { provider = "o", model = "big", weight = 9 },
  { provider = "o", model = "small", weight = 1 },
  { provider = "o", model = "later", priority = 1, weight = 1000 },
]
[models."wild-*"]
targets = [{ provider = "o" }]
[models."wild-tame-*"]
targets = [{ provider = "o", model = "tamed" }]
[models.wild-exact]
targets = [{ provider = "o", model = "exact" }]
[models.mixed]
targets = [{ provider = "narrow" }, { provider = "o", model = "served" }]
"#;

/// How often each credential (or model) was used in so many calls of a model.
async fn used(world: &World, model: &str, calls: usize, of: impl Fn(&str, &str) -> String) -> BTreeMap<String, usize> {
    world.mock.reset();
    let client = world.client().kept().await;
    for _ in 0..calls {
        let reply = client.post("/v1/chat/completions", Dialect::OpenAi.ask(model)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let mut used = BTreeMap::new();
    for received in world.mock.received() {
        let body: serde_json::Value = serde_json::from_str(&received.body).unwrap();
        let credential = received.header("authorization").unwrap_or_default().replace("Bearer secret-", "");
        *used.entry(of(&credential, body["model"].as_str().unwrap())).or_default() += 1;
    }
    used
}

fn credential(credential: &str, _: &str) -> String {
    credential.to_owned()
}

fn model(_: &str, model: &str) -> String {
    model.to_owned()
}

#[tokio::test]
async fn credentials_are_drawn_by_weight_among_those_that_are_good_for_the_model() {
    let world = World::new().spec(SPEC).start().await;

    let weighted = used(&world, "weighted", 240, credential).await;
    let mini = used(&world, "mini-x", 100, credential).await;

    // 180 and 60 are expected; six standard deviations are 40.
    assert_eq!(weighted.len(), 2, "{weighted:?}");
    assert!((140..220).contains(&weighted["main"]), "{weighted:?}");
    // A key with a list of models serves these, beside the keys without one: 3 to 1 to 1.
    assert_eq!(mini.len(), 3, "{mini:?}");
    assert!((32..88).contains(&mini["main"]) && mini["mini"] > 1, "{mini:?}");
}

#[tokio::test]
async fn targets_are_drawn_by_weight_and_only_from_the_best_priority() {
    let world = World::new().spec(SPEC).start().await;

    let shares = used(&world, "shares", 240, model).await;

    // 216 and 24; six standard deviations are 28.
    assert!((188..240).contains(&shares["big"]) && shares.len() == 2 && shares.contains_key("small"), "{shares:?}");
}

#[tokio::test]
async fn a_target_without_a_key_for_the_model_is_passed_over() {
    let world = World::new().spec(SPEC).start().await;

    let mixed = used(&world, "mixed", 40, model).await;
    let refused = world.client().post("/v1/chat/completions", Dialect::OpenAi.ask("restricted")).await;

    assert_eq!(mixed, BTreeMap::from([("served".to_owned(), 40)]));
    assert_eq!((refused.status, refused.header("x-troupe-error")), (503, Some("no_target")));
}

#[tokio::test]
async fn an_exact_name_wins_over_patterns_and_a_longer_pattern_over_a_shorter() {
    let world = World::new().spec(SPEC).start().await;

    for (asked, served) in
        [("wild-x", "wild-x"), ("wild-tame-x", "tamed"), ("wild-exact", "exact"), ("wild-exactly", "wild-exactly")]
    {
        assert_eq!(used(&world, asked, 1, model).await, BTreeMap::from([(served.to_owned(), 1)]), "{asked}");
    }
}

#[tokio::test]
async fn keys_open_what_they_may_and_nothing_else() {
    let world = World::new().start().await;
    let told = async |key: &str, model: &str| {
        let reply = world.client().key(key).post("/v1/chat/completions", Dialect::OpenAi.ask(model)).await;
        (reply.status, reply.header("x-troupe-error").unwrap_or_default().to_owned())
    };

    assert_eq!(told(KEY_LIMITED, "o-x").await.0, 200);
    assert_eq!(told(KEY_LIMITED, "a-x").await, (403, "model_forbidden".to_owned()));
    assert_eq!(told(KEY_EXPIRED, "o-x").await, (401, "key_expired".to_owned()));
    assert_eq!(told("sk-nobody", "o-x").await, (401, "key_unknown".to_owned()));
    assert_eq!(told("", "o-x").await, (401, "key_missing".to_owned()));
    assert_eq!(world.mock.counts().requests, 1);
}
