//! Actors are killed and poisoned while calls go on.

use super::*;

/// How a drill ends an actor.
#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    Poison,
}

impl World {
    fn end(&self, role: Role, end: End) {
        match end {
            End::Kill => self.actors.kill(role),
            End::Poison => self.actors.poison(role),
        }
    }

    /// Everybody who should be there is.
    fn is_whole(&self) -> bool {
        Role::ALL.iter().all(|role| self.alive(*role) >= 1)
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_falls_however_often_no_call_fails_and_what_was_learned_stays() {
    for role in Role::ALL {
        for end in [End::Kill, End::Poison] {
            let world = World::start(vec![pool("chat", vec![member("p", "a"), member("p", "b")])]).await;
            world.fail(1, Failure { retry_after: Some(secs(3_600)), ..failure(Fault::Capacity) }).unwrap();
            world.eventually("b rests", |world| world.why(1) == Some(Why::RetryAfter)).await;

            for round in 0..4 {
                world.end(role, end);
                for _ in 0..200 {
                    assert_eq!(world.succeed(0, millis(40)), Ok(()), "{role:?} {end:?} {round}");
                    assert_eq!(world.why(1), Some(Why::RetryAfter), "{role:?} {end:?} {round}");
                    tokio::time::sleep(millis(5)).await;
                }
                let is_restarted = |world: &World| world.restarts(role) > round && world.is_whole();
                world.eventually("it is back", is_restarted).await;
            }

            // And it does its work again.
            assert_eq!(world.cell().view().members[0].latency_us, 40_000, "{role:?} {end:?}");
            world.rest(0, failure(Fault::Credential)).await;
            world.script(Script::Says(Probed::Alive));
            world.eventually("it is probed", |world| world.standing(0) == Standing::Probation).await;
            assert_eq!(world.dropped(Role::Breaker), 0);
            world.actors.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failures_seen_while_the_breaker_is_down_are_read_by_its_successor() {
    let world = World::one().await;
    world.eventually("the breaker is up", |world| world.alive(Role::Breaker) == 1).await;
    world.actors.kill(Role::Breaker);
    world.eventually("the breaker is down", |world| world.alive(Role::Breaker) == 0).await;

    for _ in 0..5 {
        world.fail(0, failure(Fault::Provider)).unwrap();
    }

    world.eventually("the target rests", |world| world.why(0) == Some(Why::Failures)).await;
    assert_eq!(world.restarts(Role::Breaker), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_on_probation_ends_well_while_its_breaker_falls() {
    let world = World::one().await;
    world.rest(0, failure(Fault::Provider)).await;
    tokio::time::sleep(secs(6)).await;
    let target = world.cell().target(0, "m").unwrap();
    let mut pass = world.cell().enter(0, &target, "m", 0, clock()).unwrap();
    assert!(pass.is_probation());

    world.actors.kill(Role::Breaker);
    pass.succeeded(Some(millis(10)));
    drop(pass);

    world.eventually("the target is back", |world| world.standing(0) == Standing::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_does_not_stay_up_takes_its_branch_along_and_comes_back_with_it() {
    let world = World::one().await;

    world
        .eventually("the branch falls", |world| {
            world.actors.poison(Role::Breaker);
            world.restarts(Role::Breakers) > 0
        })
        .await;

    world.eventually("all is well again", World::is_whole).await;
    assert!(world.restarts(Role::Breaker) >= 5);
    assert_eq!(world.restarts(Role::Root), 0);
    world.rest(0, failure(Fault::Provider)).await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_does_not_stay_up_is_given_up_and_calls_go_on() {
    let world = World::one().await;
    world.rest(0, Failure { retry_after: Some(secs(3_600)), ..failure(Fault::Capacity) }).await;
    let given_up = tokio::spawn({
        let actors = world.actors.clone();
        async move { actors.failed().await }
    });
    assert!(!world.actors.vitals().has_failed);

    world
        .eventually("supervision gives up", |world| {
            world.actors.kill(Role::Root);
            world.actors.vitals().has_failed
        })
        .await;

    given_up.await.unwrap();
    assert!(world.restarts(Role::Root) >= 10);
    assert_eq!(world.why(0), Some(Why::RetryAfter));
    world.actors.lay_out(vec![pool("chat", vec![member("p", "m"), member("q", "n")])]);
    tokio::time::timeout(secs(1), world.actors.stop()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stopped_tree_stays_down_and_is_not_a_failed_one() {
    let world = World::one().await;

    world.actors.stop().await;
    tokio::time::sleep(secs(5)).await;

    assert!(Role::ALL.iter().all(|role| world.alive(*role) == 0), "{:?}", world.actors.vitals());
    assert!(Role::ALL.iter().all(|role| world.restarts(*role) == 0));
    assert!(!world.actors.vitals().has_failed);
}
