//! What the command line says of itself to shells and to `man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::print::talk;
use super::{Cli, Exit, say};

#[derive(Args)]
pub(super) struct Completion {
    /// Which shell.
    shell: Shell,
}

#[derive(Args)]
pub(super) struct Man {
    /// Writes a page for each command there, in place of the first one on the standard output.
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
    let Some(dir) = &args.dir else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut text)?;
        say(&mut std::io::stdout().lock(), &String::from_utf8_lossy(&text));
        return Ok(Exit::Ok);
    };
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)?;
    talk(&format!("the pages are in {}", dir.display()));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_completes_it() {
        let dir = tempfile::tempdir().unwrap();
        man(&Man { dir: Some(dir.path().to_owned()) }).unwrap();
        for page in ["troupe.1", "troupe-cluster-rolling-restart.1", "troupe-node-drain.1"] {
            let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
            assert!(text.contains(".SH DESCRIPTION"), "{page}: {text}");
        }

        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "troupe", &mut text);
            assert!(String::from_utf8(text).unwrap().contains("rolling-restart"), "{shell}");
        }
    }
}
