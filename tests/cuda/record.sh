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

# What one more epoch adds, validation included.
epoch() { # NAME BATCHES ARGS...
  local what kernels=0 counted=()
  record 2 "${@:3}"
  cp "$place/record" "$place/two"
  record 3 "${@:3}"
  for what in launch gemm upload download sync alloc; do
    counted+=($(($(grep -c "^$what" "$place/record" || true) - $(grep -c "^$what" "$place/two" || true))))
  done
  kernels=$((counted[0] + counted[1]))
  printf '| %s | %s' "$1" "$((kernels / $2))"
  printf ' | %s' "${counted[@]}"
  printf ' |\n'
}
printf '| job | kernels a batch | launches | products | uploads | downloads | synchronisations | allocations |\n'
printf '|---|---|---|---|---|---|---|---|\n'
epoch 'linedraw ccRNN, 16 batches of 10 steps' 16 experiments/linedraw_dni.yaml
epoch 'linedraw cRNN, the same' 16 experiments/linedraw.yaml
epoch 'lines ccRNN, 20 batches of 28 steps' 20 experiments/seqmnist_lines_dni.yaml \
  --set 'task.source={kind: glyphs, train: 1000, test: 100}'
epoch 'wide ccRNN, 8 batches of 100 steps' 8 experiments/linedraw_dni.yaml --set model.layers.0.hidden=1024 \
  --set train.batch_size=512 --set task.seq_len=100 --set train.bptt=10 --set task.train_size=5120 --set task.test_size=512 \
  --set task.train_noise=0.1

# A device that fails says so with the right exit code; what was saved stays, and the CPU goes on from there.
run=(run experiments/linedraw_dni.yaml --set train.epochs=6 --seeds 1 --set 'run.checkpoint_every={epochs: 1}'
  --outputs "$place/outputs")
fails() { # NAME DEVICE CODE SAYS FAULT...
  local code=0
  env "${@:5}" "$program" "${run[@]}" --set run.device="$2" >"$place/said" 2>&1 || code=$?
  [ $code = "$3" ] || fail "$1: it ended with $code: $(cat "$place/said")"
  grep -qF "$4" "$place/said" || fail "$1: it said: $(cat "$place/said")"
  ! grep -q 'panicked' "$place/said" || fail "$1: $(cat "$place/said")"
  grep -m 1 "^seed 1: failed\|^error" "$place/said" | sed "s/^/$1: /"
}
goes_on() { # NAME DEVICE
  local unit
  unit=$(echo "$place"/outputs/*/seeds/1)
  [ -e "$unit/checkpoint.safetensors" ] || fail "$1: there is no checkpoint"
  grep -qF '"state": "unfinished"' "$unit/unit.json" || fail "$1: $(cat "$unit/unit.json")"
  "$program" "${run[@]}" --set run.device="$2" >"$place/said" 2>&1 || fail "$1: it does not go on: $(cat "$place/said")"
  grep -qF '"state": "done"' "$unit/unit.json" || fail "$1: it is not done: $(cat "$unit/unit.json")"
  grep -qF 'goes on from its checkpoint' "$place"/outputs/*/log.txt || fail "$1: it began again"
  echo "$1: $2 went on from the checkpoint"
}
lost='the GPU failed (CUDA_ERROR_ILLEGAL_ADDRESS)'
full='the GPU is out of memory'

rm -rf "$place/outputs"
fails 'no device' cuda 2 'cuda:0 is not there (no driver on this machine reports an NVIDIA GPU)' CUDA_FAKE_DEVICES=0
fails 'a broken driver' auto 2 'driver of this machine fails (CUDA_ERROR_UNKNOWN)' CUDA_FAKE_INIT=999
fails 'an old driver' auto 2 'is for CUDA 12.8, and this program was built with' CUDA_FAKE_VERSION=12080
fails 'too little memory' cuda 1 "$full" CUDA_FAKE_MEMORY=1000000
# A GPU that takes no kernel: its code is not of the memory, and not of a device that computes.
fails 'an old GPU' cuda 1 "does not accept this program's kernels (CUDA_ERROR_NO_BINARY_FOR_GPU)" CUDA_FAKE_LOST_AFTER=0 \
  CUDA_FAKE_LOST_CODE=209
for what in lost full; do
  for device in cuda cpu; do
    rm -rf "$place/outputs"
    fails "$what while it computes" cuda 1 "${!what}" CUDA_FAKE_${what^^}_AFTER=12000
    # Without a checkpoint of its own, each of these leaves the one that is there.
    fails "$what when it is opened" cuda 1 "${!what}" CUDA_FAKE_${what^^}_AFTER=0
    fails "$what while it goes on" cuda 1 "${!what}" CUDA_FAKE_${what^^}_AFTER=200
    goes_on "$what" $device
  done
done
