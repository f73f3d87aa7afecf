//! Walks `fixtures/resume`: a directory is a case, its name begins with what the client called, and `prefill` in it says
//! that the target's model takes a prefill.
//!
//! `request.json` and the events of each leg, `leg1.sse`, `leg2.sse` and so on, give what each further leg is asked for,
//! `leg2.json` and so on, and what the client reads of all of it, `client.sse`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{heard, stitched};
use crate::Operation;
use crate::resume::{Stitch, continuation, seam_comment};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/resume");
    let mut cases: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// The files a case should hold, by name.
fn expected(case: &Path) -> Vec<(String, String)> {
    let name = case.file_name().unwrap().to_str().unwrap();
    let op = match name.split('_').next().unwrap() {
        "chat" => Operation::Chat,
        "completions" => Operation::Completions,
        "messages" => Operation::Messages,
        other => panic!("{other} is no operation: {name}"),
    };
    let request = fs::read(case.join("request.json")).unwrap().into();
    let first = fs::read(case.join("leg1.sse")).unwrap();
    let mut client = first.clone();
    let mut heard = heard(op, &first);
    let mut files = Vec::new();
    for leg in 2.. {
        let asked = continuation(&request, &heard, name.contains("prefill"));
        let out = match &asked {
            Ok(asked) => json!({
                "join": asked.join.as_str(),
                "body": serde_json::from_slice::<Value>(&asked.body).unwrap(),
            }),
            Err(reason) => json!({ "reason": reason.as_str() }),
        };
        files.push((format!("leg{leg}.json"), format!("{out:#}\n")));
        let (Ok(asked), Ok(events)) = (asked, fs::read(case.join(format!("leg{leg}.sse")))) else { break };
        client.extend_from_slice(&seam_comment(&format!("target{}", leg - 1), &format!("target{leg}")));
        let mut stitch = Stitch::new(heard, asked.join);
        match stitched(&mut stitch, &events) {
            Ok(more) => client.extend_from_slice(&more),
            Err(error) => client.extend_from_slice(format!("(broken off: {error})\n").as_bytes()),
        }
        heard = stitch.into_heard();
    }
    files.push(("client.sse".to_owned(), String::from_utf8(client).unwrap()));
    files
}

#[test]
fn every_case_is_resumed_as_its_golden_says() {
    let cases = cases();
    assert!(cases.len() >= 10, "the fixtures are gone");
    let mut stale = Vec::new();
    for case in cases {
        for (name, content) in expected(&case) {
            if fs::read_to_string(case.join(&name)).ok().as_deref() != Some(content.as_str()) {
                stale.push(case.join(name));
            }
        }
    }
    assert!(stale.is_empty(), "stale goldens; look at each before regenerating: {stale:#?}");
}

#[test]
#[ignore = "regenerates the goldens"]
fn regenerate_goldens() {
    for case in cases() {
        for (name, content) in expected(&case) {
            fs::write(case.join(name), content).unwrap();
        }
    }
}
