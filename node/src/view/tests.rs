use std::pin::Pin;

use troupe_actors::{Actors, Probed, Prober, Settings};
use troupe_proto::id::TargetId;
use troupe_proto::id::{CredentialId, KeyId, ModelId, ProviderId, Revision};
use troupe_proto::secret::{CredentialSecret, KeyHash};
use troupe_proto::spec::{self, Auth, Credential, Model, Pattern, Policies, Rules, Spec, Table, Target, Wire};

use super::*;
use crate::clock;

fn provider(url: &str, credentials: &[(&str, u32, Option<&str>)]) -> spec::Provider {
    let credential = |weight: u32, models: Option<&str>| Credential {
        secret: CredentialSecret::open("sk"),
        weight,
        models: models.map(|text| vec![Pattern::parse(text).unwrap()]),
    };
    spec::Provider {
        wire: Wire::OpenAi,
        base_url: url.parse().unwrap(),
        auth: Auth::Bearer,
        credentials: credentials.iter().map(|(n, w, m)| (CredentialId::new(n), credential(*w, *m))).collect(),
        azure_api_version: None,
        headers: BTreeMap::default(),
        ca_pem: None,
        proxy: None,
        rules: Rules::default(),
    }
}

use std::collections::BTreeMap;

fn target(provider: &str, weight: u32, priority: u32) -> Target {
    Target { provider: ProviderId::new(provider), model: None, weight, priority }
}

fn spec() -> Spec {
    let model = |targets| Model { targets, ..Model::default() };
    Spec {
        providers: [
            (ProviderId::new("a"), provider("http://127.0.0.1:1/v1", &[("x", 3, None), ("y", 1, Some("gpt-*"))])),
            (ProviderId::new("b"), provider("http://127.0.0.1:2/v1", &[])),
        ]
        .into_iter()
        .collect(),
        models: [
            (ModelId::new("gpt-4o"), model(vec![target("b", 1, 1), target("a", 9, 0)])),
            (ModelId::new("gpt-*"), model(vec![target("a", 1, 0)])),
            (ModelId::new("*"), model(vec![target("b", 1, 0)])),
        ]
        .into_iter()
        .collect(),
        keys: Table::from_iter([(
            KeyId::new("k"),
            spec::Key {
                hash: KeyHash::of(b"secret"),
                models: Some(vec![Pattern::parse("gpt-*").unwrap()]),
                expires: Some(100),
                metadata: BTreeMap::default(),
                pin: false,
            },
        )]),
        defaults: Rules::default(),
        policies: Policies::default(),
        off: Table::new(),
    }
}

struct Nobody;

impl Prober for Nobody {
    fn probe(&self, _target: &TargetId) -> Pin<Box<dyn Future<Output = Probed> + Send>> {
        Box::pin(std::future::ready(Probed::Unknown))
    }
}

/// A view with actors of its own behind it.
async fn built(spec: &Spec, revision: Revision, old: &View) -> View {
    let settings = Settings { now: clock::now, dice: clock::dice, lanes: 1, prober: Arc::new(Nobody), board: None };
    let actors = Actors::start(settings).await.unwrap();
    Draft::of(spec, revision, old).unwrap().finish(|pools| actors.lay_out(pools))
}

#[tokio::test]
async fn the_exact_name_wins_then_the_longest_wildcard() {
    let view = built(&spec(), Revision(1), &View::default()).await;

    let pool = |name: &str| view.pool(name).unwrap().id.as_str().to_owned();
    assert_eq!((pool("gpt-4o"), pool("gpt-5"), pool("llama")), ("gpt-4o".into(), "gpt-*".into(), "*".into()));
}

#[tokio::test]
async fn a_pool_holds_each_target_with_each_key_best_priority_first() {
    let view = built(&spec(), Revision(1), &View::default()).await;

    let pool = view.pool("gpt-4o").unwrap();
    let seen: Vec<_> = pool.members.iter().map(|m| (m.provider.id.as_str(), m.priority, m.weight)).collect();
    assert_eq!(seen, [("a", 0, 6_750_000), ("a", 0, 2_250_000), ("b", 1, 1_000_000)]);
    assert!(pool.members[1].takes("gpt-4o"));
    assert!(!view.pool("gpt-5").unwrap().members[1].takes("other"));
}

#[tokio::test]
async fn targets_of_a_provider_that_is_switched_off_are_no_members_and_come_back_with_it() {
    let on = built(&spec(), Revision(1), &View::default()).await;
    let off = Spec { off: Table::from_iter([(ProviderId::new("a"), ())]), ..spec() };

    let without = built(&off, Revision(2), &on).await;
    let again = built(&spec(), Revision(3), &without).await;

    let ids = |members: &[Member]| members.iter().map(|member| member.provider.id.to_string()).collect::<Vec<_>>();
    let seen = |view: &View, model: &str| {
        let pool = view.pool(model).unwrap();
        (ids(&pool.members), ids(&pool.off))
    };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(seen(&without, "gpt-4o"), (owned(&["b"]), owned(&["a", "a"])));
    assert_eq!(seen(&without, "gpt-5"), (owned(&[]), owned(&["a", "a"])));
    assert_eq!(without.pool("gpt-5").unwrap().total, on.pool("gpt-5").unwrap().total, "for its fallbacks");
    assert!(without.member(&ProviderId::new("a"), Some(&CredentialId::new("x"))).is_none(), "it would be probed");
    assert_eq!(seen(&again, "gpt-4o"), (owned(&["a", "a", "b"]), owned(&[])));
}

#[tokio::test]
async fn a_key_is_known_by_its_hash_until_it_expires() {
    let view = built(&spec(), Revision(1), &View::default()).await;

    let key = view.key(&KeyHash::of(b"secret")).unwrap();
    assert!(!key.is_expired(99) && key.is_expired(100));
    assert!(key.may_use("gpt-9") && !key.may_use("llama"));
    assert!(view.key(&KeyHash::of(b"other")).is_none());
}

#[tokio::test]
async fn a_reload_keeps_the_endpoints_that_did_not_change() {
    let old = built(&spec(), Revision(1), &View::default()).await;
    let mut changed = spec();
    changed.providers.get_mut("b").unwrap().base_url = "http://127.0.0.1:3/v1".parse().unwrap();

    let new = built(&changed, Revision(2), &old).await;

    let endpoint =
        |view: &View, model: &str, at: usize| view.pool(model).unwrap().members[at].provider.endpoint.clone();
    assert!(Arc::ptr_eq(&endpoint(&old, "gpt-4o", 0), &endpoint(&new, "gpt-4o", 0)));
    assert!(!Arc::ptr_eq(&endpoint(&old, "gpt-4o", 2), &endpoint(&new, "gpt-4o", 2)));
}

#[tokio::test]
async fn a_target_whose_secret_address_or_headers_changed_is_another_one() {
    let old = spec();
    let changed = |change: &dyn Fn(&mut spec::Provider)| {
        let mut spec = spec();
        change(spec.providers.get_mut("a").unwrap());
        spec
    };
    let key = |provider: &mut spec::Provider| {
        provider.credentials.values_mut().next().unwrap().secret = CredentialSecret::open("sk2")
    };
    let kept: [(&str, Spec, [bool; 3]); 6] = [
        ("nothing", spec(), [true, true, true]),
        ("a weight", changed(&|a| a.credentials.values_mut().for_each(|key| key.weight = 7)), [true, true, true]),
        ("one secret", changed(&key), [false, true, true]),
        ("an address", changed(&|a| a.base_url = "http://127.0.0.1:1/v2".parse().unwrap()), [false, false, true]),
        ("a header", changed(&|a| drop(a.headers.insert("org".into(), "two".into()))), [false, false, true]),
        ("the secret's header", changed(&|a| a.auth = Auth::ApiKey), [false, false, true]),
    ];
    for (what, new, expected) in kept {
        let settings = Settings { now: clock::now, dice: clock::dice, lanes: 1, prober: Arc::new(Nobody), board: None };
        let actors = Actors::start(settings).await.unwrap();
        let view = |spec: &Spec| Draft::of(spec, Revision(1), &View::default()).unwrap().finish(|p| actors.lay_out(p));
        let targets = |view: &View| {
            let cell = view.pool("gpt-4o").unwrap().cell.clone();
            [0, 1, 2].map(|member| cell.target(member, "gpt-4o").unwrap())
        };

        let (before, after) = (targets(&view(&old)), targets(&view(&new)));

        let is_kept = [0, 1, 2].map(|member| Arc::ptr_eq(&before[member], &after[member]));
        assert_eq!(is_kept, expected, "{what}");
    }
}

#[tokio::test]
async fn a_change_of_keys_alone_leaves_the_pools_as_they_are() {
    let old = built(&spec(), Revision(1), &View::default()).await;
    let mut changed = spec();
    changed.keys.get_mut("k").unwrap().hash = KeyHash::of(b"another");

    let new = Draft::of(&changed, Revision(2), &old).unwrap().finish(|_| unreachable!("nothing is laid out anew"));

    assert!(Arc::ptr_eq(&old.pools, &new.pools));
    assert_eq!(new.revision, Revision(2));
    assert!(new.key(&KeyHash::of(b"secret")).is_none());
    assert!(new.key(&KeyHash::of(b"another")).is_some());
}

#[test]
fn azure_has_the_deployment_in_the_path() {
    let mut spec = spec();
    let azure = spec.providers.get_mut("b").unwrap();
    azure.base_url = "https://x.openai.azure.com/openai".parse().unwrap();
    azure.azure_api_version = Some("2026-01-01".to_owned());
    azure.ca_pem = None;
    let endpoint = crate::upstream::Endpoint::of(&provider("http://127.0.0.1:2", &[])).unwrap();

    let provider = Provider {
        id: ProviderId::new("b"),
        dialect: Dialect::OpenAi,
        endpoint: Arc::new(endpoint),
        headers: HeaderMap::new(),
        quiet: Quiet::default(),
        base_path: azure.base_url.path.clone(),
        azure_api_version: azure.azure_api_version.clone(),
    };

    let path = provider.path(Operation::Chat, "my gpt", None);
    assert_eq!(path, "/openai/deployments/my%20gpt/chat/completions?api-version=2026-01-01");
}
