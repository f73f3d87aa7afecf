//! The ways to the mock: straight, and through each gateway, started and waited for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::cluster;
use super::config::{self, KEY, KEY_VAR};
use super::peer::{Peer, Place};
use super::report::Footprint;
use super::{CompareError, Settings};
use crate::clock;
use crate::load::client::Requests;
use crate::load::plan::{Ask, Load, Mode, Target};
use crate::load::process::pin::Pin;
use crate::load::process::{self, Process, START_MAX, Start};
use crate::load::progress::Progress;
use crate::load::run;
use crate::load::streams::Wire;

/// How long the first 200 through a started gateway may take.
const FIRST_REPLY_MAX: Duration = Duration::from_secs(20);

/// One way to the mock.
pub(super) struct Leg {
    pub(super) name: String,
    addr: SocketAddr,
    pub(super) key: Option<&'static str>,
    headers: HeaderMap,
    /// None: straight to the mock.
    pub(super) gateway: Option<Process>,
    pub(super) peer: Option<Peer>,
    pub(super) footprint: Footprint,
}

/// The mock, and every leg to it.
pub(super) struct World {
    pub(super) mock: Process,
    pub(super) legs: Vec<Leg>,
    // The nodes beside the one that is measured; they agree with it and serve nobody.
    _beside: Vec<Process>,
    // Files of the children; they go with the world, the children first.
    _dir: tempfile::TempDir,
}

/// Longest one request of a comparison may take.
const TIMEOUT: Duration = Duration::from_secs(20);

impl Leg {
    pub(super) fn new(name: &str, addr: SocketAddr, gateway: Option<Process>) -> Self {
        let footprint = Footprint { name: name.to_owned(), ..Footprint::default() };
        Self { name: name.to_owned(), addr, key: None, headers: HeaderMap::new(), gateway, peer: None, footprint }
    }

    pub(super) fn target(&self) -> Result<Target, CompareError> {
        let base_url = format!("http://{}/v1", self.addr).parse().map_err(http::Error::from)?;
        let (key, headers) = (self.key.map(str::to_owned), self.headers.clone());
        Ok(Target { base_url, wire: Wire::OpenAi, key, headers })
    }

    /// Gives the name by which this leg is asked for a model of the mock.
    pub(super) fn model(&self, of_mock: &str) -> String {
        self.peer.as_ref().map_or_else(|| of_mock.to_owned(), |peer| peer.model(of_mock))
    }

    /// Makes the requests of one piece of work.
    pub(super) fn requests(&self, model: &str, events: Option<u64>, body: u64) -> Result<Arc<Requests>, CompareError> {
        let ask = Ask { events, body_bytes: body, models: vec![(self.model(model), 1)] };
        Ok(Arc::new(Requests::new(&self.target()?, &ask, TIMEOUT)?))
    }

    /// Asks again and again until a reply comes through, and notes when that was and what memory was held before.
    async fn answering(mut self) -> Result<Self, CompareError> {
        let Some(gateway) = &self.gateway else { return Ok(self) };
        self.footprint.rss_ready_kib = gateway.rss_kib()?;
        let requests = self.requests("mock", None, 0)?;
        let once = Load {
            mode: Mode::Closed,
            connections: 1,
            backlog: 1,
            warm_up: Duration::ZERO,
            time: None,
            requests: Some(1),
            timeout: TIMEOUT,
        };
        let begun = clock::now();
        loop {
            let record = run::closed(&requests, &once, Progress::Silent).await?;
            if record.done > 0 {
                break;
            }
            if clock::now() - begun > FIRST_REPLY_MAX {
                let why = record.faults.into_keys().next().unwrap_or_default();
                return Err(gateway.not_ready(&format!("answers no request ({why})")).into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let took = clock::now() - gateway.started;
        self.footprint.start_to_first_200_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Ok(self)
    }
}

impl World {
    /// Starts the mock and every gateway, one after the other.
    pub(super) async fn start(settings: &Settings) -> Result<Self, CompareError> {
        let dir = tempfile::tempdir().map_err(CompareError::Write)?;
        let pin = settings.pin.as_ref();
        let mock_addr = process::free_addr()?;
        let args = ["--listen".to_owned(), mock_addr.to_string()];
        let start = Start { name: "mock", program: &settings.mock, args: &args, vars: &[], dir: dir.path(), pin: None };
        let mut mock = Process::start(&start)?;
        mock.ready(mock_addr, None, START_MAX).await?;
        let mut legs = vec![Leg::new("direct", mock_addr, None)];
        if let Some(floor) = &settings.floor {
            // The same program twice: how far the two differ is the noise of the run.
            for name in ["floor", "floor-2"] {
                legs.push(floor_leg(name, floor, mock_addr, dir.path(), pin).await?.answering().await?);
            }
        }
        if let Some(troupe) = &settings.troupe {
            legs.push(troupe_leg(settings, troupe, mock_addr, dir.path()).await?.answering().await?);
        }
        let mut beside = Vec::new();
        if let Some(troupe) = settings.troupe.as_ref().filter(|_| settings.cluster) {
            settings.progress.say("starting three nodes that agree");
            let (leg, others) = cluster::start(settings, troupe, mock_addr, dir.path()).await?;
            legs.push(leg.answering().await?);
            beside = others;
        }
        for peer in &settings.peers {
            settings.progress.say(&format!("starting {}", peer.name));
            legs.push(peer_leg(settings, peer, mock_addr, dir.path()).await?.answering().await?);
        }
        Ok(Self { mock, legs, _beside: beside, _dir: dir })
    }
}

async fn floor_leg(
    name: &str,
    floor: &Path,
    mock: SocketAddr,
    dir: &Path,
    pin: Option<&Pin>,
) -> Result<Leg, CompareError> {
    let addr = process::free_addr()?;
    let args = ["--listen".to_owned(), addr.to_string(), "--upstream".to_owned(), format!("http://{mock}")];
    let mut gateway = Process::start(&Start { name, program: floor, args: &args, vars: &[], dir, pin })?;
    gateway.ready(addr, None, START_MAX).await?;
    Ok(Leg::new(name, addr, Some(gateway)))
}

async fn troupe_leg(settings: &Settings, troupe: &Path, mock: SocketAddr, dir: &Path) -> Result<Leg, CompareError> {
    let (data, admin) = (process::free_addr()?, process::free_addr()?);
    let (node, spec) = (dir.join("node.toml"), dir.join("spec.toml"));
    let access = settings.access_log.clone().unwrap_or_else(|| dir.join("access.log").display().to_string());
    let text = config::node_toml(&dir.join("data"), data, admin, &access);
    std::fs::write(&node, text).map_err(CompareError::Write)?;
    std::fs::write(&spec, config::spec_toml(mock)).map_err(CompareError::Write)?;
    let [node, spec] = [node, spec].map(|path| path.display().to_string());
    let mut args = vec!["serve".to_owned(), "--config".to_owned(), node, "--spec".to_owned(), spec];
    args.extend(settings.troupe_args.iter().cloned());
    let vars = [(KEY_VAR.to_owned(), KEY.to_owned())];
    let pin = settings.pin.as_ref();
    let mut gateway = Process::start(&Start { name: "troupe", program: troupe, args: &args, vars: &vars, dir, pin })?;
    gateway.ready(data, Some("/healthz"), START_MAX).await?;
    Ok(Leg { key: Some(KEY), ..Leg::new("troupe", data, Some(gateway)) })
}

async fn peer_leg(settings: &Settings, peer: &Peer, mock: SocketAddr, dir: &Path) -> Result<Leg, CompareError> {
    let (listen, work) = (process::free_addr()?, dir.join(&peer.name));
    std::fs::create_dir_all(&work).map_err(CompareError::Write)?;
    let place = Place { upstream: mock, listen, key: KEY, work: &work, dir: settings.peers_dir.as_deref() };
    let named = |source| CompareError::Peer { name: peer.name.clone(), source };
    let ready = peer.fill(&place).map_err(named)?;
    if let Some((file, text)) = &ready.config {
        std::fs::write(work.join(file), text).map_err(CompareError::Write)?;
    }
    let program = PathBuf::from(&ready.program);
    let pin = settings.pin.as_ref();
    let start = Start { name: &peer.name, program: &program, args: &ready.args, vars: &ready.vars, dir, pin };
    let mut gateway = Process::start(&start)?;
    gateway.ready(listen, peer.ready.as_deref(), peer.start_max()).await?;
    let leg = Leg::new(&peer.name, listen, Some(gateway));
    Ok(Leg { key: Some(KEY), headers: ready.headers, peer: Some(peer.clone()), ..leg })
}
