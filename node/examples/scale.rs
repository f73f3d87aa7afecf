//! Measures what a large agreed state costs: `cargo run --release -p troupe-node --example scale [KEYS] [TARGETS]`.
#![expect(clippy::print_stdout, reason = "its findings are its output")]

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use troupe_actors::{Actors, Probed, Prober, Settings};
use troupe_cluster::consensus::Machine;
use troupe_cluster::seal::NoRandom;
use troupe_cluster::{Cluster, Handle, Keyring, State};
use troupe_node::clock;
use troupe_node::view::{Draft, View};
use troupe_proto::command::{Change, Command, Entry, Note, Origin, Reply};
use troupe_proto::id::{CredentialId, KeyId, ModelId, NodeId, ProviderId, TargetId};
use troupe_proto::secret::{CredentialSecret, KeyHash};
use troupe_proto::spec::{Auth, Credential, Key, Model, Provider, Rules, Spec, Target, Wire};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Times one small change is made for its median.
const ROUNDS: usize = 201;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == MEMORY).is_some() {
        return memory();
    }
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (keys, targets) = (number(100_000)?, number(1_000)?);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(keys, targets))
}

struct Nobody;

impl Prober for Nobody {
    fn probe(&self, _target: &TargetId) -> std::pin::Pin<Box<dyn Future<Output = Probed> + Send>> {
        Box::pin(std::future::ready(Probed::Unknown))
    }
}

async fn measure(keys: usize, targets: usize) -> Result<()> {
    println!("{keys} keys, {targets} targets");
    let keyring = Keyring::ephemeral(Arc::new(|place| clock::fill_secret(place).map_err(|_| NoRandom)))?;
    let handle = Cluster::start_local(keyring);
    let settings = Settings { now: clock::now, dice: clock::dice, lanes: 2, prober: Arc::new(Nobody), board: None };
    let actors = Actors::start(settings).await?;

    propose(&handle, pools(targets)).await?;
    let began = clock::now();
    propose(&handle, (0..keys).map(put_key).collect()).await?;
    tell("apply all keys, through their bytes", began);

    let began = clock::now();
    let mut view = draft(&handle, &View::default())?.finish(|pools| actors.lay_out(pools));
    tell("the first view", began);

    let state = handle.state();
    let began = clock::now();
    let bytes = state.save()?;
    tell("save", began);
    let began = clock::now();
    let loaded = State::load(&bytes)?;
    tell("load", began);
    println!("snapshot: {} B, {} B a key; {}", bytes.len(), bytes.len() / keys.max(1), loaded == *state);
    drop(loaded);
    in_another_process(&bytes)?;

    let (mut applied, mut published, mut looked) = (Vec::new(), Vec::new(), Vec::new());
    let mut alone = State::clone(&state);
    for round in 0..ROUNDS {
        let change = put_key(keys + round);
        let entry = entry(&alone, round, change.clone());
        let began = clock::now();
        let mut next = alone.clone();
        let reply = next.apply(entry.origin.seq, &entry);
        applied.push(began.elapsed());
        anyhow::ensure!(matches!(reply, Reply::Applied(_)), "{reply:?}");
        alone = next;

        propose(&handle, vec![change]).await?;
        let began = clock::now();
        view = draft(&handle, &view)?.finish(|pools| actors.lay_out(pools));
        published.push(began.elapsed());

        let hash = KeyHash::of(secret(round).as_bytes());
        let began = clock::now();
        let found = view.key(&hash).is_some();
        looked.push(began.elapsed());
        anyhow::ensure!(found, "a key is lost");
    }
    println!(
        "one change: apply {:?}, view {:?}; a cold look-up {:?} (medians)",
        median(applied),
        median(published),
        median(looked)
    );
    Ok(())
}

/// Says to measure the memory of a state that comes on the standard input.
const MEMORY: &str = "memory";

/// Has a process that did nothing else before measure what the state takes.
fn in_another_process(state: &[u8]) -> Result<()> {
    let mut child =
        std::process::Command::new(std::env::current_exe()?).arg(MEMORY).stdin(std::process::Stdio::piped()).spawn()?;
    child.stdin.take().context("no standard input")?.write_all(state)?;
    anyhow::ensure!(child.wait()?.success(), "the other process failed");
    Ok(())
}

fn memory() -> Result<()> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    let read = resident()?;
    let state = State::load(&bytes)?;
    let loaded = resident()?;
    // Only the keys: they need no secret opened.
    let spec = Spec { keys: state.spec().keys.clone(), ..Spec::default() };
    let view = Draft::of(&spec, state.revision(), &View::default())?.finish(|_| Vec::new());
    let keys = view.sizes().0;
    println!("memory a key: state {} B, view {} B more", per(loaded - read, keys), per(resident()? - loaded, keys));
    Ok(())
}

fn draft(handle: &Handle, old: &View) -> Result<Draft> {
    let state = handle.state();
    Ok(Draft::of(&*handle.open(&state)?, state.revision(), old)?)
}

async fn propose(handle: &Handle, changes: Vec<Change>) -> Result<()> {
    let base = handle.state().revision();
    let reply = handle.propose(Note::default(), Command::Change { base, changes }).await?;
    anyhow::ensure!(matches!(reply, Reply::Applied(_)), "{reply:?}");
    Ok(())
}

fn entry(state: &State, round: usize, change: Change) -> Entry {
    let seq = u64::try_from(round).unwrap_or(0) + 1;
    let command = Command::Change { base: state.revision(), changes: vec![change] };
    Entry { origin: Origin { node: NodeId(9), incarnation: 1, seq, settled: seq }, note: Note::default(), command }
}

fn secret(n: usize) -> String {
    format!("sk-troupe-{n:043}")
}

fn put_key(n: usize) -> Change {
    let key = Key {
        hash: KeyHash::of(secret(n).as_bytes()),
        models: None,
        expires: Some(1_900_000_000),
        metadata: [("owner".to_owned(), format!("team-{}", n % 100))].into(),
        pin: false,
    };
    Change::PutKey(KeyId::new(&format!("key-{n:06}")), key)
}

/// Providers with two keys, and a model for each of their targets.
fn pools(targets: usize) -> Vec<Change> {
    let providers = (targets / 20).max(1);
    let credential =
        |n: usize| Credential { secret: CredentialSecret::open(&format!("sk-{n}")), weight: 1, models: None };
    let provider = |n: usize| Provider {
        wire: Wire::OpenAi,
        base_url: troupe_proto::spec::BaseUrl {
            scheme: troupe_proto::spec::Scheme::Http,
            host: "127.0.0.1".to_owned(),
            port: u16::try_from(10_000 + n).unwrap_or(1),
            path: String::new(),
        },
        auth: Auth::Bearer,
        credentials: [(CredentialId::new("a"), credential(n)), (CredentialId::new("b"), credential(n))].into(),
        azure_api_version: None,
        headers: std::collections::BTreeMap::new(),
        ca_pem: None,
        proxy: None,
        rules: Rules::default(),
    };
    let name = |n: usize| ProviderId::new(&format!("provider-{n}"));
    let put_providers = (0..providers).map(|n| Change::PutProvider(name(n), provider(n)));
    // Each target of a model is one of the gateway with each key of its provider.
    let put_models = (0..targets / 2).map(|n| {
        let target = Target { provider: name(n % providers), model: None, weight: 1, priority: 0 };
        Change::PutModel(ModelId::new(&format!("model-{n}")), Model { targets: vec![target], ..Model::default() })
    });
    put_providers.chain(put_models).collect()
}

fn tell(what: &str, began: Instant) {
    println!("{what}: {:?}", began.elapsed());
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn per(bytes: u64, keys: usize) -> u64 {
    bytes / u64::try_from(keys.max(1)).unwrap_or(1)
}

/// Bytes of memory that this process holds.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1_024)
}
