use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use super::Exit;
use crate::config::{Boot, Flags, Sources, variable};
use crate::house::Seams;
use crate::node::{Node, Setup, show_on_stderr};
use crate::supervisor::Supervisor;
use crate::telemetry;

/// Runs a node until it is told to stop.
pub(super) fn run(flags: &Flags) -> anyhow::Result<Exit> {
    let boot = Boot::load(flags, &variable)?;
    telemetry::log::start(boot.log.level.as_str())?;
    on_control_plane(async {
        let sources = Sources::of_process(Some(boot.node.data_dir.clone()));
        let setup = Setup { sources, show: Arc::new(show_on_stderr), seams: Seams::default() };
        let node = Node::start(&boot, setup).await?;
        tracing::info!(data = %node.data, admin = %node.admin, name = %boot.node.name, "serving");
        if boot.spec_file.is_none() && node.cluster.state().spec().keys.is_empty() {
            tracing::info!("no client may enter yet: `troupe apply -f spec.toml` says what to serve and to whom");
        }
        until_told(node, &Supervisor::of_process()).await
    })
}

/// Does the work on the runtime of everything that is not a request, and leaves behind what still blocks then.
pub(super) fn on_control_plane(work: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("troupe-control")
        .build()
        .context("the control plane's runtime cannot be started")?;
    let exit = runtime.block_on(work);
    // Dropped, it would wait for blocking calls: a file of a server that is gone, a name that is being resolved.
    runtime.shutdown_background();
    exit
}

/// Serves until SIGTERM or SIGINT, then drains; a second one cuts the draining short. SIGHUP reloads. A node whose actors
/// cannot be kept alive drains too.
pub(super) async fn until_told(node: Node, supervisor: &Supervisor) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let actors = node.house.actors.clone();
    supervisor.ready();
    let mut last_word = None;
    let exit = loop {
        tokio::select! {
            () = supervisor.live() => {}
            _ = hangup.recv() => node.reload(),
            _ = terminate.recv() => break Exit::Ok,
            _ = interrupt.recv() => break Exit::Ok,
            why = node.lost_consensus() => {
                tracing::error!(why, "this node cannot take part, it leaves");
                last_word = Some(why);
                break Exit::Failed;
            }
            () = node.left() => {
                tracing::info!("this node left its cluster, it stops");
                break Exit::Ok;
            }
            () = node.told_to_stop() => {
                tracing::info!("an operator took this node out of rotation, it stops");
                break Exit::Ok;
            }
            () = actors.failed() => {
                tracing::error!("supervision gave up: what is learned of providers is no longer kept, this node leaves");
                break Exit::Failed;
            }
        }
    };
    supervisor.stopping(node.drain_max());
    let watchdog = watchdog(node.drain_max()).context("the watchdog's thread cannot be started")?;
    // A task, because a signal must count at every step of the drain.
    let second = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("told again, ending now");
        if watchdog.try_send(()).is_err() {
            tracing::debug!("the watchdog was awake");
        }
        watchdog
    });
    tokio::select! {
        () = node.drain(async { drop(second.await) }) => {}
        () = supervisor.live() => {}
    }
    // Said again at the very end, where whoever looks for it looks first: the drain has said much since.
    match last_word {
        Some(why) => Err(anyhow!("this node cannot take part: {why}")),
        None => Ok(exit),
    }
}

/// Ends the process if it has not ended by itself some time after `at_most`, or after it was told to hurry: whatever
/// stands still, an operator who says stop is obeyed.
fn watchdog(at_most: Duration) -> std::io::Result<SyncSender<()>> {
    let (hurry, told) = sync_channel(1);
    let watch = move || {
        // Nobody there to tell means that the drain is over, and the process about to end.
        told.recv_timeout(at_most).unwrap_or_default();
        std::thread::sleep(GRACE);
        tracing::error!("it did not end in time, it is ended");
        telemetry::log::flush(GRACE / 10);
        #[expect(clippy::exit, reason = "the last resort: what should have returned from main stands still")]
        std::process::exit(1);
    };
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
    Ok(hurry)
}

/// What the process may take beyond what it should.
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blocks_for_ever_does_not_keep_the_process() {
        let (release, held) = sync_channel::<()>(0);
        let (ended, end) = sync_channel(1);

        let process = std::thread::spawn(move || {
            let exit = on_control_plane(async {
                tokio::task::spawn_blocking(move || held.recv());
                Ok(Exit::Ok)
            });
            ended.send(exit.is_ok()).unwrap();
        });

        assert_eq!(end.recv_timeout(Duration::from_secs(5)), Ok(true));
        drop(release);
        process.join().unwrap();
    }
}
