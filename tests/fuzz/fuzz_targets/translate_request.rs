//! Any bytes as a request, in both directions: a translation or an error, never a panic, and what was translated reads
//! back on the other wire.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/translate_request.rs"]
mod body;

fuzz_target!(|data: &[u8]| body::run(data));
