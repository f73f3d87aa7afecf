//! Clients that ask at a rate of their own, whatever the answers do: a slow gateway does not slow them down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use troupe_node::clock;

use crate::ask::{Dialect, words};
use crate::client::{Client, Stream};

/// Connections that all calls share; each carries up to 100 at once.
const CONNECTIONS: usize = 8;
/// How often calls are sent off; those that fall due in between leave together.
const TICK: Duration = Duration::from_millis(5);

/// What is asked, how often, and what must come back.
#[derive(Clone)]
pub struct Load {
    /// Calls a second.
    pub rate: u64,
    /// What one call says.
    pub body: Value,
    /// The words of a good reply.
    pub words: usize,
}

/// What became of all calls.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Calls sent.
    pub sent: u64,
    /// Calls that were answered in full, with every word once.
    pub good: u64,
    /// The others, by what was wrong.
    pub bad: BTreeMap<String, u64>,
    /// Good calls by the target that served them, as `x-troupe-target` has it.
    pub served: BTreeMap<String, u64>,
    /// Attempts that good calls took beyond the first, as `x-troupe-attempts` has it.
    pub retries: u64,
    /// The longest wait for a whole reply, from the moment the call was due.
    pub slowest: Duration,
}

/// Calls under way.
pub struct Running {
    tally: Arc<Mutex<Tally>>,
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    /// Whole replies of ten words from a model, in `OpenAI`'s dialect.
    pub fn whole(model: &str, rate: u64) -> Self {
        Self { rate, body: Dialect::OpenAi.ask(model), words: 10 }
    }

    /// The same as streams.
    pub fn streams(model: &str, rate: u64) -> Self {
        Self { rate, body: Dialect::OpenAi.ask_stream(model), words: 10 }
    }

    /// Begins to ask, until [`Running::end`].
    pub async fn start(self, client: &Client) -> Running {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(client.clone().http2().await);
        }
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let task = tokio::spawn(drive(self, clients, tally.clone(), stopped));
        Running { tally, stop, task }
    }
}

impl Running {
    /// What became of the calls that are over.
    ///
    /// # Panics
    /// When a call panicked while it counted itself.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Sends no more calls, waits for those under way, and gives what became of all.
    ///
    /// # Panics
    /// When the driver itself failed.
    pub async fn end(self) -> Tally {
        self.stop.send_replace(true);
        self.task.await.unwrap();
        self.tally.lock().unwrap().clone()
    }
}

impl Tally {
    /// Calls that failed.
    pub fn failed(&self) -> u64 {
        self.bad.values().sum()
    }
}

async fn drive(
    load: Load,
    clients: Vec<Client>,
    tally: Arc<Mutex<Tally>>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) {
    let mut calls = JoinSet::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (began, mut sent) = (clock::now(), 0);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            _ = tick.tick() => {}
        }
        let elapsed = u64::try_from((clock::now() - began).as_micros()).unwrap();
        let due = elapsed * load.rate / 1_000_000;
        for number in sent..due {
            let at = began + Duration::from_micros(number * 1_000_000 / load.rate);
            let client = clients[usize::try_from(number).unwrap() % clients.len()].clone();
            let (load, tally) = (load.clone(), tally.clone());
            calls.spawn(async move {
                let done = one(&client, &load).await;
                tally.lock().unwrap().count(done, at);
            });
        }
        sent = sent.max(due);
        tally.lock().unwrap().sent = sent;
        while let Some(done) = calls.try_join_next() {
            tally.lock().unwrap().note(&done);
        }
    }
    while let Some(done) = calls.join_next().await {
        tally.lock().unwrap().note(&done);
    }
}

/// One call: by whom it was served in how many attempts, or what was wrong.
async fn one(client: &Client, load: &Load) -> Result<(String, u64), String> {
    let dialect = Dialect::OpenAi;
    let is_stream = load.body["stream"] == true;
    let called = client.try_call(Method::POST, dialect.path(), load.body.to_string()).await;
    let mut stream: Stream = called.map_err(|error| format!("no reply: {error}"))?;
    let (status, headers) = (stream.status, stream.headers.clone());
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if status != 200 {
        return Err(format!("{status} {}", header("x-troupe-error")));
    }
    let (text, is_cut) = if is_stream {
        let events = stream.rest().await;
        let is_ended = events.last().is_some_and(|last| last.data == "[DONE]");
        let text: String = events.iter().filter_map(|event| dialect.piece(&event.json())).collect();
        (text, stream.is_cut || !is_ended)
    } else {
        let reply = stream.reply().await;
        (dialect.text(&reply.json()), reply.is_cut)
    };
    match (is_cut, text == words(load.words)) {
        (true, _) => Err("cut".to_owned()),
        (false, false) => Err("not the words that were asked for".to_owned()),
        (false, true) => {
            let attempts: u64 = header("x-troupe-attempts").parse().unwrap_or(1);
            Ok((header("x-troupe-target"), attempts.saturating_sub(1)))
        }
    }
}

impl Tally {
    /// A call that panicked has not counted itself: the client gave it up.
    fn note(&mut self, done: &Result<(), tokio::task::JoinError>) {
        if done.is_err() {
            *self.bad.entry("nothing happened for long".to_owned()).or_default() += 1;
        }
    }

    fn count(&mut self, done: Result<(String, u64), String>, due: Instant) {
        match done {
            Ok((target, retries)) => {
                self.good += 1;
                self.retries += retries;
                *self.served.entry(target).or_default() += 1;
            }
            Err(what) => *self.bad.entry(what).or_default() += 1,
        }
        self.slowest = self.slowest.max(clock::now() - due);
    }
}
