//! A key that a provider refuses: exchanged while the gateway runs, or refused for one model only.

use std::time::Duration;

use troupe_loadtest::mock::Strike;
use troupe_node::clock;
use troupe_tests::ask::Dialect;
use troupe_tests::{World, until};

async fn status(world: &World, model: &str) -> u16 {
    world.client().post(Dialect::OpenAi.path(), Dialect::OpenAi.ask(model)).await.status
}

#[tokio::test]
async fn a_refused_key_serves_again_as_soon_as_its_secret_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "secret-old").unwrap();
    let spec = format!(
        "[providers.own]\nwire = \"openai\"\nbase_url = \"{{mock}}/v1\"\nkeys = [{{ name = \"k\", secret = \"file:{}\" }}]\n\
         [models.mine]\ntargets = [{{ provider = \"own\", model = \"m\" }}]\n\
         [models.\"mine-*\"]\ntargets = [{{ provider = \"own\" }}]",
        file.display()
    );
    let world = World::new().spec(&spec).start().await;
    world.mock.fail(Strike::new("status=401").credential("secret-old")).unwrap();
    let refused = [status(&world, "mine").await, status(&world, "mine-x").await];
    assert!(refused.iter().all(|status| *status >= 400), "{refused:?}");
    until("it rests", || world.standings().contains("Credential")).await;

    std::fs::write(&file, "secret-new").unwrap();
    until("the file is read", || world.node.reloads().ok() == 1).await;

    let served = [status(&world, "mine").await, status(&world, "mine-x").await];
    assert_eq!(served, [200, 200], "{}", world.standings());
}

#[tokio::test]
async fn a_model_that_a_key_may_not_use_keeps_the_others_waiting_for_a_moment() {
    let world = World::new().start().await;
    // The list of models is given all the same: the key is good.
    world.mock.fail(Strike::new("status=403").model("o-forbidden")).unwrap();
    let began = clock::now();
    assert!(status(&world, "o-forbidden").await >= 400);

    while status(&world, "o-other").await != 200 {
        assert!(clock::now() - began < Duration::from_secs(10), "{}", world.standings());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    assert!(world.mock.counts().probes <= 5, "{} probes", world.mock.counts().probes);
}
