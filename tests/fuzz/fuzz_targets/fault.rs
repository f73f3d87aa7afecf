//! No error body, event or header panics the classifier, and none that concerns our credential is relayed.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/fault.rs"]
mod body;

fuzz_target!(|input: (u16, &str, &[u8])| body::run(input));
