use serde_json::{Value, json};

use super::*;

const ENTRIES: [Entry<'static>; 4] = [entry("a"), entry("b"), entry("c"), entry("d")];

const fn entry(id: &str) -> Entry<'_> {
    Entry { id, created: 1_700_000_000, owned_by: "troupe" }
}

fn page(limit: usize, after_id: Option<&'static str>, before_id: Option<&'static str>) -> (Vec<String>, bool) {
    let page = Page { limit: Some(limit), after_id, before_id };
    let list: Value = serde_json::from_slice(&list(Dialect::Anthropic, &ENTRIES, &page)).unwrap();
    let ids: Vec<String> = list["data"].as_array().unwrap().iter().map(|model| model["id"].to_string()).collect();
    if let (Some(first), Some(last)) = (ids.first(), ids.last()) {
        assert_eq!((&list["first_id"].to_string(), &list["last_id"].to_string()), (first, last));
    }
    (ids.iter().map(|id| id.trim_matches('"').to_owned()).collect(), list["has_more"] == json!(true))
}

#[test]
fn openais_list_has_what_its_sdk_requires() {
    let list: Value = serde_json::from_slice(&list(Dialect::OpenAi, &ENTRIES[..1], &Page::default())).unwrap();

    assert_eq!(
        list,
        json!({"object": "list", "data": [
            {"id": "a", "object": "model", "created": 1_700_000_000, "owned_by": "troupe"}
        ]})
    );
}

#[test]
fn anthropics_model_has_what_its_sdk_requires() {
    let one: Value = serde_json::from_slice(&one(Dialect::Anthropic, &ENTRIES[0])).unwrap();

    assert_eq!(
        one,
        json!({"type": "model", "id": "a", "display_name": "a", "created_at": "2023-11-14T22:13:20Z",
            "lifecycle": "active"})
    );
}

#[test]
fn pages_go_forward_and_backward_and_end() {
    assert_eq!(page(2, None, None), (vec!["a".to_owned(), "b".to_owned()], true));
    assert_eq!(page(2, Some("b"), None), (vec!["c".to_owned(), "d".to_owned()], false));
    assert_eq!(page(2, None, Some("d")), (vec!["b".to_owned(), "c".to_owned()], true));
    assert_eq!(page(9, None, Some("b")), (vec!["a".to_owned()], false));
    assert_eq!(page(2, Some("d"), None), (vec![], false));
}

#[test]
fn a_page_that_bounds_nothing_or_the_wrong_way_is_still_an_answer() {
    assert_eq!(page(0, Some("gone"), None), (vec!["a".to_owned()], true));
    assert_eq!(page(9, Some("c"), Some("b")), (vec![], false));
    assert_eq!(page(usize::MAX, None, None).0.len(), 4);
}

#[test]
fn an_empty_list_names_no_ids() {
    let list: Value = serde_json::from_slice(&list(Dialect::Anthropic, &[], &Page::default())).unwrap();

    assert_eq!(list, json!({"data": [], "has_more": false, "first_id": null, "last_id": null}));
}
