use std::collections::BTreeMap;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Command};

use super::settings::{SECTIONS, SETTINGS};

/// The flags of `troupe serve` and `troupe dev`: one for each setting of node.toml, and the two files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    given: BTreeMap<&'static str, String>,
}

const FILES: [(&str, &str); 2] = [
    ("config", "node.toml, node.yaml or node.json: what this process must know [variable: TROUPE_CONFIG]"),
    ("spec", "spec.toml, spec.yaml or spec.json: what it serves; watched for changes [variable: TROUPE_SPEC]"),
];

impl Flags {
    /// The value given for a flag.
    pub fn get(&self, flag: &str) -> Option<&str> {
        self.given.get(flag).map(String::as_str)
    }

    /// All flags that were given, and their values.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.given.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Gives a flag a value, unless it has one: for commands that bring defaults of their own.
    ///
    /// Names that are no flag are ignored.
    #[must_use]
    pub fn or(mut self, flag: &str, value: &str) -> Self {
        if let Some(name) = names().find(|name| *name == flag) {
            self.given.entry(name).or_insert_with(|| value.to_owned());
        }
        self
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    let files = FILES.iter().map(|(name, _)| *name);
    files.chain(SETTINGS.iter().map(|s| s.flag))
}

fn arg(name: &'static str, takes: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(takes).value_parser(ValueParser::string())
}

impl clap::Args for Flags {
    fn augment_args(mut command: Command) -> Command {
        for (name, help) in FILES {
            command = command.arg(arg(name, "FILE").help(help));
        }
        for setting in SETTINGS {
            let field = SECTIONS
                .iter()
                .filter(|section| section.name == setting.section)
                .flat_map(|section| section.fields)
                .find(|field| field.name == setting.name);
            let Some(field) = field else { continue };
            let help = match field.default {
                "" => format!("{} [variable: {}]", field.doc, setting.variable),
                default => format!("{} [default: {default}] [variable: {}]", field.doc, setting.variable),
            };
            let arg = arg(setting.flag, "VALUE").help(help);
            // What operators of other clusters type: `--join`, `--bootstrap-expect`.
            let short = setting.flag.strip_prefix("cluster-").filter(|_| setting.section == "cluster");
            command = command.arg(match short {
                Some(short) => arg.alias(short),
                None => arg,
            });
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for name in names() {
            if let Some(value) = matches.get_one::<String>(name) {
                self.given.insert(name, value.clone());
            }
        }
        Ok(())
    }
}
