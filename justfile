# Each check as a recipe, so that a developer runs what CI runs.

# All of it, cheapest first.
default: fmt clippy test doc proto deny demo million chaos siege interop

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --locked --all-targets -- --deny warnings

test:
    cargo test --locked

doc:
    RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-deps --document-private-items

# Needs buf.
proto:
    buf lint

# Needs cargo-deny.
deny:
    cargo deny --locked check bans licenses sources
    cargo deny --locked check advisories

demo:
    cargo run --locked --release -- demo --once

# A million generated answers through the mapping; `just bench` also times one.
million:
    cargo bench --locked --bench million

bench:
    cargo bench --locked --bench mapping --bench request

# Beside the floor, a plain gateway and Envoy: needs Python with venv. Alone on the machine.
compare:
    bench/run

# Needs valgrind.
instructions:
    bench/instructions --check

# Faults, storms, deadlines and cancels, with a model of every answer.
chaos:
    cargo test --locked --release --test chaos -- --calls 50000

# Needs Python and Go.
interop:
    interop/run

# Attacks, stuck sinks, drains and overload for longer than a test may take; h2spec needs Go.
siege:
    cargo test --locked --release --test siege -- --seconds 30 --cell 2 --rounds 50 --calls 20000
    tests/siege/h2spec

# The same with half a minute for each cell of the table: an hour.
siege-long:
    cargo test --locked --release --test siege -- --seconds 30 --cell 30 --rounds 50 --calls 20000

# Each fuzz target for ten minutes. Needs cargo-fuzz; in safe Rust, sanitizers find no more than panics do.
fuzz:
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none answer -- -max_total_time=600
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none request -- -max_total_time=600 -max_len=65536
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none config -- -max_total_time=600
