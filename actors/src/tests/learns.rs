//! Pools learn from what calls count.

use super::*;
use crate::pool::MemberView;
use crate::pool::actor::NAMES_MAX;

#[tokio::test(start_paused = true)]
async fn latencies_and_failures_reach_the_view() {
    let world = World::start(vec![pool("chat", vec![member("p", "a"), member("q", "b")])]).await;

    for _ in 0..100 {
        world.succeed(0, millis(80)).unwrap();
        world.succeed(1, millis(20)).unwrap();
        world.succeed(1, millis(20)).unwrap();
        world.fail(1, failure(Fault::Provider)).unwrap();
        tokio::time::sleep(millis(10)).await;
    }

    world.settle().await;
    let view = world.cell().view();
    assert_eq!(view.members[0], MemberView { weight: 1_000, latency_us: 80_000, failing: PerMille::ZERO });
    let second = view.members[1];
    assert!(second.failing > PerMille::new(300), "{second:?}");
    assert!(second.latency_us > 80_000, "failing fast is no merit: {second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_member_without_calls_is_neutral_again_after_ten_seconds() {
    let world = World::one().await;
    world.succeed(0, millis(80)).unwrap();
    world.settle().await;
    assert_eq!(world.cell().view().members[0].latency_us, 80_000);

    tokio::time::sleep(secs(16)).await;

    assert_eq!(world.cell().view().members[0], MemberView { weight: 1_000, latency_us: 0, failing: PerMille::ZERO });
}

#[tokio::test(start_paused = true)]
async fn idle_views_stay_young() {
    let world = World::start((0..50).map(|n| pool(&format!("m{n}"), vec![member("p", "m")])).collect()).await;

    for _ in 0..60 {
        tokio::time::sleep(secs(1)).await;
        let (_, age) = world.actors.vitals().views[0];
        assert!(age <= secs(5), "{age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_that_nobody_renews_is_neutral_after_fifteen_seconds() {
    let world = World::one().await;
    world.succeed(0, millis(80)).unwrap();
    world.settle().await;
    world.actors.stop().await;
    assert_eq!(world.cell().view().members[0].latency_us, 80_000);

    tokio::time::sleep(secs(16)).await;

    assert_eq!(world.cell().view().members[0], MemberView { weight: 1_000, latency_us: 0, failing: PerMille::ZERO });
    assert_eq!(world.succeed(0, millis(1)), Ok(()), "calls go on without any actor");
}

#[tokio::test(start_paused = true)]
async fn the_calls_of_a_pool_that_needed_no_retry_pay_for_the_first_ones() {
    let world = World::one().await;
    for _ in 0..100 {
        (0..10).for_each(|_| world.cell().called(0));
        tokio::time::sleep(millis(20)).await;
    }

    let retries = (0..1_000).filter(|_| world.cell().retries.try_take(clock())).count();
    let hedges = (0..1_000).filter(|_| world.cell().hedges.as_ref().unwrap().try_take(clock())).count();

    // A fifth and a twentieth of a thousand calls, and the floors; the last slot's calls may be missing.
    assert!((280..=300).contains(&retries), "{retries}");
    assert!((55..=60).contains(&hedges), "{hedges}");
}

#[tokio::test(start_paused = true)]
async fn a_name_behind_a_wildcard_has_a_target_of_its_own_once_it_succeeded() {
    let world = World::start(vec![pool("any", vec![member("p", "*")])]).await;
    let cell = world.cell();
    let common = cell.target(0, "gpt").unwrap();
    assert_eq!(&*common.id.model, "*");

    let mut pass = cell.enter(0, &common, "gpt", 0, clock()).unwrap();
    pass.succeeded(Some(millis(30)));
    drop(pass);
    let mut unknown = cell.enter(0, &common, "nonsense", 0, clock()).unwrap();
    unknown.failed(failure(Fault::Client));
    drop(unknown);
    world.settle().await;

    let own = cell.target(0, "gpt").unwrap();
    assert_eq!(&*own.id.model, "gpt");
    assert!(Arc::ptr_eq(&cell.target(0, "nonsense").unwrap(), &common), "what never succeeded has nothing of its own");
    assert_eq!(cell.view().members[0].latency_us, 30_000, "the member learns from all its names");
    for _ in 0..5 {
        cell.enter(0, &own, "gpt", 0, clock()).unwrap().failed(failure(Fault::Provider));
    }
    world.settle().await;
    assert!(matches!(cell.standing(0, &own, clock()), Standing::Resting { .. }));
    assert_eq!(cell.standing(0, &common, clock()), Standing::Ready, "one name's trouble is not the others'");
}

#[tokio::test(start_paused = true)]
async fn names_behind_a_wildcard_are_bounded_and_those_in_use_stay() {
    let world = World::start(vec![pool("any", vec![member("p", "*")])]).await;
    let cell = world.cell();
    let name = |n: usize| format!("model-{n}");

    for n in 0..NAMES_MAX + 500 {
        for asked in [name(n), name(0)] {
            let target = cell.target(0, &asked).unwrap();
            cell.enter(0, &target, &asked, 0, clock()).unwrap().succeeded(Some(millis(1)));
        }
        if n % 100 == 0 {
            world.settle().await;
        }
    }
    world.settle().await;

    let own = (0..NAMES_MAX + 500).filter(|n| &*cell.target(0, &name(*n)).unwrap().id.model != "*");
    let own: Vec<_> = own.collect();
    assert!(own.len() <= NAMES_MAX, "{}", own.len());
    assert!(own.contains(&0) && own.contains(&(NAMES_MAX + 499)), "the least used go first");
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_is_moved_by_the_time_to_the_first_token() {
    let mut limited = member("p", "m");
    limited.rules.concurrency = Some(crate::Concurrency { min: 4, max: 60 });
    let world = World::start(vec![pool("chat", vec![limited])]).await;
    let target = world.cell().target(0, "m").unwrap();
    world.settle().await;
    let begin = target.report(clock()).limit.unwrap();

    for _ in 0..300 {
        let passes: Vec<_> = std::iter::from_fn(|| world.cell().enter(0, &target, "m", 0, clock()).ok()).collect();
        assert!(passes.len() <= 60);
        // Told while they run, so that the pool sees a busy target.
        let passes = passes.into_iter().map(|mut pass| {
            pass.succeeded(Some(millis(50)));
            pass
        });
        let passes: Vec<_> = passes.collect();
        tokio::time::sleep(millis(20)).await;
        drop(passes);
    }

    assert_eq!(begin, 20);
    assert_eq!(target.report(clock()).limit, Some(60));
}
