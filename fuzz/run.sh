#!/usr/bin/env bash
# Runs every fuzz target, or those named, for SECONDS each. Usage: fuzz/run.sh SECONDS [TARGET…]
#
# A stable compiler is enough: the targets are built with LLVM's coverage and linked with libFuzzer, without sanitizers. New inputs are kept in
# fuzz/corpus/<target>, crashers in fuzz/artifacts/<target>; `fuzz/run.sh 0 TARGET` tries the seeds and the corpus alone.
# With cargo-fuzz (`cargo install cargo-fuzz`, and a nightly compiler) the same targets run under the address sanitizer:
# `cargo +nightly fuzz run TARGET`.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-}
if ! [[ $seconds =~ ^[0-9]+$ ]]; then
  echo "usage: $0 SECONDS [TARGET…]" >&2
  exit 2
fi
shift
if ! command -v c++ > /dev/null; then
  echo "libFuzzer is built from C++ and there is no c++ here: install one (Debian, Ubuntu: apt-get install g++)." >&2
  exit 1
fi

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

# What cargo-fuzz passes, but for the sanitizer. With --target, build scripts are left as they are.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
bins=()
for target in "${targets[@]}"; do bins+=(--bin "$target"); done
cargo build --quiet --target "$host" "${bins[@]}"

# Roots and folders that targets write to; libFuzzer ends a process without its destructors.
memory=/dev/shm
[ -w "$memory" ] || memory=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d -p "$memory" strata-fuzz-XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

failed=()
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "artifacts/$target" "seeds/$target"
  limit=(-max_total_time="$seconds")
  [ "$seconds" -gt 0 ] || limit=(-runs=0)
  echo "== $target"
  if ! "target/$host/debug/$target" "${limit[@]}" -timeout=20 -rss_limit_mb=2048 -max_len=16384 -verbosity=0 -print_final_stats=1 \
    -artifact_prefix="artifacts/$target/" "corpus/$target" "seeds/$target" 2> "artifacts/$target/log"; then
    failed+=("$target")
    tail -n 40 "artifacts/$target/log" >&2
  fi
  grep -E 'number_of_executed_units|peak_rss_mb' "artifacts/$target/log" || true
done

if [ ${#failed[@]} -gt 0 ]; then
  echo "crashed: ${failed[*]}; the inputs are in fuzz/artifacts" >&2
  exit 1
fi
