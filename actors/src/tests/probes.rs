//! Resting targets are probed, others are not.

use super::*;

#[tokio::test(start_paused = true)]
async fn nothing_is_probed_while_nothing_rests() {
    let world = World::one().await;

    for _ in 0..20 {
        world.succeed(0, millis(5)).unwrap();
        tokio::time::sleep(secs(5)).await;
    }

    assert_eq!(world.probes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dead_target_gets_no_call_but_probes_until_one_finds_it_alive() {
    let world = World::one().await;
    world.script(Script::Says(Probed::Dead));
    world.rest(0, unreachable()).await;

    for _ in 0..120 {
        tokio::time::sleep(millis(500)).await;
        assert_eq!(world.why(0), Some(Why::Unreachable));
    }
    let probes = world.probes();
    world.script(Script::Says(Probed::Alive));
    world.eventually("a call may try", |world| world.standing(0) == Standing::Probation).await;
    world.succeed(0, millis(10)).unwrap();
    world.eventually("the target is back", |world| world.standing(0) == Standing::Ready).await;

    assert!((28..=42).contains(&probes), "about one in two seconds: {probes}");
    let last = world.probes();
    tokio::time::sleep(secs(60)).await;
    assert_eq!(world.probes(), last, "one that is back is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_rests_on() {
    let world = World::one().await;
    world.script(Script::Hangs);
    world.rest(0, unreachable()).await;

    for _ in 0..60 {
        tokio::time::sleep(millis(500)).await;
        assert_eq!(world.why(0), Some(Why::Unreachable));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_probed_seldom_and_comes_back_when_it_is_taken() {
    let world = World::one().await;
    world.script(Script::Says(Probed::CredentialRefused));
    world.fail(0, failure(Fault::Credential)).unwrap();
    tokio::time::sleep(secs(300)).await;
    let probes = world.probes();

    world.script(Script::Says(Probed::Alive));

    assert!((9..=14).contains(&probes), "about one in thirty seconds: {probes}");
    tokio::time::sleep(secs(31)).await;
    world.eventually("a call may try", |world| world.standing(0) == Standing::Probation).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_answers_badly_is_not_probed() {
    let world = World::one().await;

    world.rest(0, failure(Fault::Provider)).await;
    tokio::time::sleep(secs(4)).await;

    assert_eq!(world.probes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_prober_that_panics_teaches_nothing_and_harms_nobody() {
    let world = World::one().await;
    world.script(Script::Panics);

    world.rest(0, unreachable()).await;
    tokio::time::sleep(secs(10)).await;

    assert!(world.probes() > 0);
    assert_eq!(world.restarts(Role::Prober), 0, "the fault of a probe is not the actor's");
    assert_eq!(world.standing(0), Standing::Probation, "the rest ran its time");
}

#[tokio::test(start_paused = true)]
async fn a_trickle_of_calls_that_reach_nobody_costs_one_probe_in_two_seconds() {
    let world = World::one().await;
    world.script(Script::Says(Probed::Alive));

    for _ in 0..600 {
        world.fail(0, unreachable()).unwrap();
        for _ in 0..3 {
            world.succeed(0, millis(5)).unwrap();
        }
        tokio::time::sleep(millis(100)).await;
    }

    assert!((25..=39).contains(&world.probes()), "{} probes in a minute", world.probes());
    assert_eq!(world.standing(0), Standing::Ready);
}
