//! Configuration text as a tree that knows where each value stands, and readers that collect every problem.
//!
//! TOML, YAML and JSON become the same [`Node`]s, so that all three report errors alike: file, line, column, field, and
//! the nearest known name.

mod json;
mod parse;
mod problem;
mod reader;

pub use json::parse_json;
pub use parse::{Format, parse};
pub use problem::{ConfigError, Place, Problem, Problems};
pub use reader::{Field, Found, Section, Table, nearest};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: Place,
    /// What it is.
    pub value: Value,
}

/// What a configuration file can say.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing; reads as if the field were absent.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Whole(i64),
    /// A number that is not whole; no field takes one.
    Fraction(f64),
    /// Text.
    Text(String),
    /// A time that TOML wrote without quotes.
    Time(String),
    /// Values in order.
    List(Vec<Node>),
    /// Named values.
    Table(Vec<Entry>),
}

/// One named value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub at: Place,
    /// Its value.
    pub node: Node,
}

impl Value {
    /// What it is, for a reader of an error.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Whole(_) => "a whole number",
            Self::Fraction(_) => "a number with a fraction",
            Self::Text(_) => "text",
            Self::Time(_) => "a time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}
