use std::time::{Duration, UNIX_EPOCH};

use troupe_cluster::transport::Class;
use troupe_cluster::transport::counts::LinkCounts;
use troupe_dialect::Operation;
use troupe_proto::failure::{ErrorCode, Fault};
use troupe_proto::id::{NodeId, RequestId, TargetId};
use troupe_proto::outcome::{AttemptEnd, Usage};
use troupe_proto::unit::Tokens;

use super::*;
use crate::telemetry::record::{AttemptRecord, Outcome, RequestRecord};

fn chat(model: &str) -> RequestRecord {
    let mut record = RequestRecord::new(UNIX_EPOCH, RequestId(1));
    record.operation = Some(Operation::Chat);
    record.model = Some(ModelId::new(model));
    record.status = 200;
    record.outcome = Outcome::Finished;
    record.total = Duration::from_millis(30);
    record
}

fn attempt(provider: &str, end: AttemptEnd) -> AttemptRecord {
    let target = TargetId { provider: ProviderId::new(provider), credential: None, model: "m".into() };
    AttemptRecord { target, end, upstream_status: None, first_token: None, total: Duration::ZERO, usage: None }
}

fn value(page: &str, series: &str) -> Option<String> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).map(str::to_owned)
}

#[test]
fn requests_of_all_threads_are_added_up() {
    let metrics = Metrics::new();
    let (one, two) = (metrics.for_thread(), metrics.for_thread());

    one.record(&chat("fast"));
    two.record(&chat("fast"));
    two.record(&chat("fast"));

    let page = metrics.render(&Learned::default());
    let series = r#"{operation="chat",model="fast",status_class="2xx",outcome="finished"}"#;
    assert_eq!(value(&page, &format!("troupe_requests_total{series}")).as_deref(), Some("3"));
    let count = r#"troupe_request_duration_seconds_count{operation="chat",model="fast"}"#;
    assert_eq!(value(&page, count).as_deref(), Some("3"));
    let bucket = r#"troupe_request_duration_seconds_bucket{operation="chat",model="fast",le="0.02"}"#;
    assert_eq!(value(&page, bucket).as_deref(), Some("0"));
    let sum = r#"troupe_request_duration_seconds_sum{operation="chat",model="fast"}"#;
    assert_eq!(value(&page, sum).as_deref(), Some("0.09"));
}

#[test]
fn attempts_tokens_and_losses_are_counted_with_their_request() {
    let metrics = Metrics::new();
    let thread = metrics.for_thread();
    let mut record = chat("fast");
    record.attempts = vec![attempt("a", AttemptEnd::Failed(Fault::Capacity)), attempt("b", AttemptEnd::Finished)];
    record.usage = Some(Usage { input: Tokens::new(7), output: Tokens::new(5), ..Usage::default() });
    record.lost.reply = vec![Cow::Borrowed("logprobs"), Cow::Owned("what a client wrote".to_owned())];

    thread.record(&record);

    let page = metrics.render(&Learned::default());
    let read = |series: &str| value(&page, series);
    assert_eq!(read(r#"troupe_attempts_total{provider="a",model="fast",outcome="capacity"}"#).as_deref(), Some("1"));
    assert_eq!(read(r#"troupe_attempts_total{provider="b",model="fast",outcome="finished"}"#).as_deref(), Some("1"));
    assert_eq!(read(r#"troupe_tokens_total{model="fast",type="input"}"#).as_deref(), Some("7"));
    assert_eq!(read(r#"troupe_tokens_total{model="fast",type="output"}"#).as_deref(), Some("5"));
    assert_eq!(read(r#"troupe_translation_lost_total{direction="reply",field="logprobs"}"#).as_deref(), Some("1"));
    assert_eq!(read(r#"troupe_translation_lost_total{direction="reply",field="other"}"#).as_deref(), Some("1"));
    assert!(!page.contains("what a client wrote"));
}

#[test]
fn a_refusal_is_counted_by_its_code_under_an_unknown_model() {
    let metrics = Metrics::new();
    let thread = metrics.for_thread();
    let mut record = RequestRecord::new(UNIX_EPOCH, RequestId(1));
    record.status = 404;
    record.error = Some(ErrorCode::ModelNotFound);
    record.model_asked = Some("a name nobody configured".into());

    thread.record(&record);

    let page = metrics.render(&Learned::default());
    assert_eq!(value(&page, r#"troupe_refused_total{code="model_not_found"}"#).as_deref(), Some("1"));
    assert!(page.contains(r#"model="unknown",status_class="4xx",outcome="refused""#));
    assert!(!page.contains("nobody configured"));
}

#[test]
fn models_beyond_the_limit_share_one_label() {
    let metrics = Metrics::new();
    let thread = metrics.for_thread();

    for number in 0..MODELS_MAX + 50 {
        thread.record(&chat(&format!("model-{number}")));
    }

    let page = metrics.render(&Learned::default());
    let other = r#"troupe_requests_total{operation="chat",model="other",status_class="2xx",outcome="finished"}"#;
    assert_eq!(value(&page, other).as_deref(), Some("50"));
}

#[test]
fn what_is_in_flight_or_open_is_counted_until_it_ends() {
    let metrics = Metrics::new();
    let thread = metrics.for_thread();

    let request = thread.request_started();
    let stream = thread.stream_began();
    let connection = metrics.connection_opened();
    let upstream = metrics.upstream_connect(&ProviderId::new("a"), Connect::Connected);
    assert!(metrics.upstream_connect(&ProviderId::new("a"), Connect::TimedOut).is_none());

    assert_eq!(metrics.in_flight(), 1);
    let page = metrics.render(&Learned::default());
    assert_eq!(value(&page, "troupe_connections_open").as_deref(), Some("1"));
    assert_eq!(value(&page, "troupe_streams_open").as_deref(), Some("1"));
    assert_eq!(value(&page, r#"troupe_upstream_connections{provider="a"}"#).as_deref(), Some("1"));
    assert_eq!(
        value(&page, r#"troupe_upstream_connects_total{provider="a",outcome="timed_out"}"#).as_deref(),
        Some("1")
    );

    drop((request, stream, connection, upstream));
    let page = metrics.render(&Learned::default());
    assert_eq!(value(&page, "troupe_streams_open").as_deref(), Some("0"));
    assert_eq!(value(&page, "troupe_requests_in_flight").as_deref(), Some("0"));
    assert_eq!(value(&page, "troupe_connections_open").as_deref(), Some("0"));
    assert_eq!(value(&page, r#"troupe_upstream_connections{provider="a"}"#).as_deref(), Some("0"));
    assert_eq!(value(&page, "troupe_connections_total").as_deref(), Some("1"));
}

#[tokio::test]
async fn tasks_count_until_they_end_and_runtimes_of_one_name_count_together() {
    let metrics = Metrics::new();
    metrics.watch_runtime("data", &Handle::current());
    metrics.watch_runtime("data", &Handle::current());
    let tasks = || value(&metrics.render(&Learned::default()), r#"troupe_tasks{runtime="data"}"#);

    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(ended);
    assert_eq!(tasks().as_deref(), Some("2"));

    end.send(()).unwrap();
    task.await.unwrap().unwrap();
    assert_eq!(tasks().as_deref(), Some("0"));
}

#[test]
#[cfg(target_os = "linux")]
fn every_metric_is_rendered_with_help_and_type_even_before_the_first_request() {
    let page = Metrics::new().render(&Learned { agreed: Some(Agreed::default()), ..Learned::default() });

    for metric in ALL {
        assert!(page.contains(&format!("# HELP {} ", metric.name)), "{} has no HELP", metric.name);
        assert!(page.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.as_str())), "{}", metric.name);
    }
    let rendered = page.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(rendered, ALL.len());
}

#[test]
fn names_say_their_unit_and_counters_end_in_total() {
    for metric in ALL {
        let is_total = metric.name.ends_with("_total");
        assert_eq!(is_total, metric.kind == Kind::Counter, "{}", metric.name);
        assert!(metric.kind != Kind::Histogram || metric.name.ends_with("_seconds"), "{}", metric.name);
    }
}

/// The reference page is written from the list of metrics; this fails when it is stale.
#[test]
#[expect(clippy::disallowed_methods, reason = "a developer's switch of this test, no setting of the program")]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
    if std::env::var_os("TROUPE_REGEN").is_some() {
        std::fs::write(path, reference()).unwrap();
    }

    let page = std::fs::read_to_string(path).unwrap_or_default();

    assert_eq!(page, reference(), "run this test with TROUPE_REGEN=1");
}

#[test]
fn the_buckets_of_each_histogram_on_a_page_are_those_of_the_reference() {
    let metrics = Metrics::new();
    let mut record = chat("fast");
    record.first_token = Some(Duration::from_millis(5));
    metrics.for_thread().record(&record);
    let mut agreed = Agreed::default();
    agreed.links.links.insert((NodeId(2), Class::Vote), LinkCounts::default());

    let page = metrics.render(&Learned { agreed: Some(agreed), ..Learned::default() });

    for metric in names::ALL.iter().filter(|metric| metric.kind == Kind::Histogram) {
        let mut ends: Vec<&str> = Vec::new();
        for line in page.lines().filter(|line| line.starts_with(&format!("{}_bucket{{", metric.name))) {
            let (_, end) = line.split_once("le=\"").unwrap();
            ends.push(end.split_once('"').unwrap().0);
        }
        let first = ends.split(|end| *end == "+Inf").next().unwrap().join(", ");
        assert!(!first.is_empty(), "{} is not on the page", metric.name);
        assert!(reference().contains(&format!("| `{}` | {first} |\n", metric.name)), "{}: {first}", metric.name);
    }
}

#[test]
fn a_reason_to_refuse_a_node_is_there_before_the_first_is_refused() {
    let page = Metrics::new().render(&Learned { agreed: Some(Agreed::default()), ..Learned::default() });

    for series in [
        r#"troupe_peer_refused_total{direction="in",reason="busy"}"#,
        r#"troupe_peer_handshakes_total{outcome="accepted"}"#,
        r#"troupe_peer_handshakes_total{outcome="slow"}"#,
        r#"troupe_peer_handshake_seconds_count{outcome="refused"}"#,
        r#"troupe_gossip_refused_total{reason="stranger"}"#,
        "troupe_peer_certificate_unusable",
    ] {
        assert_eq!(value(&page, series).as_deref(), Some("0"), "{series}");
    }
}
