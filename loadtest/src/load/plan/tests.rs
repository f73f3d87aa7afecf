use super::*;

const GOOD: &str = r#"
name = "mixed"
[target]
base_url = "http://127.0.0.1:9100/v1"
key = "k"
headers = { x-team = "blue" }
[request]
models = [{ name = "mock", weight = 9 }, { name = "mock+words=200" }]
body_bytes = "2KiB"
[load]
mode = "open"
rate = 1000
time = "10s"
warm_up = "1s"
"#;

fn parse(text: &str) -> Result<Plan, PlanError> {
    Plan::parse(text, &Overrides::default())
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn a_plan_is_read_with_its_defaults() {
    let plan = parse(GOOD).unwrap();

    assert_eq!((plan.name.as_str(), plan.target.key.as_deref()), ("mixed", Some("k")));
    assert_eq!(plan.target.headers["x-team"], "blue");
    assert_eq!(plan.ask.models, [("mock".to_owned(), 9), ("mock+words=200".to_owned(), 1)]);
    assert_eq!((plan.ask.body_bytes, plan.ask.events), (2048, None));
    assert_eq!(plan.load.mode, Mode::Open { rate: 1000 });
    assert_eq!((plan.load.time, plan.load.requests), (Some(Duration::from_secs(10)), None));
    assert_eq!((plan.load.connections, plan.load.timeout), (64, Duration::from_secs(10)));
}

#[test]
fn an_unknown_field_is_told_by_line_and_name() {
    let error = error(&GOOD.replace("warm_up", "warmup"));

    assert!(error.contains("line 14") && error.contains("`warmup`"), "{error}");
}

#[test]
fn an_unknown_table_and_a_wrong_unit_are_told_by_line() {
    let table = error(&format!("{GOOD}[laod]\n"));
    let unit = error(&GOOD.replace("\"10s\"", "\"10\""));

    assert!(table.contains("line 15") && table.contains("`laod`"), "{table}");
    assert!(unit.contains("line 13") && unit.contains("`10` is no time"), "{unit}");
}

#[test]
fn what_the_mode_needs_must_be_there_and_what_it_ignores_must_not() {
    let missing = error(&GOOD.replace("rate = 1000", ""));
    let unused = error(&GOOD.replace("\"open\"", "\"closed\""));
    let endless = error(&GOOD.replace("time = \"10s\"", ""));
    let unsearched = error(&GOOD.replace("\"open\"", "\"sustained\"").replace("rate = 1000", ""));

    assert_eq!(missing, "`load.rate` is needed in mode `open`");
    assert_eq!(unused, "`load.rate` has no use in mode `closed`");
    assert!(endless.starts_with("`load.time` is missing"), "{endless}");
    assert_eq!(unsearched, "`load.p99_max` is needed in mode `sustained`");
}

#[test]
fn a_stream_says_how_many_events_it_has() {
    let without = error(&GOOD.replace("body_bytes", "stream = true\nbody_bytes"));
    let plan = parse(&GOOD.replace("body_bytes", "stream = true\nevents = 5\nbody_bytes")).unwrap();

    assert!(without.starts_with("`request.events` is needed"), "{without}");
    assert_eq!(plan.ask.events, Some(5));
}

#[test]
fn ranges_are_kept() {
    for (from, to, field) in [
        ("rate = 1000", "rate = 0", "load.rate"),
        ("\"10s\"", "\"0s\"", "load.time"),
        ("weight = 9", "weight = 0", "request.models.weight"),
        ("\"2KiB\"", "\"17MiB\"", "request.body_bytes"),
        ("http://", "https://", "target.base_url"),
        ("x-team", "\"x team\"", "target.headers.x team"),
    ] {
        let error = error(&GOOD.replace(from, to));
        assert!(error.contains(field), "{field}: {error}");
    }
}

#[test]
fn the_command_line_goes_before_the_file() {
    let overrides = Overrides { base_url: Some(Uri::from_static("http://127.0.0.1:1/v1")), key: Some("x".to_owned()) };

    let plan = Plan::parse(GOOD, &overrides).unwrap();

    assert_eq!((plan.target.base_url.port_u16(), plan.target.key.as_deref()), (Some(1), Some("x")));
}

#[test]
fn every_plan_that_comes_along_is_good() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}
