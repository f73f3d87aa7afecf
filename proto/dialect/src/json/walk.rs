//! The visitor that reads a value of any shape and keeps nothing but the names of the objects it is in.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{BadJson, ECHO_MAX, Kind, head};

/// Up to this many members, names are compared one by one; beyond it, by hash.
const LIST_MAX: usize = 16;

/// What one walk shares between its levels.
///
/// The names of all open objects are on one stack, so that a body costs one allocation and not one an object.
#[derive(Debug, Default)]
pub(crate) struct Walk<'de> {
    names: RefCell<Vec<Cow<'de, str>>>,
    /// Set when the walk stopped at a name that was there before.
    twice: RefCell<Option<String>>,
    /// The way to it, innermost step first; filled while the walk unwinds.
    steps: RefCell<Vec<String>>,
}

impl<'de> Walk<'de> {
    /// Starts an object.
    pub(crate) fn open(&self) -> Names<'_, 'de> {
        Names { walk: self, base: self.names.borrow().len(), many: None }
    }

    /// What a failure of the reader means.
    pub(crate) fn explain(&self, error: &serde_json::Error) -> BadJson {
        let (line, column) = (error.line(), error.column());
        if let Some(key) = self.twice.take() {
            return BadJson::Duplicate { key: head(&key, ECHO_MAX).to_owned(), path: self.path(), line, column };
        }
        let what = error.to_string();
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
        if what.starts_with("recursion limit exceeded") {
            return BadJson::TooDeep { line, column };
        }
        BadJson::Syntax { what: head(what, 2 * ECHO_MAX).to_owned(), line, column }
    }

    fn step(&self, step: impl FnOnce() -> String) {
        if self.twice.borrow().is_some() {
            self.steps.borrow_mut().push(step());
        }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in self.steps.borrow().iter().rev() {
            if path.len() + step.len() > 2 * ECHO_MAX {
                path.push('…');
                break;
            }
            if !path.is_empty() && !step.starts_with('[') {
                path.push('.');
            }
            path.push_str(step);
        }
        if path.is_empty() { "body".to_owned() } else { path }
    }
}

/// The names that the object being read has so far.
#[derive(Debug)]
pub(crate) struct Names<'w, 'de> {
    walk: &'w Walk<'de>,
    base: usize,
    many: Option<HashSet<Cow<'de, str>>>,
}

impl<'de> Names<'_, 'de> {
    /// Takes the next name.
    ///
    /// # Errors
    /// When the object has it already.
    pub(crate) fn add<E: serde::de::Error>(&mut self, name: Cow<'de, str>) -> Result<(), E> {
        let mut names = self.walk.names.borrow_mut();
        let mine = names.get(self.base..).unwrap_or_default();
        let new = match &mut self.many {
            Some(many) => many.insert(name.clone()),
            None if mine.len() < LIST_MAX => !mine.contains(&name),
            None => {
                let many = self.many.insert(mine.iter().cloned().collect());
                many.insert(name.clone())
            }
        };
        if !new {
            *self.walk.twice.borrow_mut() = Some(name.into_owned());
            return Err(E::custom("the same member twice"));
        }
        names.push(name);
        Ok(())
    }

    /// Notes the member being read as a step of the way to a failure.
    pub(crate) fn note(&self) {
        self.walk.step(|| {
            let names = self.walk.names.borrow();
            names.last().map_or_else(String::new, |name| head(name, ECHO_MAX).to_owned())
        });
    }
}

impl Drop for Names<'_, '_> {
    fn drop(&mut self) {
        self.walk.names.borrow_mut().truncate(self.base);
    }
}

/// Reads one value, whatever it is, and says its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walker<'w, 'de> {
    walk: &'w Walk<'de>,
}

impl<'w, 'de> Walker<'w, 'de> {
    /// A reader of one value within `walk`.
    pub(crate) const fn new(walk: &'w Walk<'de>) -> Self {
        Self { walk }
    }
}

impl<'de> DeserializeSeed<'de> for Walker<'_, 'de> {
    type Value = Kind;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Kind, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walker<'_, 'de> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Kind, E> {
        Ok(Kind::Bool)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Kind, E> {
        Ok(Kind::Number)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Kind, E> {
        Ok(Kind::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Kind, E> {
        Ok(Kind::Number)
    }

    fn visit_str<E>(self, _: &str) -> Result<Kind, E> {
        Ok(Kind::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut at = 0_usize;
        while items.next_element_seed(self).inspect_err(|_| self.walk.step(|| format!("[{at}]")))?.is_some() {
            at += 1;
        }
        Ok(Kind::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Kind, A::Error> {
        let mut names = self.walk.open();
        while let Some(name) = members.next_key_seed(Key)? {
            names.add::<A::Error>(name)?;
            members.next_value_seed(self).inspect_err(|_| names.note())?;
        }
        Ok(Kind::Object)
    }
}

/// Reads a member's name, unescaped; borrowed where it has no escapes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}
