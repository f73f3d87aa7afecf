//! The way back through the audit.

use super::*;

/// A node with a provider that has a key, a model on it and a virtual key; and the entry behind which that is so.
async fn furnished() -> (Admin, u64) {
    let admin = start(Some(TOKEN)).await;
    let spec = json!({
        "providers": {"o": {"wire": "openai", "base_url": "http://127.0.0.1:9", "keys": [{"name": "main", "secret": "sk-o"}]}},
        "models": {"m": {"targets": [{"provider": "o"}]}},
        "keys": {"a": {"secret": "sk-a"}},
    });
    assert_eq!(admin.call("POST", "/admin/v1/apply", "", spec).await.status, 200);
    let index = admin.newest().await;
    (admin, index)
}

impl Admin {
    /// The entry of the last line of the audit.
    async fn newest(&self) -> u64 {
        let audit = self.get("/admin/v1/audit?limit=1").await.body;
        audit["items"][0]["index"].as_u64().unwrap()
    }

    async fn put(&self, path: &str, body: Value) {
        let told = self.call("PUT", path, "", body).await;
        assert!(told.status < 300, "{}", told.body);
    }

    async fn export(&self) -> Value {
        self.get("/admin/v1/export?hashes").await.body
    }

    async fn rollback(&self, query: &str) -> Told {
        self.call("POST", &format!("/admin/v1/rollback?{query}"), "", Value::Null).await
    }
}

fn provider(more: Value) -> Value {
    let mut provider = json!({"wire": "openai", "base_url": "http://127.0.0.1:9", "keys": [{"name": "main"}]});
    more.as_object().unwrap().iter().for_each(|(name, value)| provider[name] = value.clone());
    provider
}

#[tokio::test]
async fn going_back_is_one_change_that_names_the_entry() {
    let (admin, index) = furnished().await;
    let before = admin.export().await;
    admin.put("/admin/v1/providers/o", provider(json!({"timeouts": {"idle": "9s"}}))).await;
    admin.put("/admin/v1/models/m", json!({"targets": [{"provider": "o", "weight": 7}], "on_break": "continue"})).await;
    admin.put("/admin/v1/models/n", json!({"targets": [{"provider": "o"}], "fallbacks": ["m"]})).await;
    admin.put("/admin/v1/keys/b", json!({"secret": "sk-b"})).await;
    admin.put("/admin/v1/policies", json!({"freshness": "never"})).await;
    admin.put("/admin/v1/defaults", json!({"retries": {"attempts": 5}})).await;
    let (after, end) = (admin.export().await, admin.newest().await);

    let compared = admin.get(&format!("/admin/v1/audit/diff?from={index}&to={end}")).await.body;
    let planned = admin.rollback(&format!("to={index}&dry_run")).await.body;
    assert_eq!((&compared["added"], &compared["changed"], &compared["removed"]), (&json!(2), &json!(4), &json!(0)));
    assert_eq!((&planned["added"], &planned["changed"], &planned["removed"]), (&json!(0), &json!(4), &json!(2)));
    let lost = "key b: it was made since and is taken away; its secret goes with it, and no rollback brings that back";
    assert_eq!(planned["notes"], json!([lost]), "no other secret has changed");
    assert_eq!(admin.export().await, after, "a dry run changes nothing");
    let stale = admin.call("POST", &format!("/admin/v1/rollback?to={index}"), "if-match: \"1\"\r\n", Value::Null).await;
    assert_eq!((stale.status, &stale.body["code"]), (412, &json!("revision_changed")));
    let why = "if-match: \"7\"\r\nx-troupe-reason: it was wrong\r\nidempotency-key: 1\r\n";
    let ask = async || admin.call("POST", &format!("/admin/v1/rollback?to={index}"), why, Value::Null).await;
    let (done, repeated) = (ask().await, ask().await);

    assert_eq!((done.status, &done.body["revision"]), (200, &json!(8)), "{}", done.body);
    assert_eq!((repeated.status, &repeated.body["revision"]), (200, &json!(8)), "{}", repeated.body);
    assert_eq!(admin.export().await, before);
    let line = admin.get("/admin/v1/audit?limit=1").await.body["items"][0].clone();
    assert_eq!(line["reason"], format!("rollback to entry {index}: it was wrong"));
    assert_eq!(line["changes"].as_array().unwrap().len(), 6, "{line}");

    let again = admin.rollback(&format!("to={end}")).await;
    assert_eq!((again.status, &again.body["code"]), (409, &json!("secret_gone")), "the way back took a key away");
}

#[tokio::test]
async fn what_was_in_force_is_shown_as_it_was_exported() {
    let (admin, index) = furnished().await;
    let before = admin.get("/admin/v1/export").await.body;
    admin.put("/admin/v1/keys/a", json!({"models": ["m"], "pin": true})).await;
    admin.put("/admin/v1/models/m", json!({"targets": [{"provider": "o", "weight": 7}], "hedge": {}})).await;

    let was = admin.get(&format!("/admin/v1/audit/as-of?index={index}")).await.body;
    let birth = admin.get("/admin/v1/audit/as-of?index=0").await.body;

    assert_eq!((&was["spec"], &was["notes"]), (&before, &json!([])));
    assert_eq!(birth["spec"], json!({}));
    assert_eq!(admin.refused("GET", "/admin/v1/audit/as-of", Value::Null).await, (400, "invalid_field".to_owned()));
    let ahead = admin.refused("GET", "/admin/v1/audit/as-of?index=99", Value::Null).await;
    assert_eq!(ahead, (404, "audit_too_short".to_owned()));
}

#[tokio::test]
async fn a_secret_that_was_replaced_stays_and_the_rest_goes_back() {
    let (admin, index) = furnished().await;
    let before = admin.get("/admin/v1/export").await.body;
    admin.put("/admin/v1/keys/a", json!({"secret": "sk-a2", "models": ["m"]})).await;
    let new = json!({"timeouts": {"idle": "9s"}, "keys": [{"name": "main", "secret": "sk-o2", "weight": 3}]});
    admin.put("/admin/v1/providers/o", provider(new)).await;
    let hash = admin.get("/admin/v1/keys/a").await.body["hash_prefix"].clone();

    let was = admin.get(&format!("/admin/v1/audit/as-of?index={index}")).await.body;
    let done = admin.rollback(&format!("to={index}")).await.body;

    assert_eq!(was["notes"].as_array().unwrap().len(), 2, "{was}");
    assert_eq!(
        done["notes"],
        json!([
            "provider o, key main: its secret was replaced since: the present one stays",
            "key a: its secret was replaced since: the present one stays",
        ])
    );
    assert_eq!(admin.get("/admin/v1/export").await.body, before);
    assert_eq!(admin.get("/admin/v1/keys/a").await.body["hash_prefix"], hash);
    let back = admin.rollback(&format!("to={}", index + 2)).await;
    assert_eq!((back.status, &back.body["notes"]), (200, &Value::Null), "{}", back.body);
}

#[tokio::test]
async fn what_lost_its_secret_is_named_and_nothing_is_half_done() {
    let (admin, index) = furnished().await;
    let full = json!({"keys": [{"name": "main"}, {"name": "spare", "secret": "sk-spare"}]});
    admin.put("/admin/v1/providers/o", provider(full)).await;
    let both = admin.newest().await;
    admin.put("/admin/v1/providers/o", provider(json!({"timeouts": {"idle": "9s"}}))).await;
    admin.call("DELETE", "/admin/v1/keys/a", "", Value::Null).await;
    admin.put("/admin/v1/models/m", json!({"targets": [{"provider": "o", "weight": 7}]})).await;
    let before = admin.export().await;

    let refused = admin.rollback(&format!("to={both}")).await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("secret_gone")));
    let named: Vec<&Value> = refused.body["problems"].as_array().unwrap().iter().map(|p| &p["field"]).collect();
    assert_eq!(named, ["provider o, key spare", "key a"]);
    assert_eq!(admin.export().await, before);

    admin.put("/admin/v1/keys/a", json!({"secret": "sk-a"})).await;
    let restored = admin.rollback(&format!("to={index}")).await;
    assert_eq!(restored.status, 200, "the key was given again: {}", restored.body);
    let left = admin.rollback(&format!("to={both}&leave_gone")).await;
    assert_eq!(left.body["notes"], json!(["provider o, key spare: its secret is gone: it stays as it is now"]));
    assert_eq!(admin.export().await["providers"]["o"]["keys"], json!([{"name": "main", "secret": "(set)"}]));
}

#[tokio::test]
async fn a_provider_that_is_gone_with_its_secret_refuses_the_models_on_it_by_name() {
    let (admin, index) = furnished().await;
    admin.call("DELETE", "/admin/v1/models/m", "", Value::Null).await;
    admin.call("DELETE", "/admin/v1/providers/o", "", Value::Null).await;
    let before = admin.export().await;

    let refused = admin.rollback(&format!("to={index}&leave_gone")).await;

    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("conflict")), "{}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("there is no provider \"o\""), "{}", refused.body);
    assert_eq!(admin.export().await, before);
}

#[tokio::test]
async fn a_key_that_was_revoked_does_not_come_back_in_silence() {
    let (admin, index) = furnished().await;
    admin.call("POST", "/admin/v1/keys/a/revoke", "", Value::Null).await;

    let done = admin.rollback(&format!("to={index}")).await.body;

    assert_eq!(done["notes"], json!(["key a: it was revoked since, and works again then"]));
}
