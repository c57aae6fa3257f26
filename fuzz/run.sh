#!/usr/bin/env bash
# Builds the fuzz targets and runs each for some seconds on one core:
#
#   fuzz/run.sh SECONDS [TARGET...]       all of targets/ by default
#
# Needs a C++ compiler for libFuzzer, and no other toolchain than that of the project. SANITIZER=address adds AddressSanitizer (unstable
# in Rust, so that RUSTC_BOOTSTRAP=1 is set). What is found is kept in fuzz/corpus/TARGET, of which fuzz/seeds/TARGET is the beginning; an
# input that fails is put into fuzz/artifacts/TARGET, and makes the exit code 1. Logs are in fuzz/logs.
#
# Exit code: 0 nothing failed, 1 something did, 77 it cannot be tried here.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:?usage: fuzz/run.sh SECONDS [TARGET...]}
shift
if [ $# = 0 ]; then
  for file in targets/*.rs; do set -- "$@" "$(basename "$file" .rs)"; done
fi
[ "$(uname -s)" = Linux ] || { echo 'CANNOT BE TRIED HERE: the flags are those of Linux' >&2; exit 77; }
command -v c++ >/dev/null || { echo 'CANNOT BE TRIED HERE: there is no C++ compiler (c++)' >&2; exit 77; }

# As cargo-fuzz has them. Named, the target's flags are not those of build scripts and procedural macros.
host=$(rustc -vV | sed -n 's/^host: //p')
flags='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares'
if [ -n "${SANITIZER:-}" ]; then
  export RUSTC_BOOTSTRAP=1
  flags="$flags -Zsanitizer=$SANITIZER"
fi
target=${FUZZ_TARGET_DIR:-$PWD/target}
bins=()
for name in "$@"; do bins+=(--bin "fuzz_$name"); done
RUSTFLAGS=$(echo $flags) cargo build --quiet --locked --package ccdni-fuzz --profile fuzz --target "$host" --target-dir "$target" "${bins[@]}"

dictionary() {
  case $1 in
    spec|set|sweep) echo spec ;;
    captions|words) echo captions ;;
    vocabulary|results) echo json ;;
    weights|pickle|checkpoint) echo tensors ;;
    image|run|request) echo "$1" ;;
  esac
}

# Files of the tests that are inputs of a target.
of_tests() {
  case $1 in
    captions|words) echo ../tests/cases ;;
    weights|pickle) echo ../tests/cases/torch ;;
    image) echo ../tests/golden/caption/resize ;;
    spec) echo ../experiments/base ../experiments/dni ;;
    sweep) echo ../experiments/paper ;;
  esac
}

# Files that targets read: in memory, if that can be.
TMPDIR=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo /tmp)" ccdni-fuzz.XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
mkdir -p logs
failed=0
printf '| target | executions | per second | coverage (edges) | inputs kept |\n|---|---|---|---|---|\n'
for name in "$@"; do
  mkdir -p "corpus/$name" "artifacts/$name"
  options=(-max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -max_len=65536 -print_final_stats=1 -verbosity=1)
  dict=$(dictionary "$name")
  [ -z "$dict" ] || options+=("-dict=dictionaries/$dict.dict")
  log=logs/$name.log
  code=0
  begin=()
  for dir in "seeds/$name" $(of_tests "$name"); do [ ! -d "$dir" ] || begin+=("$dir"); done
  "$target/$host/fuzz/fuzz_$name" "${options[@]}" -artifact_prefix="artifacts/$name/" "corpus/$name" "${begin[@]}" >"$log" 2>&1 || code=$?
  number() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
  covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
  printf '| %s | %s | %s | %s | %s |\n' "$name" "$(number number_of_executed_units)" "$(number average_exec_per_sec)" "$covered" \
    "$(find "corpus/$name" -type f | wc -l)"
  if [ $code != 0 ]; then
    failed=1
    echo "FAILED: $name (exit code $code); the input is in fuzz/artifacts/$name, the log in fuzz/$log" >&2
    grep -m1 -A3 -E 'panicked at|ERROR: ' "$log" >&2 || true
  fi
done
exit $failed
