//! What a report of a fault needs, in one file, without secrets.

mod here;
mod redact;
mod tar;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::access::{Access, AdminError, Ask};
use super::fleet::{self, Node};
use super::print::{talk, text};
use super::{Exit, doctor};
use crate::clock;
use crate::config::{Boot, Flags, variable};
use tar::Tar;

/// What each node may take to answer all that is asked of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// What the one may take that is asked for what all agree on.
const AGREED_WITHIN: Duration = Duration::from_secs(10);
/// What stands for a file that does not exist: the standard output.
const STDOUT: &str = "-";

#[derive(Subcommand)]
pub(super) enum Command {
    /// Writes what nodes say of themselves, what `doctor` finds, and what this machine knows of the node to a tar file.
    /// It holds no prompt, and no secret as far as one can be told; names of keys, models and nodes are in it. Exits with
    /// 5 when no node answered: what is known without them is written all the same.
    Bundle(Bundle),
}

#[derive(Args)]
pub(super) struct Bundle {
    /// The file to write, for its owner alone; `-` is the standard output.
    #[arg(long, value_name = "FILE", default_value = "troupe-debug.tar")]
    out: PathBuf,
    /// Writes over a file that is there already.
    #[arg(long)]
    force: bool,
    /// The node.toml of the node on this machine [env: TROUPE_CONFIG]. It says where the node is, unless --admin-url does.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    let Command::Bundle(args) = command;
    check(&args.out, args.force)?;
    let made = gather(args, &variable)?;
    write(&args.out, args.force, &made.bytes)?;
    for problem in &made.missing {
        talk(&format!("not in it: {problem}"));
    }
    talk(&format!("{} is written; look through it before you send it", args.out.display()));
    Ok(if made.answered == 0 { Exit::Unreachable } else { Exit::Ok })
}

/// A bundle.
struct Made {
    bytes: Vec<u8>,
    /// What it lacks, and why.
    missing: Vec<String>,
    /// How many nodes answered.
    answered: usize,
}

/// What is asked of each node: how it is itself.
fn questions() -> [(&'static str, Ask<'static>); 6] {
    [
        // The first one tells whether it hangs: then it is not asked for more.
        ("node.json", Ask::get(&["node"])),
        ("status.json", Ask::get(&["status"])),
        ("cluster.json", Ask::get(&["cluster"])),
        ("members.json", fleet::members()),
        ("features.json", Ask::get(&["cluster", "features"]).query("stale", "true")),
        ("breakers.json", Ask::get(&["breakers"]).query("limit", "1000")),
    ]
}

/// What is asked of one of them: what all agree on. A cluster that cannot agree is what a report is often about, so it is
/// asked for as that node holds it.
fn agreed() -> [(&'static str, Ask<'static>); 2] {
    [
        ("spec.json", Ask::get(&["export"]).query("stale", "true")),
        ("audit.json", Ask::get(&["audit"]).query("stale", "true").query("limit", "200")),
    ]
}

fn gather(args: &Bundle, variable: &(dyn Fn(&str) -> Option<String> + Sync)) -> anyhow::Result<Made> {
    let (mut archive, mut missing) = (Tar::new(clock::unix_seconds()), Vec::new());
    let config = args.config.clone().or_else(|| variable("TROUPE_CONFIG").map(PathBuf::from));
    let flags = config
        .as_deref()
        .map_or_else(Flags::default, |path| Flags::default().or("config", &path.display().to_string()));
    let boot = Boot::load(&flags, variable);
    let access = match &boot {
        Ok(boot) if config.is_some() && !args.access.is_named() && args.access.has_token() => {
            args.access.at(doctor::access(boot).url())
        }
        Ok(boot) if config.is_some() && !args.access.is_named() => doctor::access(boot),
        Ok(_) | Err(_) => args.access.clone(),
    };
    let known = known(boot.as_ref().ok(), &access);
    let mut add = |name: &str, text: &str| archive.add(name, &known.strip(text));
    let pid = boot.as_ref().ok().and_then(doctor::process);
    for (name, text) in here::settings(config.as_deref(), variable) {
        add(&name, &text);
    }
    add("here/limits.txt", &here::limits(pid));
    add("here/log.txt", &here::log(pid));
    add(
        "here/doctor.txt",
        &match &boot {
            Ok(boot) => redact::text(&doctor::human(&doctor::look(boot))),
            Err(error) => redact::text(&format!("the configuration cannot be read: {error}\n")),
        },
    );
    add("here/version.txt", &version());
    let nodes = match fleet::known(&access, clock::now() + ANSWER_WITHIN) {
        Ok(nodes) => nodes,
        Err(error) => {
            missing.push(format!("what nodes say: {error}"));
            Vec::new()
        }
    };
    let answers = fleet::all(&nodes, ask);
    let answered = answers.iter().filter(|answer| answer.is_answered).count();
    for (at, (node, answer)) in nodes.iter().zip(answers).enumerate() {
        let dir = format!("nodes/{}", named(at, node));
        for (name, text) in answer.files {
            add(&format!("{dir}/{name}"), &text);
        }
        missing.extend(answer.missing.into_iter().map(|problem| format!("{dir}: {problem}")));
    }
    if answered > 0 {
        let access = access.by(clock::now() + AGREED_WITHIN);
        for (name, ask) in agreed() {
            match access.ask(&ask) {
                Ok(document) => add(name, &pretty(document)),
                Err(error) => missing.push(format!("{name}: {error}")),
            }
        }
    }
    let missing: Vec<String> = missing.iter().map(|problem| known.strip(&redact::text(problem))).collect();
    if !missing.is_empty() {
        add("missing.txt", &(missing.join("\n") + "\n"));
    }
    Ok(Made { bytes: archive.end(), missing, answered })
}

/// The secrets that this command itself holds: what it shows the nodes, and what the configuration names.
fn known(boot: Option<&Boot>, access: &Access) -> redact::Known {
    let mut known = redact::Known::default();
    if let Some(token) = access.secret() {
        known.add(token.expose());
    }
    let Some(boot) = boot else { return known };
    for text in [&boot.listen.admin_token, &boot.cluster.join_token].into_iter().flatten() {
        known.add(text.expose());
    }
    for key in [&boot.cluster.seal_key, &boot.cluster.seal_key_old].into_iter().flatten() {
        known.add_bytes(key.expose());
    }
    known
}

/// What one node said.
#[derive(Default)]
struct Answer {
    files: Vec<(&'static str, String)>,
    missing: Vec<String>,
    is_answered: bool,
}

fn ask(node: &Node) -> Answer {
    let mut answer = Answer::default();
    let Some(access) = &node.access else {
        answer.missing.push("it did not tell where its operators go".to_owned());
        return answer;
    };
    let access = access.by(clock::now() + ANSWER_WITHIN);
    for (name, question) in questions() {
        match access.ask(&question) {
            Ok(document) if name == "node.json" && node.id != "-" && text(&document, "node") != node.id => {
                answer.missing.push(format!("at {} answers {}", access.url(), text(&document, "name")));
                return answer;
            }
            Ok(document) => {
                answer.is_answered = true;
                answer.files.push((name, pretty(document)));
            }
            Err(error @ (AdminError::Silent { .. } | AdminError::Unreachable { .. })) => {
                answer.missing.push(format!("{name} and what is behind it: {error}"));
                return answer;
            }
            Err(error) => answer.missing.push(format!("{name}: {error}")),
        }
    }
    match access.fetch(&Ask::metrics()) {
        Ok(page) => answer.files.push(("metrics.txt", redact::text(&String::from_utf8_lossy(&page)))),
        Err(error) => answer.missing.push(format!("metrics.txt: {error}")),
    }
    match access.probe("/readyz?verbose") {
        Ok((status, said)) => answer.files.push(("ready.txt", format!("{status}\n{}", redact::text(&said)))),
        Err(error) => answer.missing.push(format!("ready.txt: {error}")),
    }
    answer
}

/// A node's name as a directory has it; nodes may share one.
fn named(at: usize, node: &Node) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String = redact::text(&node.name).chars().filter(|c| is_plain(*c)).take(40).collect();
    format!("{}-{name}", at + 1)
}

fn pretty(document: Value) -> String {
    let document = redact::document(document);
    serde_json::to_string_pretty(&document).unwrap_or_else(|error| error.to_string()) + "\n"
}

fn version() -> String {
    let system = rustix::system::uname();
    let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    format!(
        "{} {} ({})\n{} {} {}\n",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        option_env!("TROUPE_REVISION").unwrap_or("of no known commit"),
        word(system.sysname()),
        word(system.release()),
        word(system.machine()),
    )
}

/// Whether the file can be made, before anything is asked for it.
fn check(path: &Path, force: bool) -> anyhow::Result<()> {
    if path == Path::new(STDOUT) {
        return Ok(());
    }
    if path.exists() && !force {
        let problem = format!("{} is there already: name another one with --out, or say --force", path.display());
        return Err(AdminError::Usage(problem).into());
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() || !dir.is_dir() {
        let problem = format!("{}: no file can be made there", path.display());
        return Err(AdminError::Usage(problem).into());
    }
    Ok(())
}

/// Writes it for its owner alone.
fn write(path: &Path, force: bool, bytes: &[u8]) -> anyhow::Result<()> {
    if path == Path::new(STDOUT) {
        let mut out = std::io::stdout().lock();
        return out.write_all(bytes).and_then(|()| out.flush()).context("the standard output");
    }
    let place = || path.display().to_string();
    if force && path.exists() {
        // One that somebody else may read keeps none of his rights.
        std::fs::remove_file(path).with_context(place)?;
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).with_context(place)?;
    file.write_all(bytes).with_context(place)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::super::fleet::fake;
    use super::*;

    fn args(out: PathBuf, config: Option<PathBuf>, access: Access) -> Bundle {
        Bundle { out, force: false, config, access }
    }

    /// Secrets as people and programs let them fall.
    const PLANTED: [&str; 7] = [
        "sk-planted-0123456789",
        "hunter2-in-a-reason",
        "troupe-admin-AbCdEfGh0123456789",
        "0123456789abcdef0123456789abcdef",
        "pl4nt3d-header",
        "cGxhbnRlZC9rZXkvMTIzNDU2Nzg5MA",
        "planted-pw",
    ];

    #[test]
    fn no_planted_secret_is_in_a_bundle_and_everything_else_is() {
        let [provider, password, admin, hex, header, base64, login] = PLANTED;
        let node = fake::node(move |path| {
            let document = match path {
                path if path.contains("/metrics") => {
                    return Some(format!("troupe_requests_total{{model=\"sk-planted-0123456789\"}} 1\n# key {hex}\n"));
                }
                path if path.contains("/audit") => json!({"items": [
                    {"index": 1, "reason": format!("password={password} was lost, so was {provider}")},
                    {"index": 2, "reason": format!("used Bearer {base64}")},
                ]}),
                path if path.contains("/export") => json!({"providers": {"o": {
                    "description": format!("key {hex}; see https://ann:{login}@wiki"),
                    "headers": {"x-extra": header}, "keys": [{"secret": provider}],
                }}}),
                path if path.contains("/breakers") => json!({"items": [{"target": "o/-/m", "rests_for": admin}]}),
                path if path.contains("/members") => json!({"items": []}),
                path if path.contains("/readyz") => return Some(format!("ready, token: {base64}\n")),
                _ => json!({"name": "gw-1", "node": "1", "ready": "ready", "problems": [format!("no {provider}")]}),
            };
            Some(document.to_string())
        });
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("node.toml");
        let data = dir.path().join("data");
        std::fs::write(&config, format!("# {admin}\n[node]\nname = \"gw-1\"\ndata_dir = \"{}\"\n", data.display()))
            .unwrap();
        // A process that has the data directory, and logs to a file.
        std::fs::create_dir(&data).unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, format!("warn provider said {provider}\ninfo token {hex} seen\n")).unwrap();
        let held = File::create(data.join("lock")).unwrap();
        let mut process = std::process::Command::new("sleep")
            .arg("60")
            .stdin(held)
            .stderr(File::options().append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let variable = |name: &str| match name {
            "TROUPE_CLUSTER_JOIN_TOKEN" => Some("env:JOIN".to_owned()),
            "JOIN" => Some(password.to_owned()),
            _ => None,
        };

        let made = gather(&args(PathBuf::new(), Some(config), node), &variable).unwrap();

        process.kill().unwrap();
        process.wait().unwrap();
        let text = String::from_utf8(made.bytes).unwrap();
        for planted in PLANTED {
            assert!(!text.contains(planted), "{planted} is in\n{text}");
        }
        assert_eq!((made.answered, made.missing.len()), (1, 0), "{:?}", made.missing);
        for there in [
            "nodes/1-gw-1/node.json",
            "nodes/1-gw-1/breakers.json",
            "nodes/1-gw-1/features.json",
            "nodes/1-gw-1/ready.txt",
            "spec.json",
            "audit.json",
            "here/doctor.txt",
            "here/config.toml",
            "here/limits.txt",
            "here/variables.txt",
            "was lost, so was",
            "Max open files",
            "warn provider said (redacted)",
            "room on the disk",
        ] {
            assert!(text.contains(there), "{there} is not in\n{text}");
        }
    }

    #[test]
    fn a_node_that_does_not_answer_is_named_and_the_others_are_there() {
        let hanging = fake::hanging();
        let address = |access: &Access| access.url().replace("http://", "");
        let (at, own) = (address(&hanging), std::sync::Arc::new(std::sync::Mutex::new(String::new())));
        let (place, began) = (std::sync::Arc::clone(&own), clock::now());
        let well = fake::node(move |path| {
            let members = json!({"items": [
                {"name": "gw-1", "node": "1", "votes": true, "admin": *place.lock().unwrap()},
                {"name": "gw-2", "node": "2", "votes": true, "admin": at},
            ]});
            let node = json!({"name": "gw-1", "node": "1"});
            Some(if path.contains("members") { members.to_string() } else { node.to_string() })
        });
        *own.lock().unwrap() = address(&well);

        let made = gather(&args(PathBuf::new(), None, well), &|_| None).unwrap();

        assert!(clock::now() - began < Duration::from_secs(30));
        let text = String::from_utf8(made.bytes).unwrap();
        assert!(text.contains("nodes/1-gw-1/node.json") && text.contains("missing.txt"), "{text}");
        assert_eq!(made.answered, 1);
        assert!(made.missing.iter().any(|problem| problem.contains("2-gw-2") && problem.contains("no answer within")));
    }

    #[test]
    fn a_bundle_is_its_owner_s_and_takes_nobody_s_place_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle.tar");
        write(&path, false, b"one").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;

        let refused = check(&path, false).unwrap_err().to_string();
        let taken = format!("{:#}", write(&path, false, b"two").unwrap_err());
        let nowhere = check(&dir.path().join("no/such/dir.tar"), false).unwrap_err().to_string();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        check(&path, true).unwrap();
        write(&path, true, b"three").unwrap();

        assert_eq!(mode, 0o600);
        assert!(refused.contains("bundle.tar is there already") && refused.contains("--force"), "{refused}");
        assert!(taken.contains("bundle.tar"), "{taken}");
        assert!(nowhere.contains("no/such/dir.tar"), "{nowhere}");
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
