//! How many instructions the program spends on a request, by callgrind: on a machine that others use, time tells less.
//!
//! ```text
//! start ─ warm-up ─┤dump├─ N calls ─┤dump├─ 2N calls ─┤dump├       what the last two differ by is N calls
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::process::Command;
use tokio::time::sleep;
use troupe_node::clock;

use crate::crew::{Crew, attempt};
use crate::scale::{Size, copy};

/// What a start may take under callgrind.
const START_MAX: Duration = Duration::from_secs(300);
/// Calls that bring code and connections in.
const WARM_UP: usize = 100;

/// Instructions of one request.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// On the thread that serves it.
    pub data: f64,
    /// In the whole process.
    pub all: f64,
}

/// Starts a node under callgrind with a copy of what the only node of `of` has on disk, and calls a model with one key
/// after the other. `None` where there is no callgrind, or it gives no figures.
///
/// # Panics
/// When the node does not start or does not answer.
pub async fn of_a_request(program: &Path, of: &Crew, size: Size, calls: usize) -> Option<Cost> {
    let (valgrind, vgdb) = (find("valgrind").await?, find("vgdb").await?);
    let dir = tempfile::tempdir().unwrap();
    let [script, out, pipe] = ["troupe", "out", "vgdb"].map(|name| dir.path().join(name));
    let text = format!(
        "#!/bin/sh\nexec {} --tool=callgrind --separate-threads=yes --vgdb-prefix={} --callgrind-out-file={} \
         --log-file={} {} \"$@\"\n",
        valgrind.display(),
        pipe.display(),
        out.display(),
        dir.path().join("log").display(),
        program.display(),
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut crew = Crew::prepare(&script, 1);
    copy(&of.nodes[0].dir, &crew.nodes[0].dir);
    crew.run(0);
    ready(&crew).await;
    let mut dumps = Dumps { vgdb, pipe, dir: dir.path().to_owned(), pid: crew.nodes[0].pid()?, count: 0 };
    call(&crew, size, 0..WARM_UP).await;
    dumps.take().await?;
    call(&crew, size, WARM_UP..WARM_UP + calls).await;
    let once = dumps.take().await?;
    call(&crew, size, WARM_UP + calls..WARM_UP + 3 * calls).await;
    let twice = dumps.take().await?;
    let spent = |thread: &u32| {
        let of = |dump: &BTreeMap<u32, f64>| dump.get(thread).copied().unwrap_or(0.0);
        (of(&twice) - of(&once)) / float(calls)
    };
    let data = twice.keys().map(spent).max_by(f64::total_cmp)?;
    Some(Cost { data, all: twice.keys().map(spent).sum() })
}

/// Where a program is, if it is.
async fn find(name: &str) -> Option<PathBuf> {
    let found = Command::new("sh").arg("-c").arg(format!("command -v {name}")).output().await.ok()?;
    let path = String::from_utf8(found.stdout).ok()?;
    (found.status.success() && !path.trim().is_empty()).then(|| PathBuf::from(path.trim()))
}

async fn ready(crew: &Crew) {
    let deadline = clock::now() + START_MAX;
    while attempt(crew.nodes[0].admin, Method::GET, "/readyz", "", "").await.is_none_or(|reply| reply.status != 200) {
        assert!(clock::now() < deadline, "not ready under callgrind:\n{}", crew.log(0));
        sleep(Duration::from_millis(200)).await;
    }
}

/// Calls a model on one connection, each time with another key: they lie far apart.
async fn call(crew: &Crew, size: Size, which: std::ops::Range<usize>) {
    let client = crew.client(0).kept().await;
    for n in which {
        let secret = Size::secret(n.wrapping_mul(7_919) % size.keys);
        let body =
            json!({ "model": Size::model(n % size.models()), "messages": [{ "role": "user", "content": "hello" }] });
        let reply = client.clone().key(&secret).post("/v1/chat/completions", body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// Asks callgrind for what it counted since it was asked last.
struct Dumps {
    vgdb: PathBuf,
    pipe: PathBuf,
    dir: PathBuf,
    pid: u32,
    count: u32,
}

impl Dumps {
    /// Instructions by thread.
    async fn take(&mut self) -> Option<BTreeMap<u32, f64>> {
        self.count += 1;
        let asked = Command::new(&self.vgdb)
            // Both sides name their pipes by the user and the machine that their environment says.
            .env_clear()
            .arg(format!("--vgdb-prefix={}", self.pipe.display()))
            .arg(format!("--pid={}", self.pid))
            .arg("dump")
            .output()
            .await
            .ok()?;
        if !asked.status.success() {
            return None;
        }
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).ok()?.flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let Some(thread) = name.strip_prefix(&format!("out.{}-", self.count)) else { continue };
            let text = fs::read_to_string(entry.path()).ok()?;
            let totals = text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?;
            threads.insert(thread.parse().ok()?, totals.trim().parse().ok()?);
        }
        (!threads.is_empty()).then_some(threads)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of calls is exact in f64")]
fn float(calls: usize) -> f64 {
    calls as f64
}
