//! OpenAI's error bodies, read leniently: compatible servers spell them in many ways.

use serde_json::Value;

use crate::call::Extra;

/// What an error body says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorBody {
    /// For people.
    pub message: String,
    /// The class, such as `invalid_request_error`.
    pub kind: Option<String>,
    /// The code, such as `context_length_exceeded`; a number is kept as its digits.
    pub code: Option<String>,
    /// The member at fault.
    pub param: Option<String>,
    /// The rest of the inner object.
    pub extra: Extra,
}

/// Reads `{"error": {...}}`, `{"error": "text"}` or a flat `{"message": ...}`; `None` when it is none of them.
pub fn decode(body: &Value) -> Option<ErrorBody> {
    let outer = body.as_object()?;
    let inner = match outer.get("error") {
        Some(Value::Object(inner)) => inner,
        Some(Value::String(message)) => {
            return Some(ErrorBody { message: message.clone(), ..ErrorBody::default() });
        }
        None if outer.contains_key("message") => outer,
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | None => return None,
    };
    let mut extra = inner.clone();
    let mut word = |key: &str| match inner.get(key) {
        Some(Value::String(text)) => {
            extra.shift_remove(key);
            Some(text.clone())
        }
        Some(Value::Number(number)) => {
            extra.shift_remove(key);
            Some(number.to_string())
        }
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    let message = word("message").unwrap_or_default();
    let (kind, code, param) = (word("type"), word("code"), word("param"));
    Some(ErrorBody { message, kind, code, param, extra })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_spelling_of_an_error_is_read() {
        let full = json!({"error": {"message": "no", "type": "t", "code": 429, "param": null, "misalignment": {}}});

        let read = decode(&full).unwrap();

        assert_eq!((read.message.as_str(), read.kind.as_deref(), read.code.as_deref()), ("no", Some("t"), Some("429")));
        assert!(read.extra.contains_key("misalignment"));
        assert_eq!(decode(&json!({"error": "no"})).unwrap().message, "no");
        assert_eq!(decode(&json!({"message": "no"})).unwrap().message, "no");
        assert_eq!(decode(&json!({"error": null})), None);
        assert_eq!(decode(&json!({"choices": []})), None);
    }
}
