//! The last target of a pool that still serves.

use super::*;

async fn two_providers(has_fallbacks: bool) -> World {
    let members = vec![member("p", "m"), member("q", "m")];
    let world = World::start(vec![PoolLayout { has_fallbacks, ..pool("chat", members) }]).await;
    world.script(Script::Says(Probed::Dead));
    for member in [0, 1] {
        world.succeed(member, millis(1)).unwrap();
    }
    world
}

/// Whether its breaker has it rest, whatever pools make of that.
fn rests(world: &World, member: usize) -> bool {
    let target = world.cell().target(member, "m").unwrap();
    matches!(target.report(clock()).standing, Standing::Resting { .. })
}

/// Fails until the breaker decides.
async fn break_down(world: &World, member: usize) {
    for _ in 0..10 {
        world.fail(member, unreachable()).ok();
    }
    world.eventually("it rests", |world| rests(world, member)).await;
}

#[tokio::test(start_paused = true)]
async fn a_stall_leaves_the_last_target_that_serves_at_work() {
    let world = two_providers(false).await;
    break_down(&world, 0).await;
    tokio::time::sleep(secs(11)).await;
    world.succeed(1, millis(1)).unwrap();
    break_down(&world, 1).await;

    assert_eq!(world.standing(1), Standing::Ready);
    assert!(world.cell().is_spared(1, &world.cell().target(1, "m").unwrap(), clock()));
    // It goes on for as long as something goes well now and then, whatever the others are told.
    for _ in 0..10 {
        tokio::time::sleep(secs(5)).await;
        for _ in 0..20 {
            world.fail(1, unreachable()).unwrap();
        }
        world.succeed(1, millis(1)).unwrap();
    }
    assert!(world.why(0).is_some(), "the dead one is left alone");
}

#[tokio::test(start_paused = true)]
async fn the_last_target_rests_when_nothing_went_well_for_a_window() {
    let world = two_providers(false).await;
    break_down(&world, 0).await;
    break_down(&world, 1).await;
    assert_eq!(world.standing(1), Standing::Ready);

    tokio::time::sleep(secs(11)).await;
    break_down(&world, 1).await;

    assert_eq!((world.why(0), world.why(1)), (Some(Why::Unreachable), Some(Why::Unreachable)));
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_says_rests_also_the_last_target() {
    let world = two_providers(false).await;
    break_down(&world, 0).await;

    world.fail(1, failure(Fault::Credential)).unwrap();

    world.eventually("it rests", |world| world.why(1) == Some(Why::Credential)).await;
}

#[tokio::test(start_paused = true)]
async fn two_that_fail_at_once_are_both_asked_on() {
    let world = two_providers(false).await;

    for _ in 0..10 {
        for member in [0, 1] {
            world.fail(member, unreachable()).ok();
        }
    }
    world.eventually("both rest", |world| rests(world, 0) && rests(world, 1)).await;

    assert_eq!((world.standing(0), world.standing(1)), (Standing::Ready, Standing::Ready));
}

#[tokio::test(start_paused = true)]
async fn the_last_target_rests_where_calls_have_a_fallback_or_it_never_served() {
    let world = two_providers(true).await;
    break_down(&world, 0).await;
    break_down(&world, 1).await;
    assert!(world.why(0).is_some() && world.why(1).is_some());

    let world = World::one().await;
    break_down(&world, 0).await;
    assert!(world.why(0).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_pool_with_another_target_leaves_alone_what_is_the_last_of_a_second_pool() {
    let layouts = vec![pool("chat", vec![member("p", "m"), member("q", "m")]), pool("only", vec![member("p", "m")])];
    let world = World::start(layouts).await;
    world.succeed(0, millis(1)).unwrap();
    break_down(&world, 0).await;

    let target = world.cell().target(0, "m").unwrap();

    assert!(matches!(world.standing(0), Standing::Resting { .. }));
    assert_eq!(world.cells[1].standing(0, &target, clock()), Standing::Ready);
}
