# Sourced by tests/run and tests/bench: where tools and build results lie, outside the checkout.
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/keytrail
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
# What tests and benches find their tools by (tests/src/tools.rs).
export KEYTRAIL_TOOLS=$CACHE/tools
export KEYTRAIL_BIN=$CARGO_TARGET_DIR/release/keytrail
# With SQL and S3: cargo builds it for the tests of crates/cli.
export KEYTRAIL_SQL_BIN=$CARGO_TARGET_DIR/debug/keytrail
export PATH=$KEYTRAIL_TOOLS/venv/bin:$PATH
mkdir -p "$KEYTRAIL_TOOLS"
