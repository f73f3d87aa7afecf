//! Crews whose nodes know each other by certificates, and what operators do to them with the program itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Crew, Seat};
use crate::eventually::eventually;

/// What a run of the program came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Ran {
    /// What it printed, if all went well.
    ///
    /// # Panics
    /// When not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// What it said, if it ended like this.
    ///
    /// # Panics
    /// When not.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        self.err
    }
}

impl Crew {
    /// Starts `count` nodes with certificates of one authority that form a cluster, and waits until each is ready. The
    /// first one may sign for others.
    ///
    /// # Panics
    /// When they do not.
    pub async fn certified(program: &Path, count: usize) -> Self {
        let mut crew = Self::prepare(program, count);
        crew.authority("ca").await;
        for at in 0..count {
            let mut flags = crew.founding(at);
            if at == 0 {
                flags.push(format!("--cluster-tls-ca-key=file:{}", crew.path("ca/ca.key").display()));
            }
            flags.extend(crew.certificate("ca", &crew.nodes[at].name).await);
            crew.nodes[at].flags = Some(flags);
        }
        for at in 0..count {
            crew.run(at);
        }
        crew.all_ready().await;
        crew
    }

    /// What makes a node one of those that form the cluster.
    pub fn founding(&self, at: usize) -> Vec<String> {
        let mut flags = self.joining(at);
        flags.push(format!("--cluster-bootstrap-expect={}", self.nodes.len()));
        flags
    }

    /// What makes a node join the others.
    pub fn joining(&self, at: usize) -> Vec<String> {
        let others: Vec<String> = self.nodes.iter().map(|seat| seat.peer.to_string()).collect();
        vec![format!("--cluster-join={}", others.join(",")), format!("--cluster-advertise={}", self.nodes[at].peer)]
    }

    /// A seat more, whose node does not run yet.
    pub fn seat(&mut self) -> usize {
        self.nodes.push(Seat::new(self.dir.path(), self.nodes.len() + 1));
        self.nodes.len() - 1
    }

    /// A place among what all nodes write.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes an authority in a directory.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn authority(&self, dir: &str) {
        self.troupe(&["ca", "init", "--out", &self.path(dir).display().to_string()]).await.ok();
    }

    /// Issues a certificate, and gives the flags that name it.
    ///
    /// # Panics
    /// When it cannot be issued.
    pub async fn certificate(&self, authority: &str, name: &str) -> Vec<String> {
        let (ca, out) = (self.path(authority), self.path(&format!("{authority}-{name}")));
        let [from, to] = [&ca, &out].map(|path| path.display().to_string());
        self.troupe(&["cert", "issue", "--ca", &from, "--name", name, "--out", &to]).await.ok();
        vec![
            format!("--cluster-tls-ca=file:{}", ca.join("ca.crt").display()),
            format!("--cluster-tls-cert=file:{}", out.join("peer.crt").display()),
            format!("--cluster-tls-key=file:{}", out.join("peer.key").display()),
        ]
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// When it cannot be run.
    pub async fn troupe(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(&self.program);
        command.env_clear().args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs a command of the program that asks a node.
    ///
    /// # Panics
    /// When it cannot be run.
    pub async fn operate(&self, at: usize, arguments: &[&str]) -> Ran {
        let (url, token) = (format!("http://{}", self.nodes[at].admin), self.path("admin-token"));
        let access = ["--admin-url", &url, "--admin-token-file", &token.display().to_string()];
        self.troupe(&[arguments, &access].concat()).await
    }

    /// The members, as a node knows them.
    ///
    /// # Panics
    /// When it does not tell.
    pub async fn members(&self, at: usize) -> Vec<Value> {
        let told = self.operate(at, &["cluster", "members", "-o", "json"]).await.ok();
        let told: Value = serde_json::from_str(&told).unwrap();
        told["items"].as_array().unwrap().clone()
    }

    /// A field of a node's status.
    ///
    /// # Panics
    /// When it does not tell.
    pub async fn status(&self, at: usize, field: &str) -> Value {
        let told = self.operate(at, &["cluster", "status", "-o", "json"]).await.ok();
        let told: Value = serde_json::from_str(&told).unwrap();
        told[field].clone()
    }

    /// Waits until a node's process ends by itself, and gives its exit code.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub async fn ends(&mut self, at: usize) -> Option<i32> {
        let mut child = self.nodes[at].child.take().unwrap();
        let status = eventually("the node ends", || child.try_wait().unwrap()).await;
        status.code()
    }

    /// Removes all that a node keeps.
    ///
    /// # Panics
    /// When that cannot be removed.
    pub fn wipe(&self, at: usize) {
        std::fs::remove_dir_all(&self.nodes[at].dir).unwrap();
    }
}
