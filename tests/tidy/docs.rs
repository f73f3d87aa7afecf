//! Pages say what is so: links lead somewhere, every error has its page, and nothing tells of one machine.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use troupe_dialect::Dialect;
use troupe_dialect::error::{ErrorView, body};
use troupe_proto::failure::{ErrorCode, Origin};

use crate::house::{File, assert_none, files, root, sample};

const REQUEST_ID: &str = "req_0123456789abcdef0123456789abcdef";

/// Addresses of links of one page, without their anchors, code blocks left out.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    let targets = prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    let targets = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    targets.filter_map(|target| target.split('#').next()).filter(|target| !target.is_empty()).collect()
}

fn broken_links(page: &File, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let dir = Path::new(&page.path).parent().unwrap_or(Path::new(""));
    let broken = links(&page.text).into_iter().filter(|target| !exists(&plain(&dir.join(target))));
    broken.map(|target| format!("{} links to {target}", page.path)).collect()
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Paths and marks that tell of the machine or the day a file was written on. Put together here so that this file does
/// not break its own rule.
fn marks_of_a_machine(file: &File) -> Vec<String> {
    let paths = [["/wo", "rk/"], ["/ro", "ot/"], ["/tmp/tro", "upe"]].map(|parts| parts.concat());
    let to_do = ["TO", "DO"].concat();
    let mut breaches = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let number = at + 1;
        if let Some(path) = paths.iter().find(|path| starts_a_path(line, path)) {
            breaches.push(format!("{}:{number} tells of {path}", file.path));
        }
        if line.contains(&to_do) && !line.contains(&format!("{to_do}(#")) {
            breaches.push(format!("{}:{number} puts off without an issue", file.path));
        }
    }
    breaches
}

/// Whether `path` stands in `line` as a path from the machine's own top: `~/wo..` and `a/ro..` are others.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).unwrap_or("").chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '~' | '}' | '$' | '/' | '*'))
    })
}

/// What a page of an error lacks.
fn page_faults(code: ErrorCode, text: &str) -> Vec<String> {
    let name = code.as_str();
    let mut faults = Vec::new();
    for heading in ["## What happened\n", "## What to do\n", "## Retry\n"] {
        if !text.contains(heading) {
            faults.push(format!("{name}.md has no {heading:?}"));
        }
    }
    let who = match code.origin() {
        Origin::Client => "the client",
        Origin::Gateway => "the gateway",
        Origin::Provider => "the provider",
    };
    if !text.contains(&format!("\n| {} | {who} |\n", code.status())) {
        faults.push(format!("{name}.md does not say {} and {who}", code.status()));
    }
    let examples: Vec<serde_json::Value> = text
        .split("```json\n")
        .skip(1)
        .filter_map(|block| serde_json::from_str(block.split("```").next()?).ok())
        .collect();
    let message = examples.first().and_then(|first| first["error"]["message"].as_str()).unwrap_or_default();
    let view = ErrorView::new(code, message, REQUEST_ID);
    let written: Vec<serde_json::Value> = [Dialect::OpenAi, Dialect::Anthropic]
        .into_iter()
        .map(|dialect| serde_json::from_slice(&body(dialect, &view)).unwrap())
        .collect();
    if examples != written {
        faults.push(format!("{name}.md shows bodies that are not written: {written:?} are"));
    }
    faults
}

#[test]
fn links_lead_somewhere() {
    let files = files();
    let pages = files
        .iter()
        .filter(|file| file.path == "README.md" || (file.path.starts_with("docs/") && file.has_ending("md")));
    let root = root();

    let breaches: Vec<_> = pages.flat_map(|page| broken_links(page, |path| root.join(path).exists())).collect();

    assert_none("broken link", &breaches);
}

#[test]
fn a_broken_link_is_seen() {
    let page = sample(
        "docs/errors/a.md",
        "[b](../b.md#part) [c](c.md) [d](https://example.com) [e](#here)\n```\n[f](f.md)\n```\n",
    );

    let broken = broken_links(&page, |path| path == Path::new("docs/b.md"));

    assert_eq!(broken, ["docs/errors/a.md links to c.md"]);
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let files = files();
    let pages: Vec<_> = files.iter().filter(|file| file.path.starts_with("docs/errors/")).collect();
    let written: BTreeSet<_> = pages.iter().map(|page| page.path.clone()).collect();
    let expected: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| format!("docs/errors/{}.md", code.as_str())).collect();
    let expected: BTreeSet<_> = expected.into_iter().chain(["docs/errors/README.md".to_owned()]).collect();
    assert_eq!(written, expected);

    let list = pages.iter().find(|page| page.path.ends_with("README.md")).unwrap();
    let mut breaches = Vec::new();
    for code in ErrorCode::ALL {
        let page = pages.iter().find(|page| page.path == format!("docs/errors/{}.md", code.as_str())).unwrap();
        breaches.extend(page_faults(*code, &page.text));
        if !list.text.contains(&format!("| [`{0}`]({0}.md) | {1} |", code.as_str(), code.status())) {
            breaches.push(format!("{} is not in the list, or with another status", code.as_str()));
        }
    }

    assert_none("error pages", &breaches);
}

#[test]
fn a_page_that_lacks_a_part_or_shows_another_body_is_seen() {
    let page = "# `internal`\n\n| 500 | the gateway |\n\n## What happened\n## Retry\n```json\n{\"error\":{\"message\":\"m\"}}\n```\n";

    assert_eq!(page_faults(ErrorCode::Internal, page).len(), 2);
}

#[test]
fn nothing_tells_of_one_machine_or_puts_off_without_an_issue() {
    let breaches: Vec<_> = files().iter().flat_map(marks_of_a_machine).collect();

    assert_none("marks", &breaches);
}

#[test]
fn a_machines_path_and_a_bare_mark_are_seen() {
    let text =
        ["see /wo", "rk/x\nhttps://example.com/fo/wo", "rk/x\n// TO", "DO later\n// TO", "DO(#12): later\n"].concat();

    assert_eq!(marks_of_a_machine(&sample("a.rs", &text)).len(), 2);
}
