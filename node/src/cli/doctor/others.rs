//! What this machine sees of the other nodes: whether they can be reached, how their clocks and versions compare.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use super::Finding;
use crate::cli::access::{Access, AdminError, Ask};
use crate::cli::print::{items, text};
use crate::clock;
use crate::config::Boot;

/// What a connection to another node may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Clocks this far apart are worth a word; nothing that must be exact depends on them.
const SKEW_DOUBTFUL_MS: i64 = 2_000;
/// This far apart, certificates and expiries are judged differently.
const SKEW_BAD_MS: i64 = 60_000;

/// Everything about the other nodes; what a running node here says of them, if one runs.
pub(super) fn look(boot: &Boot) -> Vec<Finding> {
    let own = own(boot);
    let members = own.ask(&Ask::get(&["cluster", "members"]).query("stale", "true")).ok();
    let members: Vec<Value> = members.as_ref().map(|document| items(document).to_vec()).unwrap_or_default();
    let mut peers: Vec<String> = boot.cluster.join.clone();
    peers.extend(members.iter().map(|member| text(member, "peer")));
    peers.sort();
    peers.dedup();
    let mut findings: Vec<Finding> = peers.iter().map(|peer| reach(peer)).collect();
    let node = match own.ask(&Ask::get(&["node"])) {
        Ok(node) => node,
        Err(AdminError::Unreachable { .. }) => {
            findings.push(Finding::doubtful(
                "this node",
                "it does not run, so what it would say is missing",
                "start it, and ask again",
            ));
            return findings;
        }
        Err(error) => {
            findings.push(Finding::doubtful(
                "this node",
                error.to_string(),
                "give it an admin token of the cluster: TROUPE_ADMIN_TOKEN_FILE or TROUPE_ADMIN_TOKEN",
            ));
            return findings;
        }
    };
    findings.push(ready(&node));
    findings.extend(in_touch(&own));
    let version = text(&node, "version");
    for member in members.iter().filter(|member| text(member, "node") != text(&node, "node")) {
        findings.extend(compare(&own, member, &version));
    }
    findings
}

/// The node of this machine, as its operators ask it.
fn own(boot: &Boot) -> Access {
    let scheme = if boot.listen.admin_tls.is_some() { "https" } else { "http" };
    let mut address = boot.listen.admin;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let url = format!("{scheme}://{address}");
    match &boot.listen.admin_token {
        Some(token) => Access::with_token(url, token.expose().clone()),
        None => Access::to(url),
    }
}

fn reach(peer: &str) -> Finding {
    let what = format!("way to {peer}");
    let advice = "is it up? does its name resolve here, and does a firewall let TCP and UDP on that port pass?";
    let addresses = match peer.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Finding::bad(what, format!("its name is not known: {error}"), advice),
    };
    let began = clock::now();
    let mut last = "its name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(_) => return Finding::good(what, format!("reached in {:.1?}", clock::now() - began)),
            Err(error) => last = error.to_string(),
        }
    }
    Finding::bad(what, last, advice)
}

fn ready(node: &Value) -> Finding {
    match text(node, "ready").as_str() {
        "ready" => Finding::good("this node", "it is ready"),
        other => Finding::doubtful("this node", format!("it is {other}"), "`/readyz?verbose` says why"),
    }
}

fn in_touch(own: &Access) -> Option<Finding> {
    let document = own.ask(&Ask::get(&["cluster"])).ok()?;
    let what = "majority";
    let Some(confirmed) = document.get("confirmed_ms").and_then(Value::as_u64) else {
        let advice = "with fewer than half of the voters nothing can be changed: bring them back";
        return Some(Finding::bad(what, "none has confirmed what this node knows", advice));
    };
    let seen = format!("it confirmed what this node knows {confirmed} ms ago");
    let advice = "this node is cut off, or most voters are down: requests are served until the freshness bound";
    Some(if confirmed > 3000 { Finding::bad(what, seen, advice) } else { Finding::good(what, seen) })
}

/// The version and the clock of another node, as its operators' listener tells.
fn compare(own: &Access, member: &Value, version: &str) -> Vec<Finding> {
    let (name, admin) = (text(member, "name"), text(member, "admin"));
    let scheme = own.url().split("://").next().unwrap_or("http").to_owned();
    let began = clock::unix_millis();
    let Ok(node) = own.at(format!("{scheme}://{admin}")).ask(&Ask::get(&["node"])) else {
        // Operators of other nodes are often kept from here; its port for nodes was looked at.
        return Vec::new();
    };
    let theirs = text(&node, "version");
    let mut findings = vec![match theirs == version {
        true => Finding::good(format!("version of {name}"), theirs),
        false => Finding::doubtful(
            format!("version of {name}"),
            format!("{theirs}, here {version}"),
            "finish the upgrade: new abilities wait for the last node",
        ),
    }];
    findings.extend(skew(&node, began).map(|skew| judge_skew(&name, skew)));
    findings
}

/// How far a node's clock is ahead of ours, in milliseconds, when it was asked at `began`.
fn skew(node: &Value, began: i64) -> Option<i64> {
    let theirs = node.get("time_ms").and_then(Value::as_i64)?;
    // It answered somewhere between then and now.
    let middle = began.midpoint(clock::unix_millis());
    Some(theirs - middle)
}

fn judge_skew(name: &str, skew: i64) -> Finding {
    let (what, seen) = (format!("clock of {name}"), format!("{skew} ms from the one here"));
    let advice = "let chrony or systemd-timesyncd set both: certificates and expiries are judged by each node's own";
    match skew.abs() {
        SKEW_BAD_MS.. => Finding::bad(what, seen, advice),
        SKEW_DOUBTFUL_MS.. => Finding::doubtful(what, seen, advice),
        _ => Finding::good(what, seen),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn who_listens_is_reached_and_who_does_not_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(reach(&address).verdict, Verdict::Good);

        drop(listener);

        assert_eq!(reach(&address).verdict, Verdict::Bad);
        assert_eq!(reach("no-such-name.invalid:8082").verdict, Verdict::Bad);
    }

    #[test]
    fn clocks_that_are_apart_are_told() {
        let verdicts = [50, -3_000, 90_000, i64::MIN + 1].map(|skew| judge_skew("gw-2", skew).verdict);

        assert_eq!(verdicts, [Verdict::Good, Verdict::Doubtful, Verdict::Bad, Verdict::Bad]);
    }
}
