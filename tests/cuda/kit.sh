#!/usr/bin/env bash
# Builds and packs what a machine with a GPU needs to test and time the program, where there is neither Rust nor network: run.sh and
# kit.tar.xz. With --dry, it then tries the kit: copied elsewhere, without cargo on the path, on the stand-in for the driver.
#
#   with-toolkit.sh kit.sh FOLDER [--dry]
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$1
dry=${2-}
case $dry in '' | --dry) ;; *) echo "kit.sh: $dry is not known: use --dry, or nothing" >&2; exit 2 ;; esac
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# Where cargo puts the program and its tests.
built() {
  cargo build --release --locked --features cuda --target-dir target --bin ccdni --test golden --test all \
    --message-format=json-render-diagnostics | python3 -c 'import json, sys
for message in map(json.loads, sys.stdin):
    if message.get("executable"): print(message["executable"], message["target"]["name"])'
}
mkdir -p "$place/kit/bin" "$place/kit/benches"
built >"$place/built"
while read -r executable name; do cp "$executable" "$place/kit/bin/$name"; done <"$place/built"
cp tests/cuda/kit/*.py "$place/kit"
cp -r experiments "$place/kit"
cp -r tests/golden "$place/kit"
cp -r benches/peers "$place/kit/benches"
git describe --always --dirty >"$place/kit/commit" 2>/dev/null || echo unknown >"$place/kit/commit"

# The three executables hold the same kernels: a dictionary that reaches back that far has them once.
rm -rf "$folder"
mkdir -p "$folder"
tar --exclude=__pycache__ --owner=0 --group=0 --sort=name -C "$place" -c kit | xz --lzma2=preset=6,dict=128MiB >"$folder/kit.tar.xz"
cp tests/cuda/kit/run.sh "$folder"
ls -l "$folder"
[ "$(stat -c %s "$folder/kit.tar.xz")" -le $((55 << 20)) ] || { echo "the kit is larger than 55 MiB" >&2; exit 1; }
[ "$dry" ] || exit 0

cp -r "$folder" "$place/gpu-kit"
tests/cuda/recorder.sh "$place/cuda"
tests/cuda/kernels.sh "$place/cuda"
# What the stand-in has none of, and nothing calls.
ln -s "$CUDA_HOME"/lib/lib{cublasLt,nvrtc}*.so.* "$place/cuda"
mkdir "$place/home"
code=0
(cd "$place/home" && env -i HOME="$place/home" PATH=/usr/bin:/bin ${PYTHON:+"PYTHON=$PYTHON"} \
  "$place/gpu-kit/run.sh" results --dry --minutes 180 --libraries "$place/cuda") || code=$?
rm -rf target/gpu-kit-dry
cp -r "$place/home/results" target/gpu-kit-dry
echo "results in target/gpu-kit-dry"
exit "$code"
