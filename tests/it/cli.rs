//! The program as operators run it.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::timeout;
use troupe_loadtest::mock::{Mock, MockHandle, MockOptions};
use troupe_node::clock;
use troupe_tests::ask::Dialect;
use troupe_tests::eventually::LONG;
use troupe_tests::world::ADMIN;
use troupe_tests::{Client, eventually, until};

/// The same `main.rs` as the `troupe` program, built with the tests so that it is there.
const TROUPE: &str = env!("CARGO_BIN_EXE_troupe-under-test");

/// A directory with a spec, and a provider behind it.
pub(crate) struct Site {
    dir: TempDir,
    mock: MockHandle,
    runs: Cell<u32>,
}

/// A run of the program; dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    pub(crate) fn out(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    pub(crate) fn err(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn try_wait(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub(crate) async fn ends(&mut self) -> Option<i32> {
        eventually("the program ends", || self.try_wait()).await.code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A node in a process of its own.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) data: std::net::SocketAddr,
    pub(crate) admin: std::net::SocketAddr,
    /// The key it made, if it made one.
    pub(crate) key: Option<String>,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Site {
    pub(crate) fn new() -> Self {
        let mock = Mock::start(MockOptions::default()).unwrap();
        let site = Self { dir: tempfile::tempdir().unwrap(), mock, runs: Cell::new(0) };
        let base_url = site.mock.openai_url();
        site.write("admin-token", ADMIN);
        site.write(
            "spec.toml",
            &format!(
                "[providers.o]\nwire = \"openai\"\nbase_url = \"{base_url}\"\n\
                 [models.gpt-4o]\ntargets = [{{ provider = \"o\" }}]\n[keys.app]\n"
            ),
        );
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        self.start_with(arguments, None, None)
    }

    /// Starts with a pipe instead of a file, which only the caller can read.
    fn start_with(&self, arguments: &[&str], out_pipe: Option<Stdio>, err_pipe: Option<Stdio>) -> Process {
        let run = self.runs.replace(self.runs.get() + 1);
        let (out, err) = (self.path(&format!("out.{run}")), self.path(&format!("err.{run}")));
        let mut command = Command::new(TROUPE);
        command.args(arguments).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        command.env("TROUPE_ADMIN_TOKEN_FILE", "admin-token");
        let file = |path: &Path| Stdio::from(File::create(path).unwrap());
        command.stdout(out_pipe.unwrap_or_else(|| file(&out))).stderr(err_pipe.unwrap_or_else(|| file(&err)));
        Process { child: command.spawn().unwrap(), out, err }
    }

    /// Runs to the end, and gives the exit code and what was said, talk behind data.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut process = self.start(arguments);
        let code = process.ends().await;
        (code, process.out(), process.err())
    }

    /// Runs to a failure, and gives what was said about it.
    pub(crate) async fn fails(&self, arguments: &[&str], code: i32) -> String {
        let (ended, out, said) = self.run(arguments).await;
        assert_eq!((ended, out.as_str()), (Some(code), ""), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    /// Where the provider is.
    pub(crate) fn base_url(&self) -> String {
        self.mock.openai_url()
    }

    pub(crate) async fn serve(&self, more: &[&str]) -> Running {
        self.serve_with(more, None).await
    }

    async fn serve_with(&self, more: &[&str], out_pipe: Option<Stdio>) -> Running {
        self.running(&[&["--spec", "spec.toml"][..], more].concat(), out_pipe).await
    }

    /// A node that follows no file.
    pub(crate) async fn serve_agreed(&self) -> Running {
        self.running(&["--limits-drain-delay", "0s"], None).await
    }

    async fn running(&self, more: &[&str], out_pipe: Option<Stdio>) -> Running {
        let base = ["serve", "--listen-data", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"];
        let token = ["--listen-admin-token", "file:admin-token"];
        self.serving(self.start_with(&[&base[..], &token, more].concat(), out_pipe, None)).await
    }

    /// A node that is started by nothing but these words.
    pub(crate) async fn follow(&self, words: &[&str]) -> Running {
        self.serving(self.start(words)).await
    }

    async fn serving(&self, mut process: Process) -> Running {
        let data = eventually("it says where it serves", || {
            let ended = process.try_wait();
            assert!(ended.is_none(), "{ended:?}: {}", process.err());
            let said = process.err();
            word_behind(&said, "data=").or_else(|| word_behind(&said, "\"data\":\""))
        });
        let data = data.await.parse().unwrap();
        let said = process.err();
        let admin = word_behind(&said, "admin=").or_else(|| word_behind(&said, "\"admin\":\""));
        let key = word_behind(&said, "virtual key app: ");
        Running { process, data, admin: admin.unwrap().parse().unwrap(), key }
    }
}

fn word_behind(said: &str, mark: &str) -> Option<String> {
    let line =
        said.split_inclusive('\n').filter(|line| line.ends_with('\n')).find_map(|line| line.split(mark).nth(1))?;
    line.split([' ', '"', ',', '\n']).next().map(str::to_owned)
}

#[tokio::test]
async fn it_serves_its_first_request_soon_after_it_is_started_and_ends_well() {
    let site = Site::new();
    let began = clock::now();

    let mut node = site.serve(&["--limits-drain-delay", "0s"]).await;
    let reply = Client::new(node.data, None)
        .key(node.key.as_deref().unwrap())
        .post("/v1/chat/completions", Dialect::OpenAi.ask("gpt-4o"))
        .await;

    let took = clock::now() - began;
    assert_eq!(reply.status, 200, "{}", reply.text());
    println!("start to first 200, in this build: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    node.process.signal("TERM");
    assert_eq!(node.process.ends().await, Some(0));
    let access = node.process.out();
    let lines: Vec<Value> = access.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), lines[0]["key_id"].as_str()), (1, Some("app")), "{access}");
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once() {
    let site = Site::new();
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM")] {
        let mut node = site.serve(&["--limits-drain-delay", "60s"]).await;
        let client = Client::new(node.data, None);
        node.process.signal(first);
        let unready = async { while client.get("/readyz").await.status != 503 {} };
        timeout(LONG, unready).await.expect("it drains");

        node.process.signal(second);

        assert_eq!(node.process.ends().await, Some(0));
    }
}

#[tokio::test]
async fn a_second_signal_is_obeyed_while_the_last_lines_have_nowhere_to_go() {
    /// More access log lines than a pipe holds.
    const REQUESTS: usize = 400;
    let site = Site::new();
    let mut node = site.serve_with(&["--limits-drain-delay", "0s"], Some(Stdio::piped())).await;
    let client = Client::new(node.data, None).key(node.key.as_deref().unwrap()).kept().await;
    for _ in 0..REQUESTS {
        assert_eq!(client.post("/v1/chat/completions", Dialect::OpenAi.ask("gpt-4o")).await.status, 200);
    }
    node.process.signal("TERM");
    until("it drains", || node.process.err().contains("finishing requests")).await;
    let told = clock::now();

    node.process.signal("TERM");

    assert_eq!(node.process.ends().await, Some(0));
    let took = clock::now() - told;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(node.process.err().contains("in a hurry"), "{}", node.process.err());
}

#[tokio::test]
async fn a_made_key_is_shown_once_and_outlives_a_restart() {
    let site = Site::new();
    let mut first = site.serve(&["--limits-drain-delay", "0s"]).await;
    let key = first.key.clone().unwrap();
    assert!(first.process.err().contains("once"), "{}", first.process.err());
    first.process.signal("TERM");
    assert_eq!(first.process.ends().await, Some(0));

    let mut second = site.serve(&["--limits-drain-delay", "0s"]).await;

    assert_eq!(second.key, None, "{}", second.process.err());
    let client = Client::new(second.data, None).key(&key);
    assert_eq!(client.post("/v1/chat/completions", Dialect::OpenAi.ask("gpt-4o")).await.status, 200);
    second.process.signal("HUP");
    second.process.signal("TERM");
    assert_eq!(second.process.ends().await, Some(0));
    assert!(!second.process.err().contains(&key));
    let kept = std::fs::read_to_string(site.path("troupe-data/made-keys.json")).unwrap();
    assert!(!kept.contains(&key), "{kept}");
}

#[tokio::test]
async fn a_start_that_fails_says_what_to_do() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let free = "127.0.0.1:0";
    site.write("a-file", "");
    let serve = |more: &[&'static str]| [&["serve", "--listen-data", free, "--listen-admin", free][..], more].concat();

    let said = site.fails(&["serve", "--listen-data", &port, "--listen-admin", free], 1).await;
    assert!(said.contains(&port) && said.contains("choose another"), "{said}");
    let said = site.fails(&["serve", "--listen-data", free, "--listen-admin", &port], 1).await;
    assert!(said.contains(&port) && said.contains("listen.admin"), "{said}");
    let said = site.fails(&serve(&["--data-dir", "a-file/below"]), 1).await;
    assert!(said.contains("a-file/below") && said.contains("data_dir"), "{said}");
    let said = site.fails(&serve(&["--log-access", "nowhere/access.log"]), 1).await;
    assert!(said.contains("nowhere/access.log") && said.contains("--log-access"), "{said}");
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    let said = site.fails(&serve(&["--spec", "absent.toml"]), 1).await;
    assert!(said.contains("absent.toml"), "{said}");
    let said = site.fails(&serve(&["--limits-body-bytes", "many"]), 2).await;
    assert!(said.contains("limits-body-bytes") && said.contains("many"), "{said}");
    let said = site.fails(&serve(&["--cluster-join", "gw-1:8082"]), 2).await;
    assert!(said.contains("cluster-join") && said.contains("certificates"), "{said}");
}

#[tokio::test]
async fn a_wrong_file_is_told_by_line_with_the_nearest_name() {
    let site = Site::new();
    let free = "127.0.0.1:0";
    site.write("typo.toml", "[providers.o]\nwire = \"openai\"\nbase_ulr = \"http://127.0.0.1:1/v1\"\n");
    site.write(
        "secret.toml",
        "[providers.o]\nwire = \"openai\"\nkeys = [{ name = \"main\", secret = \"env:TROUPE_TEST_ABSENT\" }]\n",
    );
    site.write("literal.toml", "[keys.app]\nsecret = \"sk-written-down\"\n");
    site.write("cluster.toml", "[cluster]\njoin = [\"gw-1:8082\"]\n");
    site.write("broken.toml", "[providers.o\n");

    for (file, words) in [
        ("typo.toml", &["typo.toml:3", "base_ulr", "base_url"][..]),
        ("secret.toml", &["secret.toml:3", "TROUPE_TEST_ABSENT", "not set"]),
        ("literal.toml", &["literal.toml:2", "env:NAME"]),
        ("broken.toml", &["broken.toml:1"]),
    ] {
        let serve = ["serve", "--listen-data", free, "--listen-admin", free, "--spec", file];
        for arguments in [&serve[..], &["config", "validate", "--spec", file]] {
            let (code, out, err) = site.run(arguments).await;
            let said = out + &err;
            assert_eq!(code, Some(1), "{said}");
            assert!(words.iter().all(|word| said.contains(word)) && !said.contains("sk-written-down"), "{said}");
        }
    }
    let said = site.fails(&["serve", "--config", "cluster.toml"], 2).await;
    assert!(said.contains("cluster.toml:") && said.contains("certificates"), "{said}");
}

#[tokio::test]
async fn validate_tells_people_and_programs() {
    let site = Site::new();
    site.write("node.toml", "[limits]\nin_flight = 5\n");
    site.write("bad.toml", "[limits]\nin_flihgt = 5\nbody_bytes = \"2GiB\"\n");

    let (code, said, _) = site.run(&["config", "validate", "--config", "node.toml", "--spec", "spec.toml"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("valid: 1 providers, 1 models, 1 keys"), "{said}");

    let (code, report, _) = site.run(&["config", "validate", "--spec", "spec.toml", "-o", "json"]).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((code, report["is_valid"].as_bool()), (Some(0), Some(true)), "{report}");

    let (code, report, _) = site.run(&["config", "validate", "--config", "bad.toml", "-o", "json"]).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    let problems = report["problems"].as_array().unwrap();
    assert_eq!((code, problems.len()), (Some(1), 2), "{report}");
    assert_eq!((problems[0]["line"].as_u64(), problems[1]["line"].as_u64()), (Some(2), Some(3)), "{report}");
}

#[tokio::test]
async fn what_is_not_understood_is_a_2_and_help_and_version_are_a_0() {
    let site = Site::new();

    for arguments in [
        &["srve"][..],
        &[],
        &["serve", "--no-such-flag"],
        &["config", "validate"],
        &["config", "validate", "-o", "xml", "--spec", "spec.toml"],
        &["cluster", "token", "--expires-in", "abc"],
        &["cluster", "token", "--expires-in", "0s"],
        &["key", "create", "k", "--expires", "tomorrow"],
        &["token", "create", "t", "--role", "viewer", "--expires", "0s"],
        &["node", "drain", "--wait", "soon"],
    ] {
        let said = site.fails(arguments, 2).await;
        assert!(said.contains("Usage") || said.contains("--help"), "{arguments:?}: {said}");
    }
    site.write("typo.toml", "[providers.o\n");
    for (arguments, words) in [
        (&["apply", "-f", "none.toml"][..], "none.toml"),
        (&["diff", "-f", "typo.toml"], "typo.toml:1"),
        (&["key", "list", "--admin-token-file", "none"], "none"),
        (&["dev", "--nodes", "3", "--data-dir", "here"], "--data-dir here is not for several nodes"),
    ] {
        let said = site.fails(arguments, 2).await;
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    for arguments in [&["--version"][..], &["--help"], &["serve", "--help"]] {
        let (code, out, err) = site.run(arguments).await;
        assert_eq!((code, out.is_empty(), err.as_str()), (Some(0), false, ""), "{arguments:?}");
    }
    let (_, version, _) = site.run(&["--version"]).await;
    assert!(version.starts_with("troupe ") && version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    assert!(!Path::new(&site.path("troupe-data")).exists(), "nothing was made");
}

#[tokio::test]
async fn the_log_tells_no_key_and_no_prompt_however_much_it_tells() {
    let site = Site::new();
    site.write("secret", "sk-of-the-provider\n");
    let keys = "keys = [{ name = \"main\", secret = \"file:secret\" }]\n[models.gpt-4o]";
    let spec = std::fs::read_to_string(site.path("spec.toml")).unwrap().replace("[models.gpt-4o]", keys);
    site.write("spec.toml", &(spec + "[models.\"o-*\"]\ntargets = [{ provider = \"o\" }]\n"));
    let mut node = site.serve(&["--log-level", "trace", "--limits-drain-delay", "0s"]).await;
    let key = node.key.clone().unwrap();
    let client = Client::new(node.data, None);

    for client in [client.clone(), client.http2().await] {
        for key in [key.as_str(), "sk-of-nobody"] {
            for model in ["gpt-4o", "o-x+status=401", "o-x+reset", "o-x+garbage", "nope"] {
                let ask =
                    serde_json::json!({"model": model, "messages": [{"role": "user", "content": "my-own-secret"}]});
                client.clone().key(key).post("/v1/chat/completions", ask).await;
            }
        }
    }
    node.process.signal("TERM");
    assert_eq!(node.process.ends().await, Some(0));

    let shown = format!("virtual key app: {key}\n");
    let log = node.process.err().replacen(&shown, "", 1) + &node.process.out();
    assert!(log.lines().count() > 20, "{log}");
    for secret in [key.as_str(), "sk-of-nobody", "sk-of-the-provider", "my-own-secret"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_costs_lines_and_no_request_and_no_signal() {
    /// Each has dozens of lines of h2 in the log, of some hundred bytes: many more than the pipe holds.
    const REQUESTS: usize = 300;
    let site = Site::new();
    let serve = ["serve", "--spec", "spec.toml", "--listen-data", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"];
    let more = ["--log-level", "trace", "--log-access", "off", "--limits-drain-delay", "0s"];
    let mut process = site.start_with(&[&serve[..], &more].concat(), None, Some(Stdio::piped()));
    // Read up to where it serves, and no further.
    let mut said = BufReader::new(process.child.stderr.take().unwrap());
    let (mut key, mut line) = (None, String::new());
    let data = loop {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended");
        key = key.or_else(|| word_behind(&line, "virtual key app: "));
        if let Some(data) = word_behind(&line, "data=") {
            break data.parse().unwrap();
        }
    };
    let client = Client::new(data, None).key(&key.unwrap()).http2().await;

    let asked = async {
        for _ in 0..REQUESTS {
            let reply = client.post("/v1/chat/completions", Dialect::OpenAi.ask("gpt-4o")).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    };
    timeout(3 * LONG, asked).await.expect("requests are answered");
    process.signal("TERM");
    assert_eq!(process.ends().await, Some(0));

    let mut rest = Vec::new();
    said.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 60_000, "the pipe was not full: {} bytes", rest.len());
}
