//! A node: the real consensus, transport and state over a simulated disk, network and clock.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use futures_util::future::join_all;
use troupe_cluster::raft::{self, FormError, Settings, Work};
use troupe_cluster::seal::Keyring;
use troupe_cluster::transport::{self, Introduction, Transport};
use troupe_cluster::{Cluster, Process};
use troupe_proto::id::{ClusterId, NodeId};
use troupe_proto::secret::Secret;

use super::client;
use super::machine::{Face, Observed};
use super::net::{PORT, SimLinks};
use super::plan::{Plant, name};
use super::world::{Running, World, address};
use crate::simnet::SimNet;

/// Runs until the host is crashed.
pub async fn life(world: Arc<World>, host: usize) -> turmoil::Result {
    let disk = world.lock().hosts[host].disk.clone();
    let identity = disk.start();
    let node = NodeId(identity.node);
    let mut seeds = Rng::with_seed(world.seed ^ (identity.node << 32) ^ (identity.incarnation << 8));
    world.lock().record.tell(format_args!("{} is up as {node}, start {}", name(host), identity.incarnation));

    let introduction = Introduction {
        cluster: Some(ClusterId(1)),
        node,
        incarnation: identity.incarnation,
        peer: address(host),
        seal_keys: Vec::new(),
    };
    let dice = Mutex::new(seeds.fork());
    let roll = move || dice.lock().map_or(0, |mut dice| dice.u64(..));
    let transport = Transport::new(transport::Parts {
        net: Arc::new(SimNet),
        tls: None,
        settings: transport::Settings::default(),
        introduction,
        dice: Arc::new(roll),
    });
    let links =
        SimLinks { inner: Arc::new(transport.clone()), world: Arc::clone(&world), host, rng: Mutex::new(seeds.fork()) };
    let parts = raft::Parts {
        settings: settings(&world),
        node,
        logs: disk.log(),
        snapshots: Arc::new(disk.clone()),
        links: Arc::new(links),
        seed: seeds.u64(..),
        work: Work::Here,
        wall: {
            let world = Arc::clone(&world);
            Arc::new(move || world.wall_ms(host))
        },
    };
    let raft = match raft::start(parts, Observed::default()).await {
        Ok(raft) => raft,
        Err(error) => {
            world.lock().record.breach(format_args!("{} cannot start: {error:?}", name(host)));
            return pending().await;
        }
    };
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let _listening = transport.listen(everywhere, Arc::new(raft.clone())).await?;
    if world.voters.contains_key(&node) && !raft.is_formed().await {
        match raft.form(world.voters.clone()).await {
            Ok(()) | Err(FormError::Formed) => {}
            Err(error) => world.lock().record.breach(format_args!("{} cannot form: {error}", name(host))),
        }
    }
    let random = Mutex::new(seeds.fork());
    let keyring = Keyring::new(
        Secret::new([7; 32]),
        Vec::new(),
        Arc::new(move |bytes| {
            if let Ok(mut random) = random.lock() {
                random.fill(bytes);
            }
            Ok(())
        }),
    );
    let process = Process { node, incarnation: identity.incarnation };
    let handle = Cluster::over(Arc::new(Face::new(raft.clone())), process, keyring);
    let running = Running { handle, raft };
    world.lock().hosts[host].running = Some(running.clone());

    let clients =
        (0..world.plan.clients).map(|who| client::work(Arc::clone(&world), host, who, running.clone(), seeds.fork()));
    let clients = join_all(clients.collect::<Vec<_>>());
    let operator = client::operate(Arc::clone(&world), host, running.clone(), seeds.fork());
    let mut stopped = running.raft.stopped();
    let watch = async {
        if let Ok(why) = stopped.wait_for(Option::is_some).await {
            world.lock().record.breach(format_args!("consensus stopped at {}: {:?}", name(host), *why));
        }
    };
    tokio::join!(clients, operator, watch);
    pending().await
}

fn settings(world: &World) -> Settings {
    let mut settings = Settings {
        propose_within: world.plan.propose_within,
        snapshot_every: world.plan.snapshot_every,
        keep: world.plan.snapshot_every / 10,
        ..Settings::default()
    };
    if world.plant == Plant::LostDedup {
        // Impatient, as whoever asks again is.
        settings.propose_within /= 5;
    }
    settings
}
