//! Any bytes as the events of a stream (one a line) and as a whole reply: never a panic, only whole events out, and
//! nothing at all from an end that was not seen.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/translate_stream.rs"]
mod body;

fuzz_target!(|data: &[u8]| body::run(data));
