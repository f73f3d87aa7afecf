//! The cluster's certificate authority and the certificates of its nodes, as files. No node needs to run for these.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use troupe_cluster::transport::ca::{self, Described, Issuer, Validity};
use troupe_proto::id::ClusterId;

use super::output::table;
use super::{Exit, say};
use crate::clock;

const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const NODE_CERT: &str = "peer.crt";
const NODE_KEY: &str = "peer.key";

#[derive(Subcommand)]
pub(super) enum Ca {
    /// Makes a certificate authority for the nodes of a cluster: ca.crt, and ca.key that signs.
    Init(Init),
}

#[derive(Args)]
pub(super) struct Init {
    /// The directory to write to; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long it counts. Certificates of nodes end with it.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// What to call it.
    #[arg(long, default_value = "Troupe CA")]
    name: String,
}

#[derive(Subcommand)]
pub(super) enum Cert {
    /// Issues a certificate for a node: peer.crt, and peer.key that proves it.
    Issue(Issue),
    /// Tells what certificates say.
    Show(Show),
}

#[derive(Args)]
pub(super) struct Issue {
    /// The directory that `troupe ca init` wrote.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// What to call the node.
    #[arg(long)]
    name: String,
    /// A DNS name or address to count for as well. Nodes know each other without; may be given more than once.
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Counts in this cluster only (its id, as `troupe cluster status` tells it), not in every one of the authority.
    #[arg(long, value_name = "ID")]
    cluster: Option<ClusterId>,
    /// The directory to write to; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long it counts; at most as long as the authority.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

#[derive(Args)]
pub(super) struct Show {
    /// A PEM file with one or more certificates.
    file: PathBuf,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(super) fn run(command: &Ca) -> anyhow::Result<Exit> {
    match command {
        Ca::Init(args) => init(args),
    }
}

pub(super) fn run_cert(command: &Cert) -> anyhow::Result<Exit> {
    match command {
        Cert::Issue(args) => issue(args),
        Cert::Show(args) => show(args),
    }
}

fn init(args: &Init) -> anyhow::Result<Exit> {
    let [cert, key] = free(&args.out, [CA_CERT, CA_KEY])?;
    let made = ca::found(&args.name, Validity::days(clock::unix_seconds(), args.days))?;
    write(&key, 0o600, &made.key)?;
    write(&cert, 0o644, &made.cert)?;
    told(&[&cert, &key], &ca::describe(&made.cert)?, "who has it can let nodes in; keep it away from them")?;
    Ok(Exit::Ok)
}

fn issue(args: &Issue) -> anyhow::Result<Exit> {
    let [cert, key] = free(&args.out, [NODE_CERT, NODE_KEY])?;
    let authority = Issuer::read(&read(&args.ca.join(CA_CERT))?, &read(&args.ca.join(CA_KEY))?)
        .with_context(|| format!("{} holds no usable authority", args.ca.display()))?;
    let validity = Validity::days(clock::unix_seconds(), args.days);
    let made = authority.issue(&args.name, &args.host, args.cluster, validity)?;
    write(&key, 0o600, &made.key)?;
    write(&cert, 0o644, &made.cert)?;
    told(&[&cert, &key], &ca::describe(&made.cert)?, "who has it is a node of the cluster")?;
    Ok(Exit::Ok)
}

fn show(args: &Show) -> anyhow::Result<Exit> {
    let now = clock::unix_seconds();
    let text = read(&args.file)?;
    let found = ca::describe(&text).with_context(|| args.file.display().to_string())?;
    let text = match args.output {
        Output::Table => human(&found, now)?,
        Output::Json => {
            let certs = found.iter().map(|cert| machine(cert, now)).collect::<anyhow::Result<Vec<_>>>()?;
            serde_json::to_string_pretty(&certs)? + "\n"
        }
    };
    say(&mut std::io::stdout().lock(), &text);
    Ok(Exit::Ok)
}

/// The paths of two files to be written, neither of which is there yet.
fn free(dir: &Path, names: [&str; 2]) -> anyhow::Result<[PathBuf; 2]> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .with_context(|| format!("{} cannot be made", dir.display()))?;
    let paths = names.map(|name| dir.join(name));
    if let Some(taken) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        bail!("{} exists and is not overwritten", taken.display());
    }
    Ok(paths)
}

fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file: File| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.with_context(|| format!("{} cannot be written", path.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn told(paths: &[&Path; 2], made: &[Described], about_key: &str) -> anyhow::Result<()> {
    let [cert, key] = paths.map(Path::display);
    let until = made.first().map(|cert| date(cert.validity.until)).transpose()?.unwrap_or_default();
    say(&mut std::io::stdout().lock(), &format!("{cert}: counts until {until}\n{key}: {about_key}\n"));
    Ok(())
}

fn date(seconds: i64) -> anyhow::Result<String> {
    Ok(jiff::Timestamp::from_second(seconds)?.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a certificate is good for at the moment.
fn state(cert: &Described, now: i64) -> &'static str {
    if now < cert.validity.from {
        "not yet valid"
    } else if now > cert.validity.until {
        "expired"
    } else {
        "valid"
    }
}

fn use_of(cert: &Described) -> &'static str {
    match cert.node_of() {
        Some(_) => "node",
        None if cert.is_authority => "authority",
        None => "other",
    }
}

fn human(certs: &[Described], now: i64) -> anyhow::Result<String> {
    let mut text = String::new();
    for cert in certs {
        let names = if cert.names.is_empty() { "-".to_owned() } else { cert.names.join(", ") };
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let days = cert.validity.until.saturating_sub(now).div_euclid(86_400);
        let rows = [
            row("issuer", cert.issuer.clone()),
            row("use", use_of(cert).to_owned()),
            row("names", names),
            row("from", date(cert.validity.from)?),
            row("until", date(cert.validity.until)?),
            row("state", format!("{}, {days} days left", state(cert, now))),
            row("sha256", hex(&cert.fingerprint)),
        ];
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&table(&["subject", &cert.subject], &rows, &[]));
    }
    Ok(text)
}

fn machine(cert: &Described, now: i64) -> anyhow::Result<Value> {
    Ok(json!({
        "subject": cert.subject,
        "issuer": cert.issuer,
        "use": use_of(cert),
        "names": cert.names,
        "from": date(cert.validity.from)?,
        "until": date(cert.validity.until)?,
        "state": state(cert, now).replace(' ', "_"),
        "seconds_left": cert.validity.until.saturating_sub(now),
        "sha256": hex(&cert.fingerprint),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn certs() -> Vec<Described> {
        let made = ca::found("Test CA", Validity { from: NOW - 7_200, until: NOW + 864_000 }).unwrap();
        let issuer = Issuer::read(&made.cert, &made.key).unwrap();
        let node = issuer.issue("gw-1", &["10.0.0.1".to_owned()], None, Validity::days(NOW, 2)).unwrap();
        ca::describe(&node.cert).unwrap()
    }

    #[test]
    fn certificates_are_told_one_after_the_other() {
        let certs = certs();

        let text = human(&certs, NOW + 86_400).unwrap();

        let expected = format!(
            "subject  gw-1\n\
             issuer   Test CA\n\
             use      node\n\
             names    node.any.troupe, 10.0.0.1\n\
             from     2027-01-15T07:00:00Z\n\
             until    2027-01-17T08:00:00Z\n\
             state    valid, 1 days left\n\
             sha256   {}\n\
             \n\
             subject  Test CA\n\
             issuer   Test CA\n\
             use      authority\n\
             names    -\n\
             from     2027-01-15T06:00:00Z\n\
             until    2027-01-25T08:00:00Z\n\
             state    valid, 9 days left\n\
             sha256   {}\n",
            hex(&certs[0].fingerprint),
            hex(&certs[1].fingerprint)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_certificate_out_of_its_time_says_so() {
        let certs = certs();

        assert_eq!(state(&certs[0], NOW - 3_601), "not yet valid");
        assert_eq!(state(&certs[0], NOW + 172_801), "expired");
        let told = machine(&certs[0], NOW + 172_801).unwrap();
        assert_eq!(
            (&told["state"], &told["seconds_left"], &told["use"]),
            (&json!("expired"), &json!(-1), &json!("node"))
        );
    }
}
