//! Makes a value that fits a JSON schema, as a model held to it would.
//!
//! Knows types, `enum`, `const`, `$ref` within the document, `anyOf`, `oneOf`, `allOf`, bounds of numbers, lengths and
//! counts, and the common formats of strings. `pattern`, `not`, `if` and `uniqueItems` are not looked at.

use serde_json::{Map, Number, Value, json};

/// Depth from which only what is required is filled in, so that recursive schemas end.
const DEPTH_SHALLOW: usize = 6;
/// Depth at which nothing is filled in any more.
const DEPTH_MAX: usize = 24;
/// The most values one document gets.
const VALUES_MAX: usize = 512;
/// The longest string and the longest list that a lower bound can ask for.
const LENGTH_MAX: u64 = 256;

/// A value that fits `schema`; the same one each time.
pub(super) fn fill(schema: &Value) -> Value {
    Filler { root: schema, left: VALUES_MAX }.value(schema, 0)
}

struct Filler<'a> {
    root: &'a Value,
    left: usize,
}

impl<'a> Filler<'a> {
    fn value(&mut self, schema: &'a Value, depth: usize) -> Value {
        if depth > DEPTH_MAX || self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|path| self.root.pointer(path));
            return found.map_or(Value::Null, |found| self.value(found, depth + 1));
        }
        if let Some(value) = schema.get("const").or_else(|| schema.pointer("/enum/0")) {
            return value.clone();
        }
        let of = |name: &str| schema.get(name).and_then(Value::as_array).filter(|list| !list.is_empty());
        if let Some(choices) = of("anyOf").or_else(|| of("oneOf")) {
            // "Something or nothing" is something, until the schema has gone round often enough.
            let is_null = |choice: &&Value| choice.get("type").is_some_and(|kind| kind == "null");
            let wanted = choices.iter().find(|choice| is_null(choice) == (depth > DEPTH_SHALLOW));
            return wanted.or(choices.first()).map_or(Value::Null, |choice| self.value(choice, depth + 1));
        }
        if let Some(parts) = of("allOf") {
            let mut all = self.object(schema, depth);
            for part in parts {
                match self.value(part, depth + 1) {
                    Value::Object(members) => all.extend(members),
                    other => return other,
                }
            }
            return Value::Object(all);
        }
        match kind(schema) {
            "object" => Value::Object(self.object(schema, depth)),
            "array" => self.array(schema, depth),
            "integer" | "number" => number(schema),
            "boolean" => Value::Bool(true),
            "null" => Value::Null,
            _ => Value::String(string(schema)),
        }
    }

    fn object(&mut self, schema: &'a Value, depth: usize) -> Map<String, Value> {
        let required = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut members = Map::new();
        for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if depth < DEPTH_SHALLOW || required.iter().any(|required| required == name) {
                members.insert(name.clone(), self.value(member, depth + 1));
            }
        }
        for name in required.iter().filter_map(Value::as_str) {
            members.entry(name).or_insert_with(|| json!("sample"));
        }
        members
    }

    fn array(&mut self, schema: &'a Value, depth: usize) -> Value {
        let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
        let wanted = if depth < DEPTH_SHALLOW { 1 } else { 0 };
        let first = schema.get("prefixItems").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let count = bound("minItems").unwrap_or(0).max(wanted).min(bound("maxItems").unwrap_or(LENGTH_MAX));
        let count = usize::try_from(count.min(LENGTH_MAX)).unwrap_or(0).max(first.len());
        let rest = schema.get("items").unwrap_or(&Value::Null);
        let items = (0..count).map(|at| first.get(at).unwrap_or(rest));
        items.map(|item| self.value(item, depth + 1)).collect()
    }
}

/// The type a schema names, the first of several that is not null, or the one its other members speak of.
fn kind(schema: &Value) -> &str {
    let named = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        named => named.and_then(Value::as_str),
    };
    let has = |name: &str| schema.get(name).is_some();
    named.unwrap_or_else(|| match () {
        () if has("properties") || has("required") => "object",
        () if has("items") || has("prefixItems") => "array",
        () if has("minimum") || has("maximum") => "number",
        () => "string",
    })
}

/// The least whole number that the bounds allow, seen from 1.
fn number(schema: &Value) -> Value {
    let whole = |name: &str| schema.get(name).and_then(Value::as_i64);
    let low = whole("minimum").max(whole("exclusiveMinimum").map(|low| low.saturating_add(1)));
    let high = [whole("maximum"), whole("exclusiveMaximum").map(|high| high.saturating_sub(1))].into_iter().flatten();
    let step = whole("multipleOf").filter(|step| *step > 0).unwrap_or(1);
    let at_least = low.unwrap_or(1);
    let at_most = high.min().unwrap_or(i64::MAX);
    if let Some(fraction) = fraction(schema) {
        return fraction;
    }
    // The next multiple of the step, unless that is beyond the upper bound.
    let missing = (step - at_least.rem_euclid(step)).rem_euclid(step);
    let up = at_least.checked_add(missing).filter(|number| *number <= at_most);
    let down = || at_most.saturating_sub(at_most.rem_euclid(step));
    Value::from(up.unwrap_or_else(down))
}

/// A bound that is no whole number is itself the answer: the lower one, else the upper one.
fn fraction(schema: &Value) -> Option<Value> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_number).filter(|bound| !bound.is_i64());
    bound("minimum").or_else(|| bound("maximum")).map(|bound: &Number| Value::Number(bound.clone()))
}

fn string(schema: &Value) -> String {
    let sample = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2026-01-01T00:00:00Z",
        Some("date") => "2026-01-01",
        Some("time") => "00:00:00Z",
        Some("duration") => "PT1H",
        Some("email") => "sample@example.com",
        Some("hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some("uri") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "sample",
    };
    let length = |name: &str| schema.get(name).and_then(Value::as_u64);
    let least = usize::try_from(length("minLength").unwrap_or(0).min(LENGTH_MAX)).unwrap_or(0);
    let most = length("maxLength").and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let padding = std::iter::repeat_n('.', least.saturating_sub(sample.len()));
    sample.chars().chain(padding).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_gets_every_property_with_its_type() {
        let schema = json!({
            "type": "object", "required": ["city", "extra"],
            "properties": {
                "city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}, "warm": {"type": "boolean"},
                "unit": {"enum": ["C", "F"]}, "kind": {"const": "x"}, "low": {"type": "number", "maximum": -2.5},
                "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 2},
                "note": {"anyOf": [{"type": "null"}, {"type": "string"}]}, "born": {"type": ["null", "string"], "format": "date"}
            }
        });

        let value = fill(&schema);

        let expected = json!({
            "city": "sample", "days": 3, "warm": true, "unit": "C", "kind": "x", "low": -2.5, "tags": ["sam", "sam"],
            "note": "sample", "born": "2026-01-01", "extra": "sample"
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn bounds_of_numbers_hold() {
        for (schema, expected) in [
            (json!({"type": "integer", "maximum": 0}), json!(0)),
            (json!({"type": "integer", "exclusiveMinimum": 4, "multipleOf": 5}), json!(5)),
            (json!({"type": "integer", "minimum": 8, "maximum": 10, "multipleOf": 5}), json!(10)),
            (json!({"type": "number", "minimum": 0, "exclusiveMaximum": 1}), json!(0)),
            (json!({"type": "integer", "minimum": 9_223_372_036_854_775_807_i64}), json!(i64::MAX)),
        ] {
            assert_eq!(fill(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn references_and_parts_are_followed() {
        let schema = json!({
            "$defs": {"id": {"type": "integer"}}, "properties": {"a": {"type": "string"}},
            "allOf": [{"properties": {"b": {"$ref": "#/$defs/id"}}}]
        });

        assert_eq!(fill(&schema), json!({"a": "sample", "b": 1}));
        assert_eq!(fill(&json!({"$ref": "#/nowhere"})), Value::Null);
    }

    #[test]
    fn a_schema_that_contains_itself_and_one_that_asks_for_too_much_both_end() {
        let tree = json!({
            "type": "object", "required": ["next"],
            "properties": {"next": {"$ref": "#"}, "leaf": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}
        });
        let wide =
            json!({"type": "array", "minItems": 1_000_000_000_u64, "items": {"type": "string", "minLength": 1e18}});

        assert!(fill(&tree).is_object());
        assert!(fill(&wide).to_string().len() < 1 << 20);
    }
}
