//! What the command line says of itself to shells and to `man`.
//!
//! All of it is made of the same source as `--help`: a page is as clap has the command, with every option it takes.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::access::AdminError;
use super::print::talk;
use super::{Cli, Exit, say};

/// The section of programs.
const SECTION: &str = "1";
/// What the numbers mean that a command ends with.
const EXITS: [(Exit, &str); 7] = [
    (Exit::Ok, "done"),
    (Exit::Failed, "failed"),
    (Exit::Usage, "the command line, or a file that it names, was not understood"),
    (Exit::NotFound, "what was named is not there"),
    (Exit::Conflict, "in conflict with what is in force"),
    (Exit::Unreachable, "no node was reached, or no quorum"),
    (Exit::Unhealthy, "something is not well"),
];

#[derive(Args)]
pub(super) struct Completion {
    /// Which shell.
    shell: Shell,
}

#[derive(Args)]
pub(super) struct Man {
    /// The command whose page is printed, word by word: `troupe man cluster status`. Without it, one page of the whole
    /// program is.
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Writes a page for the program and for each command there, in place of one on the standard output.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints a shell's completions.
pub(super) fn completion(args: &Completion) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "troupe", &mut text);
    say(&mut std::io::stdout().lock(), &String::from_utf8_lossy(&text));
    Exit::Ok
}

/// Prints or writes manual pages.
pub(super) fn man(args: &Man) -> anyhow::Result<Exit> {
    let program = program();
    let Some(dir) = &args.dir else {
        let words: Vec<&str> = args.command.iter().map(String::as_str).collect();
        let page = if words.is_empty() { whole(&program)? } else { page(find(&program, &words)?)? };
        say(&mut std::io::stdout().lock(), &page);
        return Ok(Exit::Ok);
    };
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    for command in all(&program) {
        let path = dir.join(format!("{}.{SECTION}", title(command)));
        std::fs::write(&path, page(command)?).with_context(|| path.display().to_string())?;
    }
    talk(&format!("the pages are in {}; `man -M` wants them in a directory man1", dir.display()));
    Ok(Exit::Ok)
}

/// The program with all its commands, complete: what clap adds at a run is there too.
fn program() -> Command {
    // `help` is each command's own page.
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    program
}

/// The commands right below one, without those that are hidden.
fn below(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

/// A command and everything below it, each before what is below it.
fn all(command: &Command) -> Vec<&Command> {
    std::iter::once(command).chain(below(command).flat_map(all)).collect()
}

/// `troupe-cluster-status`.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The command that words name; `troupe-cluster-status`, as pages refer to each other, names one too.
fn find<'a>(program: &'a Command, words: &[&str]) -> Result<&'a Command, AdminError> {
    if let [title_of] = words
        && let Some(command) = all(program).into_iter().find(|command| title(command) == *title_of)
    {
        return Ok(command);
    }
    let mut command = program;
    for word in words {
        let next = below(command).find(|below| below.get_name() == *word);
        command = next.ok_or_else(|| {
            let known: Vec<&str> = below(command).map(Command::get_name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            AdminError::Usage(format!("{} has no command {word:?}; it has: {known}", command.get_name()))
        })?;
    }
    Ok(command)
}

/// The page of one command, which refers to the pages of those below it.
fn page(command: &Command) -> anyhow::Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).section(SECTION).render(&mut text)?;
    Ok(String::from_utf8(text)? + &exits())
}

/// One page of the whole program: a section for each command that does something. It refers to no other page.
fn whole(program: &Command) -> anyhow::Result<String> {
    let man = clap_mangen::Man::new(program.clone()).section(SECTION);
    let mut head = Vec::new();
    man.render_title(&mut head)?;
    man.render_name_section(&mut head)?;
    man.render_synopsis_section(&mut head)?;
    man.render_options_section(&mut head)?;
    let mut text = String::from_utf8(head)?;
    for command in all(program).into_iter().skip(1).filter(|command| below(command).next().is_none()) {
        text.push_str(&section(command)?);
    }
    Ok(text + &exits())
}

/// What one command is, as a section of the page of the whole program.
fn section(command: &Command) -> anyhow::Result<String> {
    let man = clap_mangen::Man::new(command.clone());
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    let [synopsis, description, options] = &mut parts;
    man.render_synopsis_section(synopsis)?;
    man.render_description_section(description)?;
    man.render_options_section(options)?;
    let mut text = head(command);
    for (at, part) in parts.into_iter().enumerate() {
        let part = String::from_utf8(part)?;
        // Each part brings the definitions that a page begins with, and a head of its own.
        let lines = part.lines().filter(|line| ![".ie ", ".el ", ".SH "].iter().any(|known| line.starts_with(known)));
        text.push_str(if at == 0 { "" } else { ".PP\n" });
        text.extend(lines.flat_map(|line| [line, "\n"]));
    }
    Ok(text)
}

/// The name of a command's section, as it is typed. It is one argument: words that belong together stay together.
fn head(command: &Command) -> String {
    format!(".SH \"{}\"\n", command.get_bin_name().unwrap_or_else(|| command.get_name()))
}

fn exits() -> String {
    let lines = EXITS.iter().map(|(exit, meaning)| format!(".TP\n\\fB{}\\fR\n{meaning}\n", *exit as isize));
    ".SH \"EXIT STATUS\"\n".to_owned() + &lines.collect::<String>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Hyphens as they are typed: troff writes them with a backslash.
    fn plain(page: &str) -> String {
        page.replace("\\-", "-").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "")
    }

    fn lacks(page: &str, command: &Command) -> Vec<String> {
        let options = command.get_arguments().filter(|option| !option.is_hide_set());
        let names = options.map(|option| match (option.get_long(), option.get_value_names()) {
            (Some(long), _) => format!("--{long}"),
            (None, Some(names)) => names[0].to_string(),
            (None, None) => option.get_id().to_string(),
        });
        let page = plain(page);
        names.filter(|name| !page.contains(name.as_str())).collect()
    }

    #[test]
    fn the_page_of_the_program_has_every_command_with_every_option_it_takes() {
        let program = program();

        let whole = whole(&program).unwrap();

        assert!(lacks(&whole, &program).is_empty());
        let doing: Vec<&Command> = all(&program).into_iter().filter(|c| below(c).next().is_none()).collect();
        assert!(doing.len() > 40, "{}", doing.len());
        for command in doing {
            let head = head(command);
            let (_, section) = whole.split_once(&head).unwrap_or_else(|| panic!("{head} is missing"));
            let section = section.split(".SH ").next().unwrap();
            assert_eq!(lacks(section, command), Vec::<String>::new(), "{head}");
            let about = command.get_about().unwrap().to_string();
            let first = about.split_whitespace().next().unwrap();
            assert!(section.contains(first), "{head}: {section}");
        }
        assert_eq!(whole.matches(".TH ").count(), 1);
        assert!(whole.contains(".SH \"EXIT STATUS\"") && !plain(&whole).contains("(1)"), "{whole}");
    }

    #[test]
    fn every_page_that_a_page_refers_to_is_made() {
        let dir = tempfile::tempdir().unwrap();

        man(&Man { command: Vec::new(), dir: Some(dir.path().to_owned()) }).unwrap();

        let made =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let made: BTreeSet<String> = made.collect();
        let program = program();
        assert_eq!(made.len(), all(&program).len());
        let mut referred = 0;
        for page in &made {
            let text = plain(&std::fs::read_to_string(dir.path().join(page)).unwrap());
            let names = text.split_whitespace().filter_map(|word| word.strip_suffix("(1)"));
            for name in names {
                assert!(made.contains(&format!("{name}.1")), "{page} refers to {name}");
                assert!(find(&program, &[name]).is_ok(), "{name}");
                referred += 1;
            }
        }
        // Each page but the program's own is referred to once.
        assert_eq!(referred, made.len() - 1);
    }

    #[test]
    fn a_command_s_page_is_found_by_its_words_and_another_one_s_is_told() {
        let program = program();

        let found = find(&program, &["cluster", "rolling-restart"]).unwrap();
        let error = find(&program, &["cluster", "restart"]).err().unwrap();

        assert!(lacks(&page(found).unwrap(), found).is_empty());
        assert!(page(found).unwrap().contains("rolling"), "{}", title(found));
        let told = error.to_string();
        assert!(told.contains("\"restart\"") && told.contains("rolling-restart"), "{told}");
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "troupe", &mut text);
            assert!(String::from_utf8(text).unwrap().contains("rolling-restart"), "{shell}");
        }
    }
}
