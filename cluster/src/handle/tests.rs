use troupe_proto::id::{CredentialId, ProviderId, Revision};
use troupe_proto::member::Member;
use troupe_proto::secret::Secret;
use troupe_proto::spec::{Auth, Credential, Provider, Rules, Switch, Wire};

use super::*;
use crate::seal::tests::counting;

fn local() -> Handle {
    Cluster::start_local(Keyring::ephemeral(counting()).unwrap())
}

fn put_defaults(base: u64) -> Command {
    Command::Change { base: Revision(base), changes: vec![Change::PutDefaults(Rules::built_in())] }
}

fn put_provider(base: u64, name: &str, secret: &str) -> Command {
    let credential = Credential { secret: CredentialSecret::open(secret), weight: 1, models: None };
    let provider = Provider {
        wire: Wire::OpenAi,
        base_url: "http://127.0.0.1:1".parse().unwrap(),
        auth: Auth::Bearer,
        credentials: [(CredentialId::new("main"), credential)].into(),
        azure_api_version: None,
        headers: Default::default(),
        ca_pem: None,
        proxy: None,
        rules: Rules::default(),
    };
    Command::Change { base: Revision(base), changes: vec![Change::PutProvider(ProviderId::new(name), provider)] }
}

fn secret(spec: &Spec, provider: &str) -> String {
    spec.providers[provider].credentials["main"].secret.exposed().unwrap().clone()
}

#[tokio::test]
async fn an_applied_command_is_published_and_watchers_wake() {
    let handle = local();
    let mut watcher = handle.watch();

    let reply = handle.propose(Note::default(), put_defaults(0)).await.unwrap();
    watcher.changed().await.unwrap();

    assert_eq!(reply, Reply::Applied(Revision(1)));
    assert_eq!(handle.state().revision(), Revision(1));
    assert_eq!(watcher.borrow().spec().defaults, Rules::built_in());
}

#[tokio::test]
async fn of_two_changes_made_for_the_same_state_the_second_is_refused_and_wakes_nobody() {
    let handle = local();
    let mut watcher = handle.watch();

    let first = handle.propose(Note::default(), put_defaults(0)).await.unwrap();
    watcher.mark_unchanged();
    let second = handle.propose(Note::default(), put_defaults(0)).await.unwrap();

    assert_eq!(first, Reply::Applied(Revision(1)));
    assert_eq!(second, Reply::Refused(Refusal::Conflict { base: Revision(0), current: Revision(1) }));
    assert!(!watcher.has_changed().unwrap());
}

#[tokio::test]
async fn a_secret_is_sealed_in_the_state_and_open_in_the_spec() {
    let handle = local();

    handle.propose(Note::default(), put_provider(0, "openai", "sk-upstream")).await.unwrap();
    handle.propose(Note::default(), put_provider(1, "other", "sk-other")).await.unwrap();

    let state = handle.state();
    let saved = state.save().unwrap();
    assert!(!saved.windows(6).any(|part| part == b"sk-ups"));
    assert!(!format!("{state:?}").contains("sk-"));
    assert!(matches!(state.spec().providers["openai"].credentials["main"].secret, CredentialSecret::Sealed(_)));
    let spec = handle.spec().unwrap();
    assert_eq!((secret(&spec, "openai").as_str(), secret(&spec, "other").as_str()), ("sk-upstream", "sk-other"));
    assert!(Arc::ptr_eq(&spec, &handle.spec().unwrap()), "opened once");
}

#[tokio::test]
async fn a_node_without_the_envelope_key_says_which_secret_it_cannot_open() {
    let handle = local();
    handle.propose(Note::default(), put_provider(0, "openai", "sk-upstream")).await.unwrap();
    let other =
        Cluster::over(handle.inner.consensus.clone(), handle.process(), Keyring::ephemeral(counting()).unwrap());

    // Both draw the same bytes from their own source, so the other one needs another key.
    let strange = Keyring::new(Secret::new([9; 32]), Vec::new(), counting());
    let strange = Cluster::over(handle.inner.consensus.clone(), handle.process(), strange);

    assert!(other.spec().is_ok());
    assert!(matches!(strange.spec(), Err(SealError::UnknownKey { .. })));
}

#[tokio::test]
async fn after_resealing_the_old_envelope_key_is_not_needed() {
    let old = Secret::new([1; 32]);
    let new = Secret::new([2; 32]);
    let first = Cluster::start_local(Keyring::new(old.clone(), Vec::new(), counting()));
    first.propose(Note::default(), put_provider(0, "a", "sk-a")).await.unwrap();
    first.propose(Note::default(), put_provider(1, "b", "sk-b")).await.unwrap();
    let consensus = || first.inner.consensus.clone();
    let process = Process { node: NodeId(1), incarnation: 1 };
    let both = Cluster::over(consensus(), process, Keyring::new(new.clone(), vec![old], counting()));

    let resealed = both.reseal(Note::default()).await.unwrap();
    let again = both.reseal(Note::default()).await.unwrap();

    assert_eq!((resealed, again), (2, 0));
    let later = Cluster::over(consensus(), process, Keyring::new(new, Vec::new(), counting()));
    assert_eq!(secret(&later.spec().unwrap(), "b"), "sk-b");
    assert_eq!(later.state().revision(), Revision(2), "nothing that an operator declared has changed");
}

#[tokio::test]
async fn the_bound_of_freshness_is_that_of_the_policies() {
    use troupe_proto::spec::{Freshness, Policies};
    let handle = local();
    let policies = Policies { freshness: Freshness::Never };
    assert_eq!(handle.freshness(), Some(Duration::from_secs(300)));

    let change = Command::Change { base: Revision(0), changes: vec![Change::PutPolicies(policies)] };
    handle.propose(Note::default(), change).await.unwrap();

    assert_eq!(handle.freshness(), None);
}

/// Waits until the files of a directory hold so many lines.
async fn eventually_kept(dir: &std::path::Path, lines: u64) {
    let kept = async {
        while audit::verify(dir).map_or(0, |report| report.lines) < lines {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), kept).await.expect("the lines are not written");
}

#[tokio::test]
async fn the_audit_is_read_from_the_files_where_the_state_has_forgotten_it() {
    let dir = tempfile::tempdir().unwrap();
    let handle = local();
    tokio::spawn(handle.keep_audit(dir.path(), audit::Settings::default()).unwrap());
    for revision in 0..1_100 {
        handle.propose(Note::default(), put_defaults(revision)).await.unwrap();
        if revision % 500 == 0 {
            eventually_kept(dir.path(), revision + 1).await;
        }
    }
    eventually_kept(dir.path(), 1_100).await;
    let indexes = async |from: Option<u64>, to: Option<u64>, limit| {
        let told = handle.audit(from.map(Point::Index), to.map(Point::Index), limit).await.unwrap();
        assert_eq!(told.holes, []);
        told.lines.iter().map(|line| line.index).collect::<Vec<_>>()
    };

    assert_eq!(indexes(Some(1), None, 2_000).await, (1..=1_100).collect::<Vec<_>>());
    assert_eq!(indexes(Some(99), Some(102), 10).await, [99, 100, 101, 102]);
    assert_eq!(indexes(Some(1_000), None, 2).await, [1_000, 1_001]);
    assert_eq!(indexes(None, None, 2).await, [1_099, 1_100]);
    assert_eq!(indexes(None, Some(3), 2).await, [2, 3]);
}

#[test]
fn an_entry_is_from_the_node_that_its_number_names() {
    let origin = troupe_proto::command::Origin { node: NodeId(4), incarnation: 1, seq: 1, settled: 1 };
    let entry = Entry { origin, note: Note::default(), command: put_defaults(0) };

    assert!(<State as Machine>::is_from(NodeId(4), &entry));
    assert!(!<State as Machine>::is_from(NodeId(5), &entry));
}

#[test]
fn a_join_token_is_judged_by_the_later_of_two_clocks_and_nothing_else_is_stamped() {
    let origin = troupe_proto::command::Origin { node: NodeId(4), incarnation: 1, seq: 1, settled: 1 };
    let stamped = |command| {
        let mut entry = Entry { origin, note: Note::default(), command };
        let is_stamped = <State as Machine>::stamp(&mut entry, 7_999);
        is_stamped.then_some(entry.command)
    };
    let hash = troupe_proto::secret::KeyHash::of(b"token");
    let used = |at| Command::UseJoinToken { hash, node: NodeId(9), at };

    assert_eq!(stamped(used(-172_800)), Some(used(7)), "the clock of who was asked is behind");
    assert_eq!(stamped(used(172_800)), Some(used(172_800)), "the leader's is");
    assert_eq!(stamped(put_defaults(0)), None);
}

#[tokio::test]
async fn a_process_learns_that_a_later_one_of_its_node_is_at_work() {
    let consensus: Arc<dyn Consensus<State>> = Arc::new(Local::new(State::default()));
    let process = |incarnation| {
        let process = Process { node: NodeId(4), incarnation };
        Cluster::over(Arc::clone(&consensus), process, Keyring::ephemeral(counting()).unwrap())
    };
    let (former, later) = (process(1), process(2));
    former.propose(Note::default(), put_defaults(0)).await.unwrap();
    let mut waiting = std::pin::pin!(former.superseded());
    assert!(futures_util::poll!(&mut waiting).is_pending());

    later.propose(Note::default(), put_defaults(1)).await.unwrap();

    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it is told");
    assert!(futures_util::poll!(std::pin::pin!(later.superseded())).is_pending());
    assert!(matches!(former.propose(Note::default(), put_defaults(2)).await, Err(ProposeError::Unknown)));
}

#[tokio::test]
async fn a_secret_that_does_not_change_keeps_its_seal_so_the_audit_does_not_say_that_it_did() {
    let handle = local();
    let sealed = async |revision, secret: &str| {
        handle.propose(Note::default(), put_provider(revision, "o", secret)).await.unwrap();
        handle.state().spec().providers["o"].credentials["main"].secret.clone()
    };

    let first = sealed(0, "sk-1").await;
    let same = sealed(1, "sk-1").await;
    let other = sealed(2, "sk-2").await;

    assert_eq!(first, same);
    assert_ne!(same, other);
    assert_eq!(secret(&handle.spec().unwrap(), "o"), "sk-2");
}

#[tokio::test]
async fn a_command_that_some_member_could_not_read_gets_into_no_log_until_all_can() {
    let consensus: Arc<dyn Consensus<State>> = Arc::new(Local::new(State::default()));
    let handle = |node| {
        let process = Process { node: NodeId(node), incarnation: 1 };
        Cluster::over(Arc::clone(&consensus), process, Keyring::ephemeral(counting()).unwrap())
    };
    let (teller, asker) = (handle(1), handle(2));
    let tell = async |node, version| {
        let at = "gw:1".to_owned();
        let name = format!("gw-{node}");
        let member = Member { name, peer: at.clone(), admin: at.clone(), data: at, version, zone: None };
        teller.propose(Note::default(), Command::PutMember(NodeId(node), member)).await.unwrap()
    };
    let raise = async |version| teller.propose(Note::default(), Command::SetVersion(version)).await.unwrap();
    let switch = || {
        let change = Change::SwitchProvider(ProviderId::new("o"), Switch::Off);
        asker.propose(Note::default(), Command::Change { base: Revision(0), changes: vec![change] })
    };
    tell(1, 3).await;
    tell(2, 2).await;
    assert!(matches!(raise(2).await, Reply::Applied(_)));

    assert_eq!(switch().await.unwrap(), Reply::Refused(Refusal::TooNew { needs: 3, version: 2 }));
    assert_eq!(asker.state().incarnation(NodeId(2)), None, "it got into the log, where the member that lacks it stops");
    assert!(matches!(raise(3).await, Reply::Refused(Refusal::Behind { node: NodeId(2), knows: 2, asked: 3 })));

    tell(2, 3).await;
    assert!(matches!(raise(3).await, Reply::Applied(_)));
    assert!(matches!(switch().await.unwrap(), Reply::Applied(_)));
}
