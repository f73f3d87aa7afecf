use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::Exit;
use crate::config::{Boot, Flags, Sources, variable};
use crate::house::Seams;
use crate::node::{Node, Setup, show_on_stderr};
use crate::telemetry;

/// Runs a node until it is told to stop.
pub(super) fn run(flags: &Flags) -> anyhow::Result<Exit> {
    let boot = Boot::load(flags, &variable)?;
    telemetry::log::start(boot.log.level.as_str())?;
    boot.notes().iter().for_each(|note| tracing::warn!("{note}"));
    if boot.spec_file.is_none() {
        tracing::warn!("no spec file: no client may enter; name one with --spec spec.toml");
    }
    control_plane()?.block_on(async {
        let sources = Sources::of_process(Some(boot.node.data_dir.clone()));
        let setup = Setup { sources, show: Arc::new(show_on_stderr), seams: Seams::default() };
        let node = Node::start(&boot, setup).await?;
        tracing::info!(data = %node.data, admin = %node.admin, name = %boot.node.name, "serving");
        if let Some(file) = &node.admin_token.file {
            tracing::info!(file = %file.display(), "the admin token is kept in a file");
        }
        until_told(node).await
    })
}

/// The runtime of everything that is not a request.
pub(super) fn control_plane() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("troupe-control")
        .build()
        .context("the control plane's runtime cannot be started")
}

/// Serves until SIGTERM or SIGINT, then drains; a second one cuts the draining short. SIGHUP reloads.
pub(super) async fn until_told(node: Node) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = hangup.recv() => node.reload(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    let hurry = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    node.drain(hurry).await;
    Ok(Exit::Ok)
}
