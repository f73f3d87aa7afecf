//! Troupe as three nodes that agree: the first is measured, the other two run beside the mock.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::config::{self, KEY, KEY_VAR};
use super::legs::Leg;
use super::{CompareError, Settings};
use crate::load::process::{self, Process, START_MAX, Start};

/// Nodes of the cluster.
const NODES: usize = 3;
/// What operators show to its nodes.
const ADMIN_TOKEN: &str = "compare-admin-token";
/// Seals the secrets that they keep. They keep none.
const SEAL_KEY: &str = "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0";

struct Seat {
    name: String,
    data: SocketAddr,
    admin: SocketAddr,
    peer: SocketAddr,
}

/// Starts the nodes, and has one of them put the spec in force that the node alone reads from its file. Gives the leg
/// through the first, and the others.
pub(super) async fn start(
    settings: &Settings,
    troupe: &Path,
    mock: SocketAddr,
    dir: &Path,
) -> Result<(Leg, Vec<Process>), CompareError> {
    let seat = |number: usize| {
        let [data, admin, peer] = [process::free_addr()?, process::free_addr()?, process::free_addr()?];
        Ok(Seat { name: format!("cluster-{number}"), data, admin, peer })
    };
    let seats: Vec<Seat> = (1..=NODES).map(seat).collect::<Result<_, CompareError>>()?;
    let files = [
        ("cluster-spec.toml", config::spec_toml(mock)),
        ("seal-key", SEAL_KEY.to_owned()),
        ("admin-token", ADMIN_TOKEN.to_owned()),
    ];
    let [spec, seal_key, admin_token] = files.map(|(name, text)| write(dir, name, &text));
    let (spec, seal_key, admin_token) = (spec?, seal_key?, admin_token?);
    let join: Vec<String> = seats.iter().map(|seat| seat.peer.to_string()).collect();
    let file = |path: &Path| format!("file:{}", path.display());
    let mut nodes = Vec::new();
    for (number, seat) in seats.iter().enumerate() {
        // Its pin, its access log and its arguments are those of the node alone; nobody measures the others.
        let (pin, access) = match number {
            0 => (settings.pin.as_ref(), settings.access_log.clone().unwrap_or_else(|| log(dir, seat))),
            _ => (None, "off".to_owned()),
        };
        let data_dir = dir.join(&seat.name);
        let node =
            write(dir, &format!("{}.toml", seat.name), &config::node_toml(&data_dir, seat.data, seat.admin, &access))?;
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let mut args = vec!["serve".to_owned(), "--config".to_owned(), node.display().to_string()];
        args.extend([
            flag("listen-peer", &seat.peer.to_string()),
            flag("listen-admin-token", &file(&admin_token)),
            flag("cluster-seal-key", &file(&seal_key)),
            flag("cluster-bootstrap-expect", &NODES.to_string()),
            flag("cluster-join", &join.join(",")),
            flag("cluster-advertise", &seat.peer.to_string()),
            flag("cluster-plain", "true"),
        ]);
        if number == 0 {
            args.extend(settings.troupe_args.iter().cloned());
        }
        nodes.push(Process::start(&Start { name: &seat.name, program: troupe, args: &args, vars: &[], dir, pin })?);
    }
    for (node, seat) in nodes.iter_mut().zip(&seats) {
        node.ready(seat.data, Some("/healthz"), START_MAX).await?;
    }
    let Some(first) = seats.first() else { return Err(CompareError::Write(std::io::Error::other("no nodes"))) };
    apply(troupe, first, &spec, dir).await?;
    let measured = nodes.remove(0);
    let mut leg = Leg::new("cluster", first.data, Some(measured));
    leg.key = Some(KEY);
    Ok((leg, nodes))
}

/// `troupe apply`, as an operator calls it; it waits for a leader.
async fn apply(troupe: &Path, seat: &Seat, spec: &Path, dir: &Path) -> Result<(), CompareError> {
    let args = [
        "apply".to_owned(),
        "--yes".to_owned(),
        format!("--file={}", spec.display()),
        format!("--admin-url=http://{}", seat.admin),
        format!("--admin-token-file={}", dir.join("admin-token").display()),
    ];
    let vars = [(KEY_VAR.to_owned(), KEY.to_owned())];
    let start = Start { name: "cluster-apply", program: troupe, args: &args, vars: &vars, dir, pin: None };
    Ok(Process::start(&start)?.succeeded(START_MAX).await?)
}

fn log(dir: &Path, seat: &Seat) -> String {
    dir.join(format!("{}.access.log", seat.name)).display().to_string()
}

fn write(dir: &Path, name: &str, text: &str) -> Result<PathBuf, CompareError> {
    let path = dir.join(name);
    std::fs::write(&path, text).map_err(CompareError::Write)?;
    Ok(path)
}
