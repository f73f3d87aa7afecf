//! What a client may say, by header, of how its own call is routed.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use troupe_proto::failure::ErrorCode;
use troupe_proto::unit::Wait;

use super::refusal::Refusal;
use crate::view::{Key, Member};

/// How long the whole call may take.
pub(super) const DEADLINE: &str = "x-troupe-deadline";
/// Whether other models may serve.
pub(super) const FALLBACK: &str = "x-troupe-fallback";
/// The one target that may serve; in a reply, the one that did.
pub(super) const TARGET: &str = "x-troupe-target";

/// A call's own wishes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Controls {
    pub(super) deadline: Option<Duration>,
    pub(super) falls_back: bool,
    pub(super) pin: Option<Pin>,
}

/// A target as a client names it: `provider`, `provider/key` or `provider/key/model`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    provider: Box<str>,
    credential: Option<Box<str>>,
    model: Option<Box<str>>,
}

impl Controls {
    /// Reads the headers.
    ///
    /// # Errors
    /// `invalid_field` for a value that says nothing, `pin_forbidden` where the key may not choose its target.
    pub(super) fn read(headers: &HeaderMap, key: &Key) -> Result<Self, Refusal> {
        if !headers.keys().any(|name| name.as_str().starts_with("x-troupe-")) {
            return Ok(Self { deadline: None, falls_back: true, pin: None });
        }
        let deadline = text(headers, DEADLINE)?.map(deadline).transpose()?;
        let falls_back = match text(headers, FALLBACK)? {
            None | Some("on") => true,
            Some("off") => false,
            Some(_) => return Err(bad(FALLBACK, "is either `on` or `off`")),
        };
        let pin = text(headers, TARGET)?.map(Pin::parse).transpose()?;
        if pin.is_some() && !key.may_pin {
            let message = format!("the API key {:?} may not choose its target", key.id);
            return Err(Refusal::new(ErrorCode::PinForbidden, message).with_param(Some(TARGET.to_owned())));
        }
        Ok(Self { deadline, falls_back, pin })
    }
}

fn deadline(text: &str) -> Result<Duration, Refusal> {
    let wait: Option<Wait> = text.parse().ok();
    let deadline = wait.map(|wait| wait.0).filter(|deadline| !deadline.is_zero());
    deadline.ok_or_else(|| bad(DEADLINE, "is a duration such as `1500ms` or `30s`"))
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = headers.get(HeaderName::from_static(name)) else { return Ok(None) };
    value.to_str().map(|text| Some(text.trim())).map_err(|_| bad(name, "is plain text"))
}

fn bad(name: &str, what: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidField, format!("the header {name} {what}")).with_param(Some(name.to_owned()))
}

impl Pin {
    /// Reads a target as a client names it.
    ///
    /// # Errors
    /// `invalid_field` for a text that names none.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let mut parts = text.splitn(3, '/').map(Box::<str>::from);
        let (provider, credential, model) = (parts.next(), parts.next(), parts.next());
        let is_whole = [&credential, &model].iter().all(|part| part.as_ref().is_none_or(|part| !part.is_empty()));
        match provider.filter(|provider| !provider.is_empty() && is_whole) {
            Some(provider) => Ok(Self { provider, credential, model }),
            None => Err(bad(TARGET, "names a target as `provider`, `provider/key` or `provider/key/model`")),
        }
    }

    /// Whether it means this member, asked for this name.
    pub(super) fn means(&self, member: &Member, asked: &str) -> bool {
        let credential = member.credential.as_ref().map_or("-", |credential| credential.id.as_str());
        *self.provider == *member.provider.id.as_str()
            && self.credential.as_ref().is_none_or(|wanted| **wanted == *credential)
            && self.model.as_ref().is_none_or(|wanted| **wanted == *member.model.as_deref().unwrap_or(asked))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.provider)?;
        for part in [&self.credential, &self.model].into_iter().flatten() {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    fn read(name: &'static str, value: &'static str, may_pin: bool) -> Result<Controls, ErrorCode> {
        Controls::read(&headers(name, value), &Key::sample(may_pin)).map_err(|refusal| refusal.code)
    }

    #[test]
    fn without_headers_nothing_is_asked_for() {
        let controls = Controls::read(&HeaderMap::new(), &Key::sample(false)).unwrap();

        assert_eq!(controls, Controls { deadline: None, falls_back: true, pin: None });
    }

    #[test]
    fn a_deadline_has_a_unit() {
        assert_eq!(read(DEADLINE, "1500ms", false).unwrap().deadline, Some(Duration::from_millis(1500)));
        assert_eq!(read(DEADLINE, "1.5s", false).unwrap().deadline, Some(Duration::from_millis(1500)));
        for bad in ["", "5", "soon", "0s", "-1s"] {
            assert_eq!(read(DEADLINE, bad, false), Err(ErrorCode::InvalidField), "{bad:?}");
        }
    }

    #[test]
    fn fallbacks_are_on_or_off() {
        assert!(!read(FALLBACK, "off", false).unwrap().falls_back);
        assert!(read(FALLBACK, "on", false).unwrap().falls_back);
        assert_eq!(read(FALLBACK, "false", false), Err(ErrorCode::InvalidField));
    }

    #[test]
    fn a_target_is_chosen_only_by_keys_that_may() {
        assert_eq!(read(TARGET, "openai", false), Err(ErrorCode::PinForbidden));
        for (text, parts) in [("openai", 1), ("openai/main", 2), ("openai/main/gpt-4o", 3), ("o/-/vendor/model", 3)] {
            let pin = read(TARGET, text, true).unwrap().pin.unwrap();
            assert_eq!(pin.to_string(), text);
            let named = 1 + usize::from(pin.credential.is_some()) + usize::from(pin.model.is_some());
            assert_eq!(named, parts);
        }
        for bad in ["", "/", "openai/", "/main"] {
            assert_eq!(read(TARGET, bad, true), Err(ErrorCode::InvalidField), "{bad:?}");
        }
    }
}
