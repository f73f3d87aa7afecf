//! Changes that are shown before they are made: `apply` and `rollback`.

use std::io::{IsTerminal, Write};

use clap::Args;
use serde_json::Value;

use super::Exit;
use super::access::AdminError;
use super::apply::human_future;
use super::output::Output;
use super::print::{Changing, talk};
use crate::admin::Applied;

/// How a change of several things is made.
#[derive(Args)]
pub(super) struct Planned {
    /// Says what would change, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Does not ask. Needed where nobody can be asked and something goes, or comes back.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    pub(super) changing: Changing,
}

/// Whether a change is made.
pub(super) enum Go {
    /// It is. Whether somebody was asked: then what changes must be what was shown.
    On { is_asked: bool },
    /// It is not, and the command is over.
    Home(Exit),
}

impl Planned {
    /// Shows a plan, the node's answer to a dry run, and asks whether to go on. `grave` says what of it needs a yes even
    /// where nobody can be asked; nothing of it does otherwise.
    pub(super) fn confirm(&self, plan: &Value, planned: &Applied, grave: Option<String>) -> anyhow::Result<Go> {
        let asking = &self.changing.asking;
        if self.dry_run || planned.added + planned.changed + planned.removed == 0 {
            return Ok(Go::Home(asking.print(plan, |_| human_future(planned))?));
        }
        let is_asked = !self.yes && std::io::stdin().is_terminal();
        if asking.output == Output::Table || is_asked {
            // What is about to happen is said before it happens; only what happened is data.
            talk(human_future(planned).trim_end());
        }
        if is_asked {
            if !is_confirmed()? {
                talk("nothing was changed");
                return Ok(Go::Home(Exit::Failed));
            }
        } else if let Some(grave) = grave.filter(|_| !self.yes) {
            return Err(AdminError::Usage(format!("{grave}: say --yes where nobody can be asked")).into());
        }
        Ok(Go::On { is_asked })
    }
}

fn is_confirmed() -> std::io::Result<bool> {
    let mut out = std::io::stderr().lock();
    out.write_all(b"change this? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
