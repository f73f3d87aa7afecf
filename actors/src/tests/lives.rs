//! Layouts change; what was learned stays.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_pool_that_did_not_change_keeps_its_cell() {
    let mut world = World::one().await;
    let before = world.cell().clone();

    world.cells = world.actors.lay_out(vec![pool("new", vec![member("q", "n")]), pool("chat", vec![member("p", "m")])]);

    assert!(Arc::ptr_eq(&before, &world.cells[1]));
    world.eventually("the new pool has an actor", |world| world.alive(Role::Pool) == 2).await;
    world.eventually("the new provider has a breaker", |world| world.alive(Role::Breaker) == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_stays_keeps_what_was_learned_of_it() {
    let mut world = World::start(vec![pool("chat", vec![member("p", "m"), member("q", "n")])]).await;
    world.succeed(0, millis(70)).unwrap();
    world.settle().await;
    world.rest(0, failure(Fault::Provider)).await;
    world.settle().await;
    let before = world.cell().clone();

    let mut heavier = member("p", "m");
    heavier.weight = 3;
    world.cells = world.actors.lay_out(vec![pool("chat", vec![member("q", "n"), heavier])]);

    assert!(!Arc::ptr_eq(&before, world.cell()));
    assert!(Arc::ptr_eq(&before.target(0, "m").unwrap(), &world.cell().target(1, "m").unwrap()));
    assert_eq!(world.why(1), Some(Why::Failures));
    let known = world.cell().view().members[1];
    assert!(known.latency_us >= 70_000 && known.weight == 3_000, "{known:?}");
}

#[tokio::test(start_paused = true)]
async fn two_pools_of_one_target_share_its_breaker() {
    let world = World::start(vec![pool("chat", vec![member("p", "m")]), pool("also", vec![member("p", "m")])]).await;

    world.rest(0, failure(Fault::Provider)).await;

    let target = world.cells[1].target(0, "m").unwrap();
    assert!(matches!(world.cells[1].standing(0, &target, clock()), Standing::Resting { .. }));
}

#[tokio::test(start_paused = true)]
async fn who_is_laid_out_no_more_has_no_actor_and_calls_that_run_end_well() {
    let mut world =
        World::start(vec![pool("chat", vec![member("p", "m")]), pool("also", vec![member("q", "m")])]).await;
    let gone = world.cells[1].clone();
    let target = gone.target(0, "m").unwrap();
    let mut pass = gone.enter(0, &target, "m", 0, clock()).unwrap();

    world.cells = world.actors.lay_out(vec![pool("chat", vec![member("p", "m")])]);
    world
        .eventually("its actors are gone", |world| {
            [Role::Pool, Role::Breaker, Role::Prober].iter().all(|role| world.alive(*role) == 1)
        })
        .await;
    pass.failed(failure(Fault::Provider));
    drop(pass);

    assert_eq!(target.in_flight(), 0);
    assert_eq!(world.restarts(Role::Pool), 0, "who was let go is not missed");
}

#[tokio::test(start_paused = true)]
async fn the_retry_budget_outlives_a_change_of_the_pool() {
    let mut world = World::one().await;
    let taken = (0..1_000).filter(|_| world.cell().retries.try_take(clock())).count();

    world.cells = world.actors.lay_out(vec![pool("chat", vec![member("p", "m"), member("q", "n")])]);

    assert_eq!(taken, 100);
    assert!(!world.cell().retries.try_take(clock()));
}

#[tokio::test(start_paused = true)]
async fn facts_that_nobody_reads_are_refused_and_counted() {
    let world = World::one().await;
    world.actors.stop().await;

    for _ in 0..1_500 {
        world.fail(0, failure(Fault::Provider)).unwrap();
    }

    assert_eq!(world.dropped(Role::Breaker), 1_500 - 1_024);
    let depth = world.actors.vitals().roles.iter().map(|role| role.inbox_depth).max();
    assert_eq!(depth, Some(1_024));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_targets_cost_few_actors() {
    let pools = (0..100).map(|n| {
        let members = (0..10).map(|m| member(&format!("p{}", m % 4), &format!("m{n}-{m}"))).collect();
        pool(&format!("pool{n}"), members)
    });

    let world = World::start(pools.collect()).await;
    world.eventually("all are up", |world| world.alive(Role::Prober) == 4).await;

    let actors: u64 = world.actors.vitals().roles.iter().map(|role| role.alive).sum();
    assert_eq!(actors, 100 + 4 + 4 + 4 + 1);
}
