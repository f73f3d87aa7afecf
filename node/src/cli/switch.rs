use super::Exit;
use super::noun::{self, Changed};
use super::print::text;

/// Switches a provider off or on: `verb` is what is asked for, as paths name it.
pub(super) fn run(args: &Changed, verb: &str) -> anyhow::Result<Exit> {
    let document = noun::post("providers", args, verb)?;
    args.changing.asking.print(&document, |document| {
        format!("{} is {} at revision {}\n", args.name, text(document, "state"), text(document, "revision"))
    })
}
