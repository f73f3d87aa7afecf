//! What clients ask, in both dialects.

use serde_json::{Value, json};

/// A dialect that clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Chat completions.
    OpenAi,
    /// Messages.
    Anthropic,
}

impl Dialect {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::OpenAi, Self::Anthropic];

    /// Where its calls go.
    pub const fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1/chat/completions",
            Self::Anthropic => "/v1/messages",
        }
    }

    /// A whole reply, asked for.
    pub fn ask(self, model: &str) -> Value {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
        if self == Self::Anthropic {
            body["max_tokens"] = json!(1000);
        }
        body
    }

    /// A stream, asked for.
    pub fn ask_stream(self, model: &str) -> Value {
        let mut body = self.ask(model);
        body["stream"] = json!(true);
        body
    }

    /// The text in a whole reply.
    pub fn text(self, reply: &Value) -> String {
        let at = match self {
            Self::OpenAi => "/choices/0/message/content",
            Self::Anthropic => "/content/0/text",
        };
        reply.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The text that an event of a stream adds, if it adds any.
    pub fn piece(self, event: &Value) -> Option<String> {
        let at = match self {
            Self::OpenAi => "/choices/0/delta/content",
            Self::Anthropic => "/delta/text",
        };
        event.pointer(at).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

/// The mock's text: `w0 w1 w2 `, a word an event.
pub fn words(count: usize) -> String {
    (0..count).map(|n| format!("w{n} ")).collect()
}
