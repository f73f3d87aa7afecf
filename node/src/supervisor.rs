//! What the process tells whoever started it, in systemd's way: a datagram to the socket that `NOTIFY_SOCKET` names.
//!
//! Without that variable nothing is told, and nothing costs anything.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::config::variable;

/// Who started the process, if they want to hear from it.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    socket: Option<Arc<UnixDatagram>>,
    /// How long they wait for a sign of life.
    patience: Option<Duration>,
}

impl Supervisor {
    /// That of this process.
    pub fn of_process() -> Self {
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let patience = variable("WATCHDOG_USEC").filter(|_| is_ours).and_then(|text| text.parse().ok());
        Self::at(variable("NOTIFY_SOCKET").as_deref(), patience.map(Duration::from_micros))
    }

    /// The one that listens at `address`: a path, or a name behind an `@`.
    pub fn at(address: Option<&str>, patience: Option<Duration>) -> Self {
        let Some(address) = address else { return Self::default() };
        match connect(address) {
            Ok(socket) => Self { socket: Some(Arc::new(socket)), patience },
            Err(error) => {
                tracing::warn!(%error, address, "whoever started this process cannot be told how it does");
                Self::default()
            }
        }
    }

    /// Says that the node serves.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// Says that the node stops, which takes at most that long.
    pub fn stopping(&self, at_most: Duration) {
        self.tell(&format!("STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC={}", at_most.as_micros()));
    }

    /// Gives signs of life for as long as it is polled: twice as often as they are wanted. Where the runtime that polls
    /// it stands still, it falls silent, and the process is started anew.
    pub async fn live(&self) {
        let Some(patience) = self.patience.filter(|_| self.socket.is_some()) else {
            return std::future::pending().await;
        };
        loop {
            self.tell("WATCHDOG=1");
            tokio::time::sleep(patience / 2).await;
        }
    }

    fn tell(&self, text: &str) {
        // It must not wait: what supervises may be what stands still.
        if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(text.as_bytes())) {
            tracing::debug!(%error, "whoever started this process does not listen");
        }
    }
}

fn connect(address: &str) -> io::Result<UnixDatagram> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_started_it_hears_that_it_serves_lives_and_stops() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut words = [0; 256];
        let mut next = || {
            let bytes = heard.recv(&mut words).unwrap();
            String::from_utf8(words[..bytes].to_vec()).unwrap()
        };
        let supervisor = Supervisor::at(path.to_str(), Some(Duration::from_millis(20)));

        supervisor.ready();
        assert_eq!(next(), "READY=1\nSTATUS=serving");

        tokio::time::timeout(Duration::from_millis(100), supervisor.live()).await.unwrap_err();
        assert_eq!((next(), next()), ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned()));

        supervisor.stopping(Duration::from_secs(65));
        let last = std::iter::from_fn(|| Some(next())).find(|text| text != "WATCHDOG=1").unwrap();
        assert_eq!(last, "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=65000000");
    }

    #[test]
    fn a_name_without_a_file_is_reached_too_and_nobody_is_no_fault() {
        let name = format!("troupe-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let heard = UnixDatagram::bind_addr(&address).unwrap();
        let mut words = [0; 64];

        Supervisor::at(Some(&format!("@{name}")), None).ready();
        Supervisor::at(None, None).ready();
        Supervisor::at(Some("/nowhere/at/all"), None).ready();

        assert!(heard.recv(&mut words).is_ok());
    }
}
