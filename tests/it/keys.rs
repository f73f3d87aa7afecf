//! Who may enter, and with which models.

use serde_json::{Value, json};
use troupe_tests::ask::Dialect;
use troupe_tests::world::{KEY, KEY_EXPIRED, KEY_LIMITED, SECRET_A, SECRET_O};
use troupe_tests::{Client, World, until};

use crate::told::assert_told;

const CALLS: [(&str, Dialect); 9] = [
    ("/v1/chat/completions", Dialect::OpenAi),
    ("/v1/completions", Dialect::OpenAi),
    ("/v1/responses", Dialect::OpenAi),
    ("/v1/embeddings", Dialect::OpenAi),
    ("/openai/v1/chat/completions", Dialect::OpenAi),
    ("/openai/v1/embeddings", Dialect::OpenAi),
    ("/v1/messages", Dialect::Anthropic),
    ("/v1/messages/count_tokens", Dialect::Anthropic),
    ("/anthropic/v1/messages", Dialect::Anthropic),
];

/// A body that every call takes.
fn body(model: &str) -> Value {
    let messages = json!([{"role": "user", "content": "hello"}]);
    json!({"model": model, "max_tokens": 100, "messages": messages, "prompt": "hello", "input": "hello"})
}

fn model_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => "o-x",
        Dialect::Anthropic => "a-x",
    }
}

async fn each_client(world: &World) -> [Client; 2] {
    [world.client().key(""), world.client().key("").http2().await]
}

#[tokio::test]
async fn a_key_is_taken_in_every_header_that_sdks_use_on_every_path() {
    let world = World::new().start().await;
    let bearer = format!("Bearer {KEY}");
    let lower = format!("bearer {KEY}");
    let forms =
        [("authorization", bearer.as_str()), ("authorization", lower.as_str()), ("x-api-key", KEY), ("api-key", KEY)];

    for client in each_client(&world).await {
        for (name, value) in forms {
            let client = client.clone().header(name, value);
            for (path, dialect) in CALLS {
                let reply = client.post(path, body(model_of(dialect))).await;

                assert_eq!(reply.status, 200, "{path} by {name}: {}", reply.text());
            }
            for path in ["/v1/models", "/openai/v1/models", "/anthropic/v1/models", "/v1/models/gpt-4o"] {
                assert_eq!(client.get(path).await.status, 200, "{path} by {name}");
            }
        }
    }

    for call in world.mock.received() {
        let shown = [call.header("authorization"), call.header("x-api-key"), call.header("api-key")];
        let ours = shown.iter().flatten().any(|value| value.contains(SECRET_O) || value.contains(SECRET_A));
        assert!(ours && !shown.iter().flatten().any(|value| value.contains(KEY)), "{shown:?}");
    }
}

#[tokio::test]
async fn a_missing_unknown_or_expired_key_is_a_401_that_never_repeats_it() {
    let world = World::new().start().await;
    let near = format!("{KEY}x");
    let cases = [
        (vec![], "key_missing"),
        (vec![("authorization", "Basic eDp5")], "key_missing"),
        (vec![("authorization", "Bearer")], "key_missing"),
        (vec![("x-api-key", "")], "key_missing"),
        (vec![("authorization", "Bearer sk-nobody")], "key_unknown"),
        (vec![("x-api-key", near.as_str())], "key_unknown"),
        (vec![("api-key", SECRET_O)], "key_unknown"),
        (vec![("x-api-key", KEY_EXPIRED)], "key_expired"),
    ];

    for client in each_client(&world).await {
        for (headers, code) in &cases {
            let client = headers.iter().fold(client.clone(), |client, (name, value)| client.header(name, value));
            for (path, dialect) in CALLS {
                let reply = client.post(path, body(model_of(dialect))).await;

                let message = assert_told(dialect, &reply, 401, code, "key");
                let whole = format!("{message} {:?}", reply.headers);
                for secret in ["sk-nobody", KEY, KEY_EXPIRED, SECRET_O, "eDp5"] {
                    assert!(!whole.contains(secret), "{secret} in {whole}");
                }
            }
            assert_told(Dialect::OpenAi, &client.get("/v1/models").await, 401, code, "key");
            assert_told(Dialect::Anthropic, &client.get("/anthropic/v1/models/a-x").await, 401, code, "key");
        }
    }
    assert_eq!(world.mock.counts().requests, 0);
}

#[tokio::test]
async fn a_model_that_the_key_may_not_use_is_a_403() {
    let world = World::new().start().await;
    let client = world.client().key(KEY_LIMITED);

    for (path, dialect) in CALLS {
        let reply = client.post(path, body("claude-sonnet")).await;
        assert_told(dialect, &reply, 403, "model_forbidden", "claude-sonnet");
        assert_eq!(reply.header("x-should-retry"), Some("false"));
    }
    assert_eq!(world.mock.counts().requests, 0);

    let reply = client.post("/v1/chat/completions", body("o-x")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn the_list_of_models_shows_what_the_key_may_use_in_both_dialects() {
    let world = World::new()
        .spec("[models.o-named]\ntargets = [{ provider = \"o\" }]\n[models.o-other]\ntargets = [{ provider = \"o\" }]")
        .start()
        .await;
    let names = |reply: &Value| -> Vec<String> {
        reply["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = ["claude-sonnet", "gpt-4o", "gpt-4o-mini", "o-named", "o-other"];

    for path in ["/v1/models", "/anthropic/v1/models"] {
        let list = world.client().get(path).await.json();
        assert_eq!(names(&list), all, "{path}");
        let list = world.client().key(KEY_LIMITED).get(path).await.json();
        assert_eq!(names(&list), ["o-named", "o-other"], "{path}");
    }
    let openai = world.client().get("/v1/models/gpt-4o").await.json();
    assert_eq!((&openai["id"], &openai["object"]), (&json!("gpt-4o"), &json!("model")));
    let sdk = world.client().header("anthropic-version", "2023-06-01");
    let anthropic = sdk.get("/v1/models/gpt-4o").await.json();
    assert_eq!((&anthropic["id"], &anthropic["type"]), (&json!("gpt-4o"), &json!("model")));
}

#[tokio::test]
async fn anthropics_list_of_models_comes_in_pages() {
    let world = World::new().start().await;
    let client = world.client();
    let mut seen = Vec::new();
    let mut path = "/anthropic/v1/models?limit=2".to_owned();

    loop {
        let page = client.get(&path).await.json();
        seen.extend(page["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()));
        let last = page["last_id"].as_str().unwrap();
        if page["has_more"] == json!(false) {
            break;
        }
        path = format!("/anthropic/v1/models?limit=2&after_id={last}");
    }

    assert_eq!(seen, ["claude-sonnet", "gpt-4o", "gpt-4o-mini"]);
    for limit in ["0", "1001", "-1", "many"] {
        let reply = client.get(&format!("/anthropic/v1/models?limit={limit}")).await;
        assert_told(Dialect::Anthropic, &reply, 400, "invalid_field", "limit");
    }
}

#[tokio::test]
async fn a_model_that_is_not_there_is_a_404_on_the_models_path_too() {
    let world = World::new().start().await;

    for (path, dialect) in [("/v1/models/gpt-5o", Dialect::OpenAi), ("/anthropic/v1/models/gpt-5o", Dialect::Anthropic)]
    {
        let reply = world.client().get(path).await;

        assert_told(dialect, &reply, 404, "model_not_found", "gpt-4o");
    }
    let reply = world.client().get("/v1/models/%ff").await;
    assert_told(Dialect::OpenAi, &reply, 404, "route_not_found", "");
}

#[tokio::test]
async fn no_key_and_no_secret_reaches_the_access_log_or_the_metrics() {
    let world = World::new().start().await;
    let client = world.client();
    for key in [KEY, KEY_LIMITED, KEY_EXPIRED, "sk-nobody", SECRET_O] {
        for model in ["o-x", "a-x", "o-x+status=401", "nope"] {
            let client = client.clone().key(key).header("x-request-id", "mine").header("user-agent", "test/1");
            client.post("/v1/chat/completions", body(model)).await;
        }
    }

    until("a line for each request", || world.access_lines().len() == 20).await;
    let seen = format!("{:?} {}", world.access_lines(), world.metrics().await);
    for secret in [KEY, KEY_LIMITED, KEY_EXPIRED, "sk-nobody", SECRET_O, SECRET_A] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
    let keys: Vec<_> = world.access_lines().iter().map(|line| line["key_id"].clone()).collect();
    assert_eq!(keys.iter().filter(|key| **key == json!("full")).count(), 4, "{keys:?}");
}
