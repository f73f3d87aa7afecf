//! Whether the process is up and takes traffic; one answer for the admin listener and the data listener.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::StatusCode;

use crate::clock;
use crate::freshness::Freshness;

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

/// The process's health. Readiness does not depend on a quorum: a node serves from what it holds, until that is older
/// than its freshness bound (KEY-1).
#[derive(Debug)]
pub struct Health {
    phase: AtomicU8,
    freshness: Arc<Freshness>,
}

impl Health {
    /// A process that is starting.
    pub const fn new(freshness: Arc<Freshness>) -> Self {
        Self { phase: AtomicU8::new(Phase::Starting as u8), freshness }
    }

    /// Says where the process is. A process that drains never serves again, whoever says so afterwards.
    pub fn set(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Where the process is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// The answer to `/healthz`: the process is up, since it answers.
    pub const fn healthz(&self) -> (StatusCode, &'static str) {
        (StatusCode::OK, "ok\n")
    }

    /// The answer to `/readyz`: 200 while traffic is welcome, else 503 and why. `verbose` lists what was looked at.
    pub fn readyz(&self, verbose: bool) -> (StatusCode, String) {
        let phase = self.phase();
        let is_fresh = self.freshness.is_fresh(clock::now());
        let (status, word) = match phase {
            Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
            Phase::Serving if is_fresh => (StatusCode::OK, "ready"),
            Phase::Serving => (StatusCode::SERVICE_UNAVAILABLE, "stale"),
            Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        };
        let mut body = format!("{word}\n");
        if verbose {
            let checks = [
                ("process", true),
                ("spec and listeners", !matches!(phase, Phase::Starting)),
                ("in touch with the other nodes", is_fresh),
                ("not draining", !matches!(phase, Phase::Draining)),
            ];
            for (name, is_well) in checks {
                // Writing to a String cannot fail.
                writeln!(body, "[{}] {name}", if is_well { '+' } else { '-' }).ok();
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
        let health = Health::new(freshness.clone());
        health.set(Phase::Serving);
        assert_eq!(health.readyz(false), (StatusCode::SERVICE_UNAVAILABLE, "stale\n".to_owned()));

        freshness.confirm(clock::now());

        assert_eq!(health.readyz(false).0, StatusCode::OK);
    }

    #[test]
    fn only_a_serving_process_is_ready() {
        let health = Health::new(Arc::new(Freshness::new(clock::now(), None)));
        assert_eq!(health.readyz(false), (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()));

        health.set(Phase::Serving);
        assert_eq!(health.readyz(false), (StatusCode::OK, "ready\n".to_owned()));

        health.set(Phase::Draining);
        health.set(Phase::Serving);
        let (status, body) = health.readyz(true);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            body,
            "draining\n[+] process\n[+] spec and listeners\n[+] in touch with the other nodes\n[-] not draining\n"
        );
        assert_eq!(health.healthz().0, StatusCode::OK);
    }
}
