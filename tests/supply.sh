#!/usr/bin/env bash
# What the program is made of: licences, sources and versions of its packages, known vulnerabilities, a bill of materials, its unsafe code,
# and the kernels' tests under AddressSanitizer. What cannot be had here is said and left out.
#
#   tests/supply.sh [DIR]         DIR takes the bill of materials; target/supply by default
#
# Tools: cargo install --locked cargo-deny cargo-cyclonedx
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/supply}
mkdir -p "$out"
failed=0
step() { printf '\n== %s\n' "$*"; }
check() { "$@" || { failed=1; echo "FAILED: $*"; }; }

step 'licences, sources and versions of packages (deny.toml)'
if cargo deny --version >/dev/null 2>&1; then
  check cargo deny --locked check licenses sources bans
  step 'known vulnerabilities'
  # The database is a git repository.
  if cargo deny --locked fetch db >"$out/fetch.log" 2>&1 || ls "${CARGO_HOME:-$HOME/.cargo}"/advisory-db*/* >/dev/null 2>&1; then
    check cargo deny --locked check --disable-fetch advisories
  else
    echo "SKIPPED: the database of advisories cannot be reached ($out/fetch.log)"
  fi
else
  echo 'SKIPPED: there is no cargo-deny'
fi

step 'bill of materials'
if cargo cyclonedx --version >/dev/null 2>&1; then
  check cargo cyclonedx --format json --override-filename ccdni-sbom --quiet
  for file in ccdni-sbom.json crates/engine/ccdni-sbom.json crates/images/ccdni-sbom.json fuzz/ccdni-sbom.json; do
    [ -f "$file" ] && mv "$file" "$out/$(echo "$file" | tr / -)"
  done
  ls "$out"/*.json
else
  echo 'SKIPPED: there is no cargo-cyclonedx'
fi

step 'unsafe code, each with the reason why it is sound'
grep -rnE '\bunsafe (\{|fn|impl)|unsafe$' src crates --include='*.rs' | sort
check cargo clippy --release --locked --all-targets -- -D clippy::undocumented_unsafe_blocks

step 'the kernels under AddressSanitizer'
if [ "$(uname -sm)" = 'Linux x86_64' ]; then
  host=$(rustc -vV | sed -n 's/^host: //p')
  # Leaks are no concern: the pool of threads is never taken down.
  check env RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0 CARGO_PROFILE_RELEASE_DEBUG=line-tables-only \
    cargo test --release --locked --package ccdni-engine --lib --target "$host" --target-dir "${ASAN_TARGET_DIR:-target/asan}" -- \
    nn:: files:: data::image_set data::coco::space device::
else
  echo 'SKIPPED: it is for Linux on x86-64'
fi
exit $failed
