//! Children under test: started, waited for, measured, and ended with us.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::clock;

/// How long a child may take until it answers.
const START_MAX: Duration = Duration::from_secs(20);
/// Between two looks at a child that is starting; it bounds the error of the start time.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Bytes of a dead child's log that an error shows.
const LOG_TAIL: usize = 2000;

/// Why a child could not be started or measured.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program cannot be run.
    #[error("cannot start {program}")]
    Spawn {
        /// Its path.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The program ran but never answered, or ended.
    #[error("{name} {what}; its log ends:\n{log}")]
    NotReady {
        /// Which child.
        name: String,
        /// What it did instead.
        what: String,
        /// The end of its output.
        log: String,
    },
    /// `/proc` does not tell what is asked of it.
    #[error("cannot read {path}")]
    Proc {
        /// The file.
        path: String,
    },
    /// Files or ports for the child cannot be had.
    #[error("cannot prepare a child")]
    Prepare(#[source] io::Error),
}

/// A child process; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// When it was started.
    pub started: Instant,
}

impl Process {
    /// Starts `program` with its output in a file under `dir`.
    ///
    /// # Errors
    /// [`ProcessError::Spawn`] or [`ProcessError::Prepare`]; nothing runs then.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: &[A],
        vars: &[(&str, &str)],
        dir: &Path,
    ) -> Result<Self, ProcessError> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).map_err(ProcessError::Prepare)?;
        let err = out.try_clone().map_err(ProcessError::Prepare)?;
        let started = clock::now();
        let child = Command::new(program)
            .args(args)
            .envs(vars.iter().copied())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|source| ProcessError::Spawn { program: program.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), child, log, started })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the child takes a connection; with a path, until a GET of it answers 200.
    ///
    /// # Errors
    /// [`ProcessError::NotReady`] when it ends first, or after 20 seconds.
    pub async fn ready(&mut self, addr: SocketAddr, path: Option<&str>) -> Result<(), ProcessError> {
        let deadline = clock::now() + START_MAX;
        loop {
            if self.child.try_wait().map_err(ProcessError::Prepare)?.is_some() {
                return Err(self.not_ready("ended"));
            }
            let answers = match path {
                None => TcpStream::connect(addr).await.is_ok(),
                Some(path) => get(addr, path).await.is_ok_and(|status| status == StatusCode::OK),
            };
            if answers {
                return Ok(());
            }
            if clock::now() > deadline {
                return Err(self.not_ready("does not answer"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Makes an error of this child with the end of its log.
    pub fn not_ready(&self, what: &str) -> ProcessError {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(LOG_TAIL)..).unwrap_or_default();
        let log = String::from_utf8_lossy(tail).trim().to_owned();
        ProcessError::NotReady { name: self.name.clone(), what: what.to_owned(), log }
    }

    /// Gives the CPU time the child used so far, in user and system mode.
    ///
    /// # Errors
    /// [`ProcessError::Proc`] when the child is gone.
    pub fn cpu(&self) -> Result<Duration, ProcessError> {
        let path = format!("/proc/{}/stat", self.pid());
        let text = std::fs::read_to_string(&path).ok();
        let ticks = text.as_deref().and_then(ticks_of_stat);
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let spent = ticks.map(|ticks| Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second)));
        spent.ok_or(ProcessError::Proc { path })
    }

    /// Gives the memory the child holds, in KiB.
    ///
    /// # Errors
    /// [`ProcessError::Proc`] when the child is gone.
    pub fn rss_kib(&self) -> Result<u64, ProcessError> {
        let path = format!("/proc/{}/status", self.pid());
        let text = std::fs::read_to_string(&path).ok();
        text.as_deref().and_then(rss_of_status).ok_or(ProcessError::Proc { path })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A child that is gone already is as good as a killed one.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sums utime and stime; the name before them may hold spaces and brackets.
fn ticks_of_stat(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn rss_of_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Finds a free port of loopback. Another process may take it first; the child then says so.
///
/// # Errors
/// [`ProcessError::Prepare`] when none can be bound.
pub fn free_addr() -> Result<SocketAddr, ProcessError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map_err(ProcessError::Prepare)
}

/// Gives the path of a program that lies beside the running one.
///
/// # Errors
/// [`ProcessError::Prepare`] when the system does not say where we are.
pub fn sibling(name: &str) -> Result<PathBuf, ProcessError> {
    std::env::current_exe().map(|own| own.with_file_name(name)).map_err(ProcessError::Prepare)
}

async fn get(addr: SocketAddr, path: &str) -> io::Result<StatusCode> {
    let socket = TcpStream::connect(addr).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(socket));
    let (mut sender, connection) = handshake.await.map_err(io::Error::other)?;
    tokio::spawn(async move { drop(connection.await) });
    let request = http::Request::get(path).header(http::header::HOST, addr.to_string());
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status();
    response.into_body().collect().await.map_err(io::Error::other)?;
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_found_behind_any_process_name() {
        let stat = "42 (a) b (c) S 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 10";

        assert_eq!(ticks_of_stat(stat), Some(300));
        assert_eq!(ticks_of_stat("42 (cut"), None);
    }

    #[test]
    fn memory_is_read_from_its_line() {
        assert_eq!(rss_of_status("Name:\tx\nVmRSS:\t   2048 kB\nVmData: 1 kB\n"), Some(2048));
        assert_eq!(rss_of_status("Name:\tx\n"), None);
    }

    #[tokio::test]
    async fn a_child_that_ends_is_told_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let args = ["-c", "echo no such flag >&2; exit 2"];
        let mut child = Process::start("sh", Path::new("/bin/sh"), &args, &[], dir.path()).unwrap();

        let error = child.ready(free_addr().unwrap(), None).await.unwrap_err();

        assert!(error.to_string().contains("no such flag"), "{error}");
    }

    #[test]
    fn a_busy_child_is_seen_to_use_cpu_and_memory() {
        let dir = tempfile::tempdir().unwrap();
        let args = ["-c", "while :; do :; done"];
        let child = Process::start("busy", Path::new("/bin/sh"), &args, &[], dir.path()).unwrap();

        let deadline = clock::now() + Duration::from_secs(10);
        while child.cpu().unwrap() < Duration::from_millis(50) {
            assert!(clock::now() < deadline, "no CPU seen");
            std::thread::yield_now();
        }

        assert!(child.rss_kib().unwrap() > 0);
    }
}
