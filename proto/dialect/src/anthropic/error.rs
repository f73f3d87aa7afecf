//! Anthropic's error bodies and error events.

use serde_json::Value;

/// What an error body or an `error` event says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// The class, such as `overloaded_error`.
    pub kind: Option<String>,
    /// For people.
    pub message: String,
    /// The provider's name for the request.
    pub request_id: Option<String>,
}

/// Reads `{"type": "error", "error": {...}}`; `None` when the body is something else.
pub fn decode(body: &Value) -> Option<ErrorBody> {
    let inner = body.get("error")?.as_object()?;
    let word = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    Some(ErrorBody {
        kind: word(inner.get("type")),
        message: word(inner.get("message")).unwrap_or_default(),
        request_id: word(body.get("request_id")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_event_and_an_error_body_read_alike() {
        let body =
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}, "request_id": "r"});

        let read = decode(&body).unwrap();

        assert_eq!((read.kind.as_deref(), read.message.as_str()), (Some("overloaded_error"), "busy"));
        assert_eq!(read.request_id.as_deref(), Some("r"));
        assert_eq!(decode(&json!({"type": "message"})), None);
    }
}
