//! FIDELITY-1: what a provider of the same dialect receives is what the client wrote, but for the permitted edits; and
//! of the headers only those that are its business.

use troupe_loadtest::mock::Received;
use troupe_tests::ask::Dialect;
use troupe_tests::world::{KEY, SECRET_A, SECRET_O};
use troupe_tests::{Client, World};

/// JSON that every parser reads and no serialiser writes: white space, number forms, escapes, unknown fields.
const ODD: &str = "\r\n{ \"messages\" : [ {\"role\":\"user\" ,\"content\":\"h\\u00e9llo \\/ \\ud83d\\ude00 \u{20ac}\"} ],\t\"max_tokens\" : 100,\
    \"temperature\": 1.0E+0 , \"hundred\":1e2 ,\"big\": 123456789012345678901234567890.000100, \"model\":\"MODEL\",\
    \"new_field\": {\"nested\": [ null , -0.0, {} ] , \"e\":\"\\u0041\"}, \"metadata\":{ } }\n";

async fn one_call(client: &Client, world: &World, path: &str, body: &str) -> Received {
    world.mock.reset();
    let reply = client.post_bytes(path, body.to_owned()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut received = world.mock.received();
    assert_eq!(received.len(), 1);
    received.remove(0)
}

#[tokio::test]
async fn bodies_of_the_same_dialect_are_forwarded_byte_for_byte() {
    let world = World::new().start().await;

    for (dialect, model) in [(Dialect::OpenAi, "o-x"), (Dialect::Anthropic, "a-x")] {
        let body = ODD.replace("MODEL", model);

        let received = one_call(&world.client(), &world, dialect.path(), &body).await;

        assert_eq!(received.body, body);
    }
}

#[tokio::test]
async fn every_operation_of_openai_s_wire_is_forwarded_byte_for_byte() {
    let world = World::new().start().await;

    for (path, rest) in [
        ("/v1/completions", r#""prompt" :"x" , "echo":false"#),
        ("/v1/embeddings", r#""input":[ "a","b" ], "encoding_format" : "base64""#),
        ("/v1/responses", r#""input" :"x", "store":false ,"reasoning":{ }"#),
    ] {
        let body = format!("{{ {rest},\n\"odd\":1.00 ,\"model\" : \"o-x\" }}");

        for path in [path.to_owned(), format!("/openai{path}")] {
            let received = one_call(&world.client(), &world, &path, &body).await;

            assert_eq!(
                (received.body.as_str(), received.path.as_str()),
                (body.as_str(), path.trim_start_matches("/openai"))
            );
        }
    }
    let body = r#"{ "messages":[{"role":"user","content":"x"}] , "model":"a-x"}"#;
    let received = one_call(&world.client(), &world, "/anthropic/v1/messages/count_tokens", body).await;
    assert_eq!((received.body.as_str(), received.path.as_str()), (body, "/v1/messages/count_tokens"));
}

#[tokio::test]
async fn only_the_model_and_the_usage_option_are_edited() {
    let spec = "[models.alias]\ntargets = [{ provider = \"o\", model = \"real\\\"name\" }]";
    let world = World::new().spec(spec).start().await;
    let client = world.client();
    let edits = [
        (
            r#"{"model" : "al\u0069as", "messages":[{"role":"user","content":"x"} ]}"#,
            r#"{"model" : "real\"name", "messages":[{"role":"user","content":"x"} ]}"#,
        ),
        (
            r#"{ "stream" :true,"model":"o-x","messages":[{"role":"user","content":"x"} ] }"#,
            r#"{ "stream" :true,"model":"o-x","stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"} ] }"#,
        ),
        (
            r#"{"stream":true,"stream_options": {"include_usage" :false, "x":1 },"model":"o-x","messages":[{"role":"user","content":"x"} ]}"#,
            r#"{"stream":true,"stream_options": {"include_usage" :true, "x":1 },"model":"o-x","messages":[{"role":"user","content":"x"} ]}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage" : true},"model":"o-x","messages":[{"role":"user","content":"x"} ]}"#,
            r#"{"stream":true,"stream_options":{"include_usage" : true},"model":"o-x","messages":[{"role":"user","content":"x"} ]}"#,
        ),
        (
            r#"{"stream":true,"stream_options":null,"model":"o-x","messages":[{"role":"user","content":"x"} ]}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true},"model":"o-x","messages":[{"role":"user","content":"x"} ]}"#,
        ),
    ];

    for (asked, expected) in edits {
        let received = one_call(&client, &world, "/v1/chat/completions", asked).await;

        assert_eq!(received.body, expected);
    }
}

#[tokio::test]
async fn whole_replies_of_the_same_dialect_come_back_byte_for_byte() {
    let world = World::new().start().await;
    let direct = Client::new(world.mock.addr, None).header("anthropic-version", "2023-06-01");

    for (dialect, model) in [
        (Dialect::OpenAi, "o-x+unicode"),
        (Dialect::Anthropic, "a-x+slow-bytes"),
        (Dialect::OpenAi, "o-x+size=1MiB"),
        (Dialect::OpenAi, "o-x+size=9MiB"),
    ] {
        let relayed = world.client().post(dialect.path(), dialect.ask(model)).await;
        let sent = direct.post(dialect.path(), dialect.ask(model)).await;

        let numberless = |text: String| {
            let created = |text: &str| {
                text.split("\"created\":")
                    .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()))
                    .collect::<String>()
            };
            created(&text.replace("mock-1", "mock-0"))
                .split("mock")
                .map(|part| part.trim_start_matches(|c: char| "-_".contains(c) || c.is_ascii_digit()))
                .collect::<String>()
        };
        assert!(
            numberless(relayed.text()) == numberless(sent.text()),
            "{model}: {:.200} {:.200}",
            relayed.text(),
            sent.text()
        );
        assert_eq!(relayed.header("content-type"), sent.header("content-type"));
    }
}

#[tokio::test]
async fn only_headers_of_the_list_reach_a_provider() {
    let world = World::new().start().await;
    let private = [
        "cookie",
        "x-api-key",
        "api-key",
        "openai-organization",
        "openai-project",
        "proxy-authorization",
        "x-forwarded-for",
        "x-stainless-lang",
        "x-request-id",
        "te",
    ];
    let client = private.iter().fold(world.client(), |client, name| client.header(name, "trailers-of-the-client"));
    let client = client
        .header("accept-encoding", "gzip, br")
        .header("user-agent", "agent/1")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("anthropic-version", "2023-01-01")
        .header("anthropic-beta", "one")
        .header("openai-beta", "two");
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let client = client.header("traceparent", traceparent).header("tracestate", "vendor=1").header("baggage", "a=b");

    for dialect in Dialect::ALL {
        for wire in ["o", "a"] {
            let ask = dialect.ask(&format!("{wire}-x")).to_string();

            let received = one_call(&client, &world, dialect.path(), &ask).await;

            let all = format!("{:?}", received.headers);
            assert!(
                !all.contains("of-the-client") && !all.contains(KEY) && received.header("x-hop").is_none(),
                "{all}"
            );
            assert_eq!(received.header("accept-encoding"), Some("identity"));
            assert_eq!(received.header("content-type"), Some("application/json"));
            assert_eq!((received.header("user-agent"), received.header("baggage")), (Some("agent/1"), Some("a=b")));
            assert_eq!(received.header("tracestate"), Some("vendor=1"));
            let trace = received.header("traceparent").unwrap();
            assert!(
                trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
                    && trace.ends_with("-01")
                    && trace != traceparent,
                "{trace}"
            );
            let credential = match wire {
                "o" => ("authorization", format!("Bearer {SECRET_O}")),
                _ => ("x-api-key", SECRET_A.to_owned()),
            };
            let credentials = ["authorization", "x-api-key", "api-key"]
                .map(|name| (name, received.header(name).unwrap_or_default().to_owned()));
            let shown: Vec<_> = credentials.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            assert_eq!(shown, [credential]);
            let beta = (
                received.header("anthropic-version"),
                received.header("anthropic-beta"),
                received.header("openai-beta"),
            );
            match (dialect, wire) {
                (Dialect::OpenAi, "o") => assert_eq!(beta, (None, None, Some("two"))),
                (Dialect::Anthropic, "a") => assert_eq!(beta, (Some("2023-01-01"), Some("one"), None)),
                // What belongs to another dialect means nothing to this one; Anthropic wants a version in any case.
                (Dialect::OpenAi, _) => assert_eq!((beta.0, beta.2), (Some("2023-06-01"), None)),
                (Dialect::Anthropic, _) => assert_eq!(beta, (None, None, None)),
            }
        }
    }
}

#[tokio::test]
async fn a_trace_begins_here_if_the_client_brought_none_or_a_bad_one() {
    let world = World::new().start().await;
    let mut seen = Vec::new();

    for client in [world.client(), world.client().header("traceparent", "00-nonsense-01")] {
        let received = one_call(&client, &world, "/v1/chat/completions", &Dialect::OpenAi.ask("o-x").to_string()).await;

        let trace = received.header("traceparent").unwrap().to_owned();
        let parts: Vec<_> = trace.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2], "{trace}");
        seen.push(trace);
    }

    assert_ne!(seen[0], seen[1]);
}

#[tokio::test]
async fn azure_is_called_by_deployment_version_and_api_key() {
    let spec = r#"
[providers.az]
wire = "openai"
base_url = "{mock}"
azure = { api_version = "2025-04-01-preview" }
keys = [{ name = "main", secret = "azure-secret" }]
[models.az-chat]
targets = [{ provider = "az", model = "my/deployment+words=2" }]
"#;
    let world = World::new().spec(spec).start().await;

    let reply = world.client().post("/v1/chat/completions", Dialect::OpenAi.ask("az-chat")).await;

    let received = world.mock.received();
    assert_eq!(reply.status, 200, "{} {received:?}", reply.text());
    assert_eq!(Dialect::OpenAi.text(&reply.json()), "w0 w1 ");
    assert!(received[0].path.starts_with("/openai/deployments/my%2Fdeployment"), "{}", received[0].path);
    assert!(received[0].path.ends_with("/chat/completions?api-version=2025-04-01-preview"), "{}", received[0].path);
    assert_eq!((received[0].header("api-key"), received[0].header("authorization")), (Some("azure-secret"), None));
}

#[tokio::test]
async fn a_beta_query_reaches_anthropic_and_no_other_query_does() {
    let world = World::new().start().await;
    let ask = Dialect::Anthropic.ask("a-x").to_string();

    for (query, expected) in [("?beta=true", "?beta=true"), ("?key=sk-secret", ""), ("", "")] {
        let received = one_call(&world.client(), &world, &format!("/v1/messages{query}"), &ask).await;

        assert_eq!(received.path, format!("/v1/messages{expected}"));
    }
    let ask = Dialect::Anthropic.ask("o-x").to_string();
    let received = one_call(&world.client(), &world, "/v1/messages?beta=true", &ask).await;
    assert_eq!(received.path, "/v1/chat/completions");
}

#[tokio::test]
async fn an_operator_s_headers_and_auth_are_sent_and_a_keyless_provider_gets_no_credential() {
    let spec = r#"
[providers.local]
wire = "openai"
base_url = "{mock}/v1"
headers = { x-tenant = "t1", user-agent = "operator/2" }
[models.local]
targets = [{ provider = "local" }]
[providers.bearer]
wire = "anthropic"
base_url = "{mock}"
auth = "bearer"
keys = [{ name = "main", secret = "bearer-secret" }]
[models.bearer]
targets = [{ provider = "bearer" }]
"#;
    let world = World::new().spec(spec).start().await;
    let client = world.client().header("user-agent", "client/1");

    let local = one_call(&client, &world, "/v1/chat/completions", &Dialect::OpenAi.ask("local").to_string()).await;
    let bearer = one_call(&client, &world, "/v1/messages", &Dialect::Anthropic.ask("bearer").to_string()).await;

    assert_eq!((local.header("x-tenant"), local.header("user-agent")), (Some("t1"), Some("operator/2")));
    assert!(["authorization", "x-api-key", "api-key"].iter().all(|name| local.header(name).is_none()));
    assert_eq!((bearer.header("authorization"), bearer.header("x-api-key")), (Some("Bearer bearer-secret"), None));
}
