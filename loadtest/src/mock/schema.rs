//! Values that satisfy a JSON schema, for tool arguments and structured answers.

use serde_json::{Map, Value, json};

/// Nesting at which a schema that refers to itself is cut off with null.
const DEPTH_MAX: usize = 24;
/// Nesting from which a union prefers its null branch, so that recursion ends.
const DEPTH_NULL_PREFERRED: usize = 6;
/// Most items or characters a lower bound can make us write.
const LEAST_MAX: u64 = 1024;

/// Makes the smallest plain value that `schema` accepts.
///
/// Knows objects (what is required; everything when nothing is), arrays, enums,
/// const, unions, local `$ref`, `allOf`, and the common bounds. A `pattern` is not obeyed.
pub(super) fn example(schema: &Value) -> Value {
    value(schema, schema, 0)
}

fn value(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        let target = path.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or(Value::Null, |target| value(target, root, depth + 1));
    }
    if let Some(fixed) = schema.get("const") {
        return fixed.clone();
    }
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|all| all.first()) {
        return first.clone();
    }
    for union in ["anyOf", "oneOf"] {
        if let Some(branches) = schema.get(union).and_then(Value::as_array) {
            return branch(branches, root, depth);
        }
    }
    if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
        return all_of(schema, parts, root, depth);
    }
    match kind(schema) {
        "object" => object(schema, root, depth),
        "array" => array(schema, root, depth),
        "integer" => integer(schema),
        "number" => number(schema),
        "boolean" => Value::Bool(true),
        "null" => Value::Null,
        _ => string(schema),
    }
}

fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            let mut names = kinds.iter().filter_map(Value::as_str);
            names.find(|name| *name != "null").unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "string",
    }
}

fn branch(branches: &[Value], root: &Value, depth: usize) -> Value {
    let is_null = |branch: &&Value| branch.get("type").and_then(Value::as_str) == Some("null");
    let null = branches.iter().find(is_null);
    let other = branches.iter().find(|branch| !is_null(branch));
    let chosen = if depth >= DEPTH_NULL_PREFERRED { null.or(other) } else { other.or(null) };
    chosen.map_or(Value::Null, |chosen| value(chosen, root, depth + 1))
}

fn all_of(schema: &Value, parts: &[Value], root: &Value, depth: usize) -> Value {
    let mut merged = match schema.get("properties") {
        Some(_) => object(schema, root, depth),
        None => Value::Null,
    };
    for part in parts {
        match (&mut merged, value(part, root, depth + 1)) {
            (Value::Object(fields), Value::Object(more)) => fields.extend(more),
            (slot, made) if slot.is_null() => *slot = made,
            // Parts that are no objects all describe one plain value: the first one's will do.
            (_, _) => {}
        }
    }
    merged
}

fn object(schema: &Value, root: &Value, depth: usize) -> Value {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required: Option<Vec<&str>> =
        schema.get("required").and_then(Value::as_array).map(|all| all.iter().filter_map(Value::as_str).collect());
    let wanted = |name: &String| required.as_ref().is_none_or(|required| required.contains(&name.as_str()));
    let mut fields: Map<String, Value> = properties
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, schema)| (name.clone(), value(schema, root, depth + 1)))
        .collect();
    // A required name without a property of its own may hold anything.
    for name in required.iter().flatten() {
        fields.entry((*name).to_owned()).or_insert_with(|| json!("mock"));
    }
    Value::Object(fields)
}

fn array(schema: &Value, root: &Value, depth: usize) -> Value {
    let mut items: Vec<Value> = schema
        .get("prefixItems")
        .and_then(Value::as_array)
        .map(|all| all.iter().map(|item| value(item, root, depth + 1)).collect())
        .unwrap_or_default();
    let fallback = json!({});
    let item = schema.get("items").filter(|item| item.is_object()).unwrap_or(&fallback);
    let most = bound(schema, "maxItems").unwrap_or(LEAST_MAX);
    let least = bound(schema, "minItems").unwrap_or(1).clamp(0, LEAST_MAX).min(most);
    while u64::try_from(items.len()).is_ok_and(|len| len < least) {
        items.push(value(item, root, depth + 1));
    }
    Value::Array(items)
}

fn bound(schema: &Value, name: &str) -> Option<u64> {
    schema.get(name).and_then(Value::as_u64)
}

fn integer(schema: &Value) -> Value {
    let floor = schema.get("minimum").and_then(Value::as_i64);
    let above = schema.get("exclusiveMinimum").and_then(Value::as_i64).map(|least| least.saturating_add(1));
    let most = schema.get("maximum").and_then(Value::as_i64);
    let below = schema.get("exclusiveMaximum").and_then(Value::as_i64).map(|most| most.saturating_sub(1));
    let mut made = 1.min(most.unwrap_or(1)).min(below.unwrap_or(1));
    made = made.max(floor.unwrap_or(made)).max(above.unwrap_or(made));
    let step = schema.get("multipleOf").and_then(Value::as_i64).filter(|step| *step > 1);
    let rest = step.map_or(0, |step| made.rem_euclid(step));
    json!(if rest == 0 { made } else { made.saturating_add(step.unwrap_or(0) - rest) })
}

fn number(schema: &Value) -> Value {
    let floor = schema.get("minimum").and_then(Value::as_f64);
    let above = schema.get("exclusiveMinimum").and_then(Value::as_f64);
    let most = schema.get("maximum").and_then(Value::as_f64);
    let below = schema.get("exclusiveMaximum").and_then(Value::as_f64);
    let low = floor.or(above);
    let high = most.or(below);
    json!(match (low, high) {
        (Some(low), Some(high)) => low + (high - low) / 2.0,
        (Some(low), None) => low + 1.5,
        (None, Some(high)) => high - 1.5,
        (None, None) => 1.5,
    })
}

fn string(schema: &Value) -> Value {
    let plain = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2026-01-02T03:04:05Z",
        Some("date") => "2026-01-02",
        Some("time") => "03:04:05Z",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("email") => "mock@example.com",
        Some("uri") => "https://example.com/mock",
        Some("ipv4") => "192.0.2.1",
        _ => "mock",
    };
    let least = usize::try_from(bound(schema, "minLength").unwrap_or(0).min(LEAST_MAX)).unwrap_or(0);
    let most = usize::try_from(bound(schema, "maxLength").unwrap_or(LEAST_MAX)).unwrap_or(usize::MAX);
    let padded = plain.chars().chain(std::iter::repeat_n('x', least.saturating_sub(plain.len())));
    Value::String(padded.take(most).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_gets_what_it_requires_by_type() {
        let schema = json!({"type": "object", "required": ["city", "days", "unit", "tags"], "properties": {
            "city": {"type": "string"}, "days": {"type": "integer", "minimum": 3},
            "unit": {"enum": ["c", "f"]}, "tags": {"type": "array", "items": {"type": "boolean"}},
            "optional": {"type": "string"}}});

        assert_eq!(example(&schema), json!({"city": "mock", "days": 3, "unit": "c", "tags": [true]}));
    }

    #[test]
    fn without_a_required_list_every_property_is_given() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "null"}}});

        assert_eq!(example(&schema), json!({"a": 1.5, "b": null}));
    }

    #[test]
    fn references_unions_and_type_lists_are_followed() {
        let schema = json!({"$defs": {"step": {"type": "object", "required": ["next"],
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/step"}, {"type": "null"}]}}}},
            "type": "object", "required": ["first", "name"],
            "properties": {"first": {"$ref": "#/$defs/step"}, "name": {"type": ["string", "null"]}}});

        let made = example(&schema);

        assert_eq!(made["name"], "mock");
        assert!(made["first"]["next"].is_object());
        assert!(made.to_string().contains("null"), "the recursion ends: {made}");
    }

    #[test]
    fn bounds_are_kept() {
        assert_eq!(example(&json!({"type": "integer", "maximum": -2})), json!(-2));
        assert_eq!(example(&json!({"type": "integer", "exclusiveMinimum": 4, "multipleOf": 3})), json!(6));
        assert_eq!(example(&json!({"type": "string", "minLength": 6})), json!("mockxx"));
        assert_eq!(example(&json!({"type": "string", "maxLength": 2})), json!("mo"));
        assert_eq!(
            example(&json!({"type": "array", "minItems": 2, "items": {"type": "boolean"}})),
            json!([true, true])
        );
    }
}
