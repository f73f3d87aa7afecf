//! What a caller makes a change depend on: `If-Match` and `If-None-Match`, as in section 13.1 of RFC 9110.

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName};
use troupe_proto::failure::ErrorCode;
use troupe_proto::id::Revision;

use super::failure::{Code, Failure};

/// What must hold of what a call names, or the change is not made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    /// `If-Match: "7"`: the state is at this revision.
    pub(super) revision: Option<Revision>,
    /// `If-Match: *`: it is there. `If-None-Match: *`: it is not.
    pub(super) is_there: Option<bool>,
}

impl Condition {
    /// Reads the two headers.
    ///
    /// # Errors
    /// One of them is in a form that means nothing here, or they contradict each other: a condition that is not
    /// understood must not count as one that holds.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        let matches = match only(headers, &IF_MATCH)? {
            None => Self::default(),
            Some("*") => Self { revision: None, is_there: Some(true) },
            Some(text) => Self { revision: Some(revision(text)?), is_there: None },
        };
        match (only(headers, &IF_NONE_MATCH)?, matches.is_there) {
            (None, _) => Ok(matches),
            (Some("*"), None) => Ok(Self { is_there: Some(false), ..matches }),
            (Some("*"), Some(_)) => Err(wrong("If-Match: * and If-None-Match: * cannot both hold")),
            (Some(_), _) => Err(wrong("If-None-Match is `*` here: the change is made only where there is nothing yet")),
        }
    }

    /// Whether it asks for anything.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Holds a revision against the one that was named.
    ///
    /// # Errors
    /// The state is at another one.
    pub(super) fn check_revision(&self, current: Revision) -> Result<(), Failure> {
        match self.revision {
            Some(expected) if expected != current => Err(changed(expected, current)),
            Some(_) | None => Ok(()),
        }
    }

    /// Holds against what was asked whether what the call names was there before it.
    ///
    /// # Errors
    /// It was not as asked.
    pub(super) fn check_there(&self, was_there: bool) -> Result<(), Failure> {
        match self.is_there {
            Some(true) if !was_there => Err(Failure::new(
                Code::ConditionFailed,
                "there is nothing of this name yet, and If-Match: * asks for it",
            )),
            Some(false) if was_there => Err(Failure::new(
                Code::ConditionFailed,
                "there is something of this name already, and If-None-Match: * asks that there be nothing",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// For what has no revision of its own, such as tokens.
    ///
    /// # Errors
    /// A revision was named.
    pub(super) fn without_revision(self) -> Result<Self, Failure> {
        match self.revision {
            None => Ok(self),
            Some(_) => {
                Err(wrong("If-Match is `*` here: revisions count changes of the spec, and this is no part of it"))
            }
        }
    }
}

/// The state is not where the caller thought.
pub(super) fn changed(expected: Revision, current: Revision) -> Failure {
    let detail = format!("the state is at revision {current}, the change was made for {expected}");
    Failure::new(Code::RevisionChanged, detail)
}

fn wrong(detail: &str) -> Failure {
    Failure::new(ErrorCode::InvalidField, detail)
}

/// The value of a header that may be given once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(wrong(&format!("{name} is given once")));
    }
    value.to_str().map(|text| Some(text.trim())).map_err(|_| wrong(&format!("{name} is no text")))
}

/// `"7"`, and `7` as it stands in a body.
fn revision(text: &str) -> Result<Revision, Failure> {
    let bare = text.strip_prefix('"').map_or(Some(text), |rest| rest.strip_suffix('"'));
    let digits = bare.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).map(Revision).ok_or_else(|| {
        wrong("If-Match is the ETag of an answer, one revision in quotes, or `*`: the change is made only where there is something already")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(HeaderName, &str)]) -> Result<Condition, Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value.parse().unwrap());
        }
        Condition::read(&map).map_err(|failure| failure.code)
    }

    #[test]
    fn a_revision_and_stars_are_read_and_all_else_is_refused() {
        let (revision, is_there) = (Some(Revision(7)), Some(true));

        assert_eq!(read(&[]), Ok(Condition::default()));
        for text in ["\"7\"", "7", " \"7\" "] {
            assert_eq!(read(&[(IF_MATCH, text)]), Ok(Condition { revision, is_there: None }), "{text}");
        }
        assert_eq!(read(&[(IF_MATCH, "*")]), Ok(Condition { revision: None, is_there }));
        assert_eq!(read(&[(IF_NONE_MATCH, "*")]), Ok(Condition { revision: None, is_there: Some(false) }));
        let both = [(IF_MATCH, "\"7\""), (IF_NONE_MATCH, "*")];
        assert_eq!(read(&both), Ok(Condition { revision, is_there: Some(false) }));

        for text in ["", "new", "W/\"7\"", "\"7", "7\"", "\"7\", \"8\"", "+7", "\"*\"", "99999999999999999999"] {
            assert_eq!(read(&[(IF_MATCH, text)]), Err(ErrorCode::InvalidField.into()), "{text}");
        }
        for text in ["", "\"7\"", "W/\"7\"", "*, *"] {
            assert_eq!(read(&[(IF_NONE_MATCH, text)]), Err(ErrorCode::InvalidField.into()), "{text}");
        }
        assert!(read(&[(IF_MATCH, "*"), (IF_NONE_MATCH, "*")]).is_err());
        assert!(read(&[(IF_MATCH, "\"7\""), (IF_MATCH, "\"8\"")]).is_err());
    }
}
