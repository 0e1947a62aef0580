//! Any answer of the cloud, as bytes, becomes a status within its bounds. `cargo fuzz run answer`
#![no_main]

#[path = "../answer.rs"]
mod answer;

libfuzzer_sys::fuzz_target!(|input: &[u8]| answer::check(input));
