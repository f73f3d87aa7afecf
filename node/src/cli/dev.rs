use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::access::{DEV_DIR, DEV_TOKEN_FILE};
use super::serve::{on_control_plane, until_told};
use super::{Exit, dev_cluster, say};
use crate::config::{Boot, Flags, Literals, Sources, new_admin_token, variable};
use crate::dev;
use crate::house::Seams;
use crate::node::{Node, Setup, show_on_stderr};
use crate::supervisor::Supervisor;
use crate::telemetry;

/// What `troupe dev` takes.
#[derive(clap::Args)]
pub(super) struct Dev {
    /// How many nodes: 1, or 3 or 5 that agree, each a process of its own on ports of its own.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = nodes)]
    nodes: u8,
    #[command(flatten)]
    flags: Flags,
}

fn nodes(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|count| matches!(count, 1 | 3 | 5)).ok_or_else(|| "it is 1, 3 or 5".to_owned())
}

/// Runs what was asked for.
pub(super) fn run(dev: Dev) -> anyhow::Result<Exit> {
    match dev.nodes {
        1 => one(dev.flags),
        count => dev_cluster::run(count, &dev.flags),
    }
}

/// Runs a node in front of a simulated provider, and prints how to talk to it.
fn one(flags: Flags) -> anyhow::Result<Exit> {
    let scratch = scratch();
    let flags = flags
        .or("data-dir", &scratch.join("data").to_string_lossy())
        .or("listen-data", "127.0.0.1:8080")
        .or("listen-admin", "127.0.0.1:8081")
        .or("log-access", "off")
        .or("log-level", "warn")
        .or("limits-drain-delay", "0s");
    let mut boot = Boot::load(&flags, &variable)?;
    telemetry::log::start(boot.log.level.as_str())?;
    make_scratch(&scratch)?;
    let exit = on_control_plane(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the simulated provider found no port")?;
        let simulated = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let provider = tokio::spawn(dev::simulated::serve(listener, stopped));
        // A token of the operator's own is not written anywhere, nor shown.
        let made = if boot.listen.admin_token.is_none() { Some(new_admin_token()?) } else { None };
        if let Some(token) = &made {
            write_private(&scratch.join(DEV_TOKEN_FILE), token.expose()).context("its token cannot be written")?;
            boot.listen.admin_token = Some(token.clone());
        }
        if boot.spec_file.is_none() {
            let path = scratch.join("spec.toml");
            std::fs::write(&path, dev::spec(simulated)).context("the sample spec cannot be written")?;
            boot.spec_file = Some(path);
        }
        let literals = Literals::Allowed;
        let sources = Sources { literals, ..Sources::of_process(Some(boot.node.data_dir.clone())) };
        let setup = Setup { sources, show: Arc::new(show_on_stderr), seams: Seams::default() };
        let node = Node::start(&boot, setup).await?;
        let token = made.as_ref().map_or("YOUR-ADMIN-TOKEN", |token| token.expose().as_str());
        let banner = dev::banner(node.data, node.admin, token);
        say(&mut std::io::stdout().lock(), &banner);
        let exit = until_told(node, &Supervisor::default()).await;
        stop.send_replace(true);
        provider.await.context("the simulated provider panicked")?;
        exit
    });
    if scratch.exists()
        && let Err(error) = std::fs::remove_dir_all(&scratch)
    {
        tracing::warn!(%error, path = %scratch.display(), "scratch files are left behind");
    }
    exit
}

/// The directory of this process.
pub(super) fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("{DEV_DIR}{}", std::process::id()))
}

/// Makes it: nobody else's, from its first moment on, since it is where everybody may look.
pub(super) fn make_scratch(path: &Path) -> anyhow::Result<()> {
    let make = || std::fs::DirBuilder::new().mode(0o700).create(path);
    let made = make().or_else(|error| {
        // One that was left behind by a process that was killed and had this number is in the way. Another user's is not touched.
        let (there, me) = (std::fs::symlink_metadata(path)?, std::fs::metadata("/proc/self")?);
        if !there.is_dir() || there.uid() != me.uid() {
            return Err(error);
        }
        std::fs::remove_dir_all(path)?;
        make()
    });
    made.with_context(|| format!("{} cannot be made", path.display()))
}

/// Writes a file that only this user reads, and that was not there.
pub(super) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
