#!/usr/bin/env bash
# Runs a program that was built for CUDA on the stand-in (recorder.c): counts what an epoch launches, uploads and waits for, and
# looks at what it does when memory runs out or the device is lost. Needs no GPU; nothing it computes means anything.
#
#   record.sh PROGRAM
set -euo pipefail
cd "$(dirname "$0")/../.."
program=$(realpath "$1")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
tests/cuda/recorder.sh "$place/lib"
export LD_LIBRARY_PATH="$place/lib"

fail() { echo "$*" >&2; exit 1; }

# Lines of the record of so many epochs.
record() { # EPOCHS ARGS...
  rm -rf "$place/record" "$place/outputs"
  CUDA_RECORD="$place/record" "$program" run "${@:2}" --set train.epochs="$1" --set run.device=cuda --seeds 1 \
    --set 'run.checkpoint_every={epochs: 1000}' --outputs "$place/outputs" >"$place/said" 2>&1 || fail "$(cat "$place/said")"
}

# What one more epoch adds.
epoch() { # NAME ARGS...
  record 2 "${@:2}"
  cp "$place/record" "$place/two"
  record 3 "${@:2}"
  printf '| %s |' "$1"
  for what in launch gemm upload download sync alloc; do
    printf ' %s |' $(($(grep -c "^$what" "$place/record" || true) - $(grep -c "^$what" "$place/two" || true)))
  done
  printf '\n'
}
printf '| job | launches | products | uploads | downloads | synchronisations | allocations |\n|---|---|---|---|---|---|---|\n'
epoch 'linedraw ccRNN' experiments/linedraw_dni.yaml
epoch 'linedraw cRNN' experiments/linedraw.yaml
epoch 'lines ccRNN, 20 batches' experiments/seqmnist_lines_dni.yaml --set 'task.source={kind: glyphs, train: 1000, test: 100}'

# A device that fails says so, and the CPU goes on from the last checkpoint.
fails() { # NAME SAYS FAULT...
  local run=(run experiments/linedraw_dni.yaml --set train.epochs=6 --seeds 1 --set 'run.checkpoint_every={epochs: 1}'
    --outputs "$place/outputs")
  rm -rf "$place/outputs"
  env "${@:3}" "$program" "${run[@]}" --set run.device=cuda >"$place/said" 2>&1 && fail "$1: it did not fail"
  grep -q "$2" "$place/said" || fail "$1: it said: $(cat "$place/said")"
  ! grep -q 'panicked' "$place/said" || fail "$1: $(cat "$place/said")"
  grep -m 1 "^seed 1: failed\|^error" "$place/said" | sed "s/^/$1: /"
  if [ -e "$place"/outputs/*/seeds/1/checkpoint.safetensors ]; then
    "$program" "${run[@]}" --set run.device=cpu >"$place/said" 2>&1 || fail "$1: it does not go on: $(cat "$place/said")"
    echo "$1: the CPU went on from the checkpoint"
  fi
}
fails 'no device' 'its driver says CUDA_ERROR_NO_DEVICE' CUDA_FAKE_DEVICES=0
fails 'out of memory' 'the GPU is out of memory' CUDA_FAKE_MEMORY=1000000
fails 'lost' 'the GPU failed (CUDA_ERROR_ILLEGAL_ADDRESS)' CUDA_FAKE_LOST_AFTER=12000
