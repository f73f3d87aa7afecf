//! Going back by the audit comes to what was.

use troupe_proto::command::Resealed;
use troupe_proto::id::CredentialId;
use troupe_proto::secret::{CredentialSecret, SealKeyId, Sealed};
use troupe_proto::spec::{Credential, Freshness, Policies, Rules, Timeouts};
use troupe_proto::unit::Wait;

use super::super::audit::Line;
use super::super::past::{Noun, OutOfReach, Past, Thing, Why, past};
use super::super::shape::Shape;
use super::*;

/// All things of a spec, as the audit writes them.
fn shapes(spec: &Spec) -> BTreeMap<(Noun, String), Shape> {
    let mut all = BTreeMap::new();
    all.insert((Noun::Defaults, "defaults".to_owned()), shape::rules(&spec.defaults));
    all.insert((Noun::Policies, "policies".to_owned()), shape::policies(&spec.policies));
    all.extend(spec.providers.iter().map(|(id, p)| ((Noun::Provider, id.to_string()), shape::provider(p))));
    all.extend(spec.models.iter().map(|(id, m)| ((Noun::Model, id.to_string()), shape::model(m))));
    all.extend(spec.keys.iter().map(|(id, k)| ((Noun::Key, id.to_string()), shape::key(k))));
    all
}

fn overlaid(spec: &Spec, past: &Past) -> BTreeMap<(Noun, String), Shape> {
    let mut all = shapes(spec);
    for (name, thing) in past {
        match &thing.then {
            Some(then) => all.insert(name.clone(), then.clone()),
            None => all.remove(name),
        };
    }
    all
}

fn lines(state: &State) -> Vec<Line> {
    state.audit().lines().map(|line| (**line).clone()).collect()
}

fn with_secret(port: u16, secret: u8, key: u8) -> Provider {
    let sealed = Sealed { key: SealKeyId([key; 8]), nonce: [key; 24], bytes: vec![secret; 20] };
    let credential = Credential { secret: CredentialSecret::Sealed(sealed), weight: 1, models: None };
    Provider { credentials: [(CredentialId::new("main"), credential)].into(), ..provider(port) }
}

/// One of the changes of everything a spec has, by a number.
fn some_change(n: u16) -> Change {
    let (of, which) = (n % 11, n / 11 % 3);
    let name = format!("n{which}");
    match of {
        0 => Change::PutProvider(ProviderId::new(&name), provider(n)),
        1 => Change::PutProvider(ProviderId::new(&name), with_secret(n, n.to_le_bytes()[0], 1)),
        2 => Change::RemoveProvider(ProviderId::new(&name)),
        3 => Change::PutModel(ModelId::new(&name), model(&format!("n{}", n / 33 % 3), &[])),
        4 => Change::PutModel(ModelId::new(&name), model(&name, &["n0"])),
        5 => Change::RemoveModel(ModelId::new(&name)),
        6 | 7 => put_key(&name, &n.to_string()),
        8 => Change::RemoveKey(KeyId::new(&name)),
        9 => {
            let timeouts = Timeouts { idle: Some(Wait::from_secs(u64::from(n) + 1)), ..Timeouts::default() };
            Change::PutDefaults(Rules { timeouts, ..Rules::default() })
        }
        _ => Change::PutPolicies(Policies { freshness: Freshness::Within(Wait::from_secs(u64::from(n) + 5)) }),
    }
}

proptest! {
    #[test]
    fn going_back_comes_to_what_was_behind_every_entry(
        commands in prop::collection::vec(prop::collection::vec(0_u16..2_000, 1..4), 1..40),
    ) {
        let mut state = State::default();
        let mut were = vec![(0, shapes(state.spec()))];
        for (at, changes) in commands.iter().enumerate() {
            apply(&mut state, changes.iter().map(|n| some_change(*n)).collect());
            were.push((u64::try_from(at).unwrap() + 1, shapes(state.spec())));
        }

        for (index, was) in were {
            let past = past(state.spec(), &lines(&state), true, index).unwrap();

            prop_assert_eq!(overlaid(state.spec(), &past), was, "behind entry {}", index);
            prop_assert!(past.values().all(|thing: &Thing| thing.then != thing.now));
        }
    }
}

#[test]
fn a_secret_that_was_only_sealed_again_is_the_same_one() {
    let mut state = furnished();
    let (id, name) = (ProviderId::new("openai"), CredentialId::new("main"));
    apply(&mut state, vec![Change::PutProvider(id.clone(), with_secret(1, 7, 1))]);
    apply(&mut state, vec![Change::PutProvider(id.clone(), with_secret(2, 7, 1))]);
    let sealed = |key| Sealed { key: SealKeyId([key; 8]), nonce: [key; 24], bytes: vec![7; 20] };
    for (old, new) in [(1, 2), (2, 3)] {
        let at = Resealed { provider: id.clone(), credential: name.clone(), old: sealed(old), new: sealed(new) };
        run(&mut state, Command::Reseal(vec![at]));
        apply(&mut state, vec![Change::PutProvider(id.clone(), with_secret(u16::from(new), 7, new))]);
    }

    let past = past(state.spec(), &lines(&state), true, 2).unwrap();

    let thing = &past[&(Noun::Provider, "openai".to_owned())];
    let (then, now) = (thing.then.as_ref().unwrap(), thing.now.as_ref().unwrap());
    assert_eq!(then["keys"], now["keys"]);
    assert_ne!(then["base_url"], now["base_url"]);
}

#[test]
fn the_way_back_ends_where_the_lines_do() {
    let mut state = furnished();
    for n in 1..=5 {
        apply(&mut state, vec![put_key("team", &n.to_string())]);
    }
    let kept = &lines(&state)[2..];
    let went = |index| past(state.spec(), kept, false, index);

    assert!(went(3).is_ok());
    assert!(went(2).is_ok(), "the first line kept is undone");
    assert_eq!(went(1), Err(OutOfReach { index: 1, from: 2, why: Why::Missing }));
}

#[test]
fn a_line_that_only_counts_is_not_gone_behind() {
    let mut state = furnished();
    apply(&mut state, (0..2_000).map(|n| put_key(&format!("k{n}"), &n.to_string())).collect());
    apply(&mut state, vec![put_key("team", "sk-2")]);
    let went = |index| past(state.spec(), &lines(&state), true, index).map(|past| past.len());

    assert_eq!(went(2), Ok(1));
    assert_eq!(went(1), Err(OutOfReach { index: 1, from: 2, why: Why::Counted }));
}

#[test]
fn a_line_that_does_not_fit_what_is_in_force_is_not_gone_behind() {
    let mut state = furnished();
    apply(&mut state, vec![put_key("team", "sk-2")]);
    apply(&mut state, vec![put_key("team", "sk-3")]);
    let mut lines = lines(&state);
    lines.remove(2);

    assert_eq!(past(state.spec(), &lines, true, 1), Err(OutOfReach { index: 1, from: 2, why: Why::Unfit }));
}
