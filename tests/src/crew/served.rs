//! A crew that serves one model by its mock, and what its nodes think of it.

use http::Method;
use serde_json::{Value, json};

use super::{Crew, attempt};
use crate::ask::Dialect;

impl Crew {
    /// Has the cluster serve `gpt-4o` by the crew's mock, to whoever shows `sk-team`.
    ///
    /// # Panics
    /// When the cluster does not take that.
    pub async fn furnish(&self) {
        let spec = json!({
            "providers": { "o": { "wire": "openai", "base_url": format!("{}/v1", self.mock.base_url),
                                  "keys": [{ "name": "main", "secret": "provider-secret" }] } },
            "models": { "gpt-4o": { "targets": [{ "provider": "o" }] } },
            "keys": { "team": { "secret": "sk-team" } },
        });
        let reply = self.ask(0, Method::POST, "/admin/v1/apply", Some(spec)).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    /// The status of one chat at a node; 0 when there is no whole answer.
    pub async fn chat(&self, at: usize, key: &str) -> u16 {
        let body = Dialect::OpenAi.ask("gpt-4o").to_string();
        let reply = attempt(self.nodes[at].data, Method::POST, Dialect::OpenAi.path(), key, body).await;
        reply.map_or(0, |reply| reply.status)
    }

    /// The breaker of the only target, as a node shows it.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn breaker(&self, at: usize) -> Value {
        let reply = self.ask(at, Method::GET, "/admin/v1/breakers", None).await.unwrap();
        serde_json::from_slice::<Value>(&reply.body).unwrap()["items"][0].clone()
    }
}

/// What a node rests a target for, as another node that shows this breaker has heard; it counts there.
pub fn heard_of(breaker: &Value, node: &str) -> Option<String> {
    let mut nodes = breaker["nodes"].as_array().into_iter().flatten();
    let told = nodes.find(|told| told["node"] == *node && told["counts"] == true)?;
    told["rests_for"].as_str().map(str::to_owned)
}
