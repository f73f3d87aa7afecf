//! Reads members out of foreign JSON objects and keeps what is left.
//!
//! A decoder takes the members it has words for; the rest of the object becomes the `extra` of the canonical form, so
//! that nothing is dropped by being unknown. A `null` is never taken: it means the same as an absent member and stays
//! where it was.

use std::fmt;

use serde_json::{Map, Number, Value};

/// Members of a wire's object that the canonical form has no word for, as they came.
pub type Extra = Map<String, Value>;

/// Where in a document a value stands; written out only when it has to be named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl Path<'_> {
    pub(crate) const ROOT: Path<'static> = Path { parent: None, step: Step::Root };
}

impl<'a> Path<'a> {
    pub(crate) const fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    pub(crate) const fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    pub(crate) fn error(&self, problem: impl Into<String>) -> FieldError {
        FieldError { param: self.to_string(), problem: problem.into() }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if !matches!(parent.step, Step::Root) && matches!(self.step, Step::Key(_)) {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) => f.write_str(key),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A member that is missing, has the wrong type or a value that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{param}: {problem}")]
pub struct FieldError {
    /// The member, as `messages[0].content[1].text`.
    pub param: String,
    /// What is wrong with it.
    pub problem: String,
}

/// An object whose members are being taken.
pub(crate) struct Fields<'p> {
    map: Map<String, Value>,
    pub(crate) path: Path<'p>,
}

impl<'p> Fields<'p> {
    pub(crate) fn new(value: Value, path: Path<'p>) -> Result<Self, FieldError> {
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(path.error("must be an object"))
            }
        }
    }

    /// Takes a member whatever it is; `null` counts as absent.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        if self.map.get(key).is_none_or(Value::is_null) { None } else { self.map.shift_remove(key) }
    }

    pub(crate) fn peek(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Puts what is left of an object back under its name.
    pub(crate) fn put_back(&mut self, key: &str, rest: Extra) {
        if !rest.is_empty() {
            self.map.insert(key.to_owned(), Value::Object(rest));
        }
    }

    pub(crate) fn put(&mut self, key: &str, value: Value) {
        self.map.insert(key.to_owned(), value);
    }

    pub(crate) fn missing(&self, key: &str) -> FieldError {
        self.path.key(key).error("is required")
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, FieldError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.path.key(key).error("must be a string")),
        }
    }

    pub(crate) fn text_required(&mut self, key: &str) -> Result<String, FieldError> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>, FieldError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.path.key(key).error("must be a boolean")),
        }
    }

    pub(crate) fn count(&mut self, key: &str) -> Result<Option<u64>, FieldError> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| self.path.key(key).error("must be a whole number, 0 or more"))
            }
        }
    }

    pub(crate) fn number(&mut self, key: &str) -> Result<Option<Number>, FieldError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number)),
            Some(_) => Err(self.path.key(key).error("must be a number")),
        }
    }

    pub(crate) fn list(&mut self, key: &str) -> Result<Option<Vec<Value>>, FieldError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(self.path.key(key).error("must be a list")),
        }
    }

    pub(crate) fn rest(self) -> Extra {
        self.map
    }
}

/// Builds an object member by member.
#[derive(Default)]
pub(crate) struct Object(Map<String, Value>);

impl Object {
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn with_some(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds what the canonical form had no word for. Where a member was taken apart, both halves are joined again.
    pub(crate) fn extra(mut self, extra: Extra) -> Self {
        for (key, value) in extra {
            match (self.0.get_mut(&key), value) {
                (Some(Value::Object(own)), Value::Object(rest)) => own.extend(rest),
                (Some(_), _) => {}
                (None, value) => {
                    self.0.insert(key, value);
                }
            }
        }
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn build(self) -> Value {
        Value::Object(self.0)
    }
}
