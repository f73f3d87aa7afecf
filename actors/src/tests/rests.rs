//! Targets rest and come back.

use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::Quota;

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_rests_and_one_call_brings_it_back() {
    let world = World::one().await;

    world.rest(0, failure(Fault::Provider)).await;
    assert_eq!(world.why(0), Some(Why::Failures));
    assert!(world.succeed(0, millis(1)).is_err());
    tokio::time::sleep(secs(6)).await;
    assert_eq!(world.standing(0), Standing::Probation);
    world.succeed(0, millis(100)).unwrap();
    world.eventually("the target is back", |world| world.standing(0) == Standing::Ready).await;

    // Slow start: a tenth of the weight, then the whole.
    world.settle().await;
    let weight = world.cell().view().members[0].weight;
    assert!((100..150).contains(&weight), "{weight}");
    tokio::time::sleep(secs(10)).await;
    world.settle().await;
    assert_eq!(world.cell().view().members[0].weight, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_failing_call_on_probation_rests_the_target_for_longer() {
    let world = World::one().await;
    world.rest(0, failure(Fault::Provider)).await;
    tokio::time::sleep(secs(6)).await;

    world.fail(0, failure(Fault::Provider)).unwrap();

    world.settle().await;
    let Standing::Resting { until, why: Why::Failures } = world.standing(0) else { panic!("{:?}", world.standing(0)) };
    assert!(until > clock() + secs(8), "{:?}", until - clock());
    assert_eq!(world.cell().target(0, "m").unwrap().report(clock()).streak, 2);
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_client_on_probation_shows_that_the_target_works() {
    for fault in [Fault::Client, Fault::ContextLength] {
        let world = World::one().await;
        world.rest(0, failure(Fault::Provider)).await;
        tokio::time::sleep(secs(6)).await;

        world.fail(0, failure(fault)).unwrap();

        world.eventually("the target is back", |world| world.standing(0) == Standing::Ready).await;
    }
}

#[tokio::test(start_paused = true)]
async fn faults_that_are_not_the_targets_rest_nothing() {
    let world = World::one().await;

    for _ in 0..100 {
        for fault in [Fault::Client, Fault::ContextLength, Fault::Ours] {
            world.fail(0, failure(fault)).unwrap();
        }
    }

    world.settle().await;
    assert_eq!(world.standing(0), Standing::Ready);
    assert_eq!(world.cell().view().members[0].failing, PerMille::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_says_outright_is_obeyed_at_once() {
    let hour = Some(secs(3600));
    let cases = [
        (failure(Fault::Credential), Why::Credential, secs(1800)),
        (failure(Fault::Quota), Why::Quota, secs(300)),
        (Failure { retry_after: hour, ..failure(Fault::Capacity) }, Why::RetryAfter, secs(3600)),
    ];
    for (failure, why, rest) in cases {
        let world = World::one().await;

        world.fail(0, Failure { at: clock(), ..failure }).unwrap();

        world.settle().await;
        let Standing::Resting { until, why: because } = world.standing(0) else { panic!("{failure:?} rests nothing") };
        assert_eq!(because, why);
        assert!(until <= clock() + rest && until > clock() + rest - secs(2), "{failure:?}: {:?}", until - clock());
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_quota_rests_the_target_until_it_is_full_again() {
    let world = World::one().await;
    let target = world.cell().target(0, "m").unwrap();
    let mut pass = world.cell().enter(0, &target, "m", 0, clock()).unwrap();

    pass.quota(Quota { remaining: PerMille::new(50), is_spent: false, reset: Some(secs(20)), at: clock() });
    world.settle().await;
    assert_eq!(world.cell().view().members[0].weight, 500);
    pass.quota(Quota { remaining: PerMille::ZERO, is_spent: true, reset: Some(secs(20)), at: clock() });
    world.settle().await;

    assert_eq!(world.why(0), Some(Why::Paced));
    assert_eq!(target.report(clock()).quota.unwrap().remaining, PerMille::ZERO);
    tokio::time::sleep(secs(20)).await;
    assert_eq!(world.standing(0), Standing::Probation);
    assert_eq!(target.report(clock()).quota, None, "it is full again");
}

#[tokio::test(start_paused = true)]
async fn a_pass_dropped_without_a_verdict_frees_its_place() {
    let world = World::one().await;
    world.rest(0, failure(Fault::Provider)).await;
    tokio::time::sleep(secs(6)).await;
    let target = world.cell().target(0, "m").unwrap();

    let pass = world.cell().enter(0, &target, "m", 0, clock()).unwrap();
    assert!(pass.is_probation());
    assert_eq!(world.standing(0), Standing::Probed);
    assert_eq!(world.succeed(0, millis(1)), Err(Standing::Probed));
    drop(pass);

    assert_eq!(world.standing(0), Standing::Probation);
    assert_eq!(target.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_calls_at_once_half_open_lets_one_through() {
    let world = World::one().await;
    let target = world.cell().target(0, "m").unwrap();

    for round in 1..=20_u64 {
        // Each round is long after the last rest, by the clock that the calls bring along.
        let now = clock() + secs(1_000 * round);
        world
            .eventually("the target rests", |world| {
                let at = now - secs(500);
                if let Ok(mut pass) = world.cell().enter(0, &target, "m", 0, at) {
                    pass.failed(Failure { at, ..failure(Fault::Provider) });
                }
                matches!(world.cell().standing(0, &target, at), Standing::Resting { .. })
            })
            .await;
        let (barrier, entered) = (Barrier::new(200), AtomicUsize::new(0));

        std::thread::scope(|scope| {
            for lane in 0..200 {
                let (barrier, entered, cell, target) = (&barrier, &entered, world.cell(), &target);
                scope.spawn(move || {
                    barrier.wait();
                    if let Ok(mut pass) = cell.enter(0, target, "m", lane, now) {
                        assert!(pass.is_probation());
                        entered.fetch_add(1, Ordering::Relaxed);
                        // The verdict comes while others still try.
                        pass.failed(Failure { at: now, ..failure(Fault::Provider) });
                    }
                });
            }
        });

        assert_eq!(entered.load(Ordering::Relaxed), 1, "round {round}");
        assert_eq!(target.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_with_too_few_members_left_ignores_rests_for_failures() {
    let panicky = |model| {
        let mut member = member("p", model);
        member.rules.panic = PerMille::new(500);
        member
    };
    let world = World::start(vec![pool("chat", vec![panicky("a"), panicky("b"), panicky("c")])]).await;
    world.fail(2, failure(Fault::Credential)).unwrap();

    world.rest(0, failure(Fault::Provider)).await;
    for _ in 0..5 {
        world.fail(1, failure(Fault::Provider)).ok();
    }
    world.eventually("the pool panics", |world| world.cell().view().is_panicking).await;

    assert_eq!(world.standing(0), Standing::Ready);
    assert_eq!(world.standing(1), Standing::Ready);
    assert_eq!(world.succeed(0, millis(1)), Ok(()));
    assert_eq!(world.why(2), Some(Why::Credential), "what the provider said still holds");
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_limit_find_the_target_full() {
    let mut limited = member("p", "m");
    limited.rules.concurrency = Some(crate::Concurrency { min: 3, max: 3 });
    let world = World::start(vec![pool("chat", vec![limited])]).await;
    world.settle().await;
    let target = world.cell().target(0, "m").unwrap();
    let enter = || world.cell().enter(0, &target, "m", 0, clock());

    let passes: Vec<_> = (0..3).map(|_| enter().unwrap()).collect();

    assert_eq!(enter().err(), Some(Standing::Full { limit: 3 }));
    assert_eq!(world.standing(0), Standing::Full { limit: 3 });
    assert_eq!(target.in_flight(), 3);
    drop(passes);
    assert_eq!(world.standing(0), Standing::Ready);
}
