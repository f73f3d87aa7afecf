//! Which builds run, and what waits for the oldest of them.

use serde_json::Value;

use super::Finding;
use crate::cli::page::{Page, label, series};
use crate::cli::print::text;
use crate::telemetry::metrics::names;

/// Who does not know yet what this node knows, by `cluster features`.
pub(super) fn behind(features: &Value) -> Finding {
    let what = "versions of the state";
    let (in_force, newest) = (text(features, "version"), text(features, "newest"));
    let members = features.get("members").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let old = |member: &Value| match member.get("version").and_then(Value::as_u64) {
        None => Some(format!("{} did not tell yet", text(member, "name"))),
        Some(knows) => {
            let lacks = member.get("lacks").and_then(Value::as_array).is_some_and(|lacks| !lacks.is_empty());
            lacks.then(|| format!("{} knows up to {knows}, without {}", text(member, "name"), text(member, "lacks")))
        }
    };
    let old: Vec<String> = members.iter().filter_map(old).collect();
    if old.is_empty() {
        return Finding::good(what, format!("{in_force} is in force, and every node knows it"));
    }
    Finding::doubtful(
        what,
        format!("{in_force} is in force, this node knows up to {newest}: {}", old.join("; ")),
        "finish the upgrade: what is new waits for the last node (`troupe cluster features`)",
    )
}

/// A build, by what its metrics say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Build {
    version: String,
    /// The commit; nothing where the build was not told.
    revision: Option<String>,
}

impl Build {
    pub(super) fn of(page: &Page) -> Option<Self> {
        let (series, _) = series(page, names::BUILD_INFO.name).next()?;
        let revision = label(series, "revision").filter(|revision| *revision != "unknown").map(str::to_owned);
        Some(Self { version: label(series, "version")?.to_owned(), revision })
    }

    /// Of this program.
    pub(super) fn own() -> Self {
        let revision = option_env!("TROUPE_REVISION").filter(|revision| *revision != "unknown");
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), revision: revision.map(str::to_owned) }
    }

    /// Whether two are known to differ.
    fn differs(&self, other: &Self) -> bool {
        let revisions = self.revision.as_ref().zip(other.revision.as_ref());
        self.version != other.version || revisions.is_some_and(|(one, other)| one != other)
    }

    fn told(&self) -> String {
        match &self.revision {
            Some(revision) => format!("{} ({revision})", self.version),
            None => format!("{} (of no known commit)", self.version),
        }
    }
}

/// What runs at a node, beside what runs or is installed here.
pub(super) fn compare(name: &str, theirs: &Build, here: &Build, advice: &'static str) -> Finding {
    let what = format!("build of {name}");
    if theirs.differs(here) {
        return Finding::doubtful(what, format!("{}, here {}", theirs.told(), here.told()), advice);
    }
    Finding::good(what, theirs.told())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;
    use crate::cli::page::read;

    #[test]
    fn who_is_behind_is_named_with_what_it_lacks() {
        let features = |members: Value| json!({"version": 4, "newest": 5, "members": members});

        let even = behind(&features(json!([{"name": "gw-1", "version": 5, "lacks": []}])));
        let skewed = behind(&features(json!([
            {"name": "gw-1", "version": 5, "lacks": []},
            {"name": "gw-2", "version": 4, "lacks": ["switches"]},
            {"name": "gw-3", "version": null, "lacks": ["switches"]}
        ])));

        assert_eq!((even.verdict, skewed.verdict), (Verdict::Good, Verdict::Doubtful));
        let words = ["4 is in force", "up to 5", "gw-2 knows up to 4, without switches", "gw-3 did not tell yet"];
        assert!(words.iter().all(|word| skewed.seen.contains(word)), "{skewed:?}");
    }

    #[test]
    fn builds_of_one_version_are_told_apart_by_their_commits_where_both_are_known() {
        let build = |revision: &str| {
            let page = format!("troupe_build_info{{version=\"0.1.0\",revision=\"{revision}\"}} 1\n");
            Build::of(&read(&page)).unwrap()
        };
        let verdict = |one: &str, other: &str| compare("gw-2", &build(one), &build(other), "upgrade").verdict;

        assert_eq!(verdict("abc", "abc"), Verdict::Good);
        assert_eq!(verdict("abc", "def"), Verdict::Doubtful);
        assert_eq!(verdict("abc", "unknown"), Verdict::Good);
        let later = Build { version: "0.2.0".to_owned(), revision: None };
        assert_eq!(compare("gw-2", &later, &build("abc"), "upgrade").verdict, Verdict::Doubtful);
    }
}
