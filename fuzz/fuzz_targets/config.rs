//! Any configuration is loaded or refused without showing its secrets. `cargo fuzz run config`
#![no_main]

#[path = "../config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = config::check(input);
});
