use std::io::IsTerminal;

use clap::Args;
use http::Method;

use super::Exit;
use super::access::{AdminError, Ask};
use super::apply::{flag, human_done, human_future, is_confirmed, things};
use super::output::Output;
use super::print::{Changing, talk};
use crate::admin::Applied;

#[derive(Args)]
pub(super) struct Rollback {
    /// The entry of the audit whose spec is to be in force again.
    #[arg(long, value_name = "INDEX")]
    to: u64,
    /// Leaves what cannot come back, because its secret is gone, as it is now. Without it, nothing is changed then.
    #[arg(long)]
    leave_gone: bool,
    /// Says what would change, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Does not ask. Needed where nobody can be asked.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    changing: Changing,
}

pub(super) fn run(args: &Rollback) -> anyhow::Result<Exit> {
    let asking = &args.changing.asking;
    let to = args.to.to_string();
    let ask = |reason: Option<&str>| {
        let ask = Ask::change(Method::POST, &["rollback"], reason);
        ask.query("to", &to).query("leave_gone", flag(args.leave_gone))
    };
    let plan = asking.access.ask(&ask(None).query("dry_run", "true"))?;
    let planned: Applied = serde_json::from_value(plan.clone())?;
    let count = planned.added + planned.changed + planned.removed;
    if args.dry_run || count == 0 {
        return asking.print(&plan, |_| human_future(&planned));
    }
    let is_asked = !args.yes && std::io::stdin().is_terminal();
    if asking.output == Output::Table || is_asked {
        talk(human_future(&planned).trim_end());
    }
    if is_asked {
        if !is_confirmed()? {
            talk("nothing was changed");
            return Ok(Exit::Failed);
        }
    } else if !args.yes {
        // An entry's number says little of what it does.
        let problem = format!("{} would change: say --yes where nobody can be asked", things(count));
        return Err(AdminError::Usage(problem).into());
    }
    let document = asking.access.ask(&ask(args.changing.reason.as_deref()).at(planned.revision))?;
    let applied: Applied = serde_json::from_value(document.clone())?;
    asking.print(&document, |_| human_done(&applied))
}
