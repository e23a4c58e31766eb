# `just` lists these; `just ci` is the whole truth.

# What the README's second command does.
ci:
    tests/run

# Everything, the long tests too.
all:
    tests/run --all

fmt:
    cargo fmt --all

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

deny:
    cargo deny check

# Write the generated reference pages.
docs:
    cargo run -q -p tests --bin generate-docs -- write

bench:
    tests/bench
