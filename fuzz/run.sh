#!/usr/bin/env bash
# Runs the fuzz targets one after the other, each for so many seconds, on its corpus:
#   fuzz/run.sh 60             all of them
#   fuzz/run.sh 600 pgoutput   one
# What is found is kept in fuzz/artifacts/TARGET; to see it again: fuzz/run.sh 0 TARGET FILE
# New inputs that reach new code stay in target/fuzz/corpus; the small corpus in the repository
# changes only by hand.
set -euo pipefail

seconds=${1:-60}
only=${2:-}
file=${3:-}
fuzz=$(realpath "$(dirname "$0")")
target=$(realpath -m "${CARGO_TARGET_DIR:-$fuzz/../target}")/fuzz
triple=$(rustc -vV | sed -n 's/^host: //p')

# What cargo-fuzz sets, but for the address sanitizer, which needs a nightly compiler and finds
# nothing in code without `unsafe`. With --target, build scripts stay as they are.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --locked --release --manifest-path "$fuzz/Cargo.toml" --target "$triple" \
    --target-dir "$target" ${only:+--bin "$only"}

# Journals and transactions in progress are files: in memory, a sync costs nothing.
[ -w /dev/shm ] && export TMPDIR=/dev/shm

for source in "$fuzz"/fuzz_targets/*.rs; do
    name=$(basename "$source" .rs)
    [ -z "$only" ] || [ "$only" = "$name" ] || continue
    program=$target/$triple/release/$name
    if [ -n "$file" ]; then
        exec "$program" "$file"
    fi
    found=$target/corpus/$name
    mkdir -p "$found" "$fuzz/artifacts/$name"
    echo "== $name, $seconds s"
    "$program" "$found" "$fuzz/corpus/$name" -max_total_time="$seconds" -max_len=4096 \
        -timeout=10 -rss_limit_mb=1024 -artifact_prefix="$fuzz/artifacts/$name/" \
        -print_final_stats=1 2>&1 | grep -E "^(stat::number|stat::average|Done)|ERROR|panicked|Test unit"
    [ "${PIPESTATUS[0]}" -eq 0 ] || exit 1
done
