//! Any bytes become a request for the cloud that stays in its bounds, or a refusal that does. `cargo fuzz run request`
#![no_main]

#[path = "../request.rs"]
mod request;

libfuzzer_sys::fuzz_target!(|input: &[u8]| request::check(input));
