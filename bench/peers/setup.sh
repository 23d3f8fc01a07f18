#!/usr/bin/env bash
# Builds the Rust peers of BUS and W4 into $BENCH_ENV/target. The peers' own setup.sh was run before.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
BENCH_ENV="${BENCH_ENV:-${TMPDIR:-/tmp}/bench-env}"
for peer in ruststream bullmq-official apalis steno; do
  (cd "$here/$peer" && CARGO_TARGET_DIR="$BENCH_ENV/target" cargo build --release --locked)
done
