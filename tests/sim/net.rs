//! Calls between hosts: noted, and some of them made again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use troupe_cluster::raft::Forward;
use troupe_cluster::transport::{CallError, Class, Links};
use troupe_proto::id::NodeId;
use troupe_proto::wire;

use super::plan::name;
use super::record::hex;
use super::world::World;

/// The port that hosts listen on.
pub const PORT: u16 = 9000;

/// Links of a host: every call is noted, and some are made again later, word for word.
pub struct SimLinks {
    /// The real ones.
    pub inner: Arc<dyn Links>,
    /// The run.
    pub world: Arc<World>,
    /// Whose they are.
    pub host: usize,
    /// Which calls are made again.
    pub rng: Mutex<Rng>,
}

impl SimLinks {
    /// How much later this call is made again, if it is.
    fn again(&self, class: Class, body: &[u8]) -> Option<Duration> {
        if !self.world.lock().echo {
            return None;
        }
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let is_drawn = rng.u8(0..4) == 0;
        let later = Duration::from_millis(rng.u64(1..6_000));
        let may_be = match class {
            Class::Vote | Class::Append => true,
            // A change of members that comes late is an operator's who changed their mind: it has no number.
            Class::Forward => matches!(wire::decode(body), Ok(Forward::Propose { .. } | Forward::ReadIndex)),
            Class::Snapshot | Class::Join | Class::Push => false,
        };
        (is_drawn && may_be).then_some(later)
    }
}

impl Links for SimLinks {
    fn call(
        &self,
        to: NodeId,
        address: &str,
        class: Class,
        body: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, CallError>> {
        let address = address.to_owned();
        async move {
            let (from, word, sum) = (name(self.host), class.word(), hex(&Sha256::digest(&body)[..4]));
            self.world.lock().record.step(format_args!("{from} calls {address} {word} {sum}, {} bytes", body.len()));
            // Says that the call never left the host, or says nothing and is dropped.
            let (stayed, has_stayed) = tokio::sync::oneshot::channel();
            if let Some(later) = self.again(class, &body) {
                let (inner, world, body, address) =
                    (Arc::clone(&self.inner), Arc::clone(&self.world), body.clone(), address.clone());
                let (host, sum) = (self.host, sum.clone());
                tokio::spawn(async move {
                    let until = tokio::time::Instant::now() + later;
                    // What was never on its way cannot come late.
                    if has_stayed.await.is_ok() {
                        return;
                    }
                    tokio::time::sleep_until(until).await;
                    let came_to = inner.call(to, &address, class, body, Duration::from_secs(2)).await;
                    let mut world = world.lock();
                    let came_to = came_to.map(|answer| answer.len());
                    world.record.step(format_args!("{} called {address} again {word} {sum}: {came_to:?}", name(host)));
                    world.record.count("late copies");
                });
            }
            let answer = self.inner.call(to, &address, class, body, within).await;
            match answer {
                Ok(_) | Err(CallError::Lost | CallError::Deadline) => drop(stayed),
                // If no copy was to be made nobody listens.
                Err(_) => drop(stayed.send(())),
            }
            let came_to = match &answer {
                Ok(answer) => format!("{}, {} bytes", hex(&Sha256::digest(answer)[..4]), answer.len()),
                Err(error) => error.to_string(),
            };
            self.world.lock().record.step(format_args!("{from} called {address} {word} {sum}: {came_to}"));
            answer
        }
        .boxed()
    }
}
