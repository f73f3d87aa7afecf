//! Takes secrets out of what goes into a bundle.
//!
//! Answers of nodes hold none; but people write reasons, descriptions and comments, and programs write logs. Whatever
//! looks like a secret goes, and now and then something that is none goes with it.

use serde_json::Value;

/// What stands in the place of a secret.
pub(super) const REDACTED: &str = "(redacted)";
/// How secrets begin: keys and tokens of ours, of providers, of those whose tools write logs.
const PREFIXES: [&str; 16] = [
    "sk-",
    "pk-",
    "rk-",
    "troupe-admin-",
    "troupe-join-",
    "gsk_",
    "xai-",
    "AIza",
    "hf_",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "AKIA",
    "eyJ",
];
/// The fewest characters behind such a beginning.
const PREFIXED_MIN: usize = 6;
/// Names whose values are secret, at the end of a longer one too: `OPENAI_API_KEY`.
const SECRET_NAMES: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "pass",
    "secret",
    "token",
    "apikey",
    "_key",
    "-key",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "signature",
    "sig",
];
/// Words beside which what looks random is secret.
const NEAR: [&str; 8] = ["key", "token", "secret", "passw", "credential", "bearer", "auth", "cookie"];
/// How far a word is near, in characters.
const NEAR_BEFORE: usize = 48;
const NEAR_BEHIND: usize = 24;
/// The fewest characters of what looks random beside such a word, and anywhere.
const RANDOM_MIN: usize = 20;
const RANDOM_ANYWHERE_MIN: usize = 32;
/// The fewest hexadecimal digits that are secret anywhere: a key of 24 bytes has 48, a commit's name 40.
const HEX_MIN: usize = 41;

/// A document without secrets: by the names of its members, and by the look of its texts.
pub(super) fn document(document: Value) -> Value {
    member("", document)
}

fn member(name: &str, value: Value) -> Value {
    match value {
        Value::String(text) if is_secret(name) && text != "(set)" => REDACTED.into(),
        Value::String(text) => beside(name, &text).into(),
        Value::Object(members) => {
            // Whatever is sent to a provider besides its key may be a key too.
            let below = |inner: &str| if name == "headers" { "secret".to_owned() } else { inner.to_owned() };
            let each = members.into_iter().map(|(name, value)| {
                let value = member(&below(&name), value);
                (text(&name), value)
            });
            Value::Object(each.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| member(name, item)).collect()),
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_)) => scalar,
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // `hash_prefix` is what operators tell keys by, and `(set)` says only that there is one.
    ["secret", "token", "password", "authorization", "hash", "pem", "cookie", "api_key", "apikey"]
        .iter()
        .any(|word| name.contains(word))
        && name != "hash_prefix"
}

/// Secrets that are known, which go wherever they stand, whatever they look like.
#[derive(Default)]
pub(super) struct Known(Vec<String>);

impl Known {
    /// A shorter one would take words away that have nothing to do with it.
    const MIN: usize = 6;

    /// One more, as it is written.
    pub(super) fn add(&mut self, secret: &str) {
        if secret.len() >= Self::MIN {
            self.0.push(secret.to_owned());
        }
    }

    /// One more of so many bytes, in each way they are written.
    pub(super) fn add_bytes(&mut self, secret: &[u8]) {
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        self.add(&hex.to_ascii_uppercase());
        self.add(&hex);
        [STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD].iter().for_each(|base64| self.add(&base64.encode(secret)));
    }

    /// A text without them.
    pub(super) fn strip(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
    }
}

/// A text without secrets.
pub(super) fn text(text: &str) -> String {
    beside("", text)
}

/// The same for a text that stands beside a name.
fn beside(name: &str, text: &str) -> String {
    let text = without_private_keys(text);
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        redact_line(name, &without_logins(line), &mut out);
    }
    out
}

/// What is between the two lines of a private key's PEM.
fn without_private_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(BEGIN) {
        out.push_str(before);
        let (label, body) = behind.split_once("-----").unwrap_or((behind, ""));
        out.push_str(BEGIN);
        if !label.contains("PRIVATE KEY") {
            rest = behind;
            continue;
        }
        // One that is cut off has no end: all of it goes.
        let end = body.split_once("-----END ").map_or("", |(_, end)| end);
        out.push_str(&format!("{label}-----{REDACTED}"));
        rest = end.split_once("-----").map_or("", |(_, end)| end);
    }
    out + rest
}

/// Names and passwords in URLs: `https://user:password@host`.
fn without_logins(line: &str) -> String {
    let mut parts = line.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let host = part.split(|c: char| c == '/' || c == '"' || c.is_whitespace()).next().unwrap_or_default();
        out.push_str("://");
        match host.rfind('@').and_then(|at| part.get(at..)) {
            Some(rest) => out.push_str(&format!("{REDACTED}{rest}")),
            None => out.push_str(part),
        }
    }
    out
}

/// A piece of a line: a run of what secrets are made of, or what is between two.
struct Piece<'a> {
    text: &'a str,
    is_run: bool,
}

const fn is_run(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '/' | '~')
}

fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let kind = is_run(first);
        let end = rest.find(|c| is_run(c) != kind).unwrap_or(rest.len());
        let (text, behind) = rest.split_at(end);
        pieces.push(Piece { text, is_run: kind });
        rest = behind;
    }
    pieces
}

fn redact_line(name: &str, line: &str, out: &mut String) {
    let pieces = pieces(line);
    let lower = line.to_ascii_lowercase();
    let mut at = 0;
    // The last run as it was, what stood between it and this one, and whether it went.
    let (mut last, mut between, mut is_gone) = (name.to_ascii_lowercase(), String::new(), false);
    let mut is_value = false;
    for piece in &pieces {
        let (begin, end) = (at, at + piece.text.len());
        at = end;
        if !piece.is_run {
            // A value may hold any character but those that end one.
            is_value = is_value && !piece.text.contains([' ', '\t', '\n', '"', '\'', ',', ';', '}', ']', '&']);
            if !is_value {
                out.push_str(piece.text);
            }
            piece.text.clone_into(&mut between);
            continue;
        }
        if is_value {
            continue;
        }
        let is_begun = begins_value(&last, &between, piece.text);
        let near = || is_near(name, &lower, begin, end);
        let is_more = is_gone && between == "." && piece.text.len() >= PREFIXED_MIN;
        let redacted = match prefixed(piece.text) {
            Some(kept) => Some(format!("{kept}{REDACTED}")),
            None if is_begun || is_more || is_shown(&last, &between, piece.text) => Some(REDACTED.to_owned()),
            None => random(piece.text, &between, near),
        };
        is_value = is_begun;
        is_gone = redacted.is_some();
        out.push_str(redacted.as_deref().unwrap_or(piece.text));
        last = piece.text.to_ascii_lowercase();
        between.clear();
    }
    if is_value && line.ends_with('\n') && !out.ends_with('\n') {
        out.push('\n');
    }
}

/// What stands before a secret that is known by how it begins.
fn prefixed(run: &str) -> Option<&str> {
    let found = PREFIXES.iter().filter_map(|prefix| {
        run.match_indices(prefix).map(|(at, _)| at).find(|at| {
            let (before, behind) = run.split_at(*at);
            !before.ends_with(|c: char| c.is_ascii_alphanumeric()) && behind.len() >= prefix.len() + PREFIXED_MIN
        })
    });
    found.min().and_then(|at| run.get(..at))
}

/// Whether this is the value of a name whose values are secret: `password=...`, `"token": "..."`.
fn begins_value(name: &str, between: &str, value: &str) -> bool {
    // Where a secret is, and that there is one, is none.
    let is_place = ["env", "file", "set", "redacted", "true", "false", "null", "none"].contains(&value);
    let is_number = value.bytes().all(|b| b.is_ascii_digit());
    let assigns = between.trim_start_matches(['"', '\'', '\\', ' ']);
    let is_assigned = assigns.starts_with(['=', ':'])
        && assigns.trim_start_matches(['=', ':']).chars().all(|c| matches!(c, ' ' | '"' | '\'' | '\\'));
    is_assigned && !is_place && !is_number && SECRET_NAMES.iter().any(|known| name.ends_with(known))
}

/// Whether this is what an Authorization header shows.
fn is_shown(word: &str, between: &str, value: &str) -> bool {
    let is_scheme = word == "bearer" || (word == "basic" && value.len() > PREFIXED_MIN);
    is_scheme
        && !between.is_empty()
        && between.chars().all(|c| c.is_whitespace() || matches!(c, '"' | '\'' | ':' | '='))
}

/// What is left of a run that looks random, and stands where secrets do.
fn random(run: &str, between: &str, is_near: impl Fn() -> bool) -> Option<String> {
    let looks_random = |run: &str, any: bool| {
        let has = |is: fn(&u8) -> bool| run.bytes().any(|byte| is(&byte));
        let (digits, lower, upper) =
            (has(u8::is_ascii_digit), has(u8::is_ascii_lowercase), has(u8::is_ascii_uppercase));
        let is_hex = run.len() >= HEX_MIN && run.bytes().all(|byte| byte.is_ascii_hexdigit());
        (any && is_hex)
            || (any && run.len() >= RANDOM_ANYWHERE_MIN && digits && lower && upper)
            || (run.len() >= RANDOM_MIN && digits && (lower || upper) && is_near())
    };
    // A path's parts are names; base64 has slashes too, and seldom begins with one.
    if run.starts_with('/') || between.ends_with(':') && run.contains('/') {
        let is_any = run.split('/').any(|part| looks_random(part, true));
        return is_any.then(|| {
            let parts = run.split('/').map(|part| if looks_random(part, true) { REDACTED } else { part });
            parts.collect::<Vec<_>>().join("/")
        });
    }
    looks_random(run, true).then(|| REDACTED.to_owned())
}

/// Whether a word about secrets is near what stands between two places of a line.
fn is_near(name: &str, line: &str, begin: usize, end: usize) -> bool {
    let window = |from: usize, to: usize| {
        let from = (from..=to).find(|at| line.is_char_boundary(*at)).unwrap_or(to);
        let to = (from..=to).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(from);
        line.get(from..to).unwrap_or_default()
    };
    let before = window(begin.saturating_sub(NEAR_BEFORE), begin);
    let behind = window(end, end.saturating_add(NEAR_BEHIND).min(line.len()));
    let name = name.to_ascii_lowercase();
    NEAR.iter().any(|word| name.contains(word) || before.contains(word) || behind.contains(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_looks_like_a_secret_goes() {
        for (line, kept) in [
            ("rotated sk-proj-0123456789abcdef today", "rotated (redacted) today"),
            ("old:sk-troupe-AbCdEf0123", "old:(redacted)"),
            ("Authorization: Bearer hunter2secret", "Authorization: (redacted) (redacted)"),
            ("with bearer abc.def-ghi now", "with bearer (redacted).(redacted) now"),
            ("join by troupe-join-Xy12345678.0a0b0c0d", "join by (redacted).(redacted)"),
            ("password=hun!ter@2 user=ann", "password=(redacted) user=ann"),
            ("OPENAI_API_KEY='abc' x", "OPENAI_API_KEY='(redacted)' x"),
            (r#"{"token": "short", "name": "ops"}"#, r#"{"token": "(redacted)", "name": "ops"}"#),
            ("the key is 0123456789abcdef0123", "the key is (redacted)"),
            ("c2VjcmV0LzEyMzQ1Njc4OTA/YWJj was the secret", "(redacted) was the secret"),
            ("see Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1u", "see (redacted)"),
            ("at https://ann:pw1@h.example/x?a=1", "at https://(redacted)@h.example/x?a=1"),
            ("eyJhbGciOi.eyJzdWIiOi.SflKxwRJSM", "(redacted).(redacted).(redacted)"),
            (
                "-----BEGIN EC PRIVATE KEY-----\nMHcC\nAQ==\n-----END EC PRIVATE KEY-----\nend",
                "-----BEGIN EC PRIVATE KEY-----(redacted)\nend",
            ),
            ("token=a\nnext", "token=(redacted)\nnext"),
            ("pwd=hunter2plain pass: tigerlily99", "pwd=(redacted) pass: (redacted)"),
            ("it was 00112233445566778899aabbccddeeff0011223344556677", "it was (redacted)"),
        ] {
            assert_eq!(text(line), kept);
        }
    }

    #[test]
    fn what_is_known_goes_however_it_is_written() {
        let mut known = Known::default();
        known.add("plain words");
        known.add("short");
        known.add_bytes(&[0xab; 12]);

        let base64 = "q6urq6urq6urq6ur";
        for line in [
            "a plain words b",
            "a abababababababababababab b",
            "a ABABABABABABABABABABABAB b",
            &format!("a {base64} b"),
        ] {
            assert_eq!(known.strip(line), "a (redacted) b");
        }
        assert_eq!(known.strip("short"), "short", "it may be anybody's word");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "key team-a was rotated by ops: the disk-full alarm, task-skip",
            "seal_key = \"file:/etc/troupe/seal-key\"",
            "admin_token = \"env:TROUPE_TOKEN\" # where it is",
            "\"secret\": \"(set)\"",
            "troupe_tokens_total{model=\"gpt-4o\",type=\"cached_read\"} 12345678901234567890123",
            "node 00c0ffee00c0ffee leads at 10.0.0.1:8082, revision 12",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "clés: größer ≥ 20",
        ] {
            assert_eq!(text(line), line);
        }
    }

    #[test]
    fn a_document_is_redacted_by_names_and_by_texts() {
        let told = document(json!({
            "items": [{"name": "k", "secret": "abc-1", "hash": "def-2", "hash_prefix": "de", "tokens": 5}],
            "keys": [{"secret": "(set)"}], "ca_pem": "ghi-3",
            "headers": {"x-custom": "jkl-4", "x-more": ["mno-5"]},
            "reason": "leaked sk-0123456789, so it went",
            "seal_key": "0123456789abcdef0123456789abcdef",
        }));

        let text = told.to_string();
        for gone in ["abc-1", "def-2", "ghi-3", "jkl-4", "mno-5", "sk-0123", "0123456789abcdef"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        for kept in ["(set)", "\"hash_prefix\":\"de\"", "\"tokens\":5", "so it went", "x-custom"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }
}
