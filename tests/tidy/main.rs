//! House rules as tests. Each rule is a plain function from text to a list of what breaks it, tried on the whole house
//! and on a sample that does break it.
#![expect(clippy::unwrap_used, reason = "all of this is a test, and what cannot be read is a failure")]

mod docs;
mod house;
mod layers;
mod purity;
mod registries;
