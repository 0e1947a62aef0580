//! Any bytes on a Unix socket pass the filter in bounds, however they are cut. `cargo fuzz run authority`
#![no_main]

#[path = "../authority.rs"]
mod authority;

libfuzzer_sys::fuzz_target!(|input: &[u8]| authority::check(input));
