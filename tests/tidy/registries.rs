//! Names that are a contract have one home: metrics, spans, error codes.

use std::collections::BTreeSet;

use crate::house::{File, assert_none, files, sample};

const METRICS_HOME: &str = "node/src/telemetry/metrics/";
const METRICS_LIST: &str = "node/src/telemetry/metrics/names.rs";
const SPANS_HOME: &str = "node/src/telemetry/spans.rs";
/// Words that begin like a metric: our crates, as log filters and tests name them.
const CRATES: [&str; 7] = [
    "troupe_proto",
    "troupe_dialect",
    "troupe_actors",
    "troupe_cluster",
    "troupe_node",
    "troupe_loadtest",
    "troupe_tests",
];

/// Every word of `text` that begins like one of our metrics.
fn metric_words(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c)).filter(|word| word.starts_with("troupe_") && *word != "troupe_");
    words.filter(|word| !CRATES.contains(word)).collect()
}

fn metric_literals(file: &File) -> Vec<String> {
    if file.path.starts_with(METRICS_HOME) {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    for (number, line) in file.program() {
        for literal in line.split("\"troupe_").skip(1) {
            let word =
                format!("troupe_{}", literal.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap());
            if !CRATES.contains(&word.as_str()) {
                breaches.push(format!("{}:{number} spells {word}", file.path));
            }
        }
    }
    breaches
}

fn spans(file: &File) -> Vec<String> {
    if file.path == SPANS_HOME {
        return Vec::new();
    }
    let makers = ["span!(", "#[instrument", "#[tracing::instrument"];
    let lines = file.program().filter(|(_, line)| makers.iter().any(|maker| line.contains(maker)));
    lines.map(|(number, _)| format!("{}:{number} makes a span", file.path)).collect()
}

/// Names of metrics in a page that no metric has.
fn stale_metrics(page: &File, registered: &BTreeSet<&str>) -> Vec<String> {
    let is_known = |word: &&str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|ending| word.strip_suffix(ending));
        registered.contains(*word) || base.is_some_and(|base| registered.contains(base))
    };
    let stale = metric_words(&page.text).into_iter().filter(|word| !is_known(word));
    stale.map(|word| format!("{} names {word}, which no metric is called", page.path)).collect()
}

fn registered(list: &File) -> BTreeSet<&str> {
    list.text.split('"').filter(|word| word.starts_with("troupe_") && !word.contains(' ')).collect()
}

#[test]
fn metric_names_have_one_home() {
    let files = files();
    let programs = files.iter().filter(|file| file.has_ending("rs"));

    assert_none("a metric outside its home", &programs.flat_map(metric_literals).collect::<Vec<_>>());
}

#[test]
fn a_metric_spelled_elsewhere_is_seen_and_a_crates_name_is_not() {
    let text = "let a = \"troupe_requests_total\";\nlet b = \"troupe_node=debug\";\n";

    assert_eq!(
        metric_literals(&sample("node/src/cli/top.rs", text)),
        ["node/src/cli/top.rs:1 spells troupe_requests_total"]
    );
}

#[test]
fn spans_have_one_home() {
    let files = files();
    let programs = files.iter().filter(|file| file.has_ending("rs"));

    assert_none("a span outside its home", &programs.flat_map(spans).collect::<Vec<_>>());
}

#[test]
fn a_span_made_elsewhere_is_seen() {
    let text = "let span = tracing::info_span!(\"mine\");\n#[instrument(skip_all)]\nfn f() {}\n";

    assert_eq!(spans(&sample("node/src/pipeline/relay.rs", text)).len(), 2);
}

#[test]
fn every_metric_has_its_row_and_no_page_names_one_that_does_not_exist() {
    let files = files();
    let list = files.iter().find(|file| file.path == METRICS_LIST).unwrap();
    let registered = registered(list);
    assert!(registered.len() > 10, "the list of metrics was not found");
    let page = files.iter().find(|file| file.path == "docs/reference/metrics.md").unwrap();

    let missing = registered.iter().filter(|name| !page.text.contains(&format!("| `{name}` |")));
    let mut breaches: Vec<_> = missing.map(|name| format!("{name} has no row in the reference")).collect();
    let is_page = |file: &&File| {
        let is_written = file.has_ending("md") || file.path.starts_with("deploy/");
        is_written && !file.path.starts_with("tests/")
    };
    breaches.extend(files.iter().filter(is_page).flat_map(|page| stale_metrics(page, &registered)));

    assert_none("metrics and pages differ", &breaches);
}

#[test]
fn a_page_that_names_a_metric_of_the_past_is_seen() {
    let registered = BTreeSet::from(["troupe_requests_total", "troupe_request_duration_seconds"]);
    let page =
        sample("docs/a.md", "`troupe_requests_total`, troupe_request_duration_seconds_bucket, troupe_gone_total");

    assert_eq!(stale_metrics(&page, &registered), ["docs/a.md names troupe_gone_total, which no metric is called"]);
}
