use std::io::Write;

use super::*;

fn no_variables(_: &str) -> Option<String> {
    None
}

/// Writes a file and loads it.
fn load(text: &str) -> Result<Boot, ConfigError> {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let env = |name: &str| match name {
        "TOKEN" | "TROUPE_JOIN_TOKEN" => Some("operators-only".to_owned()),
        "SEAL_KEY" => Some("00".repeat(32)),
        _ => None,
    };
    Boot::load(&Flags::default().or("config", file.path().to_str().unwrap()), &env)
}

/// What is said about a file, without its path.
fn errors(text: &str) -> Vec<String> {
    let error = load(text).unwrap_err();
    let after_path = |line: String| line.split_once(".toml:").map_or(line.clone(), |(_, rest)| rest.to_owned());
    error.problems.iter().map(|problem| after_path(problem.to_string())).collect()
}

#[test]
fn an_empty_file_and_no_file_are_a_working_single_node() {
    let boot = Boot::load(&Flags::default(), &no_variables).unwrap();

    assert_eq!(load("").unwrap(), boot);
    assert_eq!(boot.listen.data.to_string(), "0.0.0.0:8080");
    assert_eq!(boot.listen.admin.to_string(), "127.0.0.1:8081");
    assert_eq!(boot.node.data_dir, Path::new("troupe-data"));
    assert_eq!(boot.limits.body_bytes, Bytes::new(32 << 20));
    assert_eq!(boot.data_threads, None);
    assert_eq!(boot.log, Log { access: AccessLog::Stdout, level: tracing::Level::INFO });
    assert!(!boot.node.name.is_empty());
}

#[test]
fn the_contracts_example_loads() {
    let boot = load(include_str!("../fixtures/node.toml")).unwrap();

    assert_eq!(boot.node.name, "gw-1");
    assert_eq!(boot.node.zone.as_deref(), Some("eu-1a"));
    assert_eq!(boot.limits.drain_timeout, Duration::from_secs(60));
    assert_eq!(boot.cluster.bootstrap_expect, Some(3));
    assert_eq!(boot.cluster.join, ["gw-1:8082", "gw-2:8082", "gw-3:8082"]);
    assert_eq!(boot.cluster.advertise.as_deref(), Some("gw-1:8082"));
    assert!(boot.cluster.join_token.is_some());
}

#[test]
fn a_flag_beats_a_variable_and_a_variable_beats_the_file() {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(b"[listen]\ndata = \"127.0.0.1:1\"\n[limits]\nin_flight = 1\n[runtime]\ndata_threads = 1").unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let env = |name: &str| match name {
        "TROUPE_CONFIG" => Some(path.clone()),
        "TROUPE_LISTEN_DATA" => Some("127.0.0.1:2".to_owned()),
        "TROUPE_LIMITS_IN_FLIGHT" => Some("2".to_owned()),
        "TROUPE_SPEC" => Some("spec.toml".to_owned()),
        _ => None,
    };

    let boot = Boot::load(&Flags::default().or("listen-data", "localhost:3"), &env).unwrap();

    assert_eq!(boot.listen.data.to_string(), "127.0.0.1:3");
    assert_eq!(boot.limits.in_flight, 2);
    assert_eq!(boot.data_threads, Some(1));
    assert_eq!(boot.spec_file.as_deref(), Some(Path::new("spec.toml")));
}

#[test]
fn the_command_line_gives_every_setting() {
    let command = <Flags as clap::Args>::augment_args(clap::Command::new("troupe"));
    let line: Vec<String> = SETTINGS.iter().flat_map(|s| [format!("--{}", s.flag), "x".to_owned()]).collect();

    let matches = command.try_get_matches_from(std::iter::once("troupe".to_owned()).chain(line)).unwrap();
    let flags = <Flags as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();

    for setting in SETTINGS {
        assert_eq!(flags.get(setting.flag), Some("x"), "{}", setting.flag);
    }
}

#[test]
fn all_problems_are_told_at_once_with_place_and_nearest_name() {
    let text = "[listen]\ndta = \"0.0.0.0:1\"\nadmin = \"here\"\n\n[limits]\nbody_bytes = \"4MB\"\nin_flight = 0\n";

    assert_eq!(
        errors(text),
        [
            "2:1: listen.dta: unknown field `dta`, did you mean `data`?",
            "3:9: listen.admin: \"here\" is not an address such as \"0.0.0.0:8080\" or \"[::]:8080\"",
            "6:14: limits.body_bytes: \"4MB\" is not a size such as \"32KiB\" or \"4MiB\"",
            "7:13: limits.in_flight: expected a whole number from 1 to 10000000",
        ]
    );
}

#[test]
fn text_that_is_not_toml_is_told_by_line() {
    let errors = errors("[node]\nname = \n");

    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("2:8: "), "{}", errors[0]);
}

const KEY: &str = "env:SEAL_KEY";

#[test]
fn a_cluster_is_read_from_the_file_and_from_flags() {
    let section = format!(
        "listen.peer = \"127.0.0.1:1\"\n[cluster]\nbootstrap_expect = 3\njoin = [\"127.0.0.1:1\", \"localhost:2\"]\nseal_key = \"{KEY}\"\nplain = true\n"
    );

    let from_file = load(&section).unwrap().cluster;
    let env = |name: &str| (name == "SEAL_KEY").then(|| "00".repeat(32));
    let flags = Flags::default()
        .or("listen-peer", "127.0.0.1:1")
        .or("cluster-bootstrap-expect", "3")
        .or("cluster-join", "127.0.0.1:1, localhost:2")
        .or("cluster-seal-key", KEY)
        .or("cluster-plain", "true");
    let from_flags = Boot::load(&flags, &env).unwrap().cluster;

    assert_eq!(from_file, from_flags);
    assert_eq!(from_file.join, ["127.0.0.1:1", "localhost:2"]);
    assert!(from_file.has_others() && !Cluster::default().has_others());
}

#[test]
fn a_cluster_that_could_not_be_trusted_is_told_what_it_lacks() {
    for (text, said) in [
        ("bootstrap_expect = 4", "2:20: cluster.bootstrap_expect: expected 1, 3 or 5"),
        ("join = [\"gw-1\"]", "2:8: cluster.join: \"gw-1\" is not a host and a port"),
        ("join = [\"a:1\"]", "2:8: cluster.join: nodes know each other by certificates"),
        ("join = [\"a:1\"]\nplain = true", "2:8: cluster.join: cluster.plain is for loopback"),
        ("seal_key = \"env:TOKEN\"", "2:12: cluster.seal_key: expected 32 bytes in base64"),
        ("tls.ca = \"env:TOKEN\"", "2:10: cluster.tls.ca: [cluster.tls] needs `ca`, `cert` and `key`"),
    ] {
        let errors = errors(&format!("[cluster]\n{text}\n"));

        assert!(errors.iter().any(|error| error.starts_with(said)), "{text}: {errors:?}");
    }
}

#[test]
fn a_node_that_follows_a_file_agrees_with_nobody() {
    let flags = Flags::default().or("spec", "spec.toml").or("cluster-join", "127.0.0.1:1");

    let error = Boot::load(&flags, &|_| None).unwrap_err().to_string();

    assert!(error.contains("--cluster-join: cluster.join: a node that follows a file is alone"), "{error}");
}

#[test]
fn a_wrong_variable_is_told_by_its_name() {
    let env = |name: &str| (name == "TROUPE_DATA_THREADS").then(|| "many".to_owned());

    let error = Boot::load(&Flags::default(), &env).unwrap_err();

    assert_eq!(error.to_string(), "TROUPE_DATA_THREADS: runtime.data_threads: expected a whole number from 0 to 1024");
}

#[test]
fn the_operators_token_comes_from_outside_the_file() {
    assert_eq!(
        errors("listen.admin_token = \"hunter2\""),
        ["1:22: listen.admin_token: a secret is never written down: use \"env:NAME\" or \"file:PATH\""]
    );

    let boot = load("listen.admin_token = \"env:TOKEN\"").unwrap();

    assert_eq!(boot.listen.admin_token, Some(Secret::new("operators-only".to_owned())));
}

#[test]
fn tls_needs_a_certificate_and_its_key() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let section = |cert: &Path, key: &Path| {
        format!("[listen.tls]\ncert = \"file:{}\"\nkey = \"file:{}\"", cert.display(), key.display())
    };

    let boot = load(&section(&cert, &key)).unwrap();

    assert_eq!(boot.listen.tls.unwrap().cert_pem.trim(), made.cert.pem().trim());
    assert_eq!(
        errors(&section(&key, &cert)),
        ["2:8: listen.tls.cert: it holds no PEM certificate", "3:7: listen.tls.key: it holds no PEM private key",]
    );
    assert_eq!(
        errors(&format!("[listen.tls]\ncert = \"file:{}\"", cert.display())),
        ["2:8: listen.tls.cert: [listen.tls] needs both `cert` and `key`"]
    );
}
