//! However a stream is cut, the same frames come out of it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/frames.rs"]
mod body;

fuzz_target!(|input: (u8, &[u8])| body::run(input));
