//! A key is refused, exchanged, and refused for one model only.

use super::*;

/// The same member, reached with another key.
fn rekeyed(provider: &str, model: &str) -> MemberLayout {
    MemberLayout { fingerprint: Fingerprint::of([7; 32]), ..member(provider, model) }
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_key_was_exchanged_begins_anew_in_every_pool() {
    let pools = |member: MemberLayout| vec![pool("chat", vec![member.clone()]), pool("also", vec![member])];
    for (fault, why) in [(Fault::Credential, Why::Credential), (Fault::Quota, Why::Quota)] {
        let mut world = World::start(pools(member("p", "m"))).await;
        world.succeed(0, millis(70)).unwrap();
        world.fail(0, failure(fault)).unwrap();
        world.eventually("the target rests", |world| world.why(0) == Some(why)).await;
        world.settle().await;

        world.cells = world.actors.lay_out(pools(rekeyed("p", "m")));

        assert_eq!(world.standing(0), Standing::Ready, "{fault:?}");
        assert_eq!(world.cell().view().members[0].latency_us, 0, "nothing is known of another account");
        let shared: Vec<_> = world.cells.iter().map(|cell| cell.target(0, "m").unwrap()).collect();
        assert!(Arc::ptr_eq(&shared[0], &shared[1]));
        world.succeed(0, millis(1)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_call_with_the_old_key_ends_in_decides_nothing_about_the_new_one() {
    let mut world = World::one().await;
    let (cell, target) = (world.cell().clone(), world.cell().target(0, "m").unwrap());
    let mut late = cell.enter(0, &target, "m", 0, clock()).unwrap();
    let mut works = cell.enter(0, &target, "m", 0, clock()).unwrap();
    world.cells = world.actors.lay_out(vec![pool("chat", vec![rekeyed("p", "m")])]);

    late.failed(failure(Fault::Credential));
    works.succeeded(Some(millis(5)));
    drop((late, works));

    tokio::time::sleep(secs(120)).await;
    assert_eq!((world.standing(0), world.probes()), (Standing::Ready, 0));
    assert_eq!((target.in_flight(), world.cell().target(0, "m").unwrap().in_flight()), (0, 0));
    // And the new one is watched as ever, while the old one is still held by somebody.
    world.fail(0, failure(Fault::Credential)).unwrap();
    world.eventually("it is probed", |world| world.probes() > 0).await;
    assert_eq!(world.why(0), Some(Why::Credential));
}

#[tokio::test(start_paused = true)]
async fn the_names_of_a_wildcard_begin_anew_with_its_key() {
    let mut world = World::start(vec![pool("*", vec![member("p", "*")])]).await;
    world.succeed(0, millis(5)).unwrap();
    let is_own = |world: &World| world.cell().target(0, "m").unwrap().id.model.as_ref() == "m";
    world.eventually("the name has a target of its own", is_own).await;
    world.fail(0, failure(Fault::Credential)).unwrap();
    world.eventually("it rests", |world| world.why(0) == Some(Why::Credential)).await;

    world.cells = world.actors.lay_out(vec![pool("*", vec![rekeyed("p", "*")])]);

    assert_eq!(world.standing(0), Standing::Ready);
    world.succeed(0, millis(5)).unwrap();
    world.eventually("the name has a target of its own", is_own).await;
    assert_eq!(world.standing(0), Standing::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_within_a_second_where_a_probe_finds_the_key_good() {
    let world = World::one().await;
    world.script(Script::Says(Probed::Alive));
    for _ in 0..5 {
        world.fail(0, failure(Fault::Credential)).unwrap();
        world.eventually("it rests", |world| world.why(0) == Some(Why::Credential)).await;

        tokio::time::sleep(secs(1)).await;

        assert_eq!(world.standing(0), Standing::Probation);
        world.succeed(0, millis(5)).unwrap();
        world.eventually("it is back", |world| world.standing(0) == Standing::Ready).await;
        tokio::time::sleep(secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_only_probes_find_good_costs_ever_fewer_calls() {
    let world = World::one().await;
    world.script(Script::Says(Probed::Alive));
    let mut refused = 0;

    for _ in 0..60_000 {
        refused += usize::from(world.fail(0, failure(Fault::Credential)).is_ok());
        tokio::time::sleep(millis(10)).await;
    }

    assert!((20..=34).contains(&refused), "seven in the first half minute, then two a minute: {refused} in ten");
    assert!(world.probes() <= refused, "{} probes", world.probes());
}
