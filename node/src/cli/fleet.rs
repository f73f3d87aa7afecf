//! The nodes of a cluster as operators reach them, and questions that are put to all of them at the same time.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::access::{Access, AdminError, Ask};
use super::print::{items, text};

/// What a node may take to answer a question that is put to all: one that hangs is told of, not waited for.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(1500);
/// How many are asked at the same time.
const ASKED_MAX: usize = 64;

/// One node.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) name: String,
    /// Its id; `-` for one that is no member of anything.
    pub(super) id: String,
    /// `leader`, `voter`, `learner`, or `alone`.
    pub(super) role: &'static str,
    /// Where its operators go; `None` while it did not tell.
    pub(super) access: Option<Access>,
}

/// The nodes that the one at `access` knows; itself alone where it follows a file.
///
/// # Errors
/// It does not answer by `deadline`.
pub(super) fn known(access: &Access, deadline: Instant) -> Result<Vec<Node>, AdminError> {
    let now = access.by(deadline);
    let nodes = listed(&now.ask(&members())?, access);
    if !nodes.is_empty() {
        return Ok(nodes);
    }
    let node = now.ask(&Ask::get(&["node"]))?;
    let (name, id) = (text(&node, "name"), text(&node, "node"));
    Ok(vec![Node { name, id, role: "alone", access: Some(access.clone()) }])
}

/// Asks who the members are, as the asked node has it: also one that is cut off tells what it knows.
pub(super) fn members() -> Ask<'static> {
    Ask::get(&["cluster", "members"]).query("stale", "true")
}

/// The nodes of a list of members, asked as `access` is.
pub(super) fn listed(document: &Value, access: &Access) -> Vec<Node> {
    let url = access.url();
    let scheme = url.split("://").next().unwrap_or("http");
    let node = |item: &Value| {
        let is = |field: &str| item.get(field).and_then(Value::as_bool).unwrap_or(false);
        let role = match (is("leads"), is("votes")) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        let access = reached(item).map(|admin| access.at(format!("{scheme}://{admin}")));
        Node { name: text(item, "name"), id: text(item, "node"), role, access }
    };
    items(document).iter().map(node).collect()
}

/// Where the operators of a member go. One that listens everywhere is found where other nodes find it.
fn reached(member: &Value) -> Option<String> {
    let admin = member.get("admin").and_then(Value::as_str)?;
    let everywhere = ["0.0.0.0:", "[::]:"].iter().find_map(|everywhere| admin.strip_prefix(everywhere));
    let host = member.get("peer").and_then(Value::as_str).and_then(|peer| peer.rsplit_once(':')).map(|(host, _)| host);
    match (everywhere, host) {
        (Some(port), Some(host)) => Some(format!("{host}:{port}")),
        (Some(_) | None, _) => Some(admin.to_owned()),
    }
}

/// Puts a question to all at the same time; the answers are in the order of `nodes`.
pub(super) fn all<N: Sync, T: Send>(nodes: &[N], ask: impl Fn(&N) -> T + Sync) -> Vec<T> {
    let ask = &ask;
    let some = |nodes: &[N]| {
        std::thread::scope(|scope| {
            let asked: Vec<_> = nodes.iter().map(|node| scope.spawn(move || ask(node))).collect();
            let answers = asked.into_iter().map(|asked| asked.join());
            answers.map(|answer| answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect::<Vec<T>>()
        })
    };
    nodes.chunks(ASKED_MAX).flat_map(some).collect()
}

#[cfg(test)]
pub(super) mod fake {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    /// A node that answers by the path of a question, and hangs where it is given no answer.
    pub(in crate::cli) fn node(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> Access {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut hung = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().and_then(Result::ok).unwrap_or_default();
                // Questions have no bodies.
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                match answer(&path) {
                    Some(body) => {
                        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ";
                        stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).ok();
                    }
                    None => hung.push(stream),
                }
            }
        });
        Access::with_token(url, "t".to_owned())
    }

    /// A node that takes connections and never answers.
    pub(in crate::cli) fn hanging() -> Access {
        node(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock;

    #[test]
    fn nodes_that_hang_are_waited_for_all_at_the_same_time() {
        let nodes: Vec<Access> = (0..8).map(|_| fake::hanging()).collect();
        let began = clock::now();

        let answers = all(&nodes, |node| node.by(clock::now() + ANSWER_WITHIN).ask(&members()));

        let took = clock::now() - began;
        assert!(answers.iter().all(Result::is_err));
        assert!(took < 3 * ANSWER_WITHIN, "{took:?}");
    }

    #[test]
    fn members_are_asked_where_their_operators_go() {
        let document = json!({"items": [
            {"name": "a", "node": "1", "votes": true, "leads": true, "peer": "10.0.0.1:8082", "admin": "0.0.0.0:8081"},
            {"name": "b", "node": "2", "votes": true, "leads": false, "peer": "gw-2:8082", "admin": "10.0.0.2:9"},
            {"name": "-", "node": "3", "votes": false, "leads": false, "peer": "gw-3:8082", "admin": null},
        ]});

        let nodes = listed(&document, &Access::with_token("https://h:1".to_owned(), String::new()));

        let told: Vec<_> = nodes.iter().map(|node| (node.role, node.access.as_ref().map(Access::url))).collect();
        assert_eq!(
            told,
            [
                ("leader", Some("https://10.0.0.1:8081".to_owned())),
                ("voter", Some("https://10.0.0.2:9".to_owned())),
                ("learner", None)
            ]
        );
    }
}
