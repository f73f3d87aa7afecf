//! Plans carried out against the mock and against servers that misbehave on purpose.
#![expect(clippy::unwrap_used, reason = "helpers of an integration test may fail by panicking, as its tests do")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::{Command, Output};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use troupe_loadtest::load::plan::{Overrides, Plan};
use troupe_loadtest::load::progress::Progress;
use troupe_loadtest::load::run;
use troupe_loadtest::load::run_report::RunReport;
use troupe_loadtest::mock::{Mock, MockOptions};

fn plan(base_url: &str, request: &str, load: &str) -> Plan {
    let text = format!("[target]\nbase_url = \"{base_url}\"\n[request]\n{request}\n[load]\n{load}\n");
    Plan::parse(&text, &Overrides::default()).unwrap()
}

async fn carry_out(base_url: &str, request: &str, load: &str) -> RunReport {
    run::run(&plan(base_url, request, load), Progress::Silent).await.unwrap()
}

/// A server that answers every request with the same stream.
async fn always(stream: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let stream = stream.clone();
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let stream = stream.clone();
                async move {
                    drop(request.into_body().collect().await);
                    Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(stream))))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    addr
}

fn events(words: &[&str]) -> String {
    let event = |word: &&str| format!("data: {}\n\n", json!({"choices": [{"delta": {"content": word}}]}));
    words.iter().map(event).collect::<String>() + "data: [DONE]\n\n"
}

#[tokio::test]
async fn an_open_loop_sends_what_is_due_and_counts_what_comes_back() {
    let mock = Mock::start(MockOptions::default()).unwrap();
    let load = "mode = \"open\"\nrate = 200\ntime = \"1s\"\nwarm_up = \"500ms\"\nconnections = 8";

    let report = carry_out(&mock.openai_url(), "model = \"mock\"\nbody_bytes = \"2KiB\"", load).await;

    assert_eq!((report.done, report.failed, report.not_sent), (200, 0, 0), "{}", report.table());
    assert_eq!((mock.counts().requests, mock.counts().connections), (300, 8));
    assert!((190.0..=210.0).contains(&report.per_second), "{}", report.per_second);
    assert_eq!(report.slices.iter().map(|slice| slice.per_second).collect::<Vec<_>>(), [200.0; 3]);
    assert!(mock.received().iter().all(|seen| seen.body.len() >= 2048));
}

/// One request in forty stalls the only connection for 300 ms. What is due meanwhile has to wait, and says so; a
/// tester that waits along would have seen 97 fast replies of a hundred.
#[tokio::test]
async fn a_stalled_server_is_charged_for_all_that_waited_behind_the_stall() {
    let mock = Mock::start(MockOptions::default()).unwrap();
    let request = "models = [{ name = \"mock\", weight = 39 }, { name = \"mock+delay=300ms\" }]";

    let open = "mode = \"open\"\nrate = 80\nrequests = 80\nconnections = 1";
    let open = carry_out(&mock.openai_url(), request, open).await;
    let closed = carry_out(&mock.openai_url(), request, "mode = \"closed\"\nrequests = 80\nconnections = 1").await;

    assert_eq!((open.done, closed.done), (80, 80));
    // Two stalls of 300 ms at 80/s: 48 of 80 requests fall due in them, 24 of those wait for over 150 ms.
    assert!(open.latency.p50 > 20_000, "{}", open.table());
    assert!(open.latency.p90 > 150_000, "{}", open.table());
    assert!(closed.latency.p90 < 100_000, "{}", closed.table());
}

#[tokio::test]
async fn requests_without_a_place_are_errors_and_not_forgotten() {
    let mock = Mock::start(MockOptions::default()).unwrap();
    let load = "mode = \"open\"\nrate = 100\ntime = \"500ms\"\nconnections = 2\nbacklog = 3\ntimeout = \"300ms\"";

    let report = carry_out(&mock.openai_url(), "model = \"mock+hang\"", load).await;

    let told: u64 = report.faults.values().sum();
    assert_eq!((report.done, report.failed, told), (0, 50, 50), "{:?}", report.faults);
    assert!(report.not_sent > 0 && report.faults["no reply in time"] >= 2, "{:?}", report.faults);
    assert!(report.latency.max >= 290_000, "{}", report.table());
}

#[tokio::test]
async fn an_event_lost_doubled_or_swapped_is_an_error_of_its_stream() {
    let request = "model = \"any\"\nstream = true\nevents = 3";
    let load = "mode = \"open\"\nrate = 100\nrequests = 10";
    for (words, fault) in [
        (["w0 ", "w2 ", "w3 "], "expected word 1, got `w2 `"),
        (["w0 ", "w0 ", "w1 "], "expected word 1, got `w0 `"),
        (["w1 ", "w0 ", "w2 "], "expected word 0, got `w1 `"),
    ] {
        let addr = always(events(&words)).await;
        let report = carry_out(&format!("http://{addr}/v1"), request, load).await;
        assert_eq!((report.done, report.faults.get(fault)), (0, Some(&10)), "{:?}", report.faults);
    }
    let addr = always(events(&["w0 ", "w1 ", "w2 "])).await;
    let report = carry_out(&format!("http://{addr}/v1"), request, load).await;
    assert_eq!((report.done, report.failed, report.events), (10, 0, 30));
}

#[tokio::test]
async fn streams_tell_the_time_to_their_first_event_and_their_gaps() {
    let mock = Mock::start(MockOptions::default()).unwrap();
    let request = "model = \"mock+events=5+delay=50ms+drip=20ms\"\nstream = true\nevents = 5";

    for wire in ["openai", "anthropic"] {
        let base = if wire == "openai" { mock.openai_url() } else { mock.base_url.clone() };
        let target = format!("{base}\"\nwire = \"{wire}");
        let report = carry_out(&target, request, "mode = \"closed\"\nrequests = 20\nconnections = 4").await;

        let (first, gap) = (report.first_event.unwrap(), report.gap.unwrap());
        assert_eq!((report.done, report.events), (20, 100), "{:?}", report.faults);
        assert!(first.p50 >= 50_000 && first.p50 < 500_000, "{}", report.table());
        assert!(gap.p50 >= 18_000 && gap.p50 < 200_000, "{}", report.table());
        assert!(report.latency.p50 >= 130_000, "{}", report.table());
    }
}

#[tokio::test]
async fn the_sustained_rate_is_where_the_tail_stays_below_its_bound() {
    let mock = Mock::start(MockOptions::default()).unwrap();
    // One connection and 20 ms a reply: 50 requests a second fit, more wait longer and longer.
    let load = "mode = \"sustained\"\np99_max = \"200ms\"\nrate_min = 20\nprecision_percent = 100\ntime = \"1s\"\n\
                connections = 1";

    let report = carry_out(&mock.openai_url(), "model = \"mock+delay=20ms\"", load).await;

    let held = report.held_rate.unwrap();
    assert!((20..=52).contains(&held), "{}", report.table());
    assert!(report.steps.iter().any(|step| !step.does_hold), "{}", report.table());
    assert!(report.latency.p99 <= 200_000);
}

fn troupe_load(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_troupe-load")).args(args).output().unwrap()
}

#[test]
fn the_command_reports_a_run_and_fails_by_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let (path, json) = (dir.path().join("plan.toml"), dir.path().join("run.json"));
    let write = |model: &str| {
        let plan = format!(
            "[request]\nmodel = \"{model}\"\n[load]\nmode = \"open\"\nrate = 100\ntime = \"500ms\"\nconnections = 4\n"
        );
        std::fs::write(&path, plan).unwrap();
    };
    let (plan, json) = (path.to_str().unwrap(), json.to_str().unwrap());

    write("mock");
    let good = troupe_load(&["run", plan, "--mock", "--json", json]);
    write("mock+status=503");
    let bad = troupe_load(&["run", plan, "--mock"]);
    std::fs::write(&path, "[request]\nmodel = \"mock\"\n[load]\nmode = \"open\"\nraet = 100\n").unwrap();
    let wrong = troupe_load(&["run", plan, "--mock"]);

    let table = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success(), "{table}{}", String::from_utf8_lossy(&good.stderr));
    assert!(table.contains("50 good replies") && table.contains("p99.9"), "{table}");
    assert!(good.stderr.is_empty(), "no progress line where no terminal is");
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!((report["done"].as_u64(), report["mode"].as_str()), (Some(50), Some("open")));
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stdout).contains("50 x status 503"));
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert!(!wrong.status.success() && told.contains("line 5") && told.contains("`raet`"), "{told}");
}
