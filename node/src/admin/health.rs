//! Whether the process is up and takes traffic; one answer for the admin listener and the data listener.

use std::fmt::Write;
use std::sync::atomic::{AtomicU8, Ordering};

use http::StatusCode;

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

/// The process's health. Readiness does not depend on a quorum: a node serves from what it holds.
#[derive(Debug)]
pub struct Health(AtomicU8);

impl Health {
    /// A process that is starting.
    pub const fn new() -> Self {
        Self(AtomicU8::new(Phase::Starting as u8))
    }

    /// Says where the process is. A process that drains never serves again, whoever says so afterwards.
    pub fn set(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Where the process is.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
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
        let (status, word) = match phase {
            Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
            Phase::Serving => (StatusCode::OK, "ready"),
            Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        };
        let mut body = format!("{word}\n");
        if verbose {
            let checks = [
                ("process", true),
                ("spec and listeners", !matches!(phase, Phase::Starting)),
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

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_serving_process_is_ready() {
        let health = Health::new();
        assert_eq!(health.readyz(false), (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()));

        health.set(Phase::Serving);
        assert_eq!(health.readyz(false), (StatusCode::OK, "ready\n".to_owned()));

        health.set(Phase::Draining);
        health.set(Phase::Serving);
        let (status, body) = health.readyz(true);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, "draining\n[+] process\n[+] spec and listeners\n[-] not draining\n");
        assert_eq!(health.healthz().0, StatusCode::OK);
    }
}
