use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{ConfigError, Entry, Node, Place, Value};

/// Reads the JSON body of a call as a table of values. Places stay unknown: whoever sent it knows it by its fields.
///
/// # Errors
/// Where and why it is no JSON; a name given twice is an error.
pub fn parse_json(source: &str, bytes: &[u8]) -> Result<Node, ConfigError> {
    let node: JsonNode =
        serde_json::from_slice(bytes).map_err(|error| ConfigError::whole(source, format!("not JSON: {error}")))?;
    match node.0.value {
        Value::Table(_) => Ok(node.0),
        other => Err(ConfigError::whole(source, format!("expected an object, found {}", other.kind()))),
    }
}

struct JsonNode(Node);

impl JsonNode {
    fn of(value: Value) -> Self {
        Self(Node { at: Place::default(), value })
    }
}

impl<'de> Deserialize<'de> for JsonNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = JsonNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<JsonNode, E> {
        Ok(JsonNode::of(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonNode, E> {
        Ok(JsonNode::of(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonNode, E> {
        Ok(JsonNode::of(Value::Whole(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonNode, E> {
        Ok(JsonNode::of(i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Whole)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<JsonNode, E> {
        Ok(JsonNode::of(Value::Fraction(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<JsonNode, E> {
        Ok(JsonNode::of(Value::Text(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<JsonNode, E> {
        Ok(JsonNode::of(Value::Text(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<JsonNode, A::Error> {
        let mut items = Vec::new();
        while let Some(JsonNode(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(JsonNode::of(Value::List(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<JsonNode, A::Error> {
        let mut entries = Vec::new();
        let mut names = BTreeSet::new();
        while let Some((name, JsonNode(node))) = access.next_entry::<String, JsonNode>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the name {name:?} is given twice")));
            }
            entries.push(Entry { name, at: Place::default(), node });
        }
        Ok(JsonNode::of(Value::Table(entries)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_becomes_the_same_values_as_a_file() {
        let text = br#"{"a": [1, true, null, "x", 2.5], "b": {"c": {}}}"#;
        let plain = super::super::parse("f", super::super::Format::Json, std::str::from_utf8(text).unwrap()).unwrap();

        let body = parse_json("body", text).unwrap();

        assert_eq!(without_places(body), without_places(plain));
    }

    fn without_places(node: Node) -> Node {
        let value = match node.value {
            Value::List(items) => Value::List(items.into_iter().map(without_places).collect()),
            Value::Table(entries) => Value::Table(
                entries
                    .into_iter()
                    .map(|entry| Entry { at: Place::default(), node: without_places(entry.node), ..entry })
                    .collect(),
            ),
            other => other,
        };
        Node { at: Place::default(), value }
    }

    #[test]
    fn what_is_no_table_of_values_is_told() {
        for (text, told) in
            [("[]", "found a list"), ("{\"a\": 1, \"a\": 2}", "given twice"), ("{", "EOF"), ("{} x", "trailing")]
        {
            let error = parse_json("body", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert!(parse_json("body", "[".repeat(100_000).as_bytes()).is_err());
    }
}
