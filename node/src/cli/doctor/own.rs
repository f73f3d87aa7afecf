//! What the node of this machine says itself, if it runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use troupe_cluster::storage::DataDir;

use super::Finding;
use crate::cli::access::{Access, AdminError, Ask};
use crate::cli::cluster::CONFIRMED_MS;
use crate::cli::fleet;
use crate::cli::page::{Page, label, read, series};
use crate::cli::print::{items, text};
use crate::clock;
use crate::config::Boot;
use crate::peers::advertised;
use crate::telemetry::metrics::names;

/// What it may take to answer everything.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long what it refuses is watched: what somebody does every second is seen.
const WATCHED_FOR: Duration = Duration::from_millis(1500);

/// The node of this machine.
pub(super) struct Own {
    pub(super) access: Access,
    /// `/admin/v1/node`.
    pub(super) node: Result<Value, AdminError>,
    cluster: Option<Value>,
    /// The members as it knows them, itself among them.
    pub(super) members: Vec<Value>,
    pub(super) features: Option<Value>,
    pub(super) page: Page,
    asked: Instant,
}

impl Own {
    /// Asks it.
    pub(super) fn ask(boot: &Boot) -> Self {
        let access = access(boot);
        let asked = clock::now();
        let now = access.by(asked + ANSWER_WITHIN);
        let node = now.ask(&Ask::get(&["node"]));
        if node.is_err() {
            return Self { node, ..Self::silent(access) };
        }
        let members = now.ask(&fleet::members());
        Self {
            node,
            cluster: now.ask(&Ask::get(&["cluster"])).ok(),
            members: members.as_ref().map(|document| items(document).to_vec()).unwrap_or_default(),
            features: now.ask(&Ask::get(&["cluster", "features"]).query("stale", "true")).ok(),
            page: now.fetch(&Ask::metrics()).map(|page| read(&String::from_utf8_lossy(&page))).unwrap_or_default(),
            access,
            asked,
        }
    }

    fn silent(access: Access) -> Self {
        let node = Err(AdminError::Refused("it was not asked".to_owned()));
        let (members, page) = (Vec::new(), Page::new());
        Self { access, node, cluster: None, members, features: None, page, asked: clock::now() }
    }

    /// One that does not run.
    #[cfg(test)]
    pub(super) fn absent(boot: &Boot) -> Self {
        Self::silent(access(boot))
    }

    /// Whether it answers its operators, be it that it does not know who asks.
    pub(super) const fn is_running(&self) -> bool {
        matches!(self.node, Ok(_) | Err(AdminError::Unauthorized { .. }))
    }

    /// Its id, where it tells.
    pub(super) fn id(&self) -> Option<String> {
        self.node.as_ref().ok().map(|node| text(node, "node"))
    }

    /// The other members as it knows them.
    pub(super) fn others(&self) -> impl Iterator<Item = &Value> {
        let id = self.id();
        self.members.iter().filter(move |member| Some(text(member, "node")) != id)
    }

    /// Where other nodes listen for nodes: as the configuration has it, and as the cluster does.
    pub(super) fn peers(&self, boot: &Boot) -> Vec<String> {
        let id = self.id();
        let is_own = |member: &&Value| Some(text(member, "node")) == id;
        let mut own: Vec<String> = self.members.iter().filter(is_own).map(|member| text(member, "peer")).collect();
        own.push(advertised(boot));
        let mut peers = boot.cluster.join.clone();
        peers.extend(self.others().map(|member| text(member, "peer")));
        peers.retain(|peer| !own.contains(peer));
        peers.sort();
        peers.dedup();
        peers
    }

    /// What it says of itself.
    pub(super) fn findings(&self, boot: &Boot) -> Vec<Finding> {
        let what = "this node";
        let node = match &self.node {
            Ok(node) => node,
            Err(AdminError::Unreachable { .. }) => {
                let seen =
                    "it does not run, so what it would say is missing: clocks, versions, datagrams of the others";
                return vec![Finding::doubtful(what, seen, "start it, and ask again")];
            }
            Err(error @ AdminError::Silent { .. }) => {
                let advice = "its process hangs or is stopped: look at its log, and start it again";
                return vec![Finding::bad(what, error.to_string(), advice)];
            }
            Err(error) => {
                let advice = "give it an admin token of the cluster: TROUPE_ADMIN_TOKEN_FILE or TROUPE_ADMIN_TOKEN";
                return vec![Finding::doubtful(what, error.to_string(), advice)];
            }
        };
        let mut findings = vec![ready(node)];
        if let Ok(Some(owner)) = DataDir::owner(&boot.node.data_dir)
            && owner.node.to_string() != text(node, "node")
        {
            let seen = format!(
                "node {} answers its operators, and the data directory is of {}",
                text(node, "node"),
                owner.node
            );
            let advice = "listen.admin and data_dir are of one node: is this the configuration it was started with?";
            findings.push(Finding::bad(what, seen, advice));
        }
        let problems = node.get("problems").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        findings.extend(problems.map(|problem| Finding::bad(what, problem, "its log says more about it")));
        findings.extend(self.cluster.as_ref().map(in_touch));
        findings
    }

    /// What it refused while it was looked at, by the reason: somebody goes on being refused.
    pub(super) fn refused_meanwhile(&self) -> Vec<Finding> {
        let before = refusals(&self.page);
        if before.is_empty() {
            return Vec::new();
        }
        std::thread::sleep(WATCHED_FOR.saturating_sub(clock::now() - self.asked));
        let page = self.access.by(clock::now() + ANSWER_WITHIN).fetch(&Ask::metrics());
        let after = page.map(|page| refusals(&read(&String::from_utf8_lossy(&page)))).unwrap_or_default();
        grown(&before, &after)
    }
}

/// The node of this machine, as its operators ask it.
pub(in crate::cli) fn access(boot: &Boot) -> Access {
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

fn ready(node: &Value) -> Finding {
    match text(node, "ready").as_str() {
        "ready" => Finding::good("this node", "it is ready"),
        other => Finding::doubtful("this node", format!("it is {other}"), "`/readyz?verbose` says why"),
    }
}

fn in_touch(document: &Value) -> Finding {
    let what = "majority";
    let Some(confirmed) = document.get("confirmed_ms").and_then(Value::as_u64) else {
        let advice = "with fewer than half of the voters nothing can be changed: bring them back";
        return Finding::bad(what, "none has confirmed what this node knows", advice);
    };
    let seen = format!("it confirmed what this node knows {confirmed} ms ago");
    let advice = "this node is cut off, or most voters are down: requests are served until the freshness bound";
    if confirmed > CONFIRMED_MS { Finding::bad(what, seen, advice) } else { Finding::good(what, seen) }
}

/// How often something was refused, by what it was and why.
fn refusals(page: &Page) -> BTreeMap<(&'static str, String), f64> {
    let counted = [("datagrams", names::GOSSIP_REFUSED.name), ("connections of nodes", names::PEER_REFUSED.name)];
    let of = |(what, metric): (&'static str, &'static str)| {
        let reasons =
            series(page, metric).filter_map(|(series, count)| Some((label(series, "reason")?.to_owned(), count)));
        // Whoever joins by a list that has the node itself in it greets it now and then.
        let reasons = reasons.filter(|(reason, count)| *count > 0.0 && !reason.starts_with("own"));
        reasons.map(move |(reason, count)| ((what, reason), count)).collect::<Vec<_>>()
    };
    let mut sums = BTreeMap::new();
    for (place, count) in counted.into_iter().flat_map(of) {
        *sums.entry(place).or_default() += count;
    }
    sums
}

fn grown(
    before: &BTreeMap<(&'static str, String), f64>,
    after: &BTreeMap<(&'static str, String), f64>,
) -> Vec<Finding> {
    let more = after.iter().filter(|(place, count)| **count > before.get(*place).copied().unwrap_or(0.0));
    more.map(|((what, reason), count)| {
        let seen = format!("{what} are refused again and again: {reason} ({count:.0} so far)");
        Finding::doubtful("who is refused here", seen, why_refused(reason))
    })
    .collect()
}

/// What to do about what is refused for a reason, as `troupe_gossip_refused_total` and `troupe_peer_refused_total` have it.
fn why_refused(reason: &str) -> &'static str {
    match reason {
        "too_old" | "too_new" => "the clock of the sender, or the one here, is wrong by more than 30 s: have it set",
        "unknown_key" | "foreign_seal_key" => "a node has another cluster.seal_key: the same is on every node",
        "foreign_cluster" => "a node of another cluster sends here: one of the two has wrong addresses in cluster.join",
        "stranger" => "one that was taken out still runs: stop it for good",
        "superseded" => "an earlier process of a node still runs beside its successor: stop it",
        "certificate_untrusted" | "certificate_foreign" | "no_certificate" | "certificate_expired" => {
            "a node shows a certificate that does not count here: run `troupe doctor` there"
        }
        "version" => "a node of a version that has nothing in common with this one tries: upgrade it",
        _ => "somebody who is no node sends to the peer port: who may reach it is for the firewall to say",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_being_refused_is_told_with_its_reason_and_what_was_long_ago_is_not() {
        let page = |now: u8| {
            read(&format!(
                "troupe_gossip_refused_total{{reason=\"unknown_key\"}} {now}\n\
                 troupe_gossip_refused_total{{reason=\"replayed\"}} 4\n\
                 troupe_peer_refused_total{{direction=\"in\",reason=\"certificate_untrusted\"}} {now}\n\
                 troupe_peer_refused_total{{direction=\"in\",reason=\"own_id\"}} {now}\n"
            ))
        };

        let findings = grown(&refusals(&page(1)), &refusals(&page(9)));

        let told: Vec<&str> = findings.iter().map(|finding| finding.seen.as_str()).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().any(|seen| seen.starts_with("datagrams") && seen.contains("unknown_key (9")), "{told:?}");
        assert!(told.iter().any(|seen| seen.contains("certificate_untrusted")), "{told:?}");
        assert!(findings.iter().all(|finding| !finding.advice.is_empty()));
    }

    #[test]
    fn a_node_that_hangs_is_bad_and_one_that_does_not_run_is_doubtful() {
        let boot = Boot::load(&crate::config::Flags::default(), &|_: &str| None).unwrap();
        let of = |error| {
            let own = Own { node: Err(error), ..Own::absent(&boot) };
            own.findings(&boot)[0].clone()
        };

        let hangs = of(AdminError::Silent { url: "u".to_owned(), within: ANSWER_WITHIN });
        let absent = of(AdminError::Unreachable { url: "u".to_owned(), problem: "refused".to_owned() });

        assert_eq!((hangs.verdict, absent.verdict), (super::super::Verdict::Bad, super::super::Verdict::Doubtful));
        assert!(hangs.advice.contains("start it again"), "{hangs:?}");
    }
}
