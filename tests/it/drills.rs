//! FAULT-1: an actor that dies fails no call, and is back; whatever it owned is learned again.

use std::time::Duration;

use troupe_actors::Role;
use troupe_loadtest::mock::Strike;
use troupe_tests::eventually::LONG;
use troupe_tests::load::Load;
use troupe_tests::{World, until};

const SPEC: &str = r#"
[providers.one]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "k", secret = "secret-one" }]
[providers.two]
wire = "openai"
base_url = "{mock2}/v1"
keys = [{ name = "k", secret = "secret-two" }]
[models.both]
targets = [{ provider = "one", model = "m" }, { provider = "two", model = "m" }]
timeouts = { connect = "5s", first_byte = "3s" }
breaker = { rest = "1s", rest_max = "2s", slow_start = "1s" }
"#;
/// Calls a second; the drill program does the same at 2,000.
const RATE: u64 = 200;

fn restarts(world: &World, role: Role) -> u64 {
    world.node.house.actors.vitals().roles.iter().find(|one| one.role == role).unwrap().restarts
}

/// Waits for a condition as long as a share may take to come back; says how the targets stood if it never held.
async fn check(world: &World, what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LONG * 3, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}; {}{:?}", world.standings(), world.mock.counts());
}

/// One kill and one panic of every actor of a role, under load, with a target that rests and is probed.
async fn drill(role: Role) {
    let world = World::new().spec(SPEC).start().await;
    let load = Load::whole("both", RATE).start(&world.client()).await;
    world.mock.fail(Strike::new("hang")).unwrap();
    check(&world, "the target that hangs is probed", || world.mock.counts().probes > 0).await;

    for round in 0..2 {
        let before = restarts(&world, role);
        world.node.house.actors.kill(role);
        until("it is started again after a kill", || restarts(&world, role) > before).await;
        let before = restarts(&world, role);
        world.node.house.actors.poison(role);
        until("it is started again after a panic", || restarts(&world, role) > before).await;
        // It does its work again: the resting target is probed on.
        let probes = world.mock.counts().probes;
        check(&world, "probes go on", || world.mock.counts().probes > probes).await;
        assert!(!world.node.house.actors.vitals().has_failed, "round {round}");
    }
    // The learned state is learned again: the target comes back.
    world.mock.heal();
    let calls = world.mock.counts().calls;
    check(&world, "the target serves again", || world.mock.counts().calls > calls + 50).await;

    let tally = load.end().await;
    assert_eq!((tally.failed(), tally.good), (0, tally.sent), "{role:?}: {tally:?}");
    let counted = world.metric_sum("troupe_actor_restarts_total", &[&format!("role=\"{}\"", role.as_str())]).await;
    assert!(counted >= 4.0, "{role:?}: {}", world.metrics().await);
    assert!(tally.slowest < Duration::from_secs(10), "{role:?}: {tally:?}");
}

#[tokio::test]
async fn the_root_may_fall() {
    drill(Role::Root).await;
}

#[tokio::test]
async fn supervisors_of_pools_and_breakers_and_probers_may_fall() {
    tokio::join!(drill(Role::Pools), drill(Role::Breakers), drill(Role::Probers));
}

#[tokio::test]
async fn pools_may_fall() {
    drill(Role::Pool).await;
}

#[tokio::test]
async fn breakers_may_fall() {
    drill(Role::Breaker).await;
}

#[tokio::test]
async fn probers_may_fall() {
    drill(Role::Prober).await;
}

#[tokio::test]
async fn a_node_whose_supervision_gave_up_serves_on_what_it_knew() {
    let world = World::new().spec(SPEC).start().await;
    let load = Load::whole("both", RATE).start(&world.client()).await;
    until("it serves", || load.tally().good > 50).await;

    let actors = &world.node.house.actors;
    let gives_up = async {
        while !actors.vitals().has_failed {
            Role::ALL.into_iter().for_each(|role| actors.kill(role));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What makes `troupe serve` drain.
        actors.failed().await;
    };
    tokio::time::timeout(Duration::from_secs(30), gives_up).await.expect("supervision never gives up");
    let before = load.tally().good;
    until("it serves on", || load.tally().good > before + 100).await;

    let tally = load.end().await;
    assert_eq!((tally.failed(), tally.good), (0, tally.sent), "{tally:?}");
}
