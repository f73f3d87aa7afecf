use troupe_proto::id::{CredentialId, ProviderId, Revision};
use troupe_proto::secret::Secret;
use troupe_proto::spec::{Auth, Credential, Provider, Rules, Wire};

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
