use std::io::Write;

use troupe_proto::id::{ModelId, ProviderId};
use troupe_proto::spec::{
    Affinity, Auth, Breaker, Concurrency, Freshness, Hedge, Model, OnBreak, Retries, Rules, Timeouts, Wire,
};
use troupe_proto::unit::{PerMille, Wait};

use super::super::source::Format;
use super::*;

const EXAMPLE: &str = include_str!("../fixtures/spec.toml");

/// Variables that hold a secret named after them; `EMPTY` is empty and `MISSING...` are not set.
fn sources() -> Sources {
    let env = |name: &str| match name {
        "EMPTY" => Some(String::new()),
        name if name.starts_with("MISSING") => None,
        name => Some(format!("sk-{}\n", name.to_lowercase())),
    };
    Sources { env: Arc::new(env), literals: Literals::Refused, data_dir: None }
}

fn load_toml(text: &str) -> Result<Loaded, ConfigError> {
    load_text("spec.toml", Format::Toml, text, &sources())
}

fn errors(text: &str) -> Vec<String> {
    load_toml(text).unwrap_err().problems.iter().map(ToString::to_string).collect()
}

/// A file with one provider, and what a test adds.
fn with_provider(more: &str) -> String {
    format!("[providers.a]\nwire = \"openai\"\n{more}")
}

/// The same with a model.
fn with_model(more: &str) -> String {
    with_provider(&format!("[models.m]\ntargets = [{{ provider = \"a\" }}]\n{more}"))
}

#[test]
fn the_bound_of_freshness_is_a_duration_or_never() {
    let freshness = |text: &str| load_toml(text).unwrap().spec.policies.freshness;

    assert_eq!(freshness(""), Freshness::Within(Wait::from_secs(300)));
    assert_eq!(freshness("[policies]\n"), Freshness::Within(Wait::from_secs(300)));
    assert_eq!(freshness("[policies]\nfreshness = \"30s\""), Freshness::Within(Wait::from_secs(30)));
    assert_eq!(freshness("[policies]\nfreshness = \"never\""), Freshness::Never);
    let errors = errors("[policies]\nfreshness = \"1s\"\nfresh = 1");
    assert!(errors.iter().any(|error| error.contains("policies.freshness: expected 5s to 24h")), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("freshness")), "{errors:?}");
}

#[test]
fn the_contracts_example_loads() {
    let Loaded { spec, made, notes, .. } = load_toml(EXAMPLE).unwrap();

    let openai = &spec.providers["openai"];
    assert_eq!(openai.credentials["main"].secret.exposed().unwrap(), "sk-openai_api_key");
    assert_eq!(openai.credentials["main"].weight, 3);
    assert!(openai.credentials["spare"].models.as_ref().unwrap()[0].matches("gpt-4o"));
    assert_eq!(spec.providers["anthropic"].base_url.to_string(), "https://api.anthropic.com");
    assert_eq!(spec.providers["anthropic"].auth, Auth::XApiKey);
    let waits = Timeouts { first_byte: Some(Wait::from_secs(120)), ..Timeouts::default() };
    assert_eq!(spec.providers["local"].rules.timeouts, waits);
    assert_eq!(spec.models["gpt-4o"].targets[2].priority, 1);
    assert_eq!(spec.models["claude-*"].targets[0].model, None);
    assert_eq!(spec.defaults.settled(), Rules::built_in());
    assert_eq!(spec.defaults.breaker.rest_max, Some(Wait::from_secs(60)));
    assert_eq!(spec.models["gpt-4o"].fallbacks, [ModelId::new("claude-sonnet")]);
    let key = &spec.keys["search-team"];
    assert_eq!(key.hash, KeyHash::of(b"sk-search_team_key"));
    assert_eq!(key.expires, Some(1_798_761_600));
    assert!(made.is_empty());
    assert!(!key.pin);
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn yaml_and_json_of_the_same_shape_say_the_same() {
    let from_toml = load_toml(include_str!("../fixtures/small.toml")).unwrap();
    for (format, text) in
        [(Format::Yaml, include_str!("../fixtures/small.yaml")), (Format::Json, include_str!("../fixtures/small.json"))]
    {
        assert_eq!(load_text("spec", format, text, &sources()).unwrap(), from_toml, "{format:?}");
    }
}

#[test]
fn parts_that_are_not_built_yet_are_refused_by_name() {
    let text = "[teams.search]\nbudgets = []\n[keys.k]\nhash = \"00\"\nteam = \"search\"\nlimits = {}\nbudgets = []\n";

    let errors = errors(text);

    assert_eq!(errors[0], "spec.toml:1:2: teams: teams are not built yet: remove `teams`");
    assert!(errors.contains(&"spec.toml:5:1: keys.k.team: teams are not built yet: remove `team`".to_owned()));
    assert!(
        errors.contains(&"spec.toml:6:1: keys.k.limits: limits of keys are not built yet: remove `limits`".to_owned())
    );
    assert!(errors.contains(&"spec.toml:7:1: keys.k.budgets: budgets are not built yet: remove `budgets`".to_owned()));
}

#[test]
fn an_unknown_field_is_told_with_file_line_and_nearest_name() {
    let text = with_provider("[models.m]\ntargets = [\n  { provider = \"a\", weigth = 3 },\n]\n");

    assert_eq!(
        errors(&text),
        ["spec.toml:5:21: models.m.targets[0].weigth: unknown field `weigth`, did you mean `weight`?"]
    );
}

#[test]
fn yaml_and_json_errors_have_places_too() {
    let yaml = "models:\n  m:\n    targets:\n      - provider: a\n        weigth: 3\n";
    let error = load_text("spec.yaml", Format::Yaml, yaml, &sources()).unwrap_err();

    assert_eq!(
        error.to_string(),
        "spec.yaml:4:19: models.m.targets[0].provider: there is no provider \"a\"\n\
         spec.yaml:5:9: models.m.targets[0].weigth: unknown field `weigth`, did you mean `weight`?"
    );
    let json = "{\n  \"models\": {\"m\": {\"targets\": [{\"provider\": \"a\"}]}}\n}";
    let error = load_text("spec.json", Format::Json, json, &sources()).unwrap_err();

    assert_eq!(error.to_string(), "spec.json:2:45: models.m.targets[0].provider: there is no provider \"a\"");
}

#[test]
fn text_that_is_not_of_its_format_is_told_by_place() {
    for (format, text, place) in [
        (Format::Toml, "[providers]\na = = 1\n", "f:2:5: "),
        (Format::Yaml, "a:\n  - b\n c: [\n", "f:3:"),
        (Format::Json, "{\n  \"a\": 1,\n}", "f:3:1: "),
        (Format::Toml, "a = 1\na = 2\n", "f:2:1: "),
        (Format::Yaml, "keys: {}\nkeys: {}\n", "f:2:1: "),
        (Format::Json, "{\"keys\": {},\n \"keys\": {}}", "f:2:2: "),
        (Format::Yaml, "- a\n", "f:1:1: expected a table of fields, found a list"),
    ] {
        let error = load_text("f", format, text, &sources()).unwrap_err().to_string();

        assert!(error.starts_with(place), "{format:?} {text:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn each_mistake_is_told_by_what_is_wrong() {
    let hash = "0".repeat(64);
    let two_keys = format!("[keys.a]\nhash = \"{hash}\"\n[keys.b]\nhash = \"sha256:{hash}\"");
    for (text, expected) in [
        ("[providers.A]\nwire = \"openai\"", "providers.A: 'A' cannot stand in a name: use a-z 0-9 . _ -"),
        ("[providers.a]", "providers.a: `wire` is missing"),
        ("[providers.a]\nwire = \"opnai\"", "\"opnai\" is none of openai, anthropic, did you mean `openai`?"),
        ("[providers.a]\nwire = 1", "providers.a.wire: expected text, found a whole number"),
        (&with_provider("base_url = \"api.openai.com\""), "a URL begins with http:// or https://"),
        (&with_provider("azure = { api_version = \"2025-04-01\" }"), "with `azure` it is your resource's"),
        (&with_provider("base_url = \"https://x\"\nazure = { api_version = \"a b\" }"), "expected a version such as"),
        (&with_provider("keys = [{ name = \"k\", secret = \"sk-1\" }]"), "a secret is never written down"),
        (&with_provider("keys = [{ name = \"k\", secret = \"env:MISSING_KEY\" }]"), "variable MISSING_KEY is not set"),
        (&with_provider("keys = [{ name = \"k\", secret = \"env:EMPTY\" }]"), "variable EMPTY is empty"),
        (
            &with_provider("keys = [{ name = \"k\", secret = \"file:/does/not/exist\" }]"),
            "file /does/not/exist cannot be read",
        ),
        (
            &with_provider("keys = [{ name = \"k\", secret = \"env:A\", weight = 0 }]"),
            "expected a whole number from 1 to 1000000",
        ),
        (
            &with_provider("keys = [{ name = \"k\", secret = \"env:A\", models = [\"a*b\"] }]"),
            "`*` may stand at the end only",
        ),
        (
            &with_provider("keys = [{ name = \"k\", secret = \"env:A\" }, { name = \"k\", secret = \"env:B\" }]"),
            "two keys of this provider are named \"k\"",
        ),
        (&with_provider("headers = { Authorization = \"x\" }"), "this header is the gateway's own to set"),
        (&with_provider("headers = { \"a b\" = \"x\" }"), "\"a b\" is not a header name"),
        (&with_provider("headers = { x-a = \"line\\nbreak\" }"), "this is not a header value"),
        (&with_provider("headers = { x-a = \"env:SECRET\" }"), "headers hold no secrets"),
        (&with_provider("ca = \"env:A\""), "it holds no PEM certificate"),
        (&with_provider("proxy = \"https://p\""), "expected a proxy such as"),
        (&with_provider("timeouts = { idle = \"0s\" }"), "expected 1ms to 24h"),
        (&with_provider("timeouts = { idle = 30 }"), "expected text, found a whole number"),
        (
            &with_provider("breaker = { rest = \"10s\", rest_max = \"5s\" }"),
            "the longest rest is shorter than the first, 10s",
        ),
        (&with_provider("breaker = { credential_rest = \"0s\" }"), "breaker.credential_rest: expected 1s to 24h"),
        (&with_provider("breaker = { panic = \"101%\" }"), "breaker.panic: \"101%\" is too large"),
        (&with_provider("breaker = { shares = \"50%\" }"), "unknown field `shares`, did you mean `share`?"),
        (&with_provider("retries = { wait_max = \"11m\" }"), "retries.wait_max: expected 0s to 10m"),
        (&with_provider("retries = { attempts = 0 }"), "expected a whole number from 1 to 10"),
        (
            &with_provider("retries = { backoff = \"1s\", backoff_max = \"500ms\" }"),
            "retries.backoff_max: the longest back-off is shorter than the first, 1s",
        ),
        (&with_provider("concurrency = { min = 9, max = 8 }"), "concurrency.max: the most is less than the least, 9"),
        (&with_provider("concurrency = 8"), "concurrency: expected a table, found a whole number"),
        (&with_model("hedge = { after = \"1ms\" }"), "models.m.hedge.after: expected 10ms to 5m"),
        (&with_model("hedge = { budget = 5 }"), "models.m.hedge.budget: expected text, found a whole number"),
        (&with_model("affinity = \"prefx\""), "\"prefx\" is none of off, prefix, did you mean `prefix`?"),
        (&with_model("on_break = \"contine\""), "\"contine\" is none of error, continue, did you mean `continue`?"),
        ("[keys.k]\npin = \"yes\"", "keys.k.pin: expected true or false, found text"),
        (
            &with_provider("[models.\"a*b\"]\ntargets = [{ provider = \"a\" }]"),
            "models.\"a*b\": '*' cannot stand in a model name",
        ),
        (&with_provider("[models.m]"), "models.m: `targets` is missing"),
        (&with_provider("[models.m]\ntargets = []"), "a model has 1 to 64 targets"),
        (
            &with_provider("[models.m]\ntargets = [{ provider = \"a\" }, { provider = \"a\" }]"),
            "this target stands twice",
        ),
        (&with_provider("[models.m]\ntargets = [{ provider = \"a\", model = \"x*\" }]"), "expected one model's name"),
        (
            &with_provider("[models.m]\ntargets = [{ provider = \"ab\" }]"),
            "there is no provider \"ab\", did you mean \"a\"?",
        ),
        (
            &with_provider("[models.m]\ntargets = [{ provider = \"a\" }]\nfallbacks = [\"n\"]"),
            "falls back to \"n\", which no model serves",
        ),
        (
            &with_provider("[models.m]\ntargets = [{ provider = \"a\" }]\nfallbacks = [\"m\"]"),
            "its fallbacks lead back to itself",
        ),
        (
            &with_provider("[models.\"m-*\"]\ntargets = [{ provider = \"a\" }]\nfallbacks = [\"m-1\"]"),
            "its fallbacks lead back to itself",
        ),
        (
            &with_provider("[models.m]\ntargets = [{ provider = \"a\" }]\nfallbacks = [\"x*\"]"),
            "a fallback is one name, not a pattern",
        ),
        ("[keys.k]\nhash = \"12\"", "expected a SHA-256 as 64 hexadecimal digits"),
        ("[keys.k]\nhash = \"12\"\nsecret = \"env:A\"", "give `secret` or `hash`, not both"),
        ("[keys.k]\nexpires = 2027-01-01", "\"2027-01-01\" is not a time with its zone"),
        ("[keys.k]\nexpires = \"tomorrow\"", "\"tomorrow\" is not a time with its zone"),
        (&two_keys, "keys.b: it has the same secret as key \"a\""),
    ] {
        let errors = errors(text);

        assert_eq!(errors.len(), 1, "{text}: {errors:#?}");
        assert!(errors[0].contains(expected), "{text}: {errors:#?}");
    }
}

#[test]
fn rules_of_calls_are_read_where_they_stand() {
    let text = "[providers.a]\nwire = \"openai\"\nconcurrency = { min = 2 }\n\
        breaker = { share = \"80%\", credential_rest = \"1h\", slow_start = \"0s\", panic = \"25%\" }\n\
        [models.m]\ntargets = [{ provider = \"a\" }]\nhedge = { after = \"500ms\" }\naffinity = \"prefix\"\n\
        on_break = \"continue\"\nretries = { backoff = \"10ms\", backoff_max = \"1s\", wait_max = \"0s\" }\n\
        [models.plain]\ntargets = [{ provider = \"a\" }]\n[keys.k]\nsecret = \"env:A\"\npin = true\n";

    let spec = load_toml(text).unwrap().spec;

    let provider = Rules {
        breaker: Breaker {
            share: Some(PerMille::new(800)),
            credential_rest: Some(Wait::from_secs(3600)),
            slow_start: Some(Wait::from_secs(0)),
            panic: Some(PerMille::new(250)),
            ..Breaker::default()
        },
        concurrency: Some(Concurrency { min: Some(2), max: None }),
        ..Rules::default()
    };
    let retries = Retries {
        backoff: Some(Wait::from_millis(10)),
        backoff_max: Some(Wait::from_secs(1)),
        wait_max: Some(Wait::from_secs(0)),
        ..Retries::default()
    };
    assert_eq!(spec.providers["a"].rules, provider);
    let model = &spec.models["m"];
    assert_eq!(model.rules, Rules { retries, ..Rules::default() });
    assert_eq!(model.hedge, Some(Hedge { after: Wait::from_millis(500), ..Hedge::built_in() }));
    assert_eq!((model.affinity, model.on_break), (Affinity::Prefix, OnBreak::Continue));
    let targets = model.targets.clone();
    assert_eq!(spec.models["plain"], Model { targets, ..Model::default() });
    assert!(spec.keys["k"].pin);
}

#[test]
fn several_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = with_provider("keys = 1\n[models.m]\ntargets = [{ provider = \"b\" }]\n[keys.k]\nexpires = 1\n");

    let lines: Vec<u32> = load_toml(&text).unwrap_err().problems.iter().map(|problem| problem.at.line).collect();

    assert_eq!(lines, [3, 5, 7]);
}

#[test]
fn a_chain_of_fallbacks_that_comes_back_is_told_of_each_member() {
    let model =
        |name: &str, to: &str| format!("[models.{name}]\ntargets = [{{ provider = \"a\" }}]\nfallbacks = [\"{to}\"]\n");
    let text = with_provider(&[model("x", "y"), model("y", "z"), model("z", "y")].concat());

    let fields: Vec<String> = load_toml(&text).unwrap_err().problems.into_iter().map(|problem| problem.field).collect();

    assert_eq!(fields, ["models.y", "models.z"]);
}

#[test]
fn a_secret_is_read_from_a_file_without_the_line_end() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"sk-from-file\r\n").unwrap();
    let path = file.path().to_str().unwrap();

    let loaded = load_toml(&with_provider(&format!("keys = [{{ name = \"k\", secret = \"file:{path}\" }}]"))).unwrap();

    assert_eq!(loaded.spec.providers["a"].credentials["k"].secret.exposed().unwrap(), "sk-from-file");
    assert_eq!(loaded.files.paths().collect::<Vec<_>>(), [Path::new(path)]);
}

#[test]
fn a_literal_is_taken_where_that_is_allowed_and_never_shown() {
    let text = with_provider("keys = [{ name = \"k\", secret = \"sk with spaces\" }]\n[keys.dev]\nsecret = \"sk-dev\"");
    let allowing = Sources { literals: Literals::Allowed, ..sources() };

    let error = load_text("spec.toml", Format::Toml, &text, &allowing).unwrap_err().to_string();
    assert!(!error.contains("spaces\""), "{error}");
    assert!(!load_toml(&text).unwrap_err().to_string().contains("with spaces"));
    let loaded = load_text("spec.toml", Format::Toml, "[keys.dev]\nsecret = \"sk-dev\"", &allowing).unwrap();

    assert_eq!(loaded.spec.keys["dev"].hash, KeyHash::of(b"sk-dev"));
}

#[test]
fn azure_providers_show_their_key_as_azure_wants_it() {
    let text =
        with_provider("base_url = \"https://x.openai.azure.com\"\nazure = { api_version = \"2025-04-01-preview\" }");

    let spec = load_toml(&text).unwrap().spec;

    assert_eq!(spec.providers["a"].auth, Auth::ApiKey);
    assert_eq!(spec.providers["a"].azure_api_version.as_deref(), Some("2025-04-01-preview"));
    assert_eq!(spec.providers[&ProviderId::new("a")].wire, Wire::OpenAi);
}

#[test]
fn a_key_for_models_that_nobody_serves_is_worth_a_note() {
    let text = with_provider(
        "[models.\"gpt-*\"]\ntargets = [{ provider = \"a\" }]\n[keys.k]\nsecret = \"env:A\"\nmodels = [\"gtp-4\", \"g*\", \"gpt-4-*\", \"gpt-5\"]",
    );

    assert_eq!(load_toml(&text).unwrap().notes, ["key k may use \"gtp-4\", which no model serves"]);
}

#[test]
fn model_names_may_be_those_that_vendors_use() {
    let text = with_provider("[models.\"Qwen/Qwen3:32B\"]\ntargets = [{ provider = \"a\" }]");

    assert!(load_toml(&text).unwrap().spec.models.contains_key(&ModelId::new("Qwen/Qwen3:32B")));
}

#[test]
fn nesting_without_end_is_an_error_in_each_format() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(50_000), close.repeat(50_000));
    for (format, text) in [
        (Format::Toml, format!("a = {}", deep("[", "]"))),
        (Format::Toml, format!("a = {}1", "{a=".repeat(50_000))),
        (Format::Toml, format!("{}a = 1", "a.".repeat(50_000))),
        (Format::Yaml, format!("a: {}", deep("[", "]"))),
        (Format::Json, format!("{{\"a\": {}}}", deep("[", "]"))),
    ] {
        assert!(load_text("f", format, &text, &sources()).is_err(), "{format:?}");
    }
}

#[test]
fn json_text_may_be_escaped_as_json_escapes_it() {
    let text = r#"{"keys": {"k": {"secret": "env:A", "metadata": {"who": "\u00e4 \ud83d\ude00 \/ \" tab\t"}}}}"#;

    let loaded = load_text("f", Format::Json, text, &sources()).unwrap();

    assert_eq!(loaded.spec.keys["k"].metadata["who"], "\u{e4} \u{1F600} / \" tab\t");
}

#[test]
fn a_spec_of_100_000_keys_is_read() {
    let keys: String =
        (0..100_000).map(|n| format!("[keys.k{n}]\nhash = \"{n:064x}\"\nmodels = [\"gpt-*\"]\n")).collect();

    let loaded = load_toml(&keys).unwrap();

    assert_eq!(loaded.spec.keys.len(), 100_000);
}
