//! Children under test: started, waited for, measured, and ended with us.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::clock;

pub mod pin;
mod tree;

use pin::Pin;

/// How long a child may take until it answers, unless it says otherwise.
pub const START_MAX: Duration = Duration::from_secs(20);
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

/// How a child is started.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Its name in errors and of its log.
    pub name: &'a str,
    /// What is run.
    pub program: &'a Path,
    /// With these arguments.
    pub args: &'a [String],
    /// And these variables on top of ours.
    pub vars: &'a [(String, String)],
    /// Where its log goes.
    pub dir: &'a Path,
    /// The processor it is bound to; none lets it run anywhere.
    pub pin: Option<&'a Pin>,
}

/// A child process and all that it starts; dropping it kills them.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// When it was started.
    pub started: Instant,
}

impl Process {
    /// Starts a program with its output in a file.
    ///
    /// # Errors
    /// [`ProcessError::Spawn`] or [`ProcessError::Prepare`]; nothing runs then.
    pub fn start(start: &Start<'_>) -> Result<Self, ProcessError> {
        let log = start.dir.join(format!("{}.log", start.name));
        let out = File::create(&log).map_err(ProcessError::Prepare)?;
        let err = out.try_clone().map_err(ProcessError::Prepare)?;
        let mut command = Command::new(start.program);
        command
            .args(start.args)
            .envs(start.vars.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // A group of its own, so that its children end with it.
            .process_group(0);
        let started = clock::now();
        let child = match start.pin {
            Some(pin) => pin.for_gateway(|| command.spawn()).map_err(ProcessError::Prepare)?,
            None => command.spawn(),
        };
        let child = child.map_err(|source| ProcessError::Spawn { program: start.program.to_owned(), source })?;
        Ok(Self { name: start.name.to_owned(), child, log, started })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the child takes a connection; with a path, until a GET of it answers 200.
    ///
    /// # Errors
    /// [`ProcessError::NotReady`] when it ends first, or its time is over.
    pub async fn ready(&mut self, addr: SocketAddr, path: Option<&str>, max: Duration) -> Result<(), ProcessError> {
        let deadline = clock::now() + max;
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

    /// Waits until the child has ended well.
    ///
    /// # Errors
    /// [`ProcessError::NotReady`] when it fails, or its time is over.
    pub async fn succeeded(&mut self, max: Duration) -> Result<(), ProcessError> {
        let deadline = clock::now() + max;
        loop {
            match self.child.try_wait().map_err(ProcessError::Prepare)? {
                Some(status) if status.success() => return Ok(()),
                Some(_) => return Err(self.not_ready("failed")),
                None if clock::now() > deadline => return Err(self.not_ready("does not end")),
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Makes an error of this child with the end of its log.
    pub fn not_ready(&self, what: &str) -> ProcessError {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(LOG_TAIL)..).unwrap_or_default();
        let log = String::from_utf8_lossy(tail).trim().to_owned();
        ProcessError::NotReady { name: self.name.clone(), what: what.to_owned(), log }
    }

    /// Gives the CPU time the child and its children used so far, in user and system mode.
    ///
    /// # Errors
    /// [`ProcessError::Proc`] when the child is gone.
    pub fn cpu(&self) -> Result<Duration, ProcessError> {
        self.usage().map(|usage| usage.cpu)
    }

    /// Gives the memory the child and its children hold, in KiB; pages they share count for each.
    ///
    /// # Errors
    /// [`ProcessError::Proc`] when the child is gone.
    pub fn rss_kib(&self) -> Result<u64, ProcessError> {
        self.usage().map(|usage| usage.rss_kib)
    }

    fn usage(&self) -> Result<tree::Usage, ProcessError> {
        tree::usage(self.pid()).ok_or_else(|| ProcessError::Proc { path: format!("/proc/{}", self.pid()) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A child that is gone already is as good as a killed one. The group is ours: it was made with the child, which
        // has not been waited for, so its number is nobody else's.
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
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

    fn sh(script: &str, dir: &Path) -> Process {
        let args = ["-c".to_owned(), script.to_owned()];
        let program = Path::new("/bin/sh");
        Process::start(&Start { name: "sh", program, args: &args, vars: &[], dir, pin: None }).unwrap()
    }

    #[tokio::test]
    async fn a_child_that_ends_is_told_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = sh("echo no such flag >&2; exit 2", dir.path());

        let error = child.ready(free_addr().unwrap(), None, START_MAX).await.unwrap_err();

        assert!(error.to_string().contains("no such flag"), "{error}");
    }

    #[tokio::test]
    async fn a_child_that_is_to_end_is_waited_for_and_its_failure_told() {
        let dir = tempfile::tempdir().unwrap();

        sh("exit 0", dir.path()).succeeded(START_MAX).await.unwrap();
        let error = sh("echo no such file >&2; exit 1", dir.path()).succeeded(START_MAX).await.unwrap_err();

        assert!(error.to_string().contains("failed") && error.to_string().contains("no such file"), "{error}");
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = clock::now() + Duration::from_secs(10);
        while !holds() {
            assert!(clock::now() < deadline, "never: {what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_a_child_starts_counts_with_it_and_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let child = sh("sh -c 'echo $$; while :; do :; done' & wait", dir.path());

        until("CPU of the grandchild", || child.cpu().unwrap() >= Duration::from_millis(50));
        assert!(child.rss_kib().unwrap() > 0);
        let grandchild = std::fs::read_to_string(dir.path().join("sh.log")).unwrap();
        let stat = format!("/proc/{}/stat", grandchild.trim());
        assert!(Path::new(&stat).exists(), "{stat}");

        drop(child);
        // It may stay in the table until someone waits for it, but it runs no more.
        until("the grandchild's end", || {
            std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z ") || text.contains(") X "))
        });
    }
}
