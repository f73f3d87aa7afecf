//! Talks to a node the way any operator can: by its admin API.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde_json::Value;
use troupe_proto::id::ProviderId;
use troupe_proto::secret::Secret;
use troupe_proto::spec::{Auth, BaseUrl, Provider, Rules, Wire};

use super::Exit;
use crate::admin::{IDEMPOTENCY_KEY, REASON};
use crate::clock;
use crate::config::variable;
use crate::telemetry::metrics::Metrics;
use crate::upstream::{Client, Endpoint, SendError};

/// Where a node is when nothing says otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8081";
/// Where a node keeps its files when nothing says otherwise.
/// How long a node may take to answer. A change of 100,000 keys takes it a few seconds.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer that is read.
const ANSWER_BYTES: usize = 64 << 20;
/// The longest file that is taken.
const FILE_BYTES: usize = 1 << 30;
/// How often a change is asked for again while the cluster has no leader, or did not say what became of it.
const TRIES: u32 = 4;
/// The rest before it is.
const REST: Duration = Duration::from_millis(700);

/// Which node is asked, and as whom.
#[derive(Args, Clone)]
pub(super) struct Access {
    /// The node's admin listener [env: TROUPE_ADMIN_URL] [default: http://127.0.0.1:8081].
    #[arg(long, value_name = "URL")]
    admin_url: Option<String>,
    /// The admin token [env: TROUPE_ADMIN_TOKEN]. Other users of this machine see what a command line holds: prefer the
    /// variable or a file.
    #[arg(long, value_name = "TOKEN", conflicts_with = "admin_token_file")]
    admin_token: Option<String>,
    /// A file that holds the admin token [env: TROUPE_ADMIN_TOKEN_FILE] [default: that of a `troupe dev` that runs here].
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// PEM certificates to trust for an https URL, in place of the system's [env: TROUPE_ADMIN_CA].
    #[arg(long, value_name = "FILE")]
    admin_ca: Option<PathBuf>,
    /// When an answer is of no more use.
    #[arg(skip)]
    deadline: Option<Instant>,
}

/// Why a node did not do what it was asked. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// The URL is none.
    #[error("{url:?} is not the URL of a node: {problem}; expected one such as {DEFAULT_URL}")]
    Url { url: String, problem: String },
    /// A file that was named cannot be read.
    #[error("{path}: {problem}")]
    File { path: PathBuf, problem: String },
    /// The token cannot be sent.
    #[error("the admin token from {0} is not one: it has characters that no header may have")]
    Token(String),
    /// Nobody answered.
    #[error(
        "no node answers at {url}: {problem}\n  is it running? `troupe serve` and `troupe dev` print their admin address; name another one with --admin-url or TROUPE_ADMIN_URL"
    )]
    Unreachable { url: String, problem: String },
    /// Nobody answered in time.
    #[error("no answer within {within:.1?} from {url}: what runs there hangs, or something on the way swallows it")]
    Silent { url: String, within: Duration },
    /// Something answered that is no node.
    #[error("what answers at {url} is no admin listener: {problem}")]
    Foreign { url: String, problem: String },
    /// The token is missing or wrong.
    #[error(
        "the node at {url} did not accept the admin token ({token}): {detail}\n  a token is shown once, when a cluster forms or `troupe token create` makes it: name it with --admin-token-file, TROUPE_ADMIN_TOKEN_FILE or TROUPE_ADMIN_TOKEN\n  where none is known any more, start a node again with listen.admin_token set"
    )]
    Unauthorized { url: String, token: String, detail: String },
    /// It does not know what was asked for.
    #[error("{0}")]
    NotFound(String),
    /// What is in force does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The cluster cannot agree now, or did not say what became of a change.
    #[error("{0}")]
    NoQuorum(String),
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// It cannot be asked for so.
    #[error("{0}")]
    Usage(String),
}

impl AdminError {
    /// The program's exit code.
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::Url { .. } | Self::File { .. } | Self::Token(_) | Self::Usage(_) => Exit::Usage,
            Self::Foreign { .. } | Self::Unauthorized { .. } | Self::Refused(_) => Exit::Failed,
            Self::NotFound(_) => Exit::NotFound,
            Self::Conflict(_) => Exit::Conflict,
            Self::Unreachable { .. } | Self::Silent { .. } | Self::NoQuorum(_) => Exit::Unreachable,
        }
    }
}

/// A token and where it came from.
struct Token {
    secret: Option<Secret<String>>,
    from: String,
}

/// What a node answered, and where its address and the token came from.
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
    url: String,
    token: String,
}

/// What is asked of a node.
pub(super) struct Ask<'a> {
    method: Method,
    path: String,
    query: Vec<(&'a str, &'a str)>,
    headers: Vec<(HeaderName, String)>,
    body: Option<Vec<u8>>,
}

impl<'a> Ask<'a> {
    fn new(method: Method, path: &[&str]) -> Self {
        let escaped = path.iter().map(|part| format!("/{}", escape(part)));
        let path = std::iter::once("/admin/v1".to_owned()).chain(escaped).collect();
        Self { method, path, query: Vec::new(), headers: Vec::new(), body: None }
    }

    /// A question, by the parts of the path below `/admin/v1`.
    pub(super) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    /// The node's metrics, which [`Access::fetch`] gives.
    pub(super) fn metrics() -> Self {
        Self { path: "/metrics".to_owned(), ..Self::new(Method::GET, &[]) }
    }

    /// A change. It is named, so that it can be asked for again without being made twice.
    pub(super) fn change(method: Method, path: &[&str], reason: Option<&str>) -> Self {
        let mut ask = Self::new(method, path);
        ask.headers.push((IDEMPOTENCY_KEY, format!("{:032x}", clock::unique())));
        ask.headers.extend(reason.map(|reason| (REASON, reason.to_owned())));
        ask
    }

    /// The same with a value behind the `?`.
    #[must_use]
    pub(super) fn query(mut self, name: &'a str, value: &'a str) -> Self {
        self.query.push((name, value));
        self
    }

    /// The same with a body.
    #[must_use]
    pub(super) fn body(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string().into_bytes());
        self
    }

    /// The same, made only while the state is at a revision.
    #[must_use]
    pub(super) fn at(mut self, revision: u64) -> Self {
        self.headers.push((IF_MATCH, format!("\"{revision}\"")));
        self
    }
}

/// What means nothing in a URL stays as it is: a node takes the words of its own paths literally.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, ESCAPED).to_string()
}

impl Access {
    /// A node, and the token it takes.
    pub(super) fn with_token(url: String, token: String) -> Self {
        Self { admin_token: Some(token), ..Self::to(url) }
    }

    /// A node, with the token that the environment has.
    pub(super) const fn to(url: String) -> Self {
        Self { admin_url: Some(url), admin_token: None, admin_token_file: None, admin_ca: None, deadline: None }
    }

    /// Where the node is.
    pub(super) fn url(&self) -> String {
        self.admin_url.clone().or_else(|| variable("TROUPE_ADMIN_URL")).unwrap_or_else(|| DEFAULT_URL.to_owned())
    }

    /// Whether it was said where the node is.
    pub(super) fn is_named(&self) -> bool {
        self.admin_url.is_some() || variable("TROUPE_ADMIN_URL").is_some()
    }

    /// Whether the command line says as whom to ask.
    pub(super) const fn has_token(&self) -> bool {
        self.admin_token.is_some() || self.admin_token_file.is_some()
    }

    /// The same for another node of the cluster.
    pub(super) fn at(&self, url: String) -> Self {
        Self { admin_url: Some(url), ..self.clone() }
    }

    /// The same, asked for answers that come before `deadline`, all of them together. A node that hangs is not waited
    /// for beyond it.
    pub(super) fn by(&self, deadline: Instant) -> Self {
        Self { deadline: Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline))), ..self.clone() }
    }

    /// What is left of the time to answer in.
    fn left(&self) -> Duration {
        self.deadline.map_or(TIMEOUT, |deadline| deadline.saturating_duration_since(clock::now()).min(TIMEOUT))
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// [`AdminError`].
    pub(super) fn ask(&self, ask: &Ask<'_>) -> Result<Value, AdminError> {
        let mut tries = 1;
        loop {
            match self.ask_once(ask) {
                Err(AdminError::NoQuorum(_)) if tries < TRIES && self.left() > REST => {
                    tries += 1;
                    std::thread::sleep(REST);
                }
                answer => return answer,
            }
        }
    }

    /// Asks for all pages of a list, and gives them as one.
    ///
    /// # Errors
    /// [`AdminError`].
    pub(super) fn list(&self, path: &[&str]) -> Result<Value, AdminError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut ask = Ask::get(path).query("limit", "1000");
            if let Some(after) = &after {
                ask = ask.query("after", after);
            }
            let mut page = self.ask(&ask)?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                all.extend(items);
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = Some(next.to_owned()),
                None => {
                    page["items"] = Value::Array(all);
                    return Ok(page);
                }
            }
        }
    }

    /// Asks for a file.
    ///
    /// # Errors
    /// [`AdminError`].
    pub(super) fn fetch(&self, ask: &Ask<'_>) -> Result<Vec<u8>, AdminError> {
        let Answer { status, body, url, token } = self.exchange(ask, FILE_BYTES)?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let problem = "it did not answer with a file".to_owned();
        Err(read_answer(status, &body, url.clone(), token).err().unwrap_or(AdminError::Foreign { url, problem }))
    }

    /// Asks for what anybody may see, below no path of the API: the status, and what is said.
    ///
    /// # Errors
    /// [`AdminError`].
    pub(super) fn probe(&self, path: &str) -> Result<(u16, String), AdminError> {
        let ask = Ask { path: path.to_owned(), ..Ask::new(Method::GET, &[]) };
        let answer = self.exchange(&ask, ANSWER_BYTES)?;
        Ok((answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned()))
    }

    fn ask_once(&self, ask: &Ask<'_>) -> Result<Value, AdminError> {
        let Answer { status, body, url, token } = self.exchange(ask, ANSWER_BYTES)?;
        read_answer(status, &body, url, token)
    }

    fn exchange(&self, ask: &Ask<'_>, bytes_max: usize) -> Result<Answer, AdminError> {
        let text = self.url();
        let url: BaseUrl =
            text.parse().map_err(|error| AdminError::Url { url: text.clone(), problem: format!("{error}") })?;
        let token = self.token()?;
        let ca_pem = match self.admin_ca.clone().or_else(|| variable("TROUPE_ADMIN_CA").map(PathBuf::from)) {
            Some(path) => Some(read(&path)?),
            None => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unreachable(&text, &error))?;
        let request = request(&url, ask, &token)?;
        let sent = runtime.block_on(send(&text, url, ca_pem, request, Bounds { bytes_max, within: self.left() }));
        // A name that is still being looked up is nobody's to wait for.
        runtime.shutdown_background();
        let (status, body) = sent?;
        Ok(Answer { status, body, url: text, token: token.from })
    }

    /// The token that it shows, if there is one.
    pub(super) fn secret(&self) -> Option<Secret<String>> {
        self.token().ok().and_then(|token| token.secret)
    }

    fn token(&self) -> Result<Token, AdminError> {
        let given = |token: String, from: &str| Token { secret: Some(Secret::new(token)), from: from.to_owned() };
        if let Some(token) = &self.admin_token {
            return Ok(given(token.clone(), "--admin-token"));
        }
        if let Some(path) = &self.admin_token_file {
            return token_of(path);
        }
        if let Some(token) = variable("TROUPE_ADMIN_TOKEN") {
            return Ok(given(token, "TROUPE_ADMIN_TOKEN"));
        }
        if let Some(path) = variable("TROUPE_ADMIN_TOKEN_FILE") {
            return token_of(Path::new(&path));
        }
        match dev_tokens().as_slice() {
            [only] => token_of(only),
            [] => Ok(Token { secret: None, from: "none was given".to_owned() }),
            _ => Ok(Token { secret: None, from: "none was given, and several `troupe dev` run here".to_owned() }),
        }
    }
}

/// The token files of the `troupe dev` that run on this machine: each keeps its files in a directory named after its
/// process.
fn dev_tokens() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return Vec::new() };
    let is_alive =
        |pid: &str| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) && Path::new("/proc").join(pid).exists();
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().and_then(|name| name.strip_prefix(DEV_DIR)).is_some_and(is_alive))
        .map(|entry| entry.path().join(DEV_TOKEN_FILE))
        .filter(|path| path.exists())
        .collect()
}

/// How `troupe dev` names its directory; the process's id follows.
pub(super) const DEV_DIR: &str = "troupe-dev-";
/// In that directory: the token that it takes, for as long as it runs.
pub(super) const DEV_TOKEN_FILE: &str = "admin-token";

fn token_of(path: &Path) -> Result<Token, AdminError> {
    let text = read(path)?;
    Ok(Token { secret: Some(Secret::new(text.trim().to_owned())), from: path.display().to_string() })
}

fn read(path: &Path) -> Result<String, AdminError> {
    std::fs::read_to_string(path)
        .map_err(|error| AdminError::File { path: path.to_owned(), problem: format!("cannot be read: {error}") })
}

fn request(url: &BaseUrl, ask: &Ask<'_>, token: &Token) -> Result<Request<Full<Bytes>>, AdminError> {
    let mut target = format!("{}{}", url.path, ask.path);
    for (at, (name, value)) in ask.query.iter().enumerate() {
        target.push_str(&format!("{}{name}={}", if at == 0 { '?' } else { '&' }, escape(value)));
    }
    let mut request = Request::new(Full::from(ask.body.clone().unwrap_or_default()));
    *request.method_mut() = ask.method.clone();
    *request.uri_mut() =
        target.parse().map_err(|error| AdminError::Url { url: target.clone(), problem: format!("{error}") })?;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    if ask.body.is_some() {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in &ask.headers {
        let value = HeaderValue::from_bytes(value.as_bytes());
        let value = value.map_err(|_| AdminError::Usage(format!("{name} has characters that no header may have")))?;
        request.headers_mut().insert(name.clone(), value);
    }
    if let Some(secret) = &token.secret {
        let value = HeaderValue::from_str(&format!("Bearer {}", secret.expose()));
        let mut value = value.map_err(|_| AdminError::Token(token.from.clone()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// What an answer may be.
struct Bounds {
    bytes_max: usize,
    within: Duration,
}

/// Calls the node as it calls a provider itself: with the same connector, and so the same TLS.
async fn send(
    text: &str,
    url: BaseUrl,
    ca_pem: Option<String>,
    request: Request<Full<Bytes>>,
    Bounds { bytes_max, within }: Bounds,
) -> Result<(StatusCode, Vec<u8>), AdminError> {
    let node = Provider {
        wire: Wire::OpenAi,
        base_url: url,
        auth: Auth::Bearer,
        credentials: Default::default(),
        azure_api_version: None,
        headers: Default::default(),
        ca_pem,
        proxy: None,
        rules: Rules::default(),
    };
    let endpoint = Endpoint::of(&node).map_err(|error| unreachable(text, &error))?;
    let client = Arc::new(Client::new(Metrics::new()));
    let exchange = async {
        let response = client.send(&ProviderId::new("node"), &Arc::new(endpoint), Box::new(request), within).await;
        let mut response = response.map_err(|error| match error {
            SendError::Connect(_) | SendError::Refused => unreachable(text, &error),
            SendError::Broken(_) | SendError::Url(_) => foreign(text, &error),
        })?;
        let mut body = Vec::new();
        while let Some(chunk) = response.body_mut().chunk().await {
            body.extend_from_slice(&chunk.map_err(|error| foreign(text, &*error))?);
            if body.len() > bytes_max {
                let problem = format!("its answer is longer than {bytes_max} bytes");
                return Err(AdminError::Foreign { url: text.to_owned(), problem });
            }
        }
        Ok((response.status(), body))
    };
    let silent = |_| AdminError::Silent { url: text.to_owned(), within };
    tokio::time::timeout(within, exchange).await.map_err(silent)?
}

fn unreachable(url: &str, error: &(dyn std::error::Error + 'static)) -> AdminError {
    AdminError::Unreachable { url: url.to_owned(), problem: causes(error) }
}

fn foreign(url: &str, error: &(dyn std::error::Error + 'static)) -> AdminError {
    AdminError::Foreign { url: url.to_owned(), problem: causes(error) }
}

/// An error and what it stems from.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn read_answer(status: StatusCode, body: &[u8], url: String, token: String) -> Result<Value, AdminError> {
    let document: Option<Value> = serde_json::from_slice(body).ok();
    let told = |name: &str| {
        let told = document.as_ref().and_then(|document| document.get(name)).and_then(Value::as_str);
        told.map(str::to_owned)
    };
    let problems = document.as_ref().and_then(|document| document.get("problems")).and_then(Value::as_array);
    let several = problems.filter(|problems| problems.len() > 1).map(|problems| {
        let text =
            |problem: &Value, name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let lines: Vec<String> = problems
            .iter()
            .map(|problem| format!("{}: {}", text(problem, "field"), text(problem, "message")))
            .collect();
        lines.join("\n")
    });
    let told_all = told("code").zip(several.or_else(|| told("detail")));
    match (status, told_all) {
        (StatusCode::OK | StatusCode::CREATED, _) => {
            document.ok_or_else(|| AdminError::Foreign { url, problem: "it did not answer with JSON".to_owned() })
        }
        (StatusCode::UNAUTHORIZED, Some((_, detail))) => Err(AdminError::Unauthorized { url, token, detail }),
        (StatusCode::NOT_FOUND, Some((code, _))) if code == "route_not_found" => {
            let problem = "it does not know this command: it is of another version".to_owned();
            Err(AdminError::Foreign { url, problem })
        }
        (StatusCode::NOT_FOUND, Some((_, detail))) => Err(AdminError::NotFound(detail)),
        (StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED, Some((_, detail))) => {
            Err(AdminError::Conflict(detail))
        }
        (_, Some((code, detail))) if ["no_leader", "outcome_unknown", "consensus_stopped"].contains(&code.as_str()) => {
            Err(AdminError::NoQuorum(detail))
        }
        (StatusCode::BAD_REQUEST, Some((_, detail))) => Err(AdminError::Usage(detail)),
        (_, Some((_, detail))) => Err(AdminError::Refused(detail)),
        (_, None) => Err(AdminError::Foreign { url, problem: format!("it answered {status}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::boot::SECTIONS;

    fn answer(status: u16, body: &str) -> Result<Value, Exit> {
        let status = StatusCode::from_u16(status).unwrap();
        read_answer(status, body.as_bytes(), "u".to_owned(), "t".to_owned()).map_err(|error| error.exit())
    }

    #[test]
    fn answers_become_documents_or_exit_codes() {
        let problem = |code: &str| format!(r#"{{"code": "{code}", "detail": "why"}}"#);

        assert_eq!(answer(200, "{\"a\": 1}"), Ok(serde_json::json!({"a": 1})));
        assert_eq!(answer(200, "<html>"), Err(Exit::Failed));
        assert_eq!(answer(401, &problem("key_unknown")), Err(Exit::Failed));
        assert_eq!(answer(404, &problem("model_not_found")), Err(Exit::NotFound));
        assert_eq!(answer(404, &problem("route_not_found")), Err(Exit::Failed));
        assert_eq!(answer(404, "nginx"), Err(Exit::Failed));
        assert_eq!(answer(409, &problem("conflict")), Err(Exit::Conflict));
        assert_eq!(answer(412, &problem("revision_changed")), Err(Exit::Conflict));
        assert_eq!(answer(503, &problem("no_leader")), Err(Exit::Unreachable));
        assert_eq!(answer(503, &problem("overloaded")), Err(Exit::Failed));
        assert_eq!(answer(503, &problem("consensus_stopped")), Err(Exit::Unreachable));
        assert_eq!(answer(400, &problem("invalid_field")), Err(Exit::Usage));
    }

    #[test]
    fn a_node_that_hangs_takes_no_more_than_it_was_given_for_all_questions_together() {
        // The system takes its connections; nobody ever reads from them.
        let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", hanging.local_addr().unwrap());
        let began = clock::now();
        let access = Access::with_token(url, "t".to_owned()).by(began + Duration::from_millis(200));

        let answers = [access.ask(&Ask::get(&["node"])), access.ask(&Ask::get(&["cluster"]))];

        let took = clock::now() - began;
        assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(10), "{took:?}");
        for answer in answers {
            let error = answer.unwrap_err();
            assert_eq!(error.exit(), Exit::Unreachable, "{error}");
            assert!(error.to_string().contains("no answer within"), "{error}");
        }
    }

    #[test]
    fn a_node_that_says_nothing_else_is_found_where_it_is() {
        let default = |section: &str, name: &str| {
            let section = SECTIONS.iter().find(|known| known.name == section).unwrap();
            section.fields.iter().find(|field| field.name == name).unwrap().default
        };

        assert_eq!(DEFAULT_URL, format!("http://{}", default("listen", "admin")));
    }

    #[test]
    fn words_of_a_query_are_escaped_and_the_token_is_not_shown() {
        let token = Token { secret: Some(Secret::new("adm".to_owned())), from: String::new() };
        let url = "http://h/base".parse().unwrap();

        let ask = Ask::get(&["models", "a/b"]).query("model", "a&b=c/d").query("key", "k");
        let request = request(&url, &ask, &token).unwrap();

        assert_eq!(request.uri().to_string(), "/base/admin/v1/models/a%2Fb?model=a%26b%3Dc%2Fd&key=k");
        assert_eq!(Ask::get(&["join-tokens", "a_b.c~d e"]).path, "/admin/v1/join-tokens/a_b.c~d%20e");
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer adm");
        assert!(!format!("{:?}", request.headers()).contains("adm\""), "{:?}", request.headers());
    }
}
