//! What ties this node to what all agreed on: it publishes the agreed state as the view that requests read, keeps itself
//! fresh (KEY-1), and looks again before it says that a key is unknown.
//!
//! ```text
//! state applied ── publish ──▶ view
//! every 250 ms ──▶ read index ──▶ freshness            past its bound: 503, unready
//! unknown key  ──▶ read index, shared, at most one in 20 ms ──▶ look once more
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use troupe_actors::{Actors, Published};
use troupe_cluster::Handle;
use troupe_cluster::seal::SealError;
use troupe_proto::id::Revision;

use crate::clock;
use crate::freshness::Freshness;
use crate::peers::Peers;
use crate::telemetry::metrics::{Agreed, Metrics};
use crate::view::{Draft, View};

/// How often a quorum is asked whether this node knows all there is.
const CONFIRM_EVERY: Duration = Duration::from_millis(250);
/// What one such question may take.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
/// The least time between two checks that unknown keys ask for.
const CHECK_EVERY: Duration = Duration::from_millis(20);
/// What a request with an unknown key waits for a check.
const CHECK_WITHIN: Duration = Duration::from_millis(250);

/// This node's ties to what all agreed on.
pub struct Agreement {
    handle: Handle,
    freshness: Arc<Freshness>,
    /// A node that follows a file has none.
    peers: Option<Arc<Peers>>,
    checks: Checks,
    /// The revision that was published last. Held meanwhile, so that an older view never replaces a newer one.
    published: Mutex<Option<Revision>>,
}

/// The shared check of unknown keys: each request takes a number, and a check answers all numbers given before it began.
#[derive(Default)]
struct Checks {
    asked: AtomicU64,
    wake: Notify,
    answered: watch::Sender<u64>,
    seen: AtomicU64,
    unseen: AtomicU64,
}

/// What looking again came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookedAgain {
    /// There is nobody who could know more.
    Alone,
    /// The view holds all there was.
    Seen,
    /// Nobody could be asked.
    Unseen,
}

impl Agreement {
    /// Ties a node to what `handle` agrees on, with whom. A node that follows a file has no peers.
    pub fn new(handle: Handle, freshness: Arc<Freshness>, peers: Option<Arc<Peers>>) -> Self {
        Self { handle, freshness, peers, checks: Checks::default(), published: Mutex::new(None) }
    }

    /// The agreed state.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// How old what this node knows is.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// Makes sure that the view holds every key that was made anywhere before this call, if that can be had in a moment.
    pub async fn look_again(&self) -> LookedAgain {
        if self.peers.is_none() {
            return LookedAgain::Alone;
        }
        let mut answered = self.checks.answered.subscribe();
        let number = self.checks.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.checks.wake.notify_one();
        match timeout(CHECK_WITHIN, answered.wait_for(|done| *done >= number)).await {
            Ok(Ok(_)) => LookedAgain::Seen,
            Ok(Err(_)) | Err(_) => LookedAgain::Unseen,
        }
    }

    /// Publishes the agreed state as the view that requests read.
    ///
    /// Requests read everything then that this node held when this was called.
    ///
    /// # Errors
    /// Why they do not, and what to do about it; they read what they read before.
    pub fn publish(&self, view: &Published<View>, actors: &Actors, metrics: &Metrics) -> Result<(), String> {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.handle.state();
        if *published == Some(state.revision()) {
            return Ok(());
        }
        if self.peers.is_some() {
            self.freshness.set_bound(state.spec().policies.freshness.bound());
        }
        let spec = self.handle.open(&state).map_err(|error| unopened(&error))?;
        // Checked before it was proposed; what remains is a system that changed in between, or another node's.
        let draft = Draft::of(&spec, state.revision(), &view.read())
            .map_err(|error| format!("what was agreed cannot be served at this node: {error}"))?;
        view.publish(draft.finish(|pools| actors.lay_out(pools)), clock::now());
        metrics.serves_revision(state.revision());
        *published = Some(state.revision());
        Ok(())
    }

    /// How agreement goes; `None` where this node follows a file.
    pub fn agreed(&self) -> Option<Agreed> {
        let now = clock::now();
        self.peers.as_ref().map(|peers| Agreed {
            links: peers.transport.counts(),
            gossip: peers.gossip.stats().unwrap_or_default(),
            certificate_expires: peers.certificate_expires(),
            is_certificate_unusable: peers.unusable_certificates().is_some(),
            vitals: self.handle.vitals(),
            age: self.freshness.age(now),
            is_fresh: self.freshness.is_fresh(now),
            off: self.handle.state().spec().off.keys().cloned().collect(),
            checks_seen: self.checks.seen.load(Ordering::Relaxed),
            checks_unseen: self.checks.unseen.load(Ordering::Relaxed),
        })
    }

    /// Asks a quorum again and again whether this node knows all there is. It is fresh by what requests read, not by what
    /// was applied: `publish` brings the view up to date, and says whether it could.
    pub async fn keep_fresh(&self, publish: impl Fn() -> bool) {
        loop {
            let asked = clock::now();
            match timeout(CONFIRM_WITHIN, self.handle.read_index()).await {
                Ok(Ok(())) if publish() => self.freshness.confirm(asked),
                Ok(Ok(())) => tracing::debug!("confirmed, and not published"),
                Ok(Err(error)) => tracing::debug!(%error, "not confirmed"),
                Err(_) => tracing::debug!("not confirmed in time"),
            }
            sleep(CONFIRM_EVERY).await;
        }
    }

    /// Answers requests that came with unknown keys, all that wait with one question. `publish` brings the view up to
    /// date.
    pub async fn answer_checks(&self, publish: impl Fn() -> bool) {
        loop {
            self.checks.wake.notified().await;
            let number = self.checks.asked.load(Ordering::Acquire);
            let asked = clock::now();
            let confirmed = timeout(CHECK_WITHIN, self.handle.read_index()).await;
            if matches!(confirmed, Ok(Ok(()))) && publish() {
                self.freshness.confirm(asked);
                self.checks.seen.fetch_add(1, Ordering::Relaxed);
                self.checks.answered.send_replace(number);
            } else {
                self.checks.unseen.fetch_add(1, Ordering::Relaxed);
            }
            sleep(CHECK_EVERY).await;
        }
    }
}

fn unopened(error: &SealError) -> String {
    let hint = match error {
        SealError::UnknownKey { .. } => {
            "; this node's cluster.seal_key is not the one that the cluster seals with: give it that one (an older one as \
             cluster.seal_key_old), and restart it"
        }
        SealError::Damaged { .. } | SealError::NoRandom(_) => "; set the provider's secret anew",
    };
    format!("what was agreed cannot be served at this node: {error}{hint}")
}

#[cfg(test)]
mod tests {
    use troupe_cluster::{Cluster, Keyring};

    use super::*;

    fn agreement() -> (Agreement, Arc<Freshness>) {
        let handle = Cluster::start_local(Keyring::ephemeral(crate::wiring::random()).unwrap());
        let freshness = Arc::new(Freshness::new(clock::now(), Some(Duration::from_secs(5))));
        (Agreement::new(handle, Arc::clone(&freshness), None), freshness)
    }

    #[tokio::test]
    async fn a_node_is_fresh_only_once_requests_read_what_was_agreed() {
        let (agreement, freshness) = agreement();
        let was_fresh = Mutex::new(Vec::new());
        let (told, mut rounds) = watch::channel(0);
        // Twice the state cannot be served; from the third time on it is.
        let publish = || {
            let mut was_fresh = was_fresh.lock().unwrap();
            was_fresh.push(freshness.age(clock::now()).is_some());
            told.send_replace(was_fresh.len());
            was_fresh.len() >= 3
        };

        let four = timeout(Duration::from_secs(10), rounds.wait_for(|rounds| *rounds >= 4));
        tokio::select! {
            () = agreement.keep_fresh(publish) => {}
            four = four => drop(four.expect("it asks again and again").unwrap()),
        }

        assert_eq!(*was_fresh.lock().unwrap(), [false, false, false, true]);
    }

    #[tokio::test]
    async fn a_check_whose_state_is_not_published_answers_nobody() {
        let (agreement, freshness) = agreement();
        agreement.checks.asked.fetch_add(1, Ordering::AcqRel);
        agreement.checks.wake.notify_one();
        let unseen = async {
            while agreement.checks.unseen.load(Ordering::Relaxed) == 0 {
                sleep(Duration::from_millis(2)).await;
            }
        };

        let unseen = timeout(Duration::from_secs(10), unseen);
        tokio::select! {
            () = agreement.answer_checks(|| false) => {}
            unseen = unseen => unseen.expect("the check ends"),
        }

        assert_eq!((*agreement.checks.answered.borrow(), freshness.age(clock::now())), (0, None));
    }
}
