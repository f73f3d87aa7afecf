//! Whatever a datagram holds, it is taken once or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/datagrams.rs"]
mod body;

fuzz_target!(|input: &[u8]| body::run(input));
