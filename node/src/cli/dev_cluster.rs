//! `troupe dev --nodes 3`: a cluster on this machine, each node a process of its own that may be killed.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::access::DEV_DIR;
use super::serve::on_control_plane;
use super::{Exit, say};
use crate::clock;
use crate::config::{Flags, TOKEN_FILE, new_key_secret};
use crate::dev;
use crate::telemetry;

/// Ports of the first node; each further node's are ten above.
const FIRST: Ports = Ports { data: 8080, admin: 8081, peer: 8082 };
/// What the nodes may take to form.
const FORM_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
struct Ports {
    data: u16,
    admin: u16,
    peer: u16,
}

/// One node of the cluster.
struct Site {
    name: String,
    config: PathBuf,
    log: PathBuf,
    data: SocketAddr,
    admin: SocketAddr,
    child: Child,
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a cluster of `count` nodes in front of a simulated provider until it is told to stop.
pub(super) fn run(count: u8, flags: &Flags) -> anyhow::Result<Exit> {
    telemetry::log::start(flags.get("log-level").unwrap_or("warn"))?;
    let scratch = std::env::temp_dir().join(format!("{DEV_DIR}{}", std::process::id()));
    let exit = on_control_plane(serve(count, scratch.clone(), flags.get("listen-data") == Some("127.0.0.1:0")));
    if scratch.exists()
        && let Err(error) = std::fs::remove_dir_all(&scratch)
    {
        tracing::warn!(%error, path = %scratch.display(), "scratch files are left behind");
    }
    exit
}

async fn serve(count: u8, scratch: PathBuf, anywhere: bool) -> anyhow::Result<Exit> {
    // Its keys and tokens are nobody else's; a directory that is there already may be somebody else's.
    std::fs::DirBuilder::new().mode(0o700).create(&scratch).context("the scratch directory cannot be made")?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("the simulated provider found no port")?;
    let simulated = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let provider = tokio::spawn(dev::simulated::serve(listener, stopped));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let up = async {
        let sites = start(count, &scratch, anywhere).await?;
        let (spec, key) = (scratch.join("dev-spec.toml"), scratch.join("dev-key"));
        // A secret is never written down in what is applied.
        let text =
            dev::spec(simulated).replace(&format!("\"{}\"", dev::SAMPLE_KEY), &format!("\"file:{}\"", key.display()));
        std::fs::write(&key, dev::SAMPLE_KEY)?;
        std::fs::write(&spec, text).context("the sample spec cannot be written")?;
        apply(&sites, &scratch, &spec).await?;
        Ok::<_, anyhow::Error>(sites)
    };
    let mut told = std::pin::pin!(told);
    let sites = tokio::select! {
        () = &mut told => return Ok(Exit::Ok),
        sites = up => sites?,
    };
    say(&mut std::io::stdout().lock(), &banner(&sites, &scratch)?);
    told.await;
    drop(sites);
    stop.send_replace(true);
    provider.await.context("the simulated provider panicked")?;
    Ok(Exit::Ok)
}

/// Starts the nodes, and waits until each of them is ready.
async fn start(count: u8, scratch: &Path, anywhere: bool) -> anyhow::Result<Vec<Site>> {
    std::fs::write(scratch.join(TOKEN_FILE), new_key_secret()?.expose())?;
    std::fs::write(scratch.join("seal-key"), hex(&clock::secret_bytes::<32>()?))?;
    let ports = (0..count).map(|at| ports(at, anywhere)).collect::<anyhow::Result<Vec<_>>>()?;
    let join: Vec<String> = ports.iter().map(|ports| format!("\"127.0.0.1:{}\"", ports.peer)).collect();
    let mut sites = Vec::new();
    for (at, ports) in ports.iter().enumerate() {
        let name = format!("gw-{}", at + 1);
        let file = |kind: &str| scratch.join(format!("{name}.{kind}"));
        let (config, log) = (file("toml"), file("log"));
        std::fs::write(&config, node_file(&name, *ports, count, &join.join(", "), scratch))?;
        let err = File::create(&log)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(err)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let [data, admin] = [ports.data, ports.admin].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        sites.push(Site { name, config, log, data, admin, child });
    }
    let deadline = clock::now() + FORM_WITHIN;
    for site in &mut sites {
        while !is_ready(site.admin).await {
            let log = std::fs::read_to_string(&site.log).unwrap_or_default();
            if site.child.try_wait()?.is_some() {
                bail!("{} ended:\n{log}", site.name);
            }
            if clock::now() > deadline {
                bail!("{} is not ready:\n{log}", site.name);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(sites)
}

/// The ports of a node: the usual ones, or any that are free.
fn ports(at: u8, anywhere: bool) -> anyhow::Result<Ports> {
    if anywhere {
        // Held until all three are known, so that they differ.
        let held = [0; 3].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)));
        let mut free = Vec::new();
        for listener in held {
            free.push(listener?.local_addr()?.port());
        }
        if let [data, admin, peer] = free[..] {
            return Ok(Ports { data, admin, peer });
        }
    }
    let above = u16::from(at) * 10;
    Ok(Ports { data: FIRST.data + above, admin: FIRST.admin + above, peer: FIRST.peer + above })
}

fn node_file(name: &str, ports: Ports, count: u8, join: &str, scratch: &Path) -> String {
    let Ports { data, admin, peer } = ports;
    let scratch = scratch.display();
    format!(
        r#"[node]
name = "{name}"
data_dir = "{scratch}/{name}"
[listen]
data = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
peer = "127.0.0.1:{peer}"
admin_token = "file:{scratch}/{TOKEN_FILE}"
[cluster]
bootstrap_expect = {count}
join = [{join}]
advertise = "127.0.0.1:{peer}"
seal_key = "file:{scratch}/seal-key"
plain = true
[limits]
drain_delay = "0s"
[log]
access = "off"
level = "warn"
"#
    )
}

/// Whether a node's operators' listener says that it is ready.
async fn is_ready(admin: SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let asked = async {
        let mut socket = TcpStream::connect(admin).await?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: troupe\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.starts_with("HTTP/1.1 200"))
    };
    tokio::time::timeout(Duration::from_secs(2), asked).await.is_ok_and(|ready| ready.unwrap_or(false))
}

/// Has the cluster agree on the sample spec, as an operator would.
async fn apply(sites: &[Site], scratch: &Path, spec: &Path) -> anyhow::Result<()> {
    let Some(first) = sites.first() else { return Ok(()) };
    let output = tokio::process::Command::new(std::env::current_exe()?)
        .args(["apply", "--yes", "--file"])
        .arg(spec)
        .env("TROUPE_ADMIN_URL", format!("http://{}", first.admin))
        .env("TROUPE_ADMIN_TOKEN_FILE", scratch.join(TOKEN_FILE))
        .stdin(Stdio::null())
        .output()
        .await?;
    if !output.status.success() {
        bail!("the sample spec is not applied: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// What is printed once the cluster serves.
fn banner(sites: &[Site], scratch: &Path) -> anyhow::Result<String> {
    let program = std::env::current_exe()?;
    let (program, key, token) = (program.display(), dev::SAMPLE_KEY, scratch.join(TOKEN_FILE));
    let mut text = format!(
        "Troupe serves a simulated provider from {} nodes that agree. Nothing leaves this machine.\n\n",
        sites.len()
    );
    for site in sites {
        text.push_str(&format!(
            "  {}  clients http://{}  admin http://{}  process {}  log {}\n",
            site.name,
            site.data,
            site.admin,
            site.child.id(),
            site.log.display()
        ));
    }
    text.push_str("\nPaste into a shell. The same call at each node:\n\n");
    for site in sites {
        text.push_str(&format!(
            "curl -sS http://{}/v1/chat/completions -H 'authorization: Bearer {key}' -H 'content-type: application/json' \
             -d '{{\"model\": \"sim\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'\n\n",
            site.data
        ));
    }
    let [first, .., last] = sites else { bail!("a cluster has at least two nodes") };
    text.push_str(&format!(
        r#"Who leads, and a key made at one node that works at another:

export TROUPE_ADMIN_TOKEN_FILE={token}

{program} cluster status --admin-url http://{first_admin}

{program} key create team --admin-url http://{last_admin}

Kill a node; the others go on. Start it again; it catches up:

kill -9 {pid}

{program} serve --config {config}

Ctrl-C stops all of them.
"#,
        token = token.display(),
        first_admin = first.admin,
        last_admin = last.admin,
        pid = last.child.id(),
        config = last.config.display(),
    ));
    Ok(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
