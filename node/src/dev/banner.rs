//! What `troupe dev` prints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::SAMPLE_KEY;

/// What `troupe dev` prints once it serves: where, with which key, commands to paste into a shell, and how to go on.
///
/// `data` is where clients go, `admin` the admin listener, whose requests need `admin_token`.
pub fn banner(data: SocketAddr, admin: SocketAddr, admin_token: &str) -> String {
    let (data, admin) = (dialable(data), dialable(admin));
    let token = quoted(&format!("authorization: Bearer {admin_token}"));
    let [chat, chat_streamed] = pair(|stream| {
        format!(
            r#"{{"model": "sim", {stream}"messages": [{{"role": "user", "content": "Hello over the OpenAI wire"}}]}}"#
        )
    });
    let [message, message_streamed] = pair(|stream| {
        format!(
            r#"{{"model": "sim-claude", "max_tokens": 100, {stream}"messages": [{{"role": "user", "content": "Hello over the Anthropic wire"}}]}}"#
        )
    });
    format!(
        r#"Troupe serves a simulated provider. Nothing leaves this machine, and no provider's key is needed.

  clients  http://{data}      key {SAMPLE_KEY}
  admin    http://{admin}      token {admin_token}
  models   sim, gpt-*, text-embedding-* (OpenAI's wire upstream); sim-claude, claude-* (Anthropic's)

Paste into a shell. OpenAI's wire, whole and streamed:

curl -sS http://{data}/v1/chat/completions \
  -H 'authorization: Bearer {SAMPLE_KEY}' -H 'content-type: application/json' \
  -d {chat}

curl -sSN http://{data}/v1/chat/completions \
  -H 'authorization: Bearer {SAMPLE_KEY}' -H 'content-type: application/json' \
  -d {chat_streamed}

Anthropic's wire, whole and streamed:

curl -sS http://{data}/v1/messages \
  -H 'x-api-key: {SAMPLE_KEY}' -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' \
  -d {message}

curl -sSN http://{data}/v1/messages \
  -H 'x-api-key: {SAMPLE_KEY}' -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' \
  -d {message_streamed}

What the key may use, and what was counted:

curl -sS http://{data}/v1/models -H 'authorization: Bearer {SAMPLE_KEY}'

curl -sS http://{admin}/metrics -H {token}

Python, with the vendors' own SDKs:

  from openai import OpenAI
  client = OpenAI(base_url="http://{data}/v1", api_key="{SAMPLE_KEY}")

  from anthropic import Anthropic
  client = Anthropic(base_url="http://{data}", api_key="{SAMPLE_KEY}")

Next: docs/howto/try-it.md, then a spec.toml of your own and `troupe serve --spec spec.toml`. Ctrl-C stops.
"#
    )
}

/// The same body whole and streamed, each as one word of a shell.
fn pair(body: impl Fn(&str) -> String) -> [String; 2] {
    ["", r#""stream": true, "#].map(|stream| quoted(&body(stream)))
}

/// A text as one word that `sh` takes literally.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Where to connect to reach a listener: one that listens everywhere is reached on loopback.
fn dialable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}
