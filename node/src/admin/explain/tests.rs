use std::time::Duration;

use troupe_actors::{Belief, Why};
use troupe_proto::health::Finding;
use troupe_proto::id::{CredentialId, KeyId, ModelId, NodeId, ProviderId, TargetId};
use troupe_proto::unit::PerMille;

use super::*;

fn member(provider: &str) -> MemberFacts {
    MemberFacts {
        target: TargetId {
            provider: ProviderId::new(provider),
            credential: Some(CredentialId::new("main")),
            model: "gpt-4o".into(),
        },
        takes: true,
        is_pinned: true,
        priority: 0,
        weight: 10,
        weight_now: 10,
        first_token: None,
        failing: PerMille::ZERO,
        in_flight: 0,
        in_flight_max: None,
        standing: Standing::Ready,
        failures: 0,
        streak: 0,
        quota_left: None,
        is_told: false,
        beliefs: Vec::new(),
    }
}

fn resting(provider: &str, why: Why, seconds: u64) -> MemberFacts {
    let standing = Standing::Resting { ends_in: Duration::from_secs(seconds), why };
    MemberFacts { standing, ..member(provider) }
}

fn pool(model: &str, members: Vec<MemberFacts>) -> PoolFacts {
    PoolFacts {
        model: ModelId::new(model),
        asked: model.to_owned(),
        is_allowed: true,
        is_panicking: false,
        retries_left: None,
        members,
    }
}

fn question() -> Question {
    Question { model: "gpt-4o".to_owned(), ..Question::default() }
}

/// As the router judges where nothing but latency differs: worse by more than a third.
fn by_latency(a: &MemberFacts, b: &MemberFacts) -> bool {
    a.first_token.zip(b.first_token).is_some_and(|(a, b)| b * 4 < a * 3)
}

fn report(pools: Vec<PoolFacts>) -> Report {
    explain(&question(), &Facts { key: None, pools }, by_latency)
}

/// State and reason of each target of the first model.
fn told(report: &Report) -> Vec<(State, &str)> {
    report.pools[0].targets.iter().map(|target| (target.state, target.why.as_str())).collect()
}

#[test]
fn each_target_is_told_by_what_keeps_it() {
    let second = MemberFacts { streak: 2, ..resting("a", Why::Failures, 20) };
    let full = MemberFacts { standing: Standing::Full { limit: 8 }, in_flight: 8, ..member("a") };
    for (members, state, why) in [
        (vec![member("a")], State::Serves, "the only one that can be chosen now"),
        (vec![resting("a", Why::Failures, 3)], State::Rests, "rests: it failed too often; 3.0 s to go"),
        (vec![second], State::Rests, "rests, for the 2nd time in a row: it failed too often; 20.0 s to go"),
        (
            vec![resting("a", Why::Credential, 1790)],
            State::Rests,
            "rests: the provider refused its key; 29 min 50 s to go",
        ),
        (
            vec![resting("a", Why::RetryAfter, 7)],
            State::Rests,
            "rests: the provider said when to come again; 7.0 s to go",
        ),
        (
            vec![MemberFacts { standing: Standing::Probed, ..member("a") }],
            State::Probed,
            "its rest is over, and the call that decides is under way",
        ),
        (vec![full], State::Full, "has 8 calls in flight, as many as its limit of 8 allows"),
        (
            vec![MemberFacts { takes: false, ..member("a") }, member("b")],
            State::Unfit,
            "its provider's key is not good for this model",
        ),
        (
            vec![MemberFacts { is_pinned: false, ..member("a") }, member("b")],
            State::NotPinned,
            "the call chooses another target",
        ),
        (vec![MemberFacts { priority: 1, ..member("a") }, member("b")], State::StandsBy, "priority 0 comes first"),
        (
            vec![MemberFacts { standing: Standing::Probation, ..member("a") }],
            State::Serves,
            "the only one that can be chosen now; its rest is over, and the next call decides",
        ),
        (
            vec![MemberFacts { weight_now: 4, ..member("a") }],
            State::Serves,
            "the only one that can be chosen now; 40 % of its weight counts now",
        ),
    ] {
        assert_eq!(told(&report(vec![pool("gpt-4o", members)]))[0], (state, why));
    }
}

#[test]
fn equals_share_by_weight_and_a_slow_one_gets_only_what_nobody_takes_from_it() {
    let with = |provider: &str, weight, millis| MemberFacts {
        weight,
        weight_now: weight,
        first_token: Some(Duration::from_millis(millis)),
        ..member(provider)
    };
    let shares = |members: Vec<MemberFacts>| -> Vec<f64> {
        let report = report(vec![pool("gpt-4o", members)]);
        report.pools[0].targets.iter().filter_map(|target| target.share_percent).collect()
    };

    assert_eq!(shares(vec![with("a", 9, 100), with("b", 1, 110)]), [90.0, 10.0]);
    assert_eq!(shares(vec![with("a", 9, 500), with("b", 1, 100)]), [0.0, 100.0]);
    assert_eq!(shares(vec![with("a", 1, 100), with("b", 1, 100), with("c", 1, 900)]), [50.0, 50.0, 0.0]);
    assert_eq!(shares(vec![with("a", 7, 100)]), [100.0]);
}

#[test]
fn the_likeliest_target_is_named() {
    let slow = MemberFacts { first_token: Some(Duration::from_millis(900)), ..member("slow") };
    let quick =
        MemberFacts { first_token: Some(Duration::from_millis(100)), weight: 1, weight_now: 1, ..member("quick") };

    let report = report(vec![pool("gpt-4o", vec![slow, quick])]);

    assert_eq!(report.serves.as_deref(), Some("quick/main/gpt-4o"));
    assert_eq!(report.verdict, "served by one of 2 targets, most likely quick/main/gpt-4o");
    assert_eq!(report.error, None);
}

#[test]
fn a_lower_priority_serves_when_nothing_of_the_higher_can() {
    let spare = MemberFacts { priority: 1, ..member("b") };

    let report = report(vec![pool("gpt-4o", vec![resting("a", Why::Unreachable, 2), spare])]);

    assert_eq!(report.serves.as_deref(), Some("b/main/gpt-4o"));
    assert_eq!(told(&report)[0].0, State::Rests);
}

#[test]
fn a_fallback_stands_by_until_the_model_before_it_cannot_serve() {
    let fallback = || pool("claude-sonnet", vec![member("anthropic")]);
    let well = report(vec![pool("gpt-4o", vec![member("a")]), fallback()]);
    let ill = report(vec![pool("gpt-4o", vec![resting("a", Why::Failures, 5)]), fallback()]);

    assert_eq!(well.pools[1].place, Place::Fallback);
    assert_eq!(well.pools[1].targets[0].state, State::StandsBy);
    assert_eq!(well.pools[1].targets[0].why, "a model before this one can serve");
    assert_eq!(well.pools[1].targets[0].share_percent, None);
    assert_eq!(ill.serves.as_deref(), Some("anthropic/main/gpt-4o"));
    assert_eq!(ill.verdict, "served by the fallback \"claude-sonnet\" at anthropic/main/gpt-4o");
}

#[test]
fn a_fallback_that_the_key_may_not_use_is_no_way_around_it() {
    let forbidden = PoolFacts { is_allowed: false, ..pool("claude-sonnet", vec![member("anthropic")]) };

    let report = report(vec![pool("gpt-4o", vec![resting("a", Why::Failures, 5)]), forbidden]);

    assert_eq!((report.serves, report.error.as_deref()), (None, Some("no_target")));
    assert_eq!(report.pools[1].targets[0].why, "the key may not use this model");
}

#[test]
fn a_panicking_pool_ignores_rests_for_failures_and_no_others() {
    let members = vec![resting("a", Why::Failures, 5), resting("b", Why::Credential, 5)];

    let report = report(vec![PoolFacts { is_panicking: true, ..pool("gpt-4o", members) }]);

    assert_eq!(told(&report)[0].0, State::Serves);
    assert!(told(&report)[0].1.ends_with("it rests (it failed too often), which a panicking pool ignores"));
    assert_eq!(told(&report)[1].0, State::Rests);
}

#[test]
fn a_call_that_no_target_takes_is_told_by_the_code_its_client_gets() {
    for (members, code) in [
        (vec![resting("a", Why::Failures, 5), resting("b", Why::RetryAfter, 5)], "no_target"),
        (vec![resting("a", Why::RetryAfter, 5), resting("b", Why::Paced, 5)], "provider_rate_limited"),
        (vec![MemberFacts { takes: false, ..member("a") }], "no_target"),
    ] {
        let report = report(vec![pool("gpt-4o", members)]);

        assert_eq!((report.serves, report.error.as_deref()), (None, Some(code)));
        assert!(report.verdict.starts_with("refused with "), "{}", report.verdict);
    }
}

#[test]
fn what_the_key_may_not_do_is_refused_before_any_target() {
    let key = |may_pin, is_expired| Some(KeyFacts { id: KeyId::new("team"), may_pin, is_expired });
    let ask = |target: Option<&str>, key, is_allowed| {
        let question = Question { target: target.map(str::to_owned), ..question() };
        let pools = vec![PoolFacts { is_allowed, ..pool("gpt-4o", vec![member("a")]) }];
        explain(&question, &Facts { key, pools }, by_latency)
    };

    for (report, code) in [
        (ask(None, key(false, true), true), "key_expired"),
        (ask(None, key(false, false), false), "model_forbidden"),
        (ask(Some("a"), key(false, false), true), "pin_forbidden"),
    ] {
        assert_eq!(report.error.as_deref(), Some(code), "{}", report.verdict);
        assert_eq!(told(&report)[0].0, State::Refused);
    }
    assert_eq!(ask(Some("a"), key(true, false), true).serves.as_deref(), Some("a/main/gpt-4o"));
    assert_eq!(ask(None, key(false, false), true).error, None);
}

#[test]
fn a_pin_that_means_no_target_is_refused() {
    let members = vec![MemberFacts { is_pinned: false, ..member("a") }];
    let question = Question { target: Some("b".to_owned()), ..question() };

    let report = explain(&question, &Facts { key: None, pools: vec![pool("gpt-4o", members)] }, by_latency);

    assert_eq!(report.error.as_deref(), Some("invalid_field"));
    assert!(report.verdict.ends_with("the model \"gpt-4o\" has no target b"), "{}", report.verdict);
}

#[test]
fn what_was_learned_stands_in_the_report() {
    let known = MemberFacts {
        first_token: Some(Duration::from_micros(210_640)),
        failing: PerMille::new(25),
        in_flight: 3,
        in_flight_max: Some(12),
        failures: 2,
        streak: 1,
        quota_left: Some(PerMille::new(375)),
        ..resting("a", Why::Quota, 90)
    };

    let json = serde_json::to_value(report(vec![pool("gpt-4o", vec![known, member("b")])])).unwrap();

    assert_eq!(
        json["pools"][0]["targets"][0],
        serde_json::json!({
            "target": "a/main/gpt-4o", "state": "rests", "why": "rests: its account is out of quota; 1 min 30 s to go",
            "priority": 0, "weight_percent": 50.0, "weight_now_percent": 100.0, "first_token_ms": 210.6,
            "failing_percent": 2.5, "in_flight": 3, "in_flight_max": 12, "failures": 2, "streak": 1,
            "rests_for": "quota", "rest_ends_in_ms": 90_000, "quota_left_percent": 37.5
        })
    );
    let report: Report = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(report).unwrap(), json);
}

#[test]
fn a_report_says_what_other_nodes_believe_and_what_counts_of_it() {
    let belief = Belief {
        node: NodeId(2),
        counts: true,
        is_same_credential: true,
        is_cut_off: false,
        rests: Some((Why::Unreachable, Duration::from_millis(4_100))),
        suspects: false,
        worked: None,
        probe: Some((Finding::Dead, Duration::from_millis(1_200))),
    };
    let well = Belief { rests: None, probe: None, worked: Some(Duration::from_secs(2)), ..belief };
    let stale = Belief { is_same_credential: false, rests: Some((Why::Credential, Duration::from_secs(90))), ..belief };
    let told = |node: &str, belief| NodeBelief { node: node.to_owned(), belief };
    let beliefs = vec![told("gw-2", belief), told("gw-3", well), told("gw-4", Belief { probe: None, ..stale })];
    let member = MemberFacts { is_told: true, beliefs, ..resting("a", Why::Unreachable, 4) };

    let report = report(vec![pool("gpt-4o", vec![member, self::member("b")])]);

    let target = &report.pools[0].targets[0];
    assert_eq!(target.why, "rests, as other nodes say: it cannot be reached; 4.0 s to go");
    let says: Vec<_> = target.nodes.iter().map(|node| (node.node.as_str(), node.says.as_str(), node.counts)).collect();
    assert_eq!(
        says,
        [
            ("gw-2", "it rests there: it cannot be reached; 4.1 s to go; its probe 1.2 s ago reached nobody", true),
            ("gw-3", "a call went well 2.0 s ago", true),
            (
                "gw-4",
                "it rests there: the provider refused its key; 1 min 30 s to go (with another key or address)",
                false
            ),
        ]
    );
}

#[test]
fn a_target_whose_provider_is_switched_off_is_told_so_and_others_serve() {
    let off = |name| MemberFacts { standing: Standing::Off, ..member(name) };
    let why = "an operator switched its provider off: nobody calls it";

    let served = report(vec![pool("gpt-4o", vec![off("a"), member("b")])]);
    assert_eq!(told(&served), [(State::Off, why), (State::Serves, "the only one that can be chosen now")]);

    let refused = report(vec![pool("gpt-4o", vec![off("a"), off("b")])]);
    assert_eq!(told(&refused), [(State::Off, why); 2]);
    assert_eq!((refused.error.as_deref(), refused.serves), (Some("no_target"), None));
    assert!(refused.verdict.contains("switched off"), "{}", refused.verdict);

    let fallback = report(vec![pool("gpt-4o", vec![off("a")]), pool("spare", vec![member("b")])]);
    assert!(fallback.verdict.contains("by the fallback \"spare\""), "{}", fallback.verdict);
}
