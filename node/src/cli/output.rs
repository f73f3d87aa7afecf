//! How commands print what a node answered.

use clap::ValueEnum;
use serde_json::Value;

/// What the standard output gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// The node's answer as it is.
    Json,
    /// The same as YAML.
    Yaml,
}

/// A JSON document as block YAML. Scalars and keys stay as JSON writes them, which YAML reads too.
pub(super) fn yaml(document: &Value) -> String {
    let mut text = String::new();
    match document {
        Value::Object(_) | Value::Array(_) if !is_empty(document) => push(&mut text, document, 0),
        scalar => text.push_str(&format!("{scalar}\n")),
    }
    text
}

fn push(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                text.push_str(&format!("{indent}{}:", plain(name)));
                push_behind(text, value, depth);
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = String::new();
                push(&mut inner, item, depth + 1);
                match item {
                    Value::Object(_) | Value::Array(_) if !is_empty(item) => {
                        // The first line of the item stands behind the dash, in place of its own indent.
                        let inner = inner.get(indent.len() + 2..).unwrap_or_default();
                        text.push_str(&format!("{indent}- {inner}"));
                    }
                    scalar => text.push_str(&format!("{indent}- {scalar}\n")),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn push_behind(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(_) | Value::Array(_) if !is_empty(value) => {
            text.push('\n');
            push(text, value, depth + 1);
        }
        scalar => text.push_str(&format!(" {scalar}\n")),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A name without quotes where YAML reads it as the text it is.
fn plain(name: &str) -> String {
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let is_taken = matches!(name, "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n");
    if is_word && !is_taken { name.to_owned() } else { Value::from(name).to_string() }
}

/// Rows in columns that are as wide as their widest cell. Columns named in `numbers` are set to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>], numbers: &[usize]) -> String {
    let rows: Vec<Vec<&str>> =
        std::iter::once(head.to_vec()).chain(rows.iter().map(|row| row.iter().map(String::as_str).collect())).collect();
    let wide =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(wide).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if at == 0 { "" } else { "  " };
            let cell = if numbers.contains(&at) { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(gap);
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_says_what_the_json_says() {
        let document = json!({
            "model": "gpt-4o", "none": null, "empty": [], "on": true, "Odd name": "a: b # c\n\"d\"",
            "pools": [{"targets": [{"target": "a/b/c", "share": 12.5}, {"target": "d"}], "n": 1}, [1, [2, 3]], {}, "x"],
            "nested": {"deep": {"deeper": {}}}
        });

        let text = yaml(&document);

        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, document, "{text}");
        assert!(text.starts_with("model: \"gpt-4o\"\n") || text.contains("\nmodel: \"gpt-4o\"\n"), "{text}");
        assert_eq!(yaml(&json!({})), "{}\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["openai/main".to_owned(), "7".to_owned(), "well".to_owned()]];

        assert_eq!(
            table(&["TARGET", "COUNT", "WHY"], &rows, &[1]),
            "TARGET       COUNT  WHY\nopenai/main      7  well\n"
        );
    }
}
