//! The bounds on every configuration: the fuzzer's corpus as a plain test, and generated text.

#[path = "../../fuzz/config.rs"]
mod config;

use proptest::prelude::*;

#[test]
fn the_corpus_holds() {
    let loaded = std::cell::Cell::new(0);
    let files = super::support::corpus("config", |input| {
        loaded.set(loaded.get() + usize::from(config::check(input) == Some(true)));
    });
    assert!(files >= 20, "{files}");
    // The invariants hold for configurations too, not only for faults.
    assert!(loaded.get() >= 7, "{}", loaded.get());
}

proptest! {
    #[test]
    fn any_text_holds(choice in any::<u8>(), value in "\\PC{0,20}@\\PC{0,20}", file in "(\\PC|\n){0,200}") {
        let mut input = vec![choice];
        input.extend_from_slice(format!("{value}\n{file}").as_bytes());
        config::check(&input);
    }
}
