//! No stream and no reply panics the meter; what it hands on instead of an event is still one event.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/meter.rs"]
mod body;

fuzz_target!(|input: &[u8]| body::run(input));
