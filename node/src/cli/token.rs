use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::Exit;
use super::access::Ask;
use super::key::{expiry, when};
use super::noun;
use super::output::{Output, table};
use super::print::{Asking, Changing, items, talk, text};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Makes a token for an operator, and prints it this once.
    Create(Create),
    /// Lists the tokens of operators.
    List(Asking),
    /// Takes a token away: it opens nothing from then on.
    Revoke(noun::Changed),
}

#[derive(Args)]
pub(super) struct Create {
    /// The token's name: what the audit calls its bearer.
    name: String,
    /// What it may do.
    #[arg(long, value_enum)]
    role: Role,
    /// When it stops working: a time such as 2027-01-01T00:00:00Z, or a span from now such as 30d. Default: never.
    #[arg(long, value_name = "TIME", value_parser = when)]
    expires: Option<String>,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Reads.
    Viewer,
    /// Changes the spec too.
    Operator,
    /// Changes the cluster, and gives and takes tokens too.
    Admin,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Create(args) => {
            let role = match args.role {
                Role::Viewer => "viewer",
                Role::Operator => "operator",
                Role::Admin => "admin",
            };
            let mut body = json!({ "name": args.name, "role": role });
            if let Some(expires) = &args.expires {
                body["expires"] = expiry(expires).into();
            }
            let ask = Ask::change(Method::POST, &["tokens"], args.changing.reason.as_deref()).body(&body);
            made(&args.changing, &args.changing.asking.access.ask(&ask)?)
        }
        Command::List(asking) => asking.print(&asking.access.list(&["tokens"])?, |document| {
            let row = |token: &Value| ["name", "role", "state", "expires"].map(|name| text(token, name)).to_vec();
            table(&["NAME", "ROLE", "STATE", "EXPIRES"], &items(document).iter().map(row).collect::<Vec<_>>(), &[])
        }),
        Command::Revoke(args) => noun::delete("tokens", args),
    }
}

/// Prints a made token alone, so that a script can take it.
fn made(changing: &Changing, document: &Value) -> anyhow::Result<Exit> {
    let secret = document.get("secret").and_then(Value::as_str);
    if changing.asking.output == Output::Table {
        match secret {
            Some(_) => talk(&format!("token {}, shown this once:", text(document, "name"))),
            None => talk("the token is in force, but the answer that held it is lost: take it away and make another"),
        }
    }
    changing.asking.print(document, |_| secret.map(|secret| format!("{secret}\n")).unwrap_or_default())
}
