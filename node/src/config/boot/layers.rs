use std::collections::BTreeMap;

use super::flags::Flags;
use super::settings::{SECTIONS, SETTINGS};
use crate::config::env::Env;
use crate::config::file::Text;
use crate::config::source::{Found, Node, Place, Problem, Problems, Section, Value, nearest};

/// Where a setting can come from: a flag beats a variable, a variable beats the file, the file beats the default.
pub(super) struct Layers<'a> {
    file: Option<&'a Text>,
    problems: &'a Problems,
    /// By section and field: what says it, and what it says.
    outside: BTreeMap<(&'static str, &'static str), (String, Node)>,
    defaults: BTreeMap<(&'static str, &'static str), Node>,
}

fn text(value: &str) -> Node {
    Node { at: Place::default(), value: Value::Text(value.to_owned()) }
}

impl<'a> Layers<'a> {
    pub(super) fn new(flags: &Flags, env: Env<'_>, file: Option<&'a Text>, problems: &'a Problems) -> Self {
        let mut outside = BTreeMap::new();
        for setting in SETTINGS {
            let flag = flags.get(setting.flag).map(|value| (format!("--{}", setting.flag), text(value)));
            let given = flag.or_else(|| env(setting.variable).map(|value| (setting.variable.to_owned(), text(&value))));
            outside.extend(given.map(|given| ((setting.section, setting.name), given)));
        }
        let mut defaults = BTreeMap::new();
        for section in SECTIONS {
            let with_default = section.fields.iter().filter(|field| !field.default.is_empty());
            defaults.extend(with_default.map(|field| ((section.name, field.name), text(field.default))));
        }
        Self { file, problems, outside, defaults }
    }

    /// The value of a setting from the nearest layer that has one.
    pub(super) fn get(&'a self, section: &'static Section, name: &'static str) -> Option<Found<'a>> {
        let path = format!("{}.{name}", section.name);
        let key = (section.name, name);
        if let Some((source, node)) = self.outside.get(&key) {
            return Some(Found::loose(node, path, source, self.problems));
        }
        let in_file = self.file.and_then(|file| {
            let node = path.split('.').try_fold(&file.root, |node, name| child(node, name))?;
            (node.value != Value::Null).then(|| Found::new(node, path.clone(), &file.source, self.problems))
        });
        in_file.or_else(|| self.defaults.get(&key).map(|node| Found::loose(node, path, "default", self.problems)))
    }

    /// Reports what the file says and no setting takes.
    pub(super) fn refuse_unknown(&self) {
        if let Some(file) = self.file {
            self.refuse_unknown_in(&file.root, "", &file.source);
        }
    }

    fn refuse_unknown_in(&self, node: &Node, section: &str, source: &str) {
        let entries = match &node.value {
            Value::Table(entries) => entries,
            Value::Null => return,
            other => {
                let message = format!("expected a table, found {}", other.kind());
                return self.add(source, node.at, section, message);
            }
        };
        let known: Vec<&str> = names_in(section).collect();
        for entry in entries {
            let path = if section.is_empty() { entry.name.clone() } else { format!("{section}.{}", entry.name) };
            if SECTIONS.iter().any(|section| section.name == path) {
                self.refuse_unknown_in(&entry.node, &path, source);
            } else if !known.contains(&entry.name.as_str()) {
                let hint = nearest(&entry.name, known.iter().copied());
                let hint = hint.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
                self.add(source, entry.at, &path, format!("unknown field `{}`{hint}", entry.name));
            }
        }
    }

    fn add(&self, source: &str, at: Place, field: &str, message: String) {
        self.problems.add(Problem { source: source.to_owned(), at, field: field.to_owned(), message });
    }
}

fn child<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Table(entries) => entries.iter().find(|entry| entry.name == name).map(|entry| &entry.node),
        _ => None,
    }
}

/// The fields and sections right inside a section; "" is the file.
fn names_in(path: &str) -> impl Iterator<Item = &'static str> {
    let fields = SECTIONS.iter().filter(move |section| section.name == path).flat_map(|section| section.fields);
    let inner = SECTIONS.iter().filter_map(move |section| {
        let rest = if path.is_empty() { section.name } else { section.name.strip_prefix(path)?.strip_prefix('.')? };
        (!rest.contains('.')).then_some(rest)
    });
    fields.map(|field| field.name).chain(inner)
}
