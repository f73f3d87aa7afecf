//! `troupe dev`: everything needed to try Troupe in a minute, without a key and without a file.
//!
//! A simulated provider ([`simulated`]), a spec that routes the usual model names to it, and what to paste.

mod banner;
pub mod simulated;

use std::net::SocketAddr;

pub use banner::banner;

/// The secret of the key `dev`. It opens nothing but the simulated provider.
pub const SAMPLE_KEY: &str = "sk-troupe-dev";

/// The spec that `troupe dev` serves, as the text of a `spec.toml`, with the simulated provider at `simulated`.
///
/// The names of both vendors' models are served too, so that unchanged programs work.
pub fn spec(simulated: SocketAddr) -> String {
    format!(
        r#"[providers.sim-openai]
wire = "openai"
base_url = "http://{simulated}/v1"

[providers.sim-anthropic]
wire = "anthropic"
base_url = "http://{simulated}"

[models.sim]
targets = [{{ provider = "sim-openai" }}]

[models.sim-claude]
targets = [{{ provider = "sim-anthropic" }}]

[models."gpt-*"]
targets = [{{ provider = "sim-openai" }}]

[models."text-embedding-*"]
targets = [{{ provider = "sim-openai" }}]

[models."claude-*"]
targets = [{{ provider = "sim-anthropic" }}]

[keys.dev]
secret = "{SAMPLE_KEY}"
"#
    )
}

#[cfg(test)]
mod tests;
