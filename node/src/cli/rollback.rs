use clap::Args;
use http::Method;

use super::Exit;
use super::access::Ask;
use super::apply::{flag, human_done, things};
use super::planned::{Go, Planned};
use crate::admin::Applied;

#[derive(Args)]
pub(super) struct Rollback {
    /// The entry of the audit whose spec is to be in force again.
    #[arg(long, value_name = "INDEX")]
    to: u64,
    /// Leaves what cannot come back, because its secret is gone, as it is now. Without it, nothing is changed then.
    #[arg(long)]
    leave_gone: bool,
    #[command(flatten)]
    planned: Planned,
}

pub(super) fn run(args: &Rollback) -> anyhow::Result<Exit> {
    let changing = &args.planned.changing;
    let asking = &changing.asking;
    let to = args.to.to_string();
    let ask = |reason: Option<&str>| {
        let ask = Ask::change(Method::POST, &["rollback"], reason);
        ask.query("to", &to).query("leave_gone", flag(args.leave_gone))
    };
    let plan = asking.access.ask(&ask(None).query("dry_run", "true"))?;
    let planned: Applied = serde_json::from_value(plan.clone())?;
    // An entry's number says little of what it does.
    let grave = format!("{} would change", things(planned.added + planned.changed + planned.removed));
    if let Go::Home(exit) = args.planned.confirm(&plan, &planned, Some(grave))? {
        return Ok(exit);
    }
    let document = asking.access.ask(&ask(changing.reason.as_deref()).at(planned.revision))?;
    let applied: Applied = serde_json::from_value(document.clone())?;
    asking.print(&document, |_| human_done(&applied))
}
