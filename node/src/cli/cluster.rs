use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;
use troupe_cluster::backup;

use super::access::Ask;
use super::key::span;
use super::output::{Output, table};
use super::print::{Asking, Changing, items, talk, text};
use super::{Exit, rolling, snapshot};
use crate::config::boot::CERTIFICATE_FILE;

/// The longest silence of a quorum that counts as healthy, in milliseconds: a change of leaders takes less.
pub(super) const CONFIRMED_MS: u64 = 3000;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Shows how a node takes part in its cluster.
    Status(Status),
    /// Lists the nodes.
    Members(Asking),
    /// Shows what each node can read, what of it is in force, and who holds the rest back: while a cluster is upgraded,
    /// what is new waits for the last node.
    Features(Asking),
    /// Makes a token that one node can join with, once, and prints it this once.
    Token(Token),
    /// Lists join tokens.
    Tokens(Asking),
    /// Takes a join token away.
    RevokeToken(Named),
    /// Gives nodes a vote: one, three or five nodes have one.
    Promote(Several),
    /// Takes the votes of nodes; they stay.
    Demote(Several),
    /// Gives the vote of one node to another in one step, and takes the first out: for a node that is lost.
    Replace(Replace),
    /// Takes a node out for ever.
    Remove(Named),
    /// Has another node lead.
    TransferLeader(Named),
    /// Restarts the nodes one after another: each drains and exits, its supervisor starts it, and the next one's turn
    /// comes when all are well. Whoever leads comes last. Exits with 6 when a node is not well.
    RollingRestart(rolling::RollingRestart),
    /// Takes the node that is asked out for ever, and has it stop. If it has a vote, a learner gets it.
    Leave(Leave),
    /// Makes a cluster of one of a node that does not run: for when a majority is lost for good. Changes that only the
    /// lost nodes had are lost with them; what comes of it is a new cluster, and the old one's nodes are refused.
    Recover(Recover),
    /// Has all secrets of providers sealed again under the key in force.
    Reseal(Changing),
}

#[derive(Args)]
pub(super) struct Status {
    /// Exits with 6 when the node has a problem, no leader, or has not heard from a majority, and when another voter is dead.
    #[arg(long)]
    check: bool,
    /// A voter that may be dead, by its name or id: one that is being repaired. May be given again.
    #[arg(long, value_name = "NODE", requires = "check")]
    tolerate: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
pub(super) struct Token {
    /// How long it works.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = span)]
    expires_in: String,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Args)]
pub(super) struct Named {
    /// A node by its name or id, or a token by its name.
    name: String,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Args)]
pub(super) struct Several {
    /// Nodes by name or id.
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Args)]
pub(super) struct Replace {
    /// The node that loses its vote, by name or id.
    old: String,
    /// The node that gets it.
    #[arg(long, value_name = "NODE")]
    by: String,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Args)]
pub(super) struct Leave {
    /// Who gets its vote; the first learner unless given.
    #[arg(long, value_name = "NODE")]
    by: Option<String>,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Args)]
pub(super) struct Recover {
    /// The data directory of the node.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Do it: no other node of the old cluster will ever run again.
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Status(args) => status(args),
        Command::Members(asking) => {
            asking.print(&asking.access.ask(&Ask::get(&["cluster", "members"]))?, human_members)
        }
        Command::Features(asking) => {
            asking.print(&asking.access.ask(&Ask::get(&["cluster", "features"]))?, human_features)
        }
        Command::Token(args) => token(args),
        Command::Tokens(asking) => asking.print(&asking.access.ask(&Ask::get(&["join-tokens"]))?, human_tokens),
        Command::RevokeToken(args) => {
            let ask = change(Method::DELETE, &["join-tokens", &args.name], &args.changing);
            let document = args.changing.asking.access.ask(&ask)?;
            args.changing.asking.print(&document, |_| format!("{} is gone\n", args.name))
        }
        Command::Promote(args) => several("promote", args),
        Command::Demote(args) => several("demote", args),
        Command::Replace(args) => {
            let path = ["cluster", "members", &args.old, "replace"];
            print_members(&change(Method::POST, &path, &args.changing).query("by", &args.by), &args.changing)
        }
        Command::Remove(args) => {
            let path = ["cluster", "members", &args.name, "remove"];
            print_members(&change(Method::POST, &path, &args.changing), &args.changing)
        }
        Command::TransferLeader(args) => {
            let path = ["cluster", "transfer-leader"];
            print_members(&change(Method::POST, &path, &args.changing).query("to", &args.name), &args.changing)
        }
        Command::RollingRestart(args) => rolling::run(args),
        Command::Leave(args) => leave(args),
        Command::Recover(args) => recover(args),
        Command::Reseal(changing) => {
            let document = changing.asking.access.ask(&change(Method::POST, &["cluster", "reseal"], changing))?;
            let count = text(&document, "resealed");
            changing.asking.print(&document, |_| format!("{count} secrets are sealed again\n"))
        }
    }
}

fn leave(args: &Leave) -> anyhow::Result<Exit> {
    let ask = change(Method::POST, &["cluster", "leave"], &args.changing);
    let ask = match &args.by {
        Some(by) => ask.query("by", by),
        None => ask,
    };
    let exit = print_members(&ask, &args.changing)?;
    talk("the node left and stops; its data directory is of no more use");
    Ok(exit)
}

fn recover(args: &Recover) -> anyhow::Result<Exit> {
    if !args.yes {
        talk(
            "this makes a new cluster of what this one node has. Do it only if a majority is lost for good: the other \
             nodes must join anew. Say --yes if that is so",
        );
        return Ok(Exit::Usage);
    }
    let new = snapshot::new_cluster("recover")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = runtime.block_on(backup::recover(&args.data_dir, &new))?;
    talk(&format!(
        "cluster {} has one node, {}; what was there before is in {}\nstart it as before; other nodes join with an \
         empty data directory",
        new.cluster,
        new.node,
        before.display()
    ));
    if args.data_dir.join(CERTIFICATE_FILE).exists() {
        talk(
            "its certificate came with a join token and counts in the old cluster only: give it one of `troupe cert issue`",
        );
    }
    Ok(Exit::Ok)
}

fn change<'a>(method: Method, path: &[&str], changing: &'a Changing) -> Ask<'a> {
    Ask::change(method, path, changing.reason.as_deref())
}

fn status(args: &Status) -> anyhow::Result<Exit> {
    let document = args.asking.access.ask(&Ask::get(&["cluster"]))?;
    let is_confirmed = document.get("confirmed_ms").and_then(Value::as_u64).is_some_and(|ms| ms <= CONFIRMED_MS);
    let problems = problems(&document);
    let takes_part = is_confirmed && document.get("leader").is_some_and(Value::is_string);
    let missed = missed(&document, &args.tolerate);
    let exit = args.asking.print(&document, human_status)?;
    if !args.check || (takes_part && problems.is_empty() && missed.is_empty()) {
        return Ok(exit);
    }
    if !takes_part && problems.is_empty() {
        talk("this node has no leader, or has not heard from a majority");
    }
    missed.iter().for_each(|voter| talk(voter));
    Ok(Exit::Unhealthy)
}

/// The voters that are dead, as people read it, but those that may be.
fn missed(document: &Value, tolerated: &[String]) -> Vec<String> {
    let lost = document.get("voters_lost").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let may_be = |voter: &&Value| ["name", "node"].iter().any(|field| tolerated.contains(&text(voter, field)));
    let told = |voter: &Value| {
        let (name, node) = (text(voter, "name"), text(voter, "node"));
        match voter.get("seen_ms").and_then(Value::as_u64) {
            Some(ms) => format!("voter {name} ({node}) is dead: nothing was heard of it for {} s", ms / 1000),
            None => format!("voter {name} ({node}) was never heard of"),
        }
    };
    lost.iter().filter(|voter| !may_be(voter)).map(told).collect()
}

/// What a node says is wrong with it.
pub(super) fn problems(document: &Value) -> Vec<&str> {
    let listed = document.get("problems").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A line for each problem, behind everything else.
pub(super) fn human_problems(document: &Value) -> String {
    problems(document).iter().map(|problem| format!("PROBLEM: {problem}\n")).collect()
}

fn human_status(document: &Value) -> String {
    let rows = [
        ("cluster", "cluster"),
        ("node", "node"),
        ("name", "name"),
        ("role", "role"),
        ("leader", "leader"),
        ("voters", "voters"),
        ("learners", "learners"),
        ("revision", "revision"),
        ("committed", "committed"),
        ("applied", "applied"),
        ("confirmed", "confirmed_ms"),
    ];
    let unit = |field: &str| if field == "confirmed_ms" { " ms ago" } else { "" };
    let mut said = rows.map(|(name, field)| format!("{name:<10} {}{}\n", text(document, field), unit(field))).concat();
    said.push_str(&human_problems(document));
    missed(document, &[]).iter().for_each(|voter| said.push_str(&format!("PROBLEM: {voter}\n")));
    said
}

pub(super) fn human_members(document: &Value) -> String {
    let yes = |item: &Value, field: &str, word: &str, otherwise: &str| {
        let is = item.get(field).and_then(Value::as_bool).unwrap_or(false);
        if is { word.to_owned() } else { otherwise.to_owned() }
    };
    let row = |item: &Value| {
        let role = match yes(item, "leads", "leader", "").as_str() {
            "leader" => "leader".to_owned(),
            _ => yes(item, "votes", "voter", "learner"),
        };
        vec![
            text(item, "name"),
            text(item, "node"),
            role,
            text(item, "peer"),
            text(item, "admin"),
            text(item, "behind"),
            sign_of_life(item),
        ]
    };
    let rows: Vec<_> = items(document).iter().map(row).collect();
    table(&["NAME", "NODE", "ROLE", "PEER", "ADMIN", "BEHIND", "SEEN"], &rows, &[])
}

/// What gossip knows of a node; nothing of the one that is asked.
fn sign_of_life(item: &Value) -> String {
    let ago = item.get("seen_ms").and_then(Value::as_u64);
    let seconds = |ms: u64| format!("{}.{} s ago", ms / 1000, ms % 1000 / 100);
    match (item.get("alive").and_then(Value::as_bool), ago) {
        (Some(true), Some(ms)) => seconds(ms),
        (Some(true), None) => "alive".to_owned(),
        (Some(false), Some(ms)) => format!("dead, {}", seconds(ms)),
        (Some(false), None) => "dead".to_owned(),
        (None, _) => "-".to_owned(),
    }
}

fn human_features(document: &Value) -> String {
    let list = |item: &Value, field: &str| {
        let names = item.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(",") }
    };
    let rows = |field: &str, row: &dyn Fn(&Value) -> Vec<String>| -> Vec<Vec<String>> {
        document.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice).iter().map(row).collect()
    };
    let members = rows("members", &|node| {
        vec![text(node, "name"), text(node, "node"), text(node, "version"), list(node, "lacks")]
    });
    let features = rows("features", &|feature| {
        let is_in_force = feature.get("in_force").and_then(Value::as_bool).unwrap_or(false);
        let state = if is_in_force { "in force" } else { "waits" };
        vec![text(feature, "name"), text(feature, "since"), state.to_owned(), list(feature, "held_back_by")]
    });
    format!(
        "version {} of the agreed state is in force; this node knows up to {}\n\n{}\n{}",
        text(document, "version"),
        text(document, "newest"),
        table(&["NODE", "ID", "KNOWS", "LACKS"], &members, &[2]),
        table(&["FEATURE", "SINCE", "STATE", "HELD BACK BY"], &features, &[1]),
    )
}

fn human_tokens(document: &Value) -> String {
    let row = |item: &Value| ["name", "state", "expires", "used_by"].map(|field| text(item, field)).to_vec();
    let rows: Vec<_> = items(document).iter().map(row).collect();
    table(&["NAME", "STATE", "EXPIRES", "USED BY"], &rows, &[])
}

/// Prints a made token alone, so that a script can take it.
fn token(args: &Token) -> anyhow::Result<Exit> {
    let ask = change(Method::POST, &["join-tokens"], &args.changing).query("expires_in", &args.expires_in);
    let document = args.changing.asking.access.ask(&ask)?;
    if document.get("token").is_none() {
        let name = text(&document, "name");
        anyhow::bail!("join token {name} was made by an earlier try whose answer was lost: make another one");
    }
    if args.changing.asking.output == Output::Table {
        talk(&format!(
            "join token {}, until {}, shown this once:",
            text(&document, "name"),
            text(&document, "expires")
        ));
    }
    args.changing.asking.print(&document, |document| text(document, "token") + "\n")
}

fn several(verb: &str, args: &Several) -> anyhow::Result<Exit> {
    let (first, others) = args.nodes.split_first().map_or(("", &[][..]), |(first, others)| (first.as_str(), others));
    let with = others.join(",");
    let ask = change(Method::POST, &["cluster", "members", first, verb], &args.changing);
    let ask = if with.is_empty() { ask } else { ask.query("with", &with) };
    print_members(&ask, &args.changing)
}

fn print_members(ask: &Ask<'_>, changing: &Changing) -> anyhow::Result<Exit> {
    let document = changing.asking.access.ask(ask)?;
    changing.asking.print(&document, human_members)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dead_voter_is_named_unless_it_may_be_dead() {
        let document = json!({ "voters_lost": [
            { "node": "0000000000000002", "name": "gw-2", "seen_ms": 12_345 },
            { "node": "0000000000000003", "name": "gw-3", "seen_ms": null },
        ] });
        let second = "voter gw-2 (0000000000000002) is dead: nothing was heard of it for 12 s".to_owned();
        let third = "voter gw-3 (0000000000000003) was never heard of".to_owned();

        assert_eq!(missed(&document, &[]), [second.clone(), third.clone()]);
        assert_eq!(missed(&document, &["gw-2".to_owned()]), [third]);
        assert_eq!(missed(&document, &["0000000000000003".to_owned()]), [second]);
        assert!(missed(&json!({}), &[]).is_empty(), "an older node tells of none");
        assert!(human_status(&document).contains("PROBLEM: voter gw-2 "));
    }
}
