//! No body panics; what is accepted is what `serde_json` accepts; an edit changes the model and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/peek.rs"]
mod body;

fuzz_target!(|input: &[u8]| body::run(input));
