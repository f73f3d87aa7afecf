use clap::{Args, Subcommand};
use http::Method;

use super::access::Ask;
use super::print::Asking;
use super::{Exit, breaker, noun, switch};

#[derive(Subcommand)]
pub(super) enum Command {
    #[command(flatten)]
    Noun(noun::Command),
    /// Switches a provider off at all nodes: it gets no calls and no probes until it is enabled. Calls that it serves go
    /// on to their end.
    Disable(noun::Changed),
    /// Switches a provider on again: nothing is held against it.
    Enable(noun::Changed),
    /// Asks a provider with each of its keys, from the node that is asked: tells whether it answers, and how fast. Exits 6
    /// where a key is of no use.
    Test(Test),
}

#[derive(Args)]
pub(super) struct Test {
    /// Its name.
    name: String,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Noun(command) => noun::run(&noun::PROVIDERS, command),
        Command::Disable(args) => switch::run(args, "disable"),
        Command::Enable(args) => switch::run(args, "enable"),
        Command::Test(args) => {
            let ask = Ask::change(Method::POST, &["providers", &args.name, "test"], None);
            breaker::tested(&args.asking, &args.asking.access.ask(&ask)?)
        }
    }
}
