use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Lines;
use super::{ConfigError, Entry, Node, Place, Problem, Value};

/// A way to write configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.toml`
    Toml,
    /// `.yaml` or `.yml`
    Yaml,
    /// `.json`
    Json,
}

impl Format {
    /// Tells the format by a file's ending.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Reads text as a table of values with places. An empty text is an empty table.
///
/// # Errors
/// Where and why the text is not of its format; a name given twice is an error in each of them.
pub fn parse(source: &str, format: Format, text: &str) -> Result<Node, ConfigError> {
    let fail = |at: Place, message: String| ConfigError {
        problems: vec![Problem { source: source.to_owned(), at, field: String::new(), message }],
    };
    let node = match format {
        Format::Toml => {
            let lines = Lines::of(text);
            let table = DeTable::parse(text).map_err(|error| {
                let at = error.span().map(|span| lines.place(span.start)).unwrap_or_default();
                fail(at, error.message().to_owned())
            })?;
            Node { at: Place { line: 1, column: 1 }, value: from_toml_table(&lines, table.get_ref()) }
        }
        Format::Yaml => from_yaml(text).map_err(|(at, message)| fail(at, message))?,
        Format::Json => {
            if let Err(error) = serde_json::from_str::<de::IgnoredAny>(text) {
                let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let at = Place { line: count(error.line()), column: count(error.column()) };
                let message = error.to_string();
                // serde_json says the place again at the end of its message.
                let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
                return Err(fail(at, message.to_owned()));
            }
            // JSON is YAML, and only the YAML reader knows where values stand.
            from_yaml(text).map_err(|(at, message)| fail(at, message))?
        }
    };
    match node.value {
        Value::Table(_) => Ok(node),
        Value::Null => Ok(Node { at: node.at, value: Value::Table(Vec::new()) }),
        other => Err(fail(node.at, format!("expected a table of fields, found {}", other.kind()))),
    }
}

fn from_toml_table(lines: &Lines<'_>, table: &DeTable<'_>) -> Value {
    let entry = |(name, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| Entry {
        name: name.get_ref().clone().into_owned(),
        at: lines.place(name.span().start),
        node: from_toml(lines, value),
    };
    Value::Table(table.iter().map(entry).collect())
}

fn from_toml(lines: &Lines<'_>, spanned: &toml::Spanned<DeValue<'_>>) -> Node {
    let value = match spanned.get_ref() {
        DeValue::String(value) => Value::Text(value.clone().into_owned()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(value) => match i64::from_str_radix(value.as_str(), value.radix()) {
            Ok(number) => Value::Whole(number),
            // Larger than any field takes; the field says so.
            Err(_) => Value::Text(value.to_string()),
        },
        DeValue::Float(value) => Value::Fraction(value.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Datetime(value) => Value::Time(value.to_string()),
        DeValue::Array(items) => Value::List(items.iter().map(|item| from_toml(lines, item)).collect()),
        DeValue::Table(table) => from_toml_table(lines, table),
    };
    Node { at: lines.place(spanned.span().start), value }
}

fn from_yaml(text: &str) -> Result<Node, (Place, String)> {
    if text.trim().is_empty() {
        return Ok(Node { at: Place::default(), value: Value::Null });
    }
    // YAML 1.1's `on`, `off`, `yes` and `no` stay text: a log that is `off` must not read as `false`.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options::<Spanned<YamlValue>>(text, options).map(YamlValue::into_node).map_err(
        |error| {
            let at = error.location().map(place).unwrap_or_default();
            let message = error.to_string();
            let message = message.lines().next().unwrap_or_default();
            (at, message.split(" at line ").next().unwrap_or(message).to_owned())
        },
    )
}

fn place(location: serde_saphyr::Location) -> Place {
    let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: count(location.line()), column: count(location.column()) }
}

/// What the YAML reader hands over, before it becomes a [`Node`].
enum YamlValue {
    Leaf(Value),
    List(Vec<Spanned<YamlValue>>),
    Table(Vec<(Spanned<String>, Spanned<YamlValue>)>),
}

impl YamlValue {
    fn into_node(spanned: Spanned<Self>) -> Node {
        let at = place(spanned.referenced);
        let value = match spanned.value {
            Self::Leaf(value) => value,
            Self::List(items) => Value::List(items.into_iter().map(Self::into_node).collect()),
            Self::Table(entries) => {
                let entry = |(name, value): (Spanned<String>, _)| Entry {
                    at: place(name.referenced),
                    name: name.value,
                    node: Self::into_node(value),
                };
                Value::Table(entries.into_iter().map(entry).collect())
            }
        };
        Node { at, value }
    }
}

impl<'de> Deserialize<'de> for YamlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor)
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = YamlValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<YamlValue, E> {
        Ok(YamlValue::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<YamlValue, E> {
        Ok(YamlValue::Leaf(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<YamlValue, E> {
        Ok(YamlValue::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<YamlValue, E> {
        Ok(YamlValue::Leaf(Value::Whole(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<YamlValue, E> {
        Ok(YamlValue::Leaf(i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Whole)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<YamlValue, E> {
        Ok(YamlValue::Leaf(Value::Fraction(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<YamlValue, E> {
        Ok(YamlValue::Leaf(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<YamlValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(YamlValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<YamlValue, A::Error> {
        let mut entries: Vec<(Spanned<String>, Spanned<YamlValue>)> = Vec::new();
        while let Some(entry) = access.next_entry::<Spanned<String>, Spanned<YamlValue>>()? {
            entries.push(entry);
        }
        Ok(YamlValue::Table(entries))
    }
}
