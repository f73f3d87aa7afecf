//! `troupe dev`, as somebody who has just built it meets it.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use http::Method;
use serde_json::Value;
use troupe_tests::ask::Dialect;
use troupe_tests::crew::attempt;
use troupe_tests::eventually::LONG;
use troupe_tests::{Client, Events, eventually};

use crate::cli::{Process, Site};

/// One printed command, as a shell hands it to curl.
struct Curl {
    addr: SocketAddr,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// Has a shell read all of the printed commands, with a `curl` that says what it was given: not every machine has one.
fn curls(site: &Site, banner: &str) -> Vec<Curl> {
    let commands: Vec<&str> = banner.split("\n\n").filter(|block| block.starts_with("curl ")).collect();
    let script = format!("curl() {{ for word; do printf '%s\\n' \"$word\"; done; echo; }}\n{}\n", commands.join("\n"));
    let shell = Command::new("sh").arg("-c").arg(script).current_dir(site.path("")).output().unwrap();
    assert!(shell.status.success() && shell.stderr.is_empty(), "{}", String::from_utf8_lossy(&shell.stderr));
    let said = String::from_utf8(shell.stdout).unwrap();
    let calls: Vec<Curl> = said.split_terminator("\n\n").map(read).collect();
    assert_eq!(calls.len(), commands.len(), "{said}");
    calls
}

fn read(words: &str) -> Curl {
    let mut words = words.lines();
    let (mut url, mut headers, mut body) = (None, Vec::new(), None);
    while let Some(word) = words.next() {
        match word {
            "-H" => {
                let (name, value) = words.next().unwrap().split_once(": ").unwrap();
                headers.push((name.to_owned(), value.to_owned()));
            }
            "-d" => body = Some(words.next().unwrap().to_owned()),
            "-sS" | "-sSN" => {}
            other => assert!(url.replace(other.to_owned()).is_none(), "two URLs, or an unknown flag: {other}"),
        }
    }
    let url = url.unwrap();
    let (addr, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    Curl { addr: addr.parse().unwrap(), path: format!("/{path}"), headers, body }
}

async fn started(site: &Site) -> (Process, String) {
    let mut process = site.start(&["dev", "--listen-data", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"]);
    let banner = eventually("the commands to paste", || {
        let ended = process.try_wait();
        assert!(ended.is_none(), "{ended:?}: {}", process.err());
        Some(process.out()).filter(|out| out.contains("Ctrl-C stops."))
    });
    let banner = banner.await;
    (process, banner)
}

#[tokio::test]
async fn every_command_it_prints_is_answered_whole_and_streamed_on_both_wires() {
    let site = Site::new();
    let (mut process, banner) = started(&site).await;
    let scratch = std::env::temp_dir().join(format!("troupe-dev-{}", process.id()));
    let mode = std::fs::metadata(&scratch).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "its token and its seal key are in {}", scratch.display());
    let (mut whole, mut streamed) = (0, 0);

    for curl in curls(&site, &banner) {
        let client = Client::new(curl.addr, None);
        let client = curl.headers.iter().fold(client, |client, (name, value)| client.header(name, value));
        let method = if curl.body.is_some() { Method::POST } else { Method::GET };
        let reply = client.call(method, &curl.path, curl.body.clone().unwrap_or_default()).await.reply().await;

        assert_eq!((reply.status, reply.is_cut), (200, false), "{}: {}", curl.path, reply.text());
        let Some(body) = curl.body else { continue };
        let dialect = Dialect::ALL.into_iter().find(|dialect| dialect.path() == curl.path).unwrap();
        let asked: Value = serde_json::from_str(&body).unwrap();
        let text = if asked["stream"] == Value::Bool(true) {
            streamed += 1;
            let events = Events::default().push(&reply.body, troupe_node::clock::now());
            assert!(events.len() > 3, "{events:?}");
            events.iter().filter_map(|event| dialect.piece(&event.json())).collect()
        } else {
            whole += 1;
            dialect.text(&reply.json())
        };
        assert!(!text.is_empty(), "{}", reply.text());
    }

    assert_eq!((whole, streamed), (2, 2), "{banner}");
    process.signal("INT");
    assert_eq!(process.ends().await, Some(0));
}

#[tokio::test]
async fn it_leaves_nothing_behind_where_it_was_started() {
    let site = Site::new();
    let before = std::fs::read_dir(site.path("")).unwrap().count();
    let (mut process, _) = started(&site).await;

    process.signal("TERM");

    assert_eq!(process.ends().await, Some(0));
    // What the program said was written to two files beside.
    assert_eq!(std::fs::read_dir(site.path("")).unwrap().count(), before + 2);
}

#[tokio::test]
async fn a_port_in_use_is_told_with_what_to_do() {
    let site = Site::new();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().to_string();

    let said = site.fails(&["dev", "--listen-data", &port, "--listen-admin", "127.0.0.1:0"], 1).await;

    assert!(said.contains(&port) && said.contains("another"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_several_that_was_started_again_by_hand_stops_with_the_others() {
    let site = Site::new();
    let mut parent = site.start(&["dev", "--nodes", "3", "--listen-data", "127.0.0.1:0"]);
    let printed = async {
        while !parent.out().contains("Ctrl-C stops all of them") {
            assert!(parent.try_wait().is_none(), "{}", parent.err());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(2 * LONG, printed).await.expect("it forms");
    let banner = parent.out();
    let word_behind = |mark: &str| {
        let line = banner.lines().rfind(|line| line.contains(mark)).unwrap();
        line.split_once(mark).unwrap().1.split_whitespace().next().unwrap().to_owned()
    };
    let (pid, config) = (word_behind("kill -9 "), word_behind("serve --config "));
    let data: SocketAddr = word_behind("gw-3  clients http://").parse().unwrap();

    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let mut again = site.start(&["serve", "--config", &config]);
    let ready = async {
        while attempt(data, Method::GET, "/readyz", "", "").await.is_none_or(|reply| reply.status != 200) {
            assert!(again.try_wait().is_none(), "{}", again.err());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(2 * LONG, ready).await.expect("it catches up");
    parent.signal("TERM");

    assert_eq!(parent.ends().await, Some(0), "{}", parent.err());
    assert_eq!(again.ends().await, Some(0), "{}", again.err());
}
