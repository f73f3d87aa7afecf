//! The OpenAPI document and the reference page, made of the route table and the sections of the spec file: what is
//! documented is what is routed and read.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::failure::Code;
use super::table::{Gives, Member, ROUTES, Route, Takes};
use crate::config::source::{Field, Section};
use crate::config::spec_file::{SECTIONS, section};

/// The whole document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(item) = item {
            item.insert(route.method.to_lowercase(), operation(route));
        }
    }
    let schemas: Map<String, Value> =
        SECTIONS.iter().map(|section| (schema_name(section.name), section_schema(section))).collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Troupe admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything an operator sees and changes. Any node takes any call.",
        },
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "parameters": {
                "reason": header("X-Troupe-Reason", "Why; kept in the audit."),
                "idempotencyKey": header("Idempotency-Key", "Names this change: asked for again with the same key, path and body, it takes effect once."),
                "ifMatch": header("If-Match", "The ETag of an answer: the change is made only while the state is at that revision. `*`: only where what the path names is there."),
                "ifNoneMatch": header("If-None-Match", "`*`: the change is made only where what the path names is not there yet."),
            },
            "responses": {"problem": {
                "description": "It was not done. `code` says why.",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }},
        },
    });
    document["paths"] = Value::Object(paths);
    document["components"]["schemas"] = Value::Object(schemas);
    document["components"]["schemas"]["Problem"] = json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "description": "Stable; programs branch on it."},
            "problems": {"type": "array", "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            }},
        },
    });
    document
}

fn header(name: &str, doc: &str) -> Value {
    json!({"name": name, "in": "header", "required": false, "schema": {"type": "string"}, "description": doc})
}

fn operation(route: &Route) -> Value {
    let mut parameters = Vec::new();
    for name in holes(route.path) {
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    }
    for parameter in route.query {
        parameters.push(json!({
            "name": parameter.name, "in": "query", "required": parameter.doc.starts_with("Required."),
            "schema": takes_schema(parameter.takes), "description": parameter.doc,
        }));
    }
    if route.method != "GET" {
        // Who takes part has no revision.
        let conditions: &[&str] =
            if route.path.starts_with("/admin/v1/cluster") { &[] } else { &["ifMatch", "ifNoneMatch"] };
        for name in ["reason", "idempotencyKey"].iter().chain(conditions) {
            parameters.push(json!({"$ref": format!("#/components/parameters/{name}")}));
        }
    }
    let (media_type, schema) = match route.answer {
        Gives::Text(media_type) => (media_type, json!({"type": "string"})),
        gives => ("application/json", gives_schema(gives)),
    };
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.doc,
        "x-troupe-role": route.role.as_str(),
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": {media_type: {"schema": schema}}},
            "default": {"$ref": "#/components/responses/problem"},
        },
    });
    if let Some(schema) = takes_body(route.body) {
        operation["requestBody"] = json!({"content": {"application/json": {"schema": schema}}});
    }
    operation
}

/// `put_keys_name`.
fn operation_id(route: &Route) -> String {
    let path = route.path.trim_start_matches("/admin/v1").replace(['{', '}'], "");
    let words = path.split(['/', '-', '.']).filter(|word| !word.is_empty());
    words.fold(route.method.to_lowercase(), |id, word| format!("{id}_{word}"))
}

fn holes(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn takes_body(takes: Takes) -> Option<Value> {
    match takes {
        Takes::Nothing => None,
        Takes::Section(name) => Some(reference(name)),
        Takes::Spec => Some(reference("")),
        Takes::Fields(fields) => Some(members(fields)),
    }
}

fn gives_schema(gives: Gives) -> Value {
    let page = |items: Value| {
        json!({
            "type": "object",
            "properties": {
                "revision": {"type": "integer"},
                "items": {"type": "array", "items": items},
                "next": {"type": "string", "description": "`after` of the next page; absent on the last."},
            },
        })
    };
    match gives {
        Gives::Text(_) => json!({"type": "string"}),
        Gives::Section(name, more) => json!({"allOf": [reference(name), members(more)]}),
        Gives::Page(name, more) => page(json!({"allOf": [reference(name), members(more)]})),
        Gives::Spec => reference(""),
        Gives::Fields(fields) => members(fields),
        Gives::Items(fields) => page(members(fields)),
        Gives::ItemsAnd(fields, more) => json!({"allOf": [page(members(fields)), members(more)]}),
        Gives::Object => json!({"type": "object"}),
    }
}

fn members(fields: &[Member]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| {
            let mut schema = takes_schema(field.takes);
            schema["description"] = field.doc.into();
            (field.name.to_owned(), schema)
        })
        .collect();
    json!({"type": "object", "properties": properties})
}

/// `keys.NAME` is `Keys`, `providers.NAME.keys[]` is `ProvidersKeys`, the whole file is `Spec`.
fn schema_name(section: &str) -> String {
    if section.is_empty() {
        return "Spec".to_owned();
    }
    let words = section.trim_end_matches("[]").split('.').filter(|word| *word != "NAME");
    words.map(|word| word.get(..1).unwrap_or_default().to_uppercase() + word.get(1..).unwrap_or_default()).collect()
}

fn reference(section: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", schema_name(section))})
}

fn section_schema(of: &Section) -> Value {
    let mut required = Vec::new();
    let mut properties = Map::new();
    for field in of.fields {
        if field.doc.starts_with("Required.") {
            required.push(field.name);
        }
        properties.insert(field.name.to_owned(), field_schema(of, field));
    }
    let mut schema =
        json!({"type": "object", "description": of.doc, "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn field_schema(of: &Section, field: &Field) -> Value {
    let below = if of.name.is_empty() { field.name.to_owned() } else { format!("{}.{}", of.name, field.name) };
    let named = |name: &str| section(name).map(|section| reference(section.name));
    let mut schema = match field.takes {
        "tables by name" => {
            json!({"type": "object", "additionalProperties": named(&format!("{below}.NAME")).unwrap_or_default()})
        }
        "list of tables" => json!({"type": "array", "items": named(&format!("{below}[]")).unwrap_or_default()}),
        // Rules stand in several tables and are described once.
        "table" => named(&below).or_else(|| named(&format!("defaults.{}", field.name))).unwrap_or_default(),
        takes => takes_schema(takes),
    };
    schema["description"] = field.doc.into();
    if !field.default.is_empty() {
        schema["x-default"] = field.default.into();
    }
    schema
}

fn takes_schema(takes: &str) -> Value {
    match takes {
        "whole" | "count" => json!({"type": "integer", "minimum": 0}),
        "yes or no" => json!({"type": "boolean"}),
        "time" => json!({"type": "string", "format": "date-time"}),
        "URL" => json!({"type": "string", "format": "uri"}),
        "list of names" | "list of patterns" => json!({"type": "array", "items": {"type": "string"}}),
        "list" => json!({"type": "array"}),
        "object" => json!({"type": "object"}),
        "table of text" => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        words if words.starts_with('`') => {
            let words: Vec<&str> = words.split('`').skip(1).step_by(2).collect();
            json!({"type": "string", "enum": words})
        }
        other => json!({"type": "string", "x-troupe-form": other}),
    }
}

const HEAD: &str = "# Admin API

The admin listener (`127.0.0.1:8081` unless `[listen] admin` says otherwise) answers all of this; the command line speaks nothing else. `/healthz` and `/readyz` need no token. The same as an OpenAPI 3.1 document: [openapi.json](openapi.json), and `GET /admin/v1/openapi.json` from any node.

**Who asks.** `Authorization: Bearer TOKEN`. A token has a role: a *viewer* reads, an *operator* changes the spec too, an *admin* changes the cluster and gives and takes tokens too. The cluster's first, an admin's, is shown when the cluster forms. A node's own token (`listen.admin_token`; one that follows a spec file makes one and shows it once) is an admin's at that node.

**Bodies** are JSON in the shape of the [spec file's](config.md) sections, and are read by the same reader: an unknown field, a wrong value is told by its field, with the nearest known name. A secret stands in the body itself; `env:` and `file:` are resolved by the command line, on its side. Answers never hold a secret, but for one that was made just now. What was read can be sent back: a provider's secret that is `(set)` or absent stays as it is, and so does a key's.

**Reading** gives what is in force, and nothing older than what was acknowledged anywhere before. `?stale` answers from what the node holds, also when it hears from no other.

**Changing.** Any node takes any change. It is in force when the answer comes, or it was not made and will not be; only `outcome_unknown` says that nobody knows yet. `ETag` is the revision of the whole state; `If-Match` makes the change only while it is still that one (412 otherwise). `If-Match: *` makes it only where what the path names is there, `If-None-Match: *` only where it is not (412 otherwise); tokens know only the stars, because revisions count changes of the spec; other forms are refused (400). A change named by `Idempotency-Key` takes effect once however often it is asked for with the same path and body, among the last 4,096 such changes; a made secret is only in the first answer. `X-Troupe-Reason` is kept in the audit. A node that follows a spec file refuses every change (409, `read_only`).

**Lists** come in pages: `?limit=` items, then `next` as `?after=` of the next.

**Errors** are problem details (RFC 9457) with a stable `code`: one of the [catalogue](../errors/README.md), or one of these.

| code | status | what |
|---|---|---|
";

/// `docs/reference/admin-api.md`.
pub fn page() -> String {
    let mut page = String::from(HEAD);
    for (code, status, text) in Code::OWN {
        push(&mut page, format_args!("| `{code}` | {status} | {text} |\n"));
    }
    page.push_str("\n| path | role | what |\n|---|---|---|\n");
    for route in ROUTES {
        let role = route.role.as_str();
        push(&mut page, format_args!("| `{} {}` | {role} | {} |\n", route.method, route.path, route.doc));
    }
    for route in ROUTES {
        let body: &[Member] = match route.body {
            Takes::Fields(fields) => fields,
            Takes::Nothing | Takes::Section(_) | Takes::Spec => &[],
        };
        let answer: &[Member] = match route.answer {
            Gives::Fields(fields)
            | Gives::Items(fields)
            | Gives::ItemsAnd(fields, _)
            | Gives::Section(_, fields)
            | Gives::Page(_, fields) => fields,
            Gives::Text(_) | Gives::Spec | Gives::Object => &[],
        };
        let page_answer: &[Member] = match route.answer {
            Gives::ItemsAnd(_, fields) => fields,
            Gives::Fields(_)
            | Gives::Items(_)
            | Gives::Section(..)
            | Gives::Page(..)
            | Gives::Text(_)
            | Gives::Spec
            | Gives::Object => &[],
        };
        if route.query.is_empty() && body.is_empty() && answer.is_empty() {
            continue;
        }
        push(
            &mut page,
            format_args!("\n### {} {}\n\n| | field | takes | what |\n|---|---|---|---|\n", route.method, route.path),
        );
        for query in route.query {
            push(&mut page, format_args!("| `?` | `{}` | {} | {} |\n", query.name, query.takes, query.doc));
        }
        for (side, members) in [("body", body), ("answer", answer), ("page", page_answer)] {
            for member in members {
                push(&mut page, format_args!("| {side} | `{}` | {} | {} |\n", member.name, member.takes, member.doc));
            }
        }
    }
    page
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    page.write_fmt(text).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_pages_in_the_repository_are_those_made_of_the_table() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
        let document = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        let mut stale = Vec::new();

        for (name, made) in [("openapi.json", document), ("admin-api.md", page())] {
            let path = dir.join(name);
            if std::fs::read_to_string(&path).unwrap_or_default() != made {
                std::fs::write(&path, made).unwrap();
                stale.push(path);
            }
        }

        assert!(stale.is_empty(), "{stale:?} were stale and are written anew: look at them and commit them");
    }

    #[test]
    fn each_route_is_in_the_document_once_with_its_role() {
        let document = document();
        let mut ids = BTreeSet::new();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_lowercase()];
            assert_eq!(operation["x-troupe-role"], route.role.as_str(), "{} {}", route.method, route.path);
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{}", operation["operationId"]);
        }
    }

    /// Every `$ref` below `value`.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_table_of_the_spec_has_its_schema() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);

        for reference in &found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        for section in SECTIONS {
            let schema = &document["components"]["schemas"][schema_name(section.name)];
            for field in section.fields {
                let described = &schema["properties"][field.name];
                let is_typed = ["type", "$ref"].iter().any(|word| described.get(word).is_some());
                assert!(is_typed, "{}.{}: {described}", section.name, field.name);
            }
        }
    }
}
