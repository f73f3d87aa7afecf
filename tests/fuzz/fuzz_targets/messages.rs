//! No bytes make a reader of messages panic, and no entry that can be read panics when it is applied.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/messages.rs"]
mod body;

fuzz_target!(|input: &[u8]| body::run(input));
