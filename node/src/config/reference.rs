//! `docs/reference/config.md`, made of the sections that the readers use.

use std::fmt::Write;

use super::boot;
use super::source::Section;
use super::spec_file;

const HEAD: &str = "# Configuration

A user writes two files. Both may be TOML, YAML or JSON, told apart by the file's ending. `troupe config validate --config node.toml --spec spec.toml` tells everything that is wrong with them at once.

| takes | written |
|---|---|
| name | `a-z 0-9 . _ -`, at most 128 |
| model name | letters, digits and `. _ - : / @`, at most 256; a pattern may end in `*` |
| duration | `\"250ms\"`, `\"30s\"`, `\"10m\"`, `\"2h\"`, `\"7d\"` |
| size | `\"512B\"`, `\"32KiB\"`, `\"4MiB\"`, `\"1GiB\"` |
| yes or no | `true`, `false` |
| share | `\"20%\"`, `\"2.5%\"` |
| time | RFC 3339 with its zone, `2027-01-01T00:00:00Z` |
| secret | `\"env:NAME\"` or `\"file:PATH\"` (line ends behind it are cut off; a relative path begins where the process was started). Never the secret itself, but in `troupe dev` |
| address | `\"0.0.0.0:8080\"`, `\"[::]:8080\"`, `\"localhost:8080\"` |

An unknown field is an error that gives file, line and the nearest known name. So are fields of parts that are not built yet: `[teams]`, and `team`, `limits` and `budgets` of keys, in spec.toml.

";

const NODE: &str = "## node.toml: what one process must know

Every field has a default, a variable and a flag. A flag beats a variable, a variable beats the file. An empty file is a working single node. `--config` (`TROUPE_CONFIG`) names this file, `--spec` (`TROUPE_SPEC`) the other.

";

const SPEC: &str = "## spec.toml: what the whole cluster agrees on

Read at the start and watched: a change of it, or of a file that its secrets come from, is in force about a second later; SIGHUP reads it at once. It is taken whole or not at all: a file with an error leaves what is in force, and the error is logged and counted.

";

/// The reference of every field.
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    page.push_str(NODE);
    for section in boot::SECTIONS {
        push_head(&mut page, section);
        page.push_str("| field | takes | default | variable | flag | what |\n|---|---|---|---|---|---|\n");
        for field in section.fields {
            let setting = boot::SETTINGS.iter().find(|s| s.section == section.name && s.name == field.name);
            let (variable, flag) = setting.map(|s| (s.variable, s.flag)).unwrap_or_default();
            let default = code(field.default);
            push(
                &mut page,
                format_args!(
                    "| `{}` | {} | {default} | `{variable}` | `--{flag}` | {} |\n",
                    field.name, field.takes, field.doc
                ),
            );
        }
        page.push('\n');
    }
    page.push_str(SPEC);
    for section in spec_file::SECTIONS {
        push_head(&mut page, section);
        page.push_str("| field | takes | default | what |\n|---|---|---|---|\n");
        for field in section.fields {
            let default = code(field.default);
            push(&mut page, format_args!("| `{}` | {} | {default} | {} |\n", field.name, field.takes, field.doc));
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn push_head(page: &mut String, section: &Section) {
    match section.name {
        "" => page.push_str("### The file\n\n"),
        name => push(page, format_args!("### [{name}]\n{}\n\n", section.doc)),
    }
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    page.write_fmt(text).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_in_the_repository_is_the_one_made_of_the_sections() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/config.md");
        let page = reference();

        if std::fs::read_to_string(&path).unwrap_or_default() != page {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, page).unwrap();
            panic!("{} was stale and is written anew: look at it and commit it", path.display());
        }
    }
}
