//! The bodies of the fuzz targets, run over every fixture, over fixtures that were damaged, and over random bytes: so
//! they compile and hold on every change, where the fuzzer itself runs seldom.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail by panicking, as tests do")]

#[path = "../../../tests/fuzz/bodies/fault.rs"]
mod fault;
#[path = "../../../tests/fuzz/bodies/meter.rs"]
mod meter;
#[path = "../../../tests/fuzz/bodies/peek.rs"]
mod peek;
#[path = "../../../tests/fuzz/bodies/sse.rs"]
mod sse;
#[path = "../../../tests/fuzz/bodies/translate_request.rs"]
mod translate_request;
#[path = "../../../tests/fuzz/bodies/translate_stream.rs"]
mod translate_stream;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

/// Runs every body; `seed` is what the bodies want beside the bytes.
fn run_all(seed: u16, input: &[u8]) {
    let [low, high] = seed.to_le_bytes();
    let text = String::from_utf8_lossy(input);
    let header: String = text.chars().take(40).collect();
    fault::run((seed, &header, input));
    meter::run(input);
    peek::run(input);
    sse::run((low, input));
    translate_request::run(&[&[high], input].concat());
    translate_stream::run(input);
    // That target reads an event from each line; a stream's lines begin with the field's name.
    translate_stream::run(text.replace("data:", "").as_bytes());
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

fn fixtures() -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"), &mut paths);
    assert!(paths.len() > 100, "the fixtures are gone");
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_fuzz_body_holds_over_the_fixtures() {
    for (seed, input) in (0_u16..).zip(fixtures()) {
        for flags in 0..8 {
            run_all((seed % 256) | (flags << 8), &input);
        }
    }
}

#[test]
fn every_fuzz_body_holds_over_damaged_fixtures() {
    let fixtures = fixtures();
    let damage = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0_u8..3, any::<u16>());
    proptest!(ProptestConfig::with_cases(512), |((which, place, byte, kind, seed) in damage)| {
        let mut input = which.get(&fixtures).clone();
        let at = place.index(input.len() + 1);
        match kind {
            0 => input.truncate(at),
            1 => input.insert(at, byte),
            _ => input.splice(at..at, input.clone()).for_each(drop),
        }
        run_all(seed, &input);
    });
}

proptest! {
    #[test]
    fn every_fuzz_body_holds_over_random_bytes(
        seed in any::<u16>(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in r#"[\[\]{}",:a0\\u \nchoiesrdlt_.]{0,80}"#,
    ) {
        run_all(seed, &bytes);
        run_all(seed, text.as_bytes());
    }
}
