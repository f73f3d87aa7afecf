//! The command line.

mod access;
mod apply;
mod audit;
mod breaker;
mod ca;
mod cluster;
mod config;
mod debug;
mod dev;
mod dev_cluster;
mod doctor;
mod fleet;
mod key;
mod manual;
mod node;
mod noun;
mod output;
mod page;
mod planned;
mod print;
mod provider;
mod rollback;
mod rolling;
mod route;
mod serve;
mod snapshot;
mod switch;
mod token;
mod top;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::Flags;
use crate::telemetry;

/// What the log may take to write its last lines.
const LOG_FLUSH: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(
    name = "troupe",
    version,
    about = "An LLM gateway: one binary between programs and model providers",
    propagate_version = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a gateway node.
    Serve(Box<Flags>),
    /// Runs a node with a simulated provider and a sample key: nothing to configure.
    Dev(Box<dev::Dev>),
    /// Works on configuration files.
    #[command(subcommand)]
    Config(config::Command),
    /// Puts what a spec file says in force, all of it or nothing. Shows what changes first.
    Apply(apply::Apply),
    /// Shows what a spec file would change.
    Diff(apply::Diff),
    /// Prints the spec in force, as `apply` takes it. Secrets are left out.
    Export(apply::Export),
    /// Works on virtual keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Works on providers.
    #[command(subcommand)]
    Provider(provider::Command),
    /// Works on breakers: which targets rest, and an end to it.
    #[command(subcommand)]
    Breaker(breaker::Command),
    /// Works on models.
    #[command(subcommand)]
    Model(noun::Command),
    /// Works on the cluster: its nodes, who leads, who may join.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Works on one node: takes it out of its balancers' rotation, and puts it back.
    #[command(subcommand)]
    Node(node::Command),
    /// Works on the tokens of operators.
    #[command(subcommand)]
    Token(token::Command),
    /// Shows who changed what, when and why; what changed between two entries; and what the spec was behind one.
    Audit(Box<audit::Audit>),
    /// Goes back to the spec behind an earlier entry of the audit, all of it or nothing. Shows what changes first.
    Rollback(rollback::Rollback),
    /// Saves all that is agreed to a file, and makes a cluster of such a file.
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Asks a running node about its routes.
    #[command(subcommand)]
    Route(route::Command),
    /// Looks at a node's machine (disk, certificates, ports, clock) and its way to the other nodes, and says what to do
    /// about what is wrong. It takes what `serve` takes. Exits with 6 when something is bad.
    Doctor(Box<doctor::Doctor>),
    /// Shows nodes, models and targets, live.
    Top(top::Top),
    /// Gathers what a report of a fault needs.
    #[command(subcommand)]
    Debug(debug::Command),
    /// Prints what makes a shell complete commands: `source <(troupe completion bash)`.
    Completion(manual::Completion),
    /// Prints the manual: `troupe man | man -l -` for all of it, `troupe man cluster status | man -l -` for a command.
    Man(manual::Man),
    /// Makes the certificate authority of a cluster.
    #[command(subcommand)]
    Ca(ca::Ca),
    /// Issues and shows certificates of nodes.
    #[command(subcommand)]
    Cert(ca::Cert),
}

/// What a command came to; the numbers are a contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Unreachable = 5,
    Unhealthy = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Ok => Self::from(0),
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::NotFound => Self::from(3),
            Exit::Conflict => Self::from(4),
            Exit::Unreachable => Self::from(5),
            Exit::Unhealthy => Self::from(6),
        }
    }
}

/// Parses the command line, does what it says, and answers with the exit code: 0 done, 1 failed, 2 not understood, 3 not
/// found, 4 in conflict with what is in force, 5 no node or no quorum reached, 6 unhealthy.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Dev(flags) => dev::run(*flags),
        Command::Config(command) => config::run(&command),
        Command::Apply(args) => apply::apply(&args),
        Command::Diff(args) => apply::diff(&args),
        Command::Export(args) => apply::export(&args),
        Command::Key(command) => key::run(&command),
        Command::Provider(command) => provider::run(&command),
        Command::Breaker(command) => breaker::run(&command),
        Command::Model(command) => noun::run(&noun::MODELS, &command),
        Command::Cluster(command) => cluster::run(&command),
        Command::Node(command) => node::run(&command),
        Command::Token(command) => token::run(&command),
        Command::Audit(args) => audit::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Snapshot(command) => snapshot::run(&command),
        Command::Route(command) => route::run(&command),
        Command::Doctor(args) => doctor::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Debug(command) => debug::run(&command),
        Command::Completion(args) => Ok(manual::completion(&args)),
        Command::Man(args) => manual::man(&args),
        Command::Ca(command) => ca::run(&command),
        Command::Cert(command) => ca::run_cert(&command),
    };
    telemetry::log::flush(LOG_FLUSH);
    match result {
        Ok(Exit::Ok) if IS_CUT.load(Ordering::Relaxed) => Exit::Failed.into(),
        Ok(exit) => exit.into(),
        Err(error) => {
            say(&mut std::io::stderr().lock(), &format!("error: {}\n", told(&error)));
            exit_of(&error).into()
        }
    }
}

/// What an error comes to. What the command line says, and what a file says that it names, is to be understood.
fn exit_of(error: &anyhow::Error) -> Exit {
    match (error.downcast_ref::<access::AdminError>(), error.downcast_ref::<crate::config::ConfigError>()) {
        (Some(error), _) => error.exit(),
        (None, Some(_)) => Exit::Usage,
        (None, None) => Exit::Failed,
    }
}

/// An error and its causes, but for those whose words an outer one has taken over.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text.push_str(&format!("{separator}{cause}"));
        }
    }
    text
}

/// Whether some of the output is lost: what was done was done, but whoever reads a file of it must not take it for whole.
static IS_CUT: AtomicBool = AtomicBool::new(false);

/// Writes to a terminal, pipe or file. A pipe that is closed has nobody left to tell.
fn say(out: &mut impl Write, text: &str) {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => tracing::debug!(%error, "output was not taken"),
        Err(error) => {
            IS_CUT.store(true, Ordering::Relaxed);
            // If this cannot be written either, the exit code says it.
            drop(writeln!(std::io::stderr().lock(), "error: the output could not be written: {error}"));
        }
    }
}
