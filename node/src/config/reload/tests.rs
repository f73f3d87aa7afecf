use troupe_cluster::{Cluster, Keyring};
use troupe_proto::secret::KeyHash;

use super::*;
use crate::config::Literals;

/// A spec file in a directory of its own, and a cluster to apply it to.
struct Desk {
    dir: tempfile::TempDir,
    handle: Handle,
    sources: Sources,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources {
            env: Arc::new(|name| Some(format!("sk-{name}"))),
            literals: Literals::Refused,
            data_dir: Some(dir.path().join("data")),
        };
        Self { dir, handle: Cluster::start_local(Keyring::ephemeral(crate::wiring::random()).unwrap()), sources }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("spec.toml")
    }

    /// Puts a file in place as an editor does: written aside and renamed.
    fn write(&self, name: &str, text: &str) {
        let aside = self.dir.path().join("aside");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, self.dir.path().join(name)).unwrap();
    }

    async fn apply(&self, text: &str) -> Result<Applied, ReloadError> {
        self.write("spec.toml", text);
        apply_file(&self.handle, &self.path(), &self.sources).await
    }
}

const ONE_MODEL: &str = "[providers.a]\nwire = \"openai\"\n[models.m]\ntargets = [{ provider = \"a\" }]\n";
const ANOTHER: &str = "[providers.b]\nwire = \"anthropic\"\n[models.n]\ntargets = [{ provider = \"b\" }]\n";

#[tokio::test]
async fn a_file_becomes_the_state_in_force() {
    let desk = Desk::new();

    let first = desk.apply(ONE_MODEL).await.unwrap();
    let again = desk.apply(ONE_MODEL).await.unwrap();
    let other = desk.apply(ANOTHER).await.unwrap();

    assert_eq!((first.changes, first.revision), (2, Revision(1)));
    assert_eq!((again.changes, again.revision), (0, Revision(1)));
    assert_eq!((other.changes, other.revision), (4, Revision(2)));
    let spec = Arc::clone(desk.handle.state().spec());
    assert_eq!(spec.models.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["n"]);
    assert_eq!(spec.providers.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn a_wrong_file_changes_nothing() {
    let desk = Desk::new();
    desk.apply(ONE_MODEL).await.unwrap();
    let before = desk.handle.state();

    let error = desk.apply(&format!("{ANOTHER}[keys.k]\nsecret = \"literal\"\n")).await.unwrap_err();

    assert!(matches!(error, ReloadError::Config(_)), "{error}");
    assert_eq!(desk.handle.state(), before);
}

#[tokio::test]
async fn a_made_key_is_given_once_and_admits_from_then_on() {
    let desk = Desk::new();

    let first = desk.apply("[keys.team]\n").await.unwrap();
    let again = desk.apply("[keys.team]\nmetadata = { a = \"b\" }\n").await.unwrap();

    let hash = KeyHash::of(first.made[0].1.expose().as_bytes());
    assert!(again.made.is_empty());
    assert_eq!(again.changes, 1);
    assert_eq!(desk.handle.state().key_by_hash(&hash).map(|(id, _)| id.as_str()), Some("team"));
}

#[tokio::test]
async fn a_data_directory_that_keeps_nothing_is_told_before_anything_changes() {
    let desk = Desk::new();
    std::fs::write(desk.dir.path().join("data"), "a file in its place").unwrap();

    let error = desk.apply("[keys.team]\n").await.unwrap_err();

    assert!(error.to_string().contains("made"), "{error}");
    assert_eq!(desk.handle.state().revision(), Revision(0));
}

/// Waits until a condition holds, for at most ten seconds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A running watcher of a desk.
struct Running {
    trigger: Arc<Notify>,
    counters: Arc<ReloadCounters>,
    shown: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn watch(desk: &Desk, applied: Applied) -> Running {
    let (trigger, counters) = (Arc::new(Notify::new()), Arc::new(ReloadCounters::default()));
    let shown = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&shown);
    let watch = Watch {
        handle: desk.handle.clone(),
        path: desk.path(),
        sources: desk.sources.clone(),
        files: applied.files,
        trigger: Arc::clone(&trigger),
        counters: Arc::clone(&counters),
        metrics: crate::telemetry::metrics::Metrics::new(),
        show: Arc::new(move |id, _| list.lock().unwrap().push(id.to_string())),
    };
    Running { trigger, counters, shown, task: tokio::spawn(watch.run()) }
}

#[tokio::test]
async fn a_changed_file_is_taken_and_a_broken_one_leaves_what_is_in_force() {
    let desk = Desk::new();
    let applied = desk.apply(ONE_MODEL).await.unwrap();
    let running = watch(&desk, applied);

    desk.write("spec.toml", "[providers");
    until("the broken file is counted", || running.counters.failed() == 1).await;
    assert_eq!(desk.handle.state().revision(), Revision(1));
    assert!(running.counters.last_error().unwrap().contains("spec.toml:1:"));
    desk.write("spec.toml", &format!("{ANOTHER}[keys.team]\n"));
    until("the mended file is in force", || desk.handle.state().revision() == Revision(2)).await;

    until("it is counted", || running.counters.ok() == 1).await;
    assert_eq!(running.counters.last_error(), None);
    assert_eq!(running.counters.failed(), 1);
    until("the made key is shown", || *running.shown.lock().unwrap() == ["team"]).await;
}

#[tokio::test]
async fn a_changed_secret_file_is_taken_too() {
    let desk = Desk::new();
    desk.write("key", "sk-1\n");
    let secret = format!("file:{}", desk.dir.path().join("key").display());
    let text = format!("[providers.a]\nwire = \"openai\"\nkeys = [{{ name = \"k\", secret = \"{secret}\" }}]\n");
    let applied = desk.apply(&text).await.unwrap();
    let _running = watch(&desk, applied);

    desk.write("key", "sk-22\n");
    until("the new secret is in force", || desk.handle.state().revision() == Revision(2)).await;

    let state = desk.handle.state();
    let spec = desk.handle.open(&state).unwrap();
    assert_eq!(spec.providers["a"].credentials["k"].secret.exposed().unwrap(), "sk-22");
}

#[tokio::test]
async fn a_signal_reads_the_file_at_once_changed_or_not() {
    let desk = Desk::new();
    let applied = desk.apply(ONE_MODEL).await.unwrap();
    let running = watch(&desk, applied);

    running.trigger.notify_one();

    until("the reading is counted", || running.counters.ok() == 1).await;
    assert_eq!(desk.handle.state().revision(), Revision(1));
}
