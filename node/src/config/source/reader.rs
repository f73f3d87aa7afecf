use std::fmt::Display;
use std::str::FromStr;

use super::{Entry, Node, Place, Problem, Problems, Value};

/// A field of a section: what the readers accept and the reference documents.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub takes: &'static str,
    /// What holds where it is absent; empty for nothing.
    pub default: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

/// A table with a fixed set of fields.
#[derive(Debug)]
pub struct Section {
    /// As the reference names it: `providers.NAME`.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// What it takes.
    pub fields: &'static [Field],
    /// What it will take once a part is built, and until then is refused by name: field and part.
    pub unbuilt: &'static [(&'static str, &'static str)],
}

/// A value that was found, on its way to becoming a checked one.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    node: &'a Node,
    /// Its path in the file.
    pub path: String,
    source: &'a str,
    problems: &'a Problems,
    is_loose: bool,
}

impl<'a> Found<'a> {
    /// A value of a file.
    pub const fn new(node: &'a Node, path: String, source: &'a str, problems: &'a Problems) -> Self {
        Self { node, path, source, problems, is_loose: false }
    }

    /// A value of a variable or a flag, where everything is text.
    pub const fn loose(node: &'a Node, path: String, source: &'a str, problems: &'a Problems) -> Self {
        Self { node, path, source, problems, is_loose: true }
    }

    /// The same value, whose problems are added to others.
    #[must_use]
    pub fn silent<'b>(&self, problems: &'b Problems) -> Found<'b>
    where
        'a: 'b,
    {
        Found { node: self.node, path: self.path.clone(), source: self.source, problems, is_loose: self.is_loose }
    }

    /// Says what is wrong with it.
    pub fn problem(&self, message: impl Display) {
        self.problem_at(self.node.at, self.path.clone(), message);
    }

    fn problem_at(&self, at: Place, field: String, message: impl Display) {
        self.problems.add(Problem { source: self.source.to_owned(), at, field, message: message.to_string() });
    }

    fn expected(&self, what: &str) {
        self.problem(format_args!("expected {what}, found {}", self.node.value.kind()));
    }

    fn inner(&self, node: &'a Node, path: String) -> Self {
        Self { node, path, source: self.source, problems: self.problems, is_loose: self.is_loose }
    }

    /// Its text.
    pub fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            _ => {
                self.expected("text");
                None
            }
        }
    }

    /// Whether it is this text. Reports nothing.
    pub fn is_text(&self, text: &str) -> bool {
        matches!(&self.node.value, Value::Text(own) if own == text)
    }

    /// Its text, read as a quantity.
    pub fn parsed<T: FromStr<Err: Display>>(&self) -> Option<T> {
        self.text()?.parse().map_err(|error| self.problem(error)).ok()
    }

    /// A time: TOML's own or text.
    pub fn time_text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Time(text) | Value::Text(text) => Some(text),
            _ => {
                self.expected("a time such as 2027-01-01T00:00:00Z");
                None
            }
        }
    }

    /// A whole number from `min` to `max`.
    pub fn whole(&self, min: u32, max: u32) -> Option<u32> {
        let number = match &self.node.value {
            Value::Whole(number) => Some(*number),
            Value::Text(text) if self.is_loose => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.and_then(|n| u32::try_from(n).ok()).filter(|n| (min..=max).contains(n));
        if number.is_none() {
            self.problem(format_args!("expected a whole number from {min} to {max}"));
        }
        number
    }

    /// Yes or no.
    pub fn yes_or_no(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            Value::Text(_) if self.is_loose => self.word(&[("true", true), ("false", false)]),
            _ => {
                self.expected("true or false");
                None
            }
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = hint(text, known.iter().copied());
            self.problem(format_args!("{text:?} is none of {}{hint}", known.join(", ")));
        }
        found
    }

    /// Its items, each a text; outside the file they stand in one text with commas between them.
    pub fn texts(&self) -> Option<Vec<&'a str>> {
        match &self.node.value {
            Value::Text(text) if self.is_loose => {
                Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect())
            }
            _ => self.items().iter().map(Self::text).collect(),
        }
    }

    /// Its items.
    pub fn items(&self) -> Vec<Self> {
        match &self.node.value {
            Value::List(items) => {
                items.iter().enumerate().map(|(i, item)| self.inner(item, format!("{}[{i}]", self.path))).collect()
            }
            _ => {
                self.expected("a list");
                Vec::new()
            }
        }
    }

    /// Its named values, whatever the names.
    pub fn entries(&self) -> Vec<(&'a str, Self)> {
        match &self.node.value {
            Value::Table(entries) => {
                entries.iter().map(|e| (e.name.as_str(), self.inner(&e.node, join(&self.path, &e.name)))).collect()
            }
            _ => {
                self.expected("a table");
                Vec::new()
            }
        }
    }

    /// Its fields, after names that the section does not know were reported.
    pub fn table(&self, section: &'static Section) -> Option<Table<'a>> {
        let Value::Table(entries) = &self.node.value else {
            self.expected("a table");
            return None;
        };
        for entry in entries {
            if section.fields.iter().any(|field| field.name == entry.name) {
                continue;
            }
            let known = section.fields.iter().map(|field| field.name);
            let message = match section.unbuilt.iter().find(|(name, _)| *name == entry.name) {
                Some((name, part)) => format!("{part} not built yet: remove `{name}`"),
                None => format!("unknown field `{}`{}", entry.name, hint(&entry.name, known)),
            };
            self.problem_at(entry.at, join(&self.path, &entry.name), message);
        }
        Some(Table { at: self.clone(), section, entries })
    }
}

/// A table with the fields of a section.
#[derive(Debug)]
pub struct Table<'a> {
    /// The table itself.
    pub at: Found<'a>,
    section: &'static Section,
    entries: &'a [Entry],
}

impl<'a> Table<'a> {
    /// A field's value, unless it is absent.
    pub fn get(&self, name: &str) -> Option<Found<'a>> {
        debug_assert!(self.section.fields.iter().any(|f| f.name == name), "{name} is not in {}", self.section.name);
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        (entry.node.value != Value::Null).then(|| self.at.inner(&entry.node, join(&self.at.path, name)))
    }

    /// A field's value that must be there.
    pub fn required(&self, name: &str) -> Option<Found<'a>> {
        let found = self.get(name);
        if found.is_none() {
            self.at.problem(format_args!("`{name}` is missing"));
        }
        found
    }
}

/// A name behind a path, quoted where it would not read as one.
fn join(path: &str, name: &str) -> String {
    let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let dot = if path.is_empty() { "" } else { "." };
    if is_plain { format!("{path}{dot}{name}") } else { format!("{path}{dot}{name:?}") }
}

/// The known name that was most likely meant.
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// The end of an error about a name.
pub(in crate::config) fn hint<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    nearest(name, known).map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}
