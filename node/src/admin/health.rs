//! Whether the process is up and takes traffic; one answer for the admin listener and the data listener.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::clock;
use crate::freshness::Freshness;
use crate::troubles::{Trouble, Troubles};

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It reads its files and opens its listeners.
    Starting,
    /// It takes traffic.
    Serving,
    /// It finishes what it has and asks for no more.
    Draining,
}

impl Phase {
    /// The word used for it in answers and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// One thing that `/readyz` looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The word used for it in metrics.
    pub name: &'static str,
    /// What is so while it is well.
    what: &'static str,
    /// Whether it is.
    pub is_well: bool,
    /// What the node says it is where it is not.
    otherwise: &'static str,
    /// Whether the node takes no traffic then.
    matters: bool,
    /// Why it is not, where more is known than that.
    why: Option<String>,
}

/// How long a node must have been full before it says so: an instant of it is no reason to send clients elsewhere.
const FULL_FOR: Duration = Duration::from_secs(1);

/// The process's health. Readiness does not depend on a quorum: a node serves from what it holds, until that is older
/// than its freshness bound (KEY-1), or until it is full, or is cut off from providers that another node reaches.
#[derive(Debug)]
pub struct Health {
    phase: AtomicU8,
    /// An operator took the node out of rotation.
    is_held: AtomicBool,
    freshness: Arc<Freshness>,
    load: Load,
    troubles: Troubles,
}

/// The requests of a node, how many it has room for, and since when it has had none.
#[derive(Debug)]
pub struct Load {
    in_flight: AtomicUsize,
    limit: usize,
    /// Milliseconds since 1970 when a request was first refused; 0 while there is room.
    full_since: AtomicU64,
}

impl Load {
    const fn new(limit: usize) -> Self {
        Self { in_flight: AtomicUsize::new(0), limit, full_since: AtomicU64::new(0) }
    }

    /// Takes a place among the requests in flight, if there is one; [`Load::leave`] gives it back.
    pub fn enter(&self) -> bool {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) < self.limit {
            return true;
        }
        self.leave();
        // Whoever says it first is right.
        self.full_since.compare_exchange(0, now_millis(), Ordering::Relaxed, Ordering::Relaxed).ok();
        false
    }

    /// Gives a place back.
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests being served now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether there has been no room for a while. Room is what is below nine tenths of the limit: at the limit itself
    /// one request that ends would call in the next wave.
    fn is_full(&self) -> bool {
        if self.in_flight() < self.limit.saturating_sub(self.limit / 10).max(1) {
            self.full_since.store(0, Ordering::Relaxed);
            return false;
        }
        match self.full_since.load(Ordering::Relaxed) {
            0 => false,
            since => u128::from(now_millis().saturating_sub(since)) >= FULL_FOR.as_millis(),
        }
    }
}

fn now_millis() -> u64 {
    u64::try_from(clock::unix_millis()).unwrap_or(0).max(1)
}

impl Health {
    /// A process that is starting, and has room for `in_flight_max` requests at once.
    pub fn new(freshness: Arc<Freshness>, in_flight_max: usize) -> Self {
        let (phase, is_held) = (AtomicU8::new(Phase::Starting as u8), AtomicBool::new(false));
        Self { phase, is_held, freshness, load: Load::new(in_flight_max), troubles: Troubles::default() }
    }

    /// What keeps it from doing all that it should.
    pub const fn troubles(&self) -> &Troubles {
        &self.troubles
    }

    /// Its requests.
    pub const fn load(&self) -> &Load {
        &self.load
    }

    /// Takes the process out of rotation, or puts it back.
    pub fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::Release);
    }

    /// Whether the process ends: nobody puts it back then.
    pub fn is_ending(&self) -> bool {
        self.phase.load(Ordering::Acquire) == Phase::Draining as u8
    }

    /// Says where the process is. A process that drains never serves again, whoever says so afterwards.
    pub fn set(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Where the process is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 if !self.is_held.load(Ordering::Acquire) => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// Whether a client does better to come anew, which brings it to another node: this one is cut off, or stale.
    pub fn sends_away(&self) -> bool {
        self.troubles.get(Trouble::CutOff).is_some() || !self.freshness.is_fresh(clock::now())
    }

    /// The answer to `/healthz`: the process is up, since it answers.
    pub const fn healthz(&self) -> (StatusCode, &'static str) {
        (StatusCode::OK, "ok\n")
    }

    /// All that is looked at, in the order in which it counts.
    pub fn checks(&self) -> [Check; 8] {
        let phase = self.phase();
        let check = |name, what, is_well, otherwise| Check { name, what, is_well, otherwise, matters: true, why: None };
        let told = |name, what, trouble| {
            let why = self.troubles.get(trouble);
            Check { why, matters: false, ..check(name, what, self.troubles.get(trouble).is_none(), "") }
        };
        let joined = told("reaches_providers", "reaches the providers that other nodes reach", Trouble::CutOff);
        let is_fresh = self.freshness.is_fresh(clock::now());
        [
            check("process", "process", true, ""),
            check("started", "spec and listeners", !matches!(phase, Phase::Starting), "starting"),
            check("fresh", "in touch with the other nodes", is_fresh, "stale"),
            check("room", "room for requests", !self.load.is_full(), "full"),
            Check { matters: true, otherwise: "cut_off", ..joined },
            told("takes_part", "takes part in agreement", Trouble::Stopped),
            told("serves_agreed", "serves all that was agreed", Trouble::Unserved),
            check("in_rotation", "not draining", !matches!(phase, Phase::Draining), "draining"),
        ]
    }

    /// The answer to `/readyz`: 200 while traffic is welcome, else 503 and why. `verbose` lists what was looked at.
    pub fn readyz(&self, verbose: bool) -> (StatusCode, String) {
        let (phase, checks) = (self.phase(), self.checks());
        let failed = checks.iter().find(|check| check.matters && !check.is_well);
        let (status, word) = match (phase, failed) {
            (Phase::Starting, _) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
            (Phase::Draining, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            (Phase::Serving, Some(check)) => (StatusCode::SERVICE_UNAVAILABLE, check.otherwise),
            (Phase::Serving, None) => (StatusCode::OK, "ready"),
        };
        let mut body = format!("{word}\n");
        if verbose {
            for Check { what, is_well, why, .. } in checks {
                // Writing to a String cannot fail.
                write!(body, "[{}] {what}", if is_well { '+' } else { '-' }).ok();
                body.push_str(&why.map(|why| format!(": {why}\n")).unwrap_or_else(|| "\n".to_owned()));
            }
        }
        (status, body)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_process_that_is_out_of_touch_is_not_ready() {
        let freshness = Arc::new(Freshness::new(clock::now(), Some(Duration::from_secs(60))));
        let health = Health::new(freshness.clone(), 1);
        health.set(Phase::Serving);
        assert_eq!(health.readyz(false), (StatusCode::SERVICE_UNAVAILABLE, "stale\n".to_owned()));

        freshness.confirm(clock::now());

        assert_eq!(health.readyz(false).0, StatusCode::OK);
    }

    #[test]
    fn only_a_serving_process_is_ready() {
        let health = Health::new(Arc::new(Freshness::new(clock::now(), None)), 1);
        assert_eq!(health.readyz(false), (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()));

        health.set(Phase::Serving);
        assert_eq!(health.readyz(false), (StatusCode::OK, "ready\n".to_owned()));

        health.set(Phase::Draining);
        health.set(Phase::Serving);
        let (status, body) = health.readyz(true);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            body,
            "draining\n[+] process\n[+] spec and listeners\n[+] in touch with the other nodes\n[+] room for requests\n\
             [+] reaches the providers that other nodes reach\n[+] takes part in agreement\n[+] serves all that was agreed\n[-] not draining\n"
        );
        assert_eq!(health.healthz().0, StatusCode::OK);
    }

    #[test]
    fn a_node_whose_consensus_stopped_is_ready_while_it_is_fresh_and_says_so() {
        let freshness = Arc::new(Freshness::new(clock::now(), Some(Duration::from_secs(60))));
        let health = Health::new(freshness.clone(), 1);
        health.set(Phase::Serving);
        freshness.confirm(clock::now());

        health.troubles().set(Trouble::Stopped, Some("no space left".to_owned()), clock::now());

        let (status, body) = health.readyz(true);
        assert_eq!(status, StatusCode::OK);
        assert!(body.starts_with("ready\n") && body.contains("[-] takes part in agreement: no space left\n"), "{body}");
    }

    #[test]
    fn a_node_that_is_cut_off_from_its_providers_is_not_ready_and_says_why() {
        let health = Health::new(Arc::new(Freshness::new(clock::now(), None)), 1);
        health.set(Phase::Serving);
        health.troubles().set(Trouble::CutOff, Some("nobody answers".to_owned()), clock::now());

        let (status, body) = health.readyz(true);
        assert_eq!((status, health.readyz(false).1.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "cut_off\n"));
        assert!(body.contains("[-] reaches the providers that other nodes reach: nobody answers\n"), "{body}");
        assert!(health.sends_away());

        health.troubles().set(Trouble::CutOff, None, clock::now());
        assert_eq!((health.readyz(false).0, health.sends_away()), (StatusCode::OK, false));
    }

    #[test]
    fn a_node_that_stays_full_is_not_ready_until_it_has_room() {
        let health = Health::new(Arc::new(Freshness::new(clock::now(), None)), 20);
        health.set(Phase::Serving);
        let room = |count: usize| (0..count).filter(|_| health.load().enter()).count();
        assert_eq!(room(21), 20);
        assert_eq!(health.readyz(false).0, StatusCode::OK, "an instant is no reason");

        health.load().full_since.store(now_millis() - 2000, Ordering::Relaxed);
        health.load().leave();
        assert_eq!(health.readyz(false), (StatusCode::SERVICE_UNAVAILABLE, "full\n".to_owned()));

        (0..2).for_each(|_| health.load().leave());
        assert_eq!(health.readyz(false).0, StatusCode::OK);
    }
}
