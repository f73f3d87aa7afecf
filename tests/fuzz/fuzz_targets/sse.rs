//! Any chunking of any bytes gives the same frames, and no byte is lost or doubled.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/sse.rs"]
mod body;

fuzz_target!(|input: (u8, &[u8])| body::run(input));
