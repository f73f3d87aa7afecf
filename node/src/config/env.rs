//! The only reader of the process's environment.
#![expect(clippy::disallowed_methods, reason = "this module is the one reader of variables")]

/// Looks variables up by name. Tests bring their own.
pub type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// The same, for what outlives its caller.
pub type SharedEnv = std::sync::Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A variable of this process; one that is not UTF-8 reads as absent.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
