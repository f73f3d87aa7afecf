//! The two files a user writes, and how they become checked types.
//!
//! ```text
//! flags, variables, node.toml ── boot ──▶ Boot                     fixed for the process
//! spec.toml ── spec_file ──▶ Spec ── diff ──▶ Command ── apply     hot, all or nothing
//! ```
//! Both files are read by way of [`source`], which knows where each value stands; the sections that are read are also
//! what `docs/reference/config.md` is made of. Code elsewhere never sees an unchecked value.

pub mod boot;
pub mod reload;
pub mod source;
pub mod spec_file;

mod diff;
mod env;
mod file;
mod made;
mod names;
mod reference;
mod secrets;
mod validate;

pub use boot::{AccessLog, Boot, Flags};
pub use diff::diff;
pub use env::{Env, SharedEnv, variable};
pub use file::Files;
pub use made::{OwnToken, new_admin_token, new_join_token, new_key_secret, own_token};
pub(crate) use names::check_name;
pub use reference::reference;
pub use reload::{Applied, ReloadCounters, ReloadError, Watch, apply_file};
pub use secrets::{Literals, SET};
pub use source::{ConfigError, Problem, nearest};
pub use spec_file::{Loaded, Sources, load};
pub use validate::{Report, validate};
