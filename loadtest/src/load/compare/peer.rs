//! Another gateway beside Troupe, told by a small TOML file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use crate::load::process::START_MAX;
use crate::load::units::Time;

/// A gateway that is started, driven and measured like Troupe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name in reports.
    pub name: String,
    /// Program and arguments.
    command: Vec<String>,
    /// A file that it reads.
    config: Option<ConfigFile>,
    /// Variables of its process.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// More headers of every request to it.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Path whose GET answers 200 when it is ready; without it, taking a connection is enough.
    pub ready: Option<String>,
    /// How long it may take to start.
    #[serde(default = "start_max")]
    start: Time,
    /// How it is asked for a model of the mock.
    #[serde(default = "as_it_is")]
    model: String,
    /// Most requests of a closed loop in a round: for the slow, so that the run ends.
    pub requests: Option<u64>,
    /// Most streams in a round; 0 leaves streams out.
    pub streams: Option<u64>,
    /// Largest rate of an open loop; 0 leaves open loops out.
    pub rate_max: Option<u64>,
    /// What Troupe's CPU per request may be, by this gateway's; shown beside the measured share.
    pub cpu_of_troupe_max: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    /// Its name in the peer's own directory.
    file: String,
    /// Its text.
    text: String,
}

fn start_max() -> Time {
    Time(START_MAX)
}

fn as_it_is() -> String {
    "{model}".to_owned()
}

/// What the placeholders of a peer's texts stand for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// `{upstream}`: the mock.
    pub upstream: SocketAddr,
    /// `{listen}`, `{listen_host}`, `{listen_port}`: where it must listen.
    pub listen: SocketAddr,
    /// `{key}`: the key its clients send as Bearer.
    pub key: &'a str,
    /// `{work}`: a directory of its own, gone after the run; `{config}` is its file in there.
    pub work: &'a Path,
    /// `{dir}`: where `peers/install` put the programs.
    pub dir: Option<&'a Path>,
}

/// A peer with all placeholders filled in.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Program and arguments.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Variables.
    pub vars: Vec<(String, String)>,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// Its file: name and text.
    pub config: Option<(String, String)>,
}

/// Why a text is no peer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is no TOML, or a field is unknown, missing or of the wrong kind; the message shows the line.
    #[error("{0}")]
    Text(#[from] toml::de::Error),
    /// A field cannot stand as it does.
    #[error("`{field}` {why}")]
    Field {
        /// Its path.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

fn wrong<T>(field: &str, why: impl Into<String>) -> Result<T, PeerError> {
    Err(PeerError::Field { field: field.to_owned(), why: why.into() })
}

impl Peer {
    /// Reads a peer.
    ///
    /// # Errors
    /// [`PeerError`] with line and field.
    pub fn parse(text: &str) -> Result<Self, PeerError> {
        let peer: Self = toml::from_str(text)?;
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if peer.name.is_empty() || !peer.name.chars().all(is_plain) {
            return wrong("name", "must be letters, digits, - and _");
        }
        if ["direct", "floor", "floor-2", "troupe"].contains(&peer.name.as_str()) {
            return wrong("name", "is one of ours");
        }
        if peer.command.is_empty() {
            return wrong("command", "is empty");
        }
        if !peer.model.contains("{model}") {
            return wrong("model", "must hold {model}");
        }
        if let Some(config) = peer.config.as_ref().filter(|config| config.file.contains('/') || config.file.is_empty())
        {
            return wrong("config.file", format!("must be a bare name, not `{}`", config.file));
        }
        Ok(peer)
    }

    /// Fills all placeholders in.
    ///
    /// # Errors
    /// [`PeerError::Field`] for a placeholder that does not exist, for `{dir}` without a directory, and for a header
    /// that is none.
    pub fn fill(&self, place: &Place<'_>) -> Result<Ready, PeerError> {
        let config_path = self.config.as_ref().map(|config| place.work.join(&config.file).display().to_string());
        let fill = |field: &str, text: &str| fill(field, text, place, config_path.as_deref());
        let mut words = Vec::new();
        for word in &self.command {
            words.push(fill("command", word)?);
        }
        let mut vars = Vec::new();
        for (name, value) in &self.env {
            vars.push((name.clone(), fill("env", value)?));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let field = format!("headers.{name}");
            let Ok(header) = HeaderName::try_from(name) else { return wrong(&field, "is no header name") };
            let Ok(value) = HeaderValue::try_from(fill(&field, value)?) else {
                return wrong(&field, "is no header value");
            };
            headers.insert(header, value);
        }
        let config = match &self.config {
            Some(config) => Some((config.file.clone(), fill("config.text", &config.text)?)),
            None => None,
        };
        let args = words.split_off(1);
        Ok(Ready { program: words.concat(), args, vars, headers, config })
    }

    /// Gives the name by which it is asked for a model of the mock.
    pub fn model(&self, of_mock: &str) -> String {
        self.model.replace("{model}", of_mock)
    }

    /// Gives how long it may take to start.
    pub fn start_max(&self) -> Duration {
        self.start.0
    }
}

/// Replaces `{word}` where the braces hold nothing but small letters; every other brace is the file's own.
fn fill(field: &str, text: &str, place: &Place<'_>, config: Option<&str>) -> Result<String, PeerError> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        filled.push_str(before);
        let is_small = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        let word = behind.split_once('}').filter(|(word, _)| !word.is_empty() && word.chars().all(is_small));
        let Some((word, after)) = word else {
            filled.push('{');
            rest = behind;
            continue;
        };
        let value = match word {
            "upstream" => place.upstream.to_string(),
            "listen" => place.listen.to_string(),
            "listen_host" => place.listen.ip().to_string(),
            "listen_port" => place.listen.port().to_string(),
            "key" => place.key.to_owned(),
            "work" => place.work.display().to_string(),
            "config" => match config {
                Some(path) => path.to_owned(),
                None => return wrong(field, "names {config}, but there is no `config`"),
            },
            "dir" => match place.dir {
                Some(dir) => dir.display().to_string(),
                None => return wrong(field, "names {dir}: say with --peers-dir where peers/install put the programs"),
            },
            unknown => return wrong(field, format!("names {{{unknown}}}, which is no placeholder")),
        };
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "other"
command = ["{dir}/bin/other", "--config", "{config}", "--port", "{listen_port}"]
ready = "/up"
model = "openai/{model}"
headers = { x-key = "{key}" }
env = { UP = "http://{upstream}" }
[config]
file = "other.conf"
text = "http { listen {listen}; upstream {upstream}; } {\"a\": {}} x{2}"
"#;

    fn place(dir: Option<&Path>) -> Place<'_> {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Place { upstream: addr(1), listen: addr(2), key: "sk", work: Path::new("/w"), dir }
    }

    #[test]
    fn placeholders_are_filled_in_and_other_braces_stay() {
        let ready = Peer::parse(GOOD).unwrap().fill(&place(Some(Path::new("/p")))).unwrap();

        assert_eq!((ready.program.as_str(), ready.args.len()), ("/p/bin/other", 4));
        assert_eq!((ready.args[1].as_str(), ready.args[3].as_str()), ("/w/other.conf", "2"));
        assert_eq!(ready.vars, [("UP".to_owned(), "http://127.0.0.1:1".to_owned())]);
        assert_eq!(ready.headers["x-key"], "sk");
        let (_, text) = ready.config.unwrap();
        assert_eq!(text, "http { listen 127.0.0.1:2; upstream 127.0.0.1:1; } {\"a\": {}} x{2}");
    }

    #[test]
    fn what_cannot_be_filled_in_is_told_by_field() {
        let peer = Peer::parse(GOOD).unwrap();
        let misspelt = Peer::parse(&GOOD.replace("{listen_port}", "{port}")).unwrap();

        let without_dir = peer.fill(&place(None)).unwrap_err().to_string();
        let unknown = misspelt.fill(&place(Some(Path::new("/p")))).unwrap_err().to_string();

        assert!(without_dir.contains("--peers-dir"), "{without_dir}");
        assert_eq!(unknown, "`command` names {port}, which is no placeholder");
    }

    #[test]
    fn unknown_fields_and_taken_names_are_refused() {
        let unknown = Peer::parse(&GOOD.replace("ready =", "readiness =")).unwrap_err().to_string();
        let taken = Peer::parse(&GOOD.replace("\"other\"", "\"floor\"")).unwrap_err().to_string();

        assert!(unknown.contains("line 4") && unknown.contains("`readiness`"), "{unknown}");
        assert_eq!(taken, "`name` is one of ours");
    }

    #[test]
    fn a_model_is_asked_for_by_the_peers_own_name() {
        assert_eq!(Peer::parse(GOOD).unwrap().model("mock+words=3"), "openai/mock+words=3");
    }

    #[test]
    fn every_peer_that_comes_along_is_good() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut seen = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let peer = Peer::parse(&std::fs::read_to_string(&path).unwrap());
                let peer = peer.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                peer.fill(&place(Some(Path::new("/p")))).unwrap();
                seen.push(peer.name);
            }
        }
        seen.sort();
        assert_eq!(seen, ["litellm", "nginx"]);
    }
}
