use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use troupe_proto::health::{self, Finding, Millis, Opinion, Opinions, Print, Rest as RestTold};
use troupe_proto::id::{CredentialId, NodeId, ProviderId, TargetId};

use super::heard::{Account, AccountId, Heard, Probe, Word};
use super::logic::{Rest, Stance, fold};
use super::own::{Told, Urgency, Words, is_cut_off};
use super::turns::{Candidate, rank};
use crate::breaker::Why;

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now() + secs(3600)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ill(why: Why, now: Instant) -> Stance {
    Stance { rest: Some(Rest { why, since: now - secs(1), until: now + secs(4) }), ..Stance::default() }
}

fn worked(ago: Duration, now: Instant) -> Stance {
    Stance { worked: Some(now - ago), ..Stance::default() }
}

#[test]
fn one_node_that_reaches_nobody_rests_no_target_of_others() {
    let now = start();

    for why in [Why::Failures, Why::Unreachable] {
        assert_eq!(fold(&Stance::default(), &[ill(why, now)], now).rest, None);
    }
}

#[test]
fn two_of_two_rest_a_target_and_two_of_four_do_not() {
    let now = start();
    let (unreached, well) = (ill(Why::Unreachable, now), worked(secs(7), now));

    let both = fold(&Stance::default(), &[unreached, unreached], now);
    let half = fold(&Stance::default(), &[unreached, unreached, well, well], now);

    assert_eq!(both.rest, Some((now + secs(4), Why::Unreachable)));
    assert_eq!((half.rest, half.is_disputed), (None, true));
}

#[test]
fn a_call_of_its_own_that_reached_nobody_is_a_second_voice() {
    let now = start();
    let suspects = Stance { dead: Some(now), ..worked(secs(2), now) };

    assert_eq!(fold(&suspects, &[ill(Why::Unreachable, now)], now).rest, Some((now + secs(4), Why::Unreachable)));
    assert_eq!(fold(&worked(secs(2), now), &[ill(Why::Unreachable, now); 2], now).rest, None);
}

#[test]
fn a_target_rests_for_as_long_as_enough_nodes_say_so() {
    let now = start();
    let until = |seconds| {
        let rest = Rest { why: Why::Failures, since: now - secs(1), until: now + secs(seconds) };
        Stance { rest: Some(rest), ..Stance::default() }
    };

    let folded = fold(&Stance::default(), &[until(50), until(3), until(9)], now);

    assert_eq!(folded.rest, Some((now + secs(9), Why::Failures)));
}

#[test]
fn what_the_provider_said_to_one_node_holds_for_all_with_its_key() {
    let now = start();

    for why in [Why::Credential, Why::Quota, Why::RetryAfter, Why::Paced] {
        let folded = fold(&worked(secs(2), now), &[ill(why, now)], now);
        assert_eq!(folded.rest, Some((now + secs(4), why)));
    }
}

#[test]
fn a_key_that_worked_after_it_was_refused_elsewhere_is_believed_to_work() {
    let now = start();
    let just_now = worked(Duration::ZERO, now);

    assert_eq!(fold(&just_now, &[ill(Why::Credential, now)], now).rest, None);
    assert!(fold(&just_now, &[ill(Why::RetryAfter, now)], now).rest.is_some(), "a call may have been under way");
}

#[test]
fn a_node_that_reaches_nobody_at_all_is_no_witness_unless_nobody_reaches_anybody() {
    let now = start();
    let blind = Stance { is_cut_off: true, ..ill(Why::Unreachable, now) };
    let own = Stance { is_cut_off: true, ..Stance::default() };

    assert_eq!(fold(&Stance::default(), &[blind, blind], now).rest, None);
    assert!(fold(&own, &[blind, blind], now).rest.is_some());
}

fn stance(now: Instant) -> impl Strategy<Value = Stance> {
    let why = prop::sample::select(Why::ALL.to_vec());
    let ago = move |span: u64| now - Duration::from_millis(span);
    let rest = (why, 0u64..20_000, 0u64..20_000).prop_map(move |(why, since, left)| Rest {
        why,
        since: ago(since),
        until: now + Duration::from_millis(left),
    });
    let at = || prop::option::of((0u64..20_000).prop_map(ago));
    (prop::option::of(rest), at(), at(), at(), at(), any::<bool>()).prop_map(
        |(rest, dead, answered, worked, recovered, is_cut_off)| Stance {
            rest,
            dead,
            answered,
            worked,
            recovered,
            is_cut_off,
        },
    )
}

fn town() -> impl Strategy<Value = (Instant, Stance, Vec<Stance>)> {
    let now = start();
    (Just(now), stance(now), prop::collection::vec(stance(now), 0..9))
}

/// What a node says that lies as it likes, but has no answer of the provider to show.
fn soft_only(stance: Stance) -> Stance {
    Stance { rest: stance.rest.filter(|rest| rest.why.is_soft()), ..stance }
}

/// What a node says that finds no fault.
fn content(stance: Stance) -> Stance {
    Stance { rest: None, dead: None, ..stance }
}

proptest! {
    #[test]
    fn the_order_of_words_does_not_matter(
        (now, own, others) in town(),
        keys in prop::collection::vec(any::<u64>(), 9),
    ) {
        let mut shuffled: Vec<_> = others.iter().copied().zip(keys).collect();
        shuffled.sort_by_key(|(_, key)| *key);
        let shuffled: Vec<Stance> = shuffled.into_iter().map(|(stance, _)| stance).collect();

        prop_assert_eq!(fold(&own, &others, now), fold(&own, &shuffled, now));
    }

    #[test]
    fn no_single_liar_rests_a_target((now, own, others) in town(), at in 0usize..9) {
        let (own, mut others) = (content(own), others);
        for other in &mut others {
            *other = content(*other);
        }
        let liar = Stance {
            rest: Some(Rest { why: Why::Unreachable, since: now, until: now + secs(60) }),
            dead: Some(now),
            ..Stance::default()
        };
        others.insert(at.min(others.len()), liar);

        prop_assert_eq!(fold(&own, &others, now).rest, None);
    }

    #[test]
    fn a_success_anywhere_clears_what_was_concluded_before_it((now, own, others) in town(), at in 0usize..9) {
        let mut others: Vec<Stance> = others.into_iter().map(soft_only).collect();
        others.insert(at.min(others.len()), worked(Duration::ZERO, now));
        let own = Stance { dead: own.dead.map(|_| now - Duration::from_millis(1)), ..own };

        prop_assert_eq!(fold(&own, &others, now).rest, None);
    }

    #[test]
    fn a_rest_that_is_told_ends_later_than_now((now, own, others) in town()) {
        if let Some((until, why)) = fold(&own, &others, now).rest {
            prop_assert!(until >= now);
            let says = |stance: &Stance| stance.rest.is_some_and(|rest| rest.why == why);
            prop_assert!(why.is_soft() || others.iter().any(says), "nobody invents what a provider said");
        }
    }

    #[test]
    fn each_turn_has_one_first_and_ranks_without_a_gap(nodes in prop::collection::btree_set(any::<u64>(), 1..9), turn: u64) {
        let account = account();
        let all: Vec<Candidate> = nodes.iter().map(|node| seeing(*node)).collect();

        let mut ranks: Vec<u32> = all.iter().map(|me| rank(*me, &all, &account, turn)).collect();
        ranks.sort_unstable();

        let expected: Vec<u32> = (0..u32::try_from(all.len()).unwrap()).collect();
        prop_assert_eq!(ranks, expected);
    }
}

fn account() -> AccountId {
    AccountId { provider: ProviderId::new("p"), credential: Some(CredentialId::new("main")) }
}

fn seeing(node: u64) -> Candidate {
    Candidate { node: NodeId(node), is_cut_off: false }
}

#[test]
fn turns_go_round_and_pass_over_who_reaches_nobody() {
    let all = [seeing(1), seeing(2), seeing(3)];
    let first =
        |all: &[Candidate], turn| all.iter().find(|me| rank(**me, all, &account(), turn) == 0).map(|first| first.node);

    let firsts: BTreeSet<_> = (0..20).map(|turn| first(&all, turn)).collect();
    let blind = [Candidate { is_cut_off: true, ..seeing(1) }, seeing(2), seeing(3)];
    let seers: BTreeSet<_> = (0..20).map(|turn| first(&blind, turn)).collect();

    assert_eq!(firsts.len(), 3);
    assert_eq!(seers, [Some(NodeId(2)), Some(NodeId(3))].into());
}

/// What a node says of its one target, which it cannot reach.
fn opinions(serial: u64, has_uplink: bool) -> Opinions {
    let rest = RestTold { why: health::Why::Unreachable, since: Millis(100), left: Millis(5_000) };
    let opinion = Opinion {
        model: "m".to_owned(),
        rest: Some(rest),
        suspected: None,
        worked: None,
        recovered: None,
        quota: None,
    };
    let account = health::Account {
        credential: Some(CredentialId::new("main")),
        print: Print([1; 16]),
        probe: Some(health::Probe { turn: 1, finding: Finding::Dead, ago: Millis(0) }),
        targets: vec![opinion],
    };
    Opinions { provider: ProviderId::new("p"), incarnation: 1, serial, has_uplink, accounts: vec![account] }
}

fn target() -> TargetId {
    TargetId { provider: ProviderId::new("p"), credential: Some(CredentialId::new("main")), model: "m".into() }
}

#[test]
fn words_of_the_dead_and_old_words_count_nowhere() {
    let now = start();
    let mut heard = Heard::default();
    heard.hear(NodeId(1), &opinions(1, true), now).unwrap();
    let count = |heard: &Heard, now| heard.stances(&target(), Print([1; 16]), now).len();

    assert_eq!(count(&heard, now), 0, "nobody said that it lives");
    heard.living([NodeId(1)].into());
    assert_eq!(count(&heard, now), 1);
    assert_eq!(count(&heard, now + secs(11)), 0, "nothing was renewed");
    heard.living([NodeId(2)].into());
    assert_eq!(count(&heard, now), 0, "it is gone");
}

#[test]
fn words_with_another_key_are_not_about_this_target() {
    let now = start();
    let mut heard = Heard::default();
    heard.living([NodeId(1)].into());
    heard.hear(NodeId(1), &opinions(1, true), now).unwrap();

    assert!(heard.stances(&target(), Print([2; 16]), now).is_empty());
}

#[test]
fn a_word_that_was_overtaken_is_left_out_and_a_finding_is_news_once() {
    let now = start();
    let mut heard = Heard::default();

    assert_eq!(heard.hear(NodeId(1), &opinions(5, true), now).unwrap().len(), 1);
    assert_eq!(heard.hear(NodeId(1), &opinions(5, true), now), None);
    assert_eq!(heard.hear(NodeId(1), &opinions(4, true), now), None);
    assert_eq!(heard.hear(NodeId(1), &opinions(6, true), now).unwrap().len(), 0);
    let restarted = Opinions { incarnation: 2, ..opinions(1, true) };
    assert!(heard.hear(NodeId(1), &restarted, now).is_some(), "a new process begins to count anew");
}

#[test]
fn who_reaches_nobody_says_so_for_all_providers() {
    let now = start();
    let mut heard = Heard::default();
    heard.living([NodeId(1)].into());

    heard.hear(NodeId(1), &opinions(1, false), now).unwrap();

    assert!(heard.is_cut_off(NodeId(1), now));
    assert!(heard.stances(&target(), Print([1; 16]), now).iter().all(|stance| stance.is_cut_off));
}

/// One target of one account, of which this is said.
fn words(word: Word, probe: Option<Probe>) -> Words {
    let targets = [("m".into(), word)].into();
    [(Some(CredentialId::new("main")), Account { print: Print([1; 16]), probe, targets })].into()
}

fn resting(now: Instant, left: Duration) -> Word {
    Word { rest: Some(Rest { why: Why::Unreachable, since: now, until: now + left }), ..Word::default() }
}

#[test]
fn news_is_urgent_and_what_is_known_is_only_renewed() {
    let now = start();
    let mut told = Told::default();
    let mut say = |words: Words, at: Instant| {
        let urgency = told.is_due(&words, true, at);
        if urgency.is_some() {
            told.said(words, true, at);
        }
        urgency
    };

    assert_eq!(say(Words::new(), now), None, "who has nothing to say says nothing");
    assert_eq!(say(words(resting(now, secs(5)), None), now), Some(Urgency::Now));
    assert_eq!(say(words(resting(now, secs(5)), None), now + secs(1)), None);
    assert_eq!(say(words(resting(now, secs(7)), None), now + secs(2)), Some(Urgency::Soon), "a probe made it longer");
    let probe = Probe { turn: 1, finding: Finding::Dead, at: now };
    assert_eq!(say(words(resting(now, secs(7)), Some(probe)), now + secs(3)), Some(Urgency::Now));
    assert_eq!(say(Words::new(), now + secs(3)), Some(Urgency::Now), "it is back");
    assert_eq!(say(Words::new(), now + secs(60)), None);
}

#[test]
fn a_node_whose_calls_went_well_a_moment_before_does_not_blame_its_network() {
    let now = start();
    let probe = |ago| Some(Probe { turn: 1, finding: Finding::Dead, at: now - ago });
    let of = |probe| [(ProviderId::new("p"), words(Word::default(), probe))].into();
    let cut_off = |ago, worked| is_cut_off(&of(probe(ago)), worked, now);

    assert!(cut_off(secs(1), None));
    assert!(cut_off(secs(1), Some(now - secs(10))));
    assert!(!cut_off(secs(1), Some(now - secs(3))));
    assert!(!cut_off(secs(1), Some(now)));
    assert!(!cut_off(secs(20), None), "it is too long ago to say anything");
}
