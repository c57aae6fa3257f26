#!/usr/bin/env bash
# Packages the crates as `cargo publish` would, and checks the program as `cargo install` would build it, from the packages alone; and that
# the recipe for Apptainer copies all that the manifests name.
#
# Exit code: 0 all is there, 1 something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
fail() { echo "FAILED: $*" >&2; exit 1; }

cargo package --quiet --workspace --exclude ccdni-fuzz --locked --allow-dirty --no-verify
version=$(cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"name":"ccdni","version":"\([^"]*\)".*/\1/p')
unpacked=$target/package/unpacked
rm -rf "$unpacked"
mkdir -p "$unpacked"
for name in "ccdni-$version" "ccdni-engine-$version" "ccdni-images-$version"; do
  package=$target/package/$name.crate
  [ "$(stat -c %s "$package")" -lt 2000000 ] || fail "$package has more than 2 MB: see \`include\` in Cargo.toml"
  # As new as they are: in packages all files are of 2006, so that a change would not be seen.
  tar -xzmf "$package" -C "$unpacked"
  for file in Cargo.lock README.md LICENSE-MIT LICENSE-APACHE; do
    [ -s "$unpacked/$name/$file" ] || fail "$file is not in $package"
  done
done
(
  cd "$unpacked/ccdni-$version"
  # The other packages are on crates.io only after they were published.
  cargo check --quiet --release --bin ccdni --target-dir "$target" \
    --config "patch.crates-io.ccdni-engine.path='$unpacked/ccdni-engine-$version'" \
    --config "patch.crates-io.ccdni-images.path='$unpacked/ccdni-images-$version'"
)

# What Apptainer's build is given (Docker's is given all): Cargo refuses a manifest of which a file is missing.
given=$(mktemp -d)
trap 'rm -rf "$given"' EXIT
awk '/^%/ { files = $0 == "%files" } files && $2 ~ "^/build/" { print $1 }' apptainer.def | while read -r path; do
  [ -n "$(git ls-files "$path")" ] || fail "apptainer.def copies $path, which is not in the repository"
  git ls-files -z "$path" | xargs -0 cp --parents -t "$given"
done
(cd "$given" && cargo metadata --quiet --locked --format-version 1 >/dev/null) || fail "apptainer.def does not copy all that Cargo.toml names"
