# Each check as a recipe, so that a developer runs what CI runs.

# All of it, cheapest first.
default: fmt clippy test model doc proto deny demo million chaos siege interop

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --locked --all-targets -- --deny warnings
    cargo clippy --locked --lib --tests --features model -- --deny warnings

test:
    cargo test --locked

# Code that threads share, in thousands of interleavings: src/model.rs.
model:
    cargo test --locked --features model --lib model::

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

# Attacks, drains and overload for longer than a test may take; h2spec needs Go.
siege:
    cargo test --locked --release --test siege -- --seconds 30 --rounds 50
    tests/siege/h2spec
