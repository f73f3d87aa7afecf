use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use troupe_proto::secret::KeyHash;
use troupe_proto::spec::Wire;

use super::simulated::harness::Simulated;
use super::*;
use crate::config::source::Format;
use crate::config::{Literals, Sources, spec_file};

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_spec_loads_and_serves_the_usual_names_to_the_sample_key() {
    let sources = Sources { env: Arc::new(|_: &str| None), literals: Literals::Allowed, data_dir: None };
    let text = spec(addr("127.0.0.1:4321"));

    let loaded = spec_file::load_text("dev", Format::Toml, &text, &sources).unwrap();

    let openai = &loaded.spec.providers["sim-openai"];
    let anthropic = &loaded.spec.providers["sim-anthropic"];
    assert_eq!((openai.wire, anthropic.wire), (Wire::OpenAi, Wire::Anthropic));
    assert_eq!(openai.base_url.authority(), "127.0.0.1:4321");
    assert!(openai.credentials.is_empty() && anthropic.credentials.is_empty());
    assert_eq!(loaded.spec.models.len(), 5);
    assert_eq!(loaded.spec.keys["dev"].hash, KeyHash::of(SAMPLE_KEY.as_bytes()));
    assert!(loaded.notes.is_empty() && loaded.made.is_empty(), "{:?}", loaded.notes);
}

#[test]
fn a_listener_on_every_address_is_dialled_on_loopback_and_a_quote_in_a_token_stays_one_word() {
    let text = banner(addr("0.0.0.0:8080"), addr("[::]:8081"), "it's");

    let metrics = curls(&text).pop().unwrap();

    assert!(!text.contains("0.0.0.0") && !text.contains("[::]"));
    assert_eq!(metrics, ["-sS", "http://[::1]:8081/metrics", "-H", "authorization: Bearer it's"]);
}

#[tokio::test]
async fn every_curl_is_read_by_a_shell_as_meant_and_is_answered() {
    let simulated = Simulated::start().await;
    let text = banner(simulated.addr, addr("127.0.0.1:8081"), "token");
    let mut seen = Vec::new();

    for words in curls(&text) {
        let curl = Curl::read(&words);
        if curl.url.ends_with("/metrics") {
            assert_eq!(curl.headers, [("authorization".to_owned(), "Bearer token".to_owned())]);
            continue;
        }
        let path = curl.url.strip_prefix(&format!("http://{}", simulated.addr)).unwrap();
        assert!(curl.headers.iter().any(|(_, value)| value.ends_with(SAMPLE_KEY)), "{words:?}");
        let got = simulated.send(curl.method(), path, &curl.headers, curl.data.clone().unwrap_or_default()).await;
        assert_eq!(got.status, 200, "{words:?}");
        let is_streamed = got.header("content-type").starts_with("text/event-stream");
        assert_eq!(is_streamed, curl.is_unbuffered, "{words:?}");
        if let Some(data) = &curl.data {
            let asked: Value = serde_json::from_str(data).unwrap();
            let said = asked["messages"][0]["content"].as_str().unwrap().split(' ').next_back().unwrap();
            assert!(got.text().contains(said), "{}", got.text());
        }
        seen.push((path.to_owned(), is_streamed));
    }

    let chat = "/v1/chat/completions".to_owned();
    let messages = "/v1/messages".to_owned();
    let expected = [
        (chat.clone(), false),
        (chat, true),
        (messages.clone(), false),
        (messages, true),
        ("/v1/models".to_owned(), false),
    ];
    assert_eq!(seen, expected);
}

/// The words of each `curl` in a text, as a shell cuts them.
fn curls(text: &str) -> Vec<Vec<String>> {
    let paragraphs = text.split("\n\n").filter(|paragraph| paragraph.starts_with("curl "));
    paragraphs.map(shell_words).collect()
}

fn shell_words(command: &str) -> Vec<String> {
    let script = format!("curl() {{ printf '%s\\0' \"$@\"; }}\n{command}\n");
    let output = Command::new("sh").arg("-euc").arg(&script).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command}");
    let words = String::from_utf8(output.stdout).unwrap();
    words.split_terminator('\0').map(str::to_owned).collect()
}

#[derive(Default)]
struct Curl {
    url: String,
    headers: Vec<(String, String)>,
    data: Option<String>,
    is_unbuffered: bool,
}

impl Curl {
    fn read(words: &[String]) -> Self {
        let mut curl = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-sS" => {}
                "-sSN" => curl.is_unbuffered = true,
                "-H" => {
                    let (name, value) = words.next().unwrap().split_once(": ").unwrap();
                    curl.headers.push((name.to_owned(), value.to_owned()));
                }
                "-d" => curl.data = words.next().cloned(),
                url => curl.url = url.to_owned(),
            }
        }
        curl
    }

    fn method(&self) -> &'static str {
        if self.data.is_some() { "POST" } else { "GET" }
    }
}
