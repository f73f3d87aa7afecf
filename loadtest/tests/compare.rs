//! A small comparison with real processes, and the TLS side of the mock.
#![expect(clippy::unwrap_used, reason = "helpers of an integration test may fail by panicking, as its tests do")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use troupe_loadtest::load::compare::peer::Peer;
use troupe_loadtest::load::compare::{self, Amounts, Settings, Stage};
use troupe_loadtest::load::progress::Progress;
use troupe_loadtest::mock::{Mock, MockOptions, MockTls};

fn settings(troupe: Option<PathBuf>, stages: &[Stage]) -> Settings {
    Settings {
        mock: PathBuf::from(env!("CARGO_BIN_EXE_troupe-mock")),
        floor: Some(PathBuf::from(env!("CARGO_BIN_EXE_troupe-floor"))),
        troupe,
        cluster: true,
        peers: Vec::new(),
        peers_dir: None,
        access_log: None,
        troupe_args: Vec::new(),
        pin: None,
        rounds: 2,
        stages: stages.to_vec(),
        amounts: Amounts {
            connections: 4,
            requests: 200,
            words: 5,
            streams: 50,
            events: 10,
            rates: vec![100],
            open_time: Duration::from_millis(500),
            memory_connections: 16,
            memory_time: Duration::from_millis(300),
            rest_max: Duration::from_secs(1),
            streams_at_once: 20,
            leg_time_max: Duration::from_secs(30),
        },
        progress: Progress::Silent,
    }
}

/// A gateway that reads its two files as Troupe does and then is a floor; in a cluster, too, where the spec stands beside.
fn stand_in(dir: &Path) -> PathBuf {
    let path = dir.join("troupe");
    let script = format!(
        "#!/bin/sh\n\
         [ \"$1\" = apply ] && [ -n \"$TROUPE_COMPARE_KEY\" ] && exit 0\n\
         [ \"$1 $2\" = 'serve --config' ] || exit 2\n\
         case \"$4\" in\n\
         --spec) [ -n \"$TROUPE_COMPARE_KEY\" ] || exit 2; spec=$5 ;;\n\
         --listen-peer=*) spec=$(dirname \"$3\")/cluster-spec.toml ;;\n\
         *) exit 2 ;;\n\
         esac\n\
         data=$(sed -n 's/^data = \"\\(.*\\)\"/\\1/p' \"$3\")\n\
         base=$(sed -n 's|^base_url = \"\\(.*\\)/v1\"|\\1|p' \"$spec\")\n\
         exec {} --listen \"$data\" --upstream \"$base\"\n",
        env!("CARGO_BIN_EXE_troupe-floor")
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn every_leg_is_driven_in_every_stage_and_measured() {
    let dir = tempfile::tempdir().unwrap();
    let stages = [Stage::Memory, Stage::Whole, Stage::Stream, Stage::Translated, Stage::Open, Stage::Streams];

    let report = compare::run(&settings(Some(stand_in(dir.path())), &stages)).await.unwrap();

    assert_eq!(report.failed(), 0, "{}", report.table());
    for name in ["whole", "stream", "open-100"] {
        let stage = report.stage(name).unwrap();
        let names: Vec<&str> = stage.legs.iter().map(|leg| leg.name.as_str()).collect();
        assert_eq!(names, ["direct", "floor", "floor-2", "troupe", "cluster"]);
        assert!(stage.legs.iter().all(|leg| leg.rounds.len() == 2 && leg.median.requests_per_s > 0.0));
        assert!(stage.legs[0].median.cpu_us_per_request.is_none() && stage.legs[0].added.is_none());
        assert!(stage.legs[3].median.cpu_us_per_request.is_some() && stage.legs[3].added.is_some());
    }
    assert!(report.stage("stream").unwrap().legs[1].median.cpu_us_per_event.is_some());
    let translated = report.stage("translated").unwrap();
    let names: Vec<&str> = translated.legs.iter().map(|leg| leg.name.as_str()).collect();
    assert_eq!(names, ["same wire", "same wire-2", "translated"]);
    assert!(report.memory.iter().all(|memory| memory.busy_kib >= memory.ready_kib && memory.after_kib > 0));
    assert_eq!(report.memory.len(), 3);
    let whole: Vec<(&str, usize)> = report.at_once.iter().map(|one| (one.leg.as_str(), one.whole)).collect();
    assert_eq!(whole, [("direct", 20), ("floor", 20), ("troupe", 20), ("cluster", 20)]);
    assert!(report.targets.iter().any(|target| target.what == "CPU of a request, one node of three / alone"));
    assert!(report.targets.len() >= 11, "{}", report.table());
}

/// A mock stands in for a gateway that ends every stream early.
#[tokio::test]
async fn what_a_peer_does_wrong_is_in_the_report() {
    let mock = env!("CARGO_BIN_EXE_troupe-mock");
    let peer = format!(
        "name = \"broken\"\ncommand = [\"{mock}\", \"--listen\", \"{{listen}}\"]\n\
         model = \"{{model}}+clean-cut=3\"\nrequests = 40\nready = \"/healthz\"\n"
    );
    let peer = Peer::parse(&peer).unwrap();
    let settings = Settings { peers: vec![peer], rounds: 1, ..settings(None, &[Stage::Whole, Stage::Stream]) };

    let report = compare::run(&settings).await.unwrap();

    let leg = |stage: &str| report.stage(stage).unwrap().leg("broken").unwrap().clone();
    assert_eq!((leg("whole").median.failed, leg("whole").median.cpu_us_per_request.is_some()), (0, true));
    let stream = leg("stream").median;
    assert_eq!((stream.failed, stream.fault.as_deref()), (50, Some("3 of 10 events came")));
    assert_eq!(report.failed(), 0, "a peer's failures are a peer's");
    assert!(report.table().contains("50 FAILED: 3 of 10 events came"), "{}", report.table());
}

#[tokio::test]
async fn a_gateway_that_ends_is_told_by_name() {
    let error = compare::run(&settings(Some(PathBuf::from("/bin/false")), &[])).await.unwrap_err();

    assert!(error.to_string().starts_with("troupe ended"), "{error}");
}

#[test]
fn the_command_reports_as_table_and_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("report.json");

    let args = ["compare", "--without-troupe", "--quick", "--stages", "whole", "--requests", "100", "--rounds", "1"];
    let out = Command::new(env!("CARGO_BIN_EXE_troupe-load")).args(args).arg("--json").arg(&json).output().unwrap();

    let table = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(table.contains("floor") && table.contains("CPU us/req") && table.contains("A/A"), "{table}");
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["stages"][0]["legs"][1]["name"], "floor");
}

#[test]
fn the_stream_check_fails_by_its_exit_code() {
    let mock = Mock::start(MockOptions::default()).unwrap();
    let run = |model: &str| {
        let base = mock.openai_url();
        let args = ["streams", "--base-url", base.as_str(), "--streams", "20", "--events", "5", "--model", model];
        Command::new(env!("CARGO_BIN_EXE_troupe-load")).args(args).output().unwrap()
    };

    let (good, bad) = (run("mock+events=5"), run("mock+cut=2"));

    assert!(good.status.success() && String::from_utf8_lossy(&good.stdout).contains("20 of 20"));
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stdout).contains("20 x the connection broke"));
}

#[tokio::test]
async fn tls_speaks_the_protocol_that_alpn_chose() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let alpn = vec!["h2".to_owned(), "http/1.1".to_owned()];
    let tls = MockTls { cert_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), alpn };
    let mock = Mock::start(MockOptions { tls: Some(tls), ..MockOptions::default() }).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();

    for protocol in ["h2", "http/1.1"] {
        let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let socket = TcpStream::connect(mock.addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
        assert_eq!(socket.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));

        let body = json!({"model": "mock+words=2", "messages": [{"role": "user", "content": "x"}]}).to_string();
        let uri = format!("https://localhost:{}/v1/chat/completions", mock.addr.port());
        let request =
            http::Request::post(uri).header("host", "localhost").body(Full::<hyper::body::Bytes>::from(body)).unwrap();
        let response = if protocol == "h2" {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        let reply: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();

        assert_eq!(reply["choices"][0]["message"]["content"], "w0 w1 ");
        assert_eq!(mock.received().pop().unwrap().version, if protocol == "h2" { "HTTP/2.0" } else { "HTTP/1.1" });
    }
    assert!(mock.base_url.starts_with("https://"));
}

#[tokio::test]
async fn over_http2_a_reset_strikes_its_own_stream_and_a_hang_ends_with_its_client() {
    let mock = Mock::start(MockOptions::default()).unwrap();
    let socket = TcpStream::connect(mock.addr).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "x"}]}).to_string();
        http::Request::post(format!("http://{}/v1/chat/completions", mock.addr))
            .body(Full::<hyper::body::Bytes>::from(body))
            .unwrap()
    };

    let reset = sender.send_request(request("mock+reset")).await;
    let neighbour = sender.send_request(request("mock")).await.unwrap();
    let hanging = tokio::time::timeout(Duration::from_millis(50), sender.send_request(request("mock+hang"))).await;

    assert!(reset.is_err() && hanging.is_err());
    assert_eq!(neighbour.status(), 200);
    // The timeout dropped the request, which cancels its stream and leaves the connection.
    let deadline = troupe_loadtest::clock::now() + Duration::from_secs(5);
    while mock.counts().closed_early == 0 {
        assert!(troupe_loadtest::clock::now() < deadline, "the cancelled stream is not noticed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((mock.counts().connections, mock.counts().connections_open), (1, 1));
}
