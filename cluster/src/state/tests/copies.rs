//! Copies, overtaking and late arrival of entries, and snapshots in between.

use troupe_proto::id::{AdminTokenId, JoinTokenId};
use troupe_proto::token::Role;
use troupe_proto::wire;

use super::*;

/// What a process can propose, spec changes being for the revision in force when it is applied or for another one.
#[derive(Clone, Debug)]
enum Ask {
    Change(Vec<Change>, u64),
    Other(Command),
}

fn any_command() -> impl Strategy<Value = Command> {
    let node = || (10_u64..13).prop_map(NodeId);
    let hash = || any_name().prop_map(|name| KeyHash::of(name.as_bytes()));
    let member = |version| Member {
        name: "n".to_owned(),
        peer: "p".to_owned(),
        admin: "a".to_owned(),
        data: "d".to_owned(),
        version,
        zone: None,
    };
    let put_admin = (any_name(), hash()).prop_map(|(name, hash)| {
        Command::PutAdminToken(AdminTokenId::new(name), AdminToken { hash, role: Role::Admin, expires: None })
    });
    let put_join = (any_name(), hash(), 0_i64..10).prop_map(|(name, hash, expires)| Command::PutJoinToken {
        id: JoinTokenId::new(name),
        hash,
        expires,
    });
    prop_oneof![
        (node(), 1_u16..3).prop_map(move |(node, version)| Command::PutMember(node, member(version))),
        node().prop_map(Command::RemoveMember),
        (1_u16..4).prop_map(Command::SetVersion),
        (1_u128..3).prop_map(|id| Command::Form { cluster: ClusterId(id) }),
        put_admin,
        any_name().prop_map(|name| Command::RemoveAdminToken(AdminTokenId::new(name))),
        put_join,
        any_name().prop_map(|name| Command::RemoveJoinToken(JoinTokenId::new(name))),
        (hash(), node(), 0_i64..10).prop_map(|(hash, node, at)| Command::UseJoinToken { hash, node, at }),
    ]
}

fn any_ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        3 => (prop::collection::vec(any_change(), 0..4), 0_u64..3).prop_map(|(changes, off)| Ask::Change(changes, off)),
        2 => any_command().prop_map(Ask::Other),
    ]
}

/// What three processes propose: which one, whether it starts anew before, how far behind it settles, and its ask.
fn any_asks() -> impl Strategy<Value = Vec<Entry>> {
    let ask = (0_usize..3, prop::bool::weighted(0.05), 0_u64..4, prop::option::weighted(0.2, 0_u8..4), any_ask());
    prop::collection::vec(ask, 0..40).prop_map(|asks| {
        let mut processes = [(1_u64, 0_u64); 3];
        let mut revision = 0;
        let mut entries = Vec::new();
        for (at, is_restarted, behind, key, ask) in asks {
            let (incarnation, seq) = &mut processes[at];
            if is_restarted {
                (*incarnation, *seq) = (*incarnation + 1, 0);
            }
            *seq += 1;
            let node = NodeId(10 + u64::try_from(at).unwrap());
            let settled = seq.saturating_sub(behind).max(1);
            let origin = Origin { node, incarnation: *incarnation, seq: *seq, settled };
            let command = match ask {
                Ask::Change(changes, off) => {
                    let base = Revision(if off == 0 { revision } else { off });
                    revision += 1;
                    Command::Change { base, changes }
                }
                Ask::Other(command) => command,
            };
            let note = Note { idempotency: key.map(|key| [key; 32]), ..Note::default() };
            entries.push(Entry { origin, note, command });
        }
        entries
    })
}

/// Places in a log: entry number `n` has its own, with room for copies behind it.
fn place(n: usize) -> u64 {
    (u64::try_from(n).unwrap() + 1) * 1_000
}

fn saved(state: &State) -> Vec<u8> {
    wire::encode(state).unwrap()
}

proptest! {
    #[test]
    fn the_same_log_makes_the_same_bytes_also_through_a_snapshot_at_any_point(log in any_asks(), cut in 0_usize..40) {
        let (mut whole, mut through) = (State::default(), State::default());
        for (n, entry) in log.iter().enumerate() {
            if n == cut {
                through = wire::decode(&saved(&through)).unwrap();
            }

            prop_assert_eq!(whole.apply(place(n), entry), through.apply(place(n), entry));
        }
        prop_assert_eq!(saved(&whole), saved(&through));
        prop_assert_eq!(&wire::decode::<State>(&saved(&whole)).unwrap(), &whole);
    }

    #[test]
    fn copies_change_nothing(log in any_asks(), copies in prop::collection::vec((0_usize..40, 0_usize..40), 0..60)) {
        let (mut plain, mut copied) = (State::default(), State::default());
        for (n, entry) in log.iter().enumerate() {
            plain.apply(place(n), entry);
            copied.apply(place(n), entry);
            for (at, (_, of)) in copies.iter().filter(|(behind, of)| *behind == n && *of <= n).enumerate() {
                let before = saved(&copied);
                copied.apply(place(n) + 1 + u64::try_from(at).unwrap(), &log[*of]);
                prop_assert_eq!(saved(&copied), before);
            }
        }
        prop_assert_eq!(saved(&plain), saved(&copied));
    }

    #[test]
    fn in_whatever_order_they_arrive_no_entry_takes_effect_twice(
        log in any_asks(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
    ) {
        prop_assume!(!log.is_empty());
        let mut state = State::default();
        let mut effective = std::collections::BTreeSet::new();
        for (n, index) in order.iter().enumerate() {
            let entry = index.get(&log);
            let before = state.changes();

            let reply = state.apply(place(n), entry);

            let Origin { node, incarnation, seq, settled: _ } = entry.origin;
            if state.changes() != before {
                prop_assert!(effective.insert((node, incarnation, seq)), "{:?} took effect twice", entry);
                prop_assert!(matches!(reply, Reply::Applied(_)));
            }
        }
    }
}
