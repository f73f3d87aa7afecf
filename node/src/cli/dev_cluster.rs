//! `troupe dev --nodes 3`: a cluster on this machine, each node a process of its own that may be killed.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::access::{AdminError, DEV_TOKEN_FILE};
use super::dev::{make_scratch, scratch, write_private};
use super::serve::on_control_plane;
use super::{Exit, say};
use crate::clock;
use crate::config::{Flags, new_admin_token};
use crate::dev;
use crate::telemetry;

/// Ports of the first node; each further node's are ten above.
const FIRST: Ports = Ports { data: 8080, admin: 8081, peer: 8082 };
/// What the nodes may take to form.
const FORM_WITHIN: Duration = Duration::from_secs(30);
/// What a node that was started again by hand may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// What to say for ports that are free.
const ANYWHERE: &str = "127.0.0.1:0";

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
    let asked = Asked::read(flags)?;
    telemetry::log::start(&asked.level)?;
    let scratch = scratch();
    make_scratch(&scratch)?;
    let exit = on_control_plane(serve(count, scratch.clone(), &asked));
    if scratch.exists()
        && let Err(error) = std::fs::remove_dir_all(&scratch)
    {
        tracing::warn!(%error, path = %scratch.display(), "scratch files are left behind");
    }
    exit
}

/// What may be said besides the number of nodes.
struct Asked {
    /// On ports that are free instead of the usual ones.
    anywhere: bool,
    /// How much all of them log.
    level: String,
}

impl Asked {
    /// # Errors
    /// A flag that cannot be meant for several nodes is refused: they would be started without what was asked for.
    fn read(flags: &Flags) -> Result<Self, AdminError> {
        let mut asked = Self { anywhere: false, level: "warn".to_owned() };
        for (name, value) in flags.all() {
            match (name, value) {
                ("log-level", level) => asked.level = level.to_owned(),
                ("listen-data", ANYWHERE) => asked.anywhere = true,
                (name, value) => {
                    return Err(AdminError::Usage(format!(
                        "--{name} {value} is not for several nodes: with --nodes they take --log-level, and \
                         --listen-data {ANYWHERE} for ports that are free; `troupe serve` runs nodes as you like them"
                    )));
                }
            }
        }
        Ok(asked)
    }
}

async fn serve(count: u8, scratch: PathBuf, asked: &Asked) -> anyhow::Result<Exit> {
    // Its keys and tokens are nobody else's; a directory that is there already may be somebody else's.
    let listener = TcpListener::bind("127.0.0.1:0").await.context("the simulated provider found no port")?;
    let simulated = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let provider = tokio::spawn(dev::simulated::serve(listener, stopped));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A terminal that is closed.
    let mut hangup = signal(SignalKind::hangup())?;
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    let up = async {
        let sites = start(count, &scratch, asked).await?;
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
    let mut sites = tokio::select! {
        () = &mut told => return Ok(Exit::Ok),
        sites = up => sites?,
    };
    say(&mut std::io::stdout().lock(), &banner(&sites, &scratch)?);
    told.await;
    stop_restarted(&mut sites, &scratch).await;
    drop(sites);
    stop.send_replace(true);
    provider.await.context("the simulated provider panicked")?;
    Ok(Exit::Ok)
}

/// Stops nodes that were killed and started again by hand: they are nobody's children here, and what they write to goes.
async fn stop_restarted(sites: &mut [Site], scratch: &Path) {
    let token = std::fs::read_to_string(scratch.join(DEV_TOKEN_FILE)).unwrap_or_default();
    for site in sites {
        if matches!(site.child.try_wait(), Ok(None)) {
            continue;
        }
        let stop = format!("POST /admin/v1/node/drain?stop=true HTTP/1.1\r\nauthorization: Bearer {}", token.trim());
        if !answers(site.admin, &stop, "HTTP/1.1 200").await {
            continue;
        }
        let deadline = clock::now() + STOP_WITHIN;
        while answers(site.admin, "GET /healthz HTTP/1.1", "HTTP/1.1 200").await {
            if clock::now() > deadline {
                tracing::warn!(node = site.name, admin = %site.admin, "a node that was started again still runs");
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Makes sure that the ports are free: of several nodes that fail, none says it well.
fn check_free(ports: &[Ports]) -> anyhow::Result<()> {
    for (at, Ports { data, admin, peer }) in ports.iter().enumerate() {
        for (what, port) in [("clients", data), ("operators", admin), ("other nodes", peer)] {
            std::net::TcpListener::bind(("127.0.0.1", *port)).with_context(|| {
                format!(
                    "gw-{} cannot have port {port} for its {what}: stop what listens there (another `troupe dev`?), or \
                     take ports that are free by --listen-data {ANYWHERE}",
                    at + 1
                )
            })?;
        }
    }
    Ok(())
}

/// Starts the nodes, and waits until each of them is ready.
async fn start(count: u8, scratch: &Path, asked: &Asked) -> anyhow::Result<Vec<Site>> {
    write_private(&scratch.join(DEV_TOKEN_FILE), new_admin_token()?.expose())?;
    write_private(&scratch.join("seal-key"), &hex(&clock::secret_bytes::<32>()?))?;
    let ports = (0..count).map(|at| ports(at, asked.anywhere)).collect::<anyhow::Result<Vec<_>>>()?;
    check_free(&ports)?;
    let join: Vec<String> = ports.iter().map(|ports| format!("\"127.0.0.1:{}\"", ports.peer)).collect();
    let mut sites = Vec::new();
    for (at, ports) in ports.iter().enumerate() {
        let name = format!("gw-{}", at + 1);
        let file = |kind: &str| scratch.join(format!("{name}.{kind}"));
        let (config, log) = (file("toml"), file("log"));
        std::fs::write(&config, node_file(&name, *ports, count, &join.join(", "), scratch, &asked.level))?;
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

fn node_file(name: &str, ports: Ports, count: u8, join: &str, scratch: &Path, level: &str) -> String {
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
admin_token = "file:{scratch}/{DEV_TOKEN_FILE}"
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
level = "{level}"
"#
    )
}

/// Whether a node's operators' listener says that it is ready.
async fn is_ready(admin: SocketAddr) -> bool {
    answers(admin, "GET /readyz HTTP/1.1", "HTTP/1.1 200").await
}

/// Whether a listener answers a question as expected. The question is the beginning of a request.
async fn answers(at: SocketAddr, question: &str, expected: &str) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let asked = async {
        let mut socket = TcpStream::connect(at).await?;
        let rest = "host: troupe\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        socket.write_all(format!("{question}\r\n{rest}").as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.starts_with(expected))
    };
    tokio::time::timeout(Duration::from_secs(2), asked).await.is_ok_and(|is_so| is_so.unwrap_or(false))
}

/// Has the cluster agree on the sample spec, as an operator would.
async fn apply(sites: &[Site], scratch: &Path, spec: &Path) -> anyhow::Result<()> {
    let Some(first) = sites.first() else { return Ok(()) };
    let output = tokio::process::Command::new(std::env::current_exe()?)
        .args(["apply", "--yes", "--file"])
        .arg(spec)
        .env("TROUPE_ADMIN_URL", format!("http://{}", first.admin))
        .env("TROUPE_ADMIN_TOKEN_FILE", scratch.join(DEV_TOKEN_FILE))
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
    let (program, key, token) = (program.display(), dev::SAMPLE_KEY, scratch.join(DEV_TOKEN_FILE));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_nodes_cannot_be_given_is_refused_by_name() {
        let read = |name: &str, value: &str| Asked::read(&Flags::default().or(name, value));

        assert!(read("listen-data", "127.0.0.1:0").unwrap().anywhere);
        assert_eq!(read("log-level", "info").unwrap().level, "info");
        for (name, value) in [("listen-data", "127.0.0.1:9000"), ("data-dir", "here"), ("spec", "spec.toml")] {
            let told = read(name, value).err().unwrap();
            assert_eq!(told.exit(), Exit::Usage);
            assert!(told.to_string().starts_with(&format!("--{name} {value} is not for several nodes")), "{told}");
        }
    }

    #[test]
    fn a_port_in_use_is_told_with_whose_it_would_be_and_what_to_do() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, [data, admin]) = (taken.local_addr().unwrap().port(), [0, 0]);

        let error = check_free(&[Ports { data, admin, peer: 0 }, Ports { data, admin, peer: port }]).unwrap_err();

        let told = format!("{error:#}");
        let words = ["gw-2", &port.to_string(), "other nodes", "stop what listens there", "--listen-data 127.0.0.1:0"];
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
        assert!(check_free(&[Ports { data, admin, peer: 0 }]).is_ok());
    }
}
