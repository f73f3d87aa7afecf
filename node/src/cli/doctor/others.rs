//! What the other nodes say, each asked for a moment and all at the same time: clocks, builds, and whom they hear.

use serde_json::Value;

use super::clocks::{self, Ahead};
use super::own::Own;
use super::versions::{self, Build};
use super::{Finding, datagrams};
use crate::cli::access::{AdminError, Ask};
use crate::cli::fleet::{self, ANSWER_WITHIN, Node};
use crate::cli::page::{Page, label, read, series};
use crate::cli::print::{items, text};
use crate::clock;
use crate::telemetry::metrics::names;

/// What another node says.
struct Word {
    ahead: Option<Ahead>,
    build: Option<Build>,
    /// What it tells of this node.
    of_us: Option<Value>,
}

/// Everything that the nodes say of each other; nothing where no node runs here.
pub(super) fn look(own: &Own) -> Vec<Finding> {
    let Ok(node) = &own.node else { return Vec::new() };
    let mut findings = Vec::new();
    let here = Build::of(&own.page);
    if let Some(here) = &here {
        let advice =
            "this command is of another build than the node that runs: start the node again to have it run this one";
        findings.push(versions::compare("this node", here, &Build::own(), advice));
    }
    findings.extend(own.features.as_ref().map(versions::behind));
    findings.extend(own.others().map(datagrams::from));
    let others: Vec<Value> = own.others().cloned().collect();
    let document = serde_json::json!({ "items": others });
    let nodes = fleet::listed(&document, &own.access);
    let id = text(node, "node");
    let answers = fleet::all(&nodes, |node| ask(node, &id));
    for (node, answer) in nodes.iter().zip(answers) {
        findings.extend(told(node, answer, own, here.as_ref()));
    }
    findings
}

/// Asks another node; `us` is the id of the one here.
fn ask(node: &Node, us: &str) -> Option<Result<Word, AdminError>> {
    let access = node.access.as_ref()?.by(clock::now() + ANSWER_WITHIN);
    let began = clock::unix_millis();
    let answer = access.ask(&Ask::get(&["node"]));
    let ended = clock::unix_millis();
    Some(answer.and_then(|document| {
        if text(&document, "node") != node.id {
            let who = text(&document, "name");
            return Err(AdminError::NotFound(format!("at {} answers {who}", access.url())));
        }
        let page = access.fetch(&Ask::metrics()).map(|page| read(&String::from_utf8_lossy(&page))).unwrap_or_default();
        let members = access.ask(&fleet::members()).ok();
        let of_us = members.and_then(|members| items(&members).iter().find(|item| text(item, "node") == us).cloned());
        Ok(Word { ahead: Ahead::of(&document, began, ended), build: Build::of(&page), of_us })
    }))
}

fn told(node: &Node, answer: Option<Result<Word, AdminError>>, own: &Own, here: Option<&Build>) -> Vec<Finding> {
    let name = &node.name;
    let word = match answer {
        Some(Ok(word)) => word,
        silent => {
            let mut findings = vec![unasked(name, silent.and_then(Result::err))];
            // Its datagrams tell the time as well.
            let heard = heard_ahead(&own.page, &node.id).and_then(Ahead::heard);
            findings.extend(heard.map(|ahead| clocks::judge(name, ahead)));
            return findings;
        }
    };
    let advice = "finish the upgrade, so that all nodes run one build";
    let build = word.build.as_ref().zip(here).map(|(theirs, here)| versions::compare(name, theirs, here, advice));
    let clock = word.ahead.map(|ahead| clocks::judge(name, ahead));
    let datagrams = word.of_us.as_ref().and_then(|us| datagrams::to(name, us));
    [clock, build, datagrams].into_iter().flatten().collect()
}

/// A node that did not say anything of use. That is doubtful: where its port for nodes fares no better, that is bad.
fn unasked(name: &str, error: Option<AdminError>) -> Finding {
    let what = format!("operators of {name}");
    let Some(error) = error else {
        let advice = "wait until it has told the others of itself; one that never does is not up";
        return Finding::doubtful(what, "it did not tell where its operators go", advice);
    };
    let advice = match &error {
        AdminError::Silent { .. } => {
            "it hangs (look at its process and log), or a firewall keeps operators from it: run `troupe doctor` there"
        }
        AdminError::Unauthorized { .. } => {
            "it takes another admin token than this node: give both the same listen.admin_token, or run `troupe doctor` there"
        }
        AdminError::Url { .. }
        | AdminError::File { .. }
        | AdminError::Token(_)
        | AdminError::Unreachable { .. }
        | AdminError::Foreign { .. }
        | AdminError::NotFound(_)
        | AdminError::Conflict(_)
        | AdminError::NoQuorum(_)
        | AdminError::Refused(_)
        | AdminError::Usage(_) => {
            "its clock and build are not compared: run `troupe doctor` there, or have listen.admin be reached from here"
        }
    };
    let seen = error.to_string();
    Finding::doubtful(what, seen.lines().next().unwrap_or_default(), advice)
}

/// How far another node's clock is ahead, as this one hears from its datagrams.
fn heard_ahead(page: &Page, id: &str) -> Option<f64> {
    let mut clocks = series(page, names::GOSSIP_CLOCK.name);
    clocks.find(|(series, _)| label(series, "node") == Some(id)).map(|(_, seconds)| seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;
    use crate::cli::access::Access;
    use crate::cli::fleet::fake;
    use crate::config::{Boot, Flags};

    /// A member as the others have it, at the address where it is asked.
    fn member(name: &str, access: &Access) -> Value {
        let admin = access.url().replace("http://", "");
        json!({"node": name, "name": name, "votes": true, "leads": false, "peer": "127.0.0.1:9", "admin": admin,
               "alive": true, "seen_ms": 5, "heard_ms": 5})
    }

    fn own(members: Vec<Value>, page: &str) -> Own {
        let boot = Boot::load(&Flags::default(), &|_: &str| None).unwrap();
        let node = Ok(json!({"node": "gw-1", "name": "gw-1", "ready": "ready"}));
        let access = Access::with_token("http://127.0.0.1:1".to_owned(), "t".to_owned());
        let mut own = Own::absent(&boot);
        (own.access, own.node, own.members, own.page) = (access, node, members, read(page));
        own
    }

    #[test]
    fn a_node_that_hangs_is_reported_and_one_that_answers_is_compared() {
        let well = fake::node(|path| {
            let time = clock::unix_millis() + 5_000;
            let node = json!({"node": "gw-2", "name": "gw-2", "time_ms": time}).to_string();
            let us = json!({"items": [{"node": "gw-1", "alive": false, "seen_ms": 50_000, "heard_ms": 50_000}]});
            Some(match path {
                path if path.contains("metrics") => "troupe_build_info{version=\"9.9\",revision=\"x\"} 1\n".to_owned(),
                path if path.contains("members") => us.to_string(),
                _ => node,
            })
        });
        let hangs = fake::hanging();
        let page = "troupe_gossip_clock_ahead_seconds{node=\"gw-3\"} 61.002\n\
                    troupe_build_info{version=\"0.1.0\",revision=\"unknown\"} 1\n";
        let own = own(vec![member("gw-2", &well), member("gw-3", &hangs)], page);
        let began = clock::now();

        let findings = look(&own);

        assert!(clock::now() - began < 3 * ANSWER_WITHIN);
        let found = |what: &str| {
            let found = findings.iter().find(|finding| finding.what == what);
            found.unwrap_or_else(|| panic!("{what}: {findings:?}"))
        };
        let silent = found("operators of gw-3");
        assert!(silent.verdict == Verdict::Doubtful && silent.seen.contains("no answer within"), "{silent:?}");
        assert_eq!(found("clock of gw-3").verdict, Verdict::Bad);
        let clock = found("clock of gw-2");
        assert!(clock.verdict == Verdict::Doubtful && clock.seen.contains("s ahead of"), "{clock:?}");
        assert_eq!(found("build of gw-2").verdict, Verdict::Doubtful);
        assert_eq!(found("datagrams to gw-2").verdict, Verdict::Bad);
        assert_eq!(found("datagrams of gw-2").verdict, Verdict::Good);
    }

    #[test]
    fn somebody_else_s_answer_is_not_taken_for_a_member_s() {
        let other = fake::node(|_| Some(json!({"node": "gw-1", "name": "gw-1", "time_ms": 0}).to_string()));

        let findings = look(&own(vec![member("gw-2", &other)], ""));

        let told = findings.iter().find(|finding| finding.what == "operators of gw-2").unwrap();
        assert!(told.seen.contains("answers gw-1"), "{told:?}");
        assert!(!findings.iter().any(|finding| finding.what == "clock of gw-2"), "{findings:?}");
    }
}
