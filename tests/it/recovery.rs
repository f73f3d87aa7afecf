//! Targets that go down under load and come back: no call fails, and their share returns by itself.

use std::time::Duration;

use troupe_loadtest::mock::{MockHandle, Strike};
use troupe_node::clock;
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
timeouts = { connect = "5s", first_byte = "10s" }
"#;
/// Calls a second; the drill program does the same at 2,000.
const RATE: u64 = 300;
/// What must have passed through before a share is believed.
const SAMPLE: u64 = 300;

/// The part of the calls that go to `mock`, per mille, over a sample from now on.
async fn share(mock: &MockHandle, other: &MockHandle) -> u64 {
    let before = (mock.counts().calls, other.counts().calls);
    let so_far = || (mock.counts().calls - before.0, other.counts().calls - before.1);
    until("a sample has passed", || so_far().0 + so_far().1 >= SAMPLE).await;
    let (here, there) = so_far();
    here * 1000 / (here + there)
}

/// Waits until about half of the calls go to `mock` again, and says how long it took.
async fn share_back(mock: &MockHandle, other: &MockHandle) -> Duration {
    let began = clock::now();
    loop {
        let share = share(mock, other).await;
        let took = clock::now() - began;
        if share >= 400 {
            return took;
        }
        assert!(took < Duration::from_secs(30), "after {took:?} its share is {share} of a thousand");
    }
}

#[tokio::test]
async fn a_target_killed_under_load_costs_no_call_and_its_share_comes_back() {
    let world = World::new().spec(SPEC).start().await;
    let load = Load::whole("both", RATE).start(&world.client()).await;
    share(&world.mock, world.mock2()).await;

    world.mock.kill();
    assert_eq!(share(&world.mock, world.mock2()).await, 0);
    world.mock.revive().unwrap();
    let took = share_back(&world.mock, world.mock2()).await;

    let tally = load.end().await;
    assert_eq!((tally.failed(), tally.good), (0, tally.sent), "{tally:?}, back after {took:?}");
}

#[tokio::test]
async fn streams_begun_while_a_target_dies_are_served_by_the_other() {
    let spec = SPEC.replace("timeouts", "on_break = \"continue\"\ntimeouts");
    let world = World::new().spec(&spec).start().await;
    let load = Load::streams("both", RATE).start(&world.client()).await;
    share(&world.mock, world.mock2()).await;

    for _ in 0..3 {
        world.mock.kill();
        share(&world.mock, world.mock2()).await;
        world.mock.revive().unwrap();
        share(&world.mock, world.mock2()).await;
    }

    let tally = load.end().await;
    assert_eq!((tally.failed(), tally.good), (0, tally.sent), "{tally:?}");
}

#[tokio::test]
async fn a_target_that_fails_or_hangs_under_load_costs_no_call_and_recovers() {
    for knobs in ["status=500", "status=529", "hang", "reset", "status=401"] {
        // A refused credential rests long by default: probes find out when it is good again.
        // The patience of the others would make the hang long; less than this fails on a machine that is busy.
        let world = World::new().spec(&SPEC.replace("10s", "2s")).start().await;
        let load = Load::whole("both", RATE).start(&world.client()).await;
        share(&world.mock, world.mock2()).await;

        world.mock.fail(Strike::new(knobs)).unwrap();
        let drawn = world.mock.counts().calls;
        share(world.mock2(), &world.mock).await;
        let drawn = world.mock.counts().calls - drawn;
        world.mock.heal();
        // A probe of a credential comes every half a minute: its return is not waited for here.
        if knobs != "status=401" {
            share_back(&world.mock, world.mock2()).await;
        }

        let tally = load.end().await;
        assert_eq!((tally.failed(), tally.good), (0, tally.sent), "{knobs}: {tally:?}");
        assert!(drawn < SAMPLE / 3, "{knobs}: {drawn} calls went to a target that failed");
    }
}
