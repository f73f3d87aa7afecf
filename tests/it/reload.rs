//! A change of the spec file, live.

use std::process::Command;

use troupe_loadtest::mock::{Mock, MockOptions};
use troupe_tests::ask::{Dialect, words};
use troupe_tests::world::{KEY, KEY_LIMITED};
use troupe_tests::{World, until};

use crate::told::assert_told;

const PATH: &str = "/v1/chat/completions";

fn ask(model: &str) -> serde_json::Value {
    Dialect::OpenAi.ask(model)
}

/// Writes the spec anew, as `change` has it, and waits until it was read.
async fn rewrite(world: &World, change: impl FnOnce(String) -> String) {
    let seen = world.node.reloads().ok() + world.node.reloads().failed();
    let text = std::fs::read_to_string(world.spec_path()).unwrap();
    std::fs::write(world.spec_path(), change(text)).unwrap();
    until("the file is read", || world.node.reloads().ok() + world.node.reloads().failed() > seen).await;
}

#[tokio::test]
async fn a_new_model_is_served_and_a_removed_key_refused_without_a_restart() {
    let world = World::new().start().await;
    let client = world.client().kept().await;
    assert_eq!(client.post(PATH, ask("fresh")).await.status, 404);
    assert_eq!(world.client().key(KEY_LIMITED).post(PATH, ask("o-x")).await.status, 200);

    rewrite(&world, |text| {
        let text = text.replace("[keys.limited]\nsecret = \"sk-limited\"", "[keys.other]\nsecret = \"sk-other\"");
        text + "[models.fresh]\ntargets = [{ provider = \"o\", model = \"o-fresh\" }]\n"
    })
    .await;

    until("a view of it", || world.node.reloads().last_error().is_none()).await;
    let reply = client.post(PATH, ask("fresh")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(world.mock.received().last().unwrap().body.contains("o-fresh"));
    let gone = world.client().key(KEY_LIMITED).post(PATH, ask("o-x")).await;
    assert_told(Dialect::OpenAi, &gone, 401, "key_unknown", "key");
    assert_eq!(world.client().key("sk-other").post(PATH, ask("o-x")).await.status, 200);
    assert_eq!(world.metric(r#"troupe_config_reloads_total{outcome="applied"}"#).await, 1.0);
}

#[tokio::test]
async fn a_moved_provider_is_called_at_its_new_place_while_its_streams_end_at_the_old_one() {
    let world = World::new().start().await;
    let moved = Mock::start(MockOptions::default()).unwrap();
    let mut running = world.client().stream(PATH, Dialect::OpenAi.ask_stream("o-x+words=60+drip=50ms")).await;
    assert!(running.next().await.is_some());

    rewrite(&world, |text| text.replace(&world.mock.base_url, &moved.base_url)).await;

    let reply = world.client().post(PATH, ask("o-x")).await;
    assert_eq!((reply.status, moved.counts().requests, world.mock.counts().requests), (200, 1, 1));
    let text: String = running.rest().await.iter().filter_map(|event| Dialect::OpenAi.piece(&event.json())).collect();
    assert!(!running.is_cut && words(60).ends_with(&text) && text.len() > 100, "{text}");
}

#[tokio::test]
async fn a_broken_file_changes_nothing_is_counted_and_recovers_when_it_is_mended() {
    let world = World::new().start().await;
    let good = std::fs::read_to_string(world.spec_path()).unwrap();

    rewrite(&world, |text| text.replace("[models.gpt-4o]", "[models.gpt-5]\ntragets = 1\n[models.gpt-4o]")).await;

    let error = world.node.reloads().last_error().unwrap();
    assert!(error.contains("tragets") && error.contains("targets") && error.contains("spec.toml:"), "{error}");
    assert_eq!(world.client().post(PATH, ask("gpt-4o")).await.status, 200);
    assert_eq!(world.client().post(PATH, ask("gpt-5")).await.status, 404);
    assert_eq!(world.metric(r#"troupe_config_reloads_total{outcome="refused"}"#).await, 1.0);

    rewrite(&world, |_| {
        good.replace("[models.gpt-4o]", "[models.gpt-5]\ntargets = [{ provider = \"o\" }]\n[models.gpt-4o]")
    })
    .await;

    assert_eq!(world.node.reloads().last_error(), None);
    assert_eq!(world.client().post(PATH, ask("gpt-5")).await.status, 200);
}

#[tokio::test]
async fn a_file_that_is_gone_for_a_moment_or_names_an_unknown_provider_changes_nothing() {
    let world = World::new().start().await;

    rewrite(&world, |text| text.replace("targets = [{ provider = \"a\" }]", "targets = [{ provider = \"b\" }]")).await;
    assert!(world.node.reloads().last_error().unwrap().contains('b'));
    assert_eq!(world.client().post("/v1/messages", Dialect::Anthropic.ask("claude-sonnet")).await.status, 200);

    let failed = world.node.reloads().failed();
    std::fs::remove_file(world.spec_path()).unwrap();
    until("the loss is noticed", || world.node.reloads().failed() > failed).await;
    assert_eq!(world.client().post(PATH, ask("gpt-4o")).await.status, 200);
}

#[tokio::test]
async fn a_reload_that_is_asked_for_happens_at_once_and_opens_the_access_log_again() {
    let world = World::new().start().await;
    world.client().post(PATH, ask("gpt-4o")).await;
    until("the first line", || world.access_lines().len() == 1).await;
    let rotated = world.dir().join("access.log.1");
    std::fs::rename(world.dir().join("access.log"), &rotated).unwrap();

    world.node.reload();

    until("a new log", || world.dir().join("access.log").exists()).await;
    world.client().key(KEY).post(PATH, ask("gpt-4o")).await;
    until("its line", || world.access_lines().len() == 1).await;
    assert_eq!(std::fs::read_to_string(rotated).unwrap().lines().count(), 1);
    until("the reload", || world.node.reloads().ok() == 1).await;
    assert_eq!(world.metric(r#"troupe_config_reloads_total{outcome="unchanged"}"#).await, 1.0);
}

#[tokio::test]
async fn a_pipe_in_the_files_place_is_refused_and_the_next_file_is_read() {
    let world = World::new().start().await;
    let good = std::fs::read_to_string(world.spec_path()).unwrap();
    let aside = world.dir().join("pipe");
    assert!(Command::new("mkfifo").arg(&aside).status().unwrap().success());

    std::fs::rename(&aside, world.spec_path()).unwrap();
    until("the pipe is refused", || world.node.reloads().failed() == 1).await;
    let error = world.node.reloads().last_error().unwrap();
    assert!(error.contains("spec.toml") && error.contains("is not a file"), "{error}");

    std::fs::remove_file(world.spec_path()).unwrap();
    std::fs::write(world.spec_path(), good + "[models.fresh]\ntargets = [{ provider = \"o\" }]\n").unwrap();
    until("the file is read", || world.node.reloads().ok() == 1).await;
    assert_eq!(world.client().post(PATH, ask("fresh")).await.status, 200);
}
