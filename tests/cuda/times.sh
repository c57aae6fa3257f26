#!/usr/bin/env bash
# Seconds an epoch of the reference jobs and of a wide one on the CPU and on a GPU, beside the same networks in PyTorch, and of
# several seeds in turn and at the same time.
#
#   times.sh PROGRAM         PYTHON=python3 is one that has torch; without, its rows are left out
set -euo pipefail
cd "$(dirname "$0")/../.."
program=$1
outputs=$(mktemp -d)
trap 'rm -rf "$outputs"' EXIT

threads=1 # of each seed on the CPU
# The median of the column `seconds`, without the first epoch of each seed, and the wall clock of the whole run.
time_of() { # NAME DEVICE ARGS...
  local name=$1 device=$2 began
  rm -rf "${outputs:?}"/*
  began=$(date +%s.%N)
  "$program" run "${@:3}" --set run.device="$device" --set run.threads=$threads --outputs "$outputs" >"$outputs/said" 2>&1 ||
    { cat "$outputs/said" >&2; exit 1; }
  if [ "$device" = cpu ]; then device="cpu, threads: $threads"; fi
  awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "seconds") at = i } NR > 1 && $2 > 1 { print $at }' \
    "$outputs"/*/metrics.csv | sort -n |
    awk -v name="$name" -v device="$device" -v began="$began" -v ended="$(date +%s.%N)" '
      { s[NR] = $1 }
      END { printf "| %s | %s | %.4f s | %.1f s |\n", name, device, s[int((NR + 1) / 2)], ended - began }'
}

python=${PYTHON:-python3}
has_torch=$("$python" -c 'import torch' 2>/dev/null && echo yes || true)
[ "$has_torch" ] || echo "$python has no torch: no rows of PyTorch" >&2
pytorch() {
  if [ "$has_torch" ]; then "$python" tests/cuda/pytorch.py "$@" || echo "no row of PyTorch: $*" >&2; fi
}

# Which GPU, driver and program these numbers are of.
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || true
echo "commit $(git describe --always --dirty 2>/dev/null || echo unknown)"
printf '\n| job | device | median epoch | whole run |\n|---|---|---|---|\n'
# Noise makes new sequences of each epoch: without, they are drawn and brought up only once.
line=(--set task.train_noise=0.1 --set train.epochs=10 --seeds 1)
for device in cpu cuda; do
  time_of 'linedraw ccRNN' $device experiments/linedraw_dni.yaml "${line[@]}"
  pytorch --name 'linedraw ccRNN' --device $device --threads 1 --epochs 10 --noise 0.1
  time_of 'linedraw cRNN' $device experiments/linedraw.yaml "${line[@]}"
  time_of 'lines ccRNN' $device experiments/seqmnist_lines_dni.yaml --set train.epochs=5 --seeds 1
  time_of 'recognition ccRNN' $device experiments/seqmnist_dni.yaml --set train.epochs=5 --seeds 1
done
wide=(experiments/linedraw_dni.yaml --set model.layers.0.hidden=1024 --set train.batch_size=512 --set task.seq_len=100
  --set train.bptt=10 --set task.train_size=5120 --set task.test_size=512 --set task.train_noise=0.1)
threads=$(nproc)
time_of 'wide: hidden 1024, batch 512, 100 steps, windows of 10' cpu "${wide[@]}" --set train.epochs=2 --seeds 1
threads=1
wide_pytorch=(--hidden 1024 --batch 512 --steps 100 --bptt 10 --size 5120 --noise 0.1 --device cuda)
for tf32 in false true; do
  time_of "the same, tf32: $tf32" cuda "${wide[@]}" --set run.tf32=$tf32 --set train.epochs=5 --seeds 1
  if [ $tf32 = true ]; then wide_pytorch+=(--tf32); fi
  pytorch --name "the same, tf32: $tf32" "${wide_pytorch[@]}"
done
for jobs in 1 2 4 8; do
  time_of "the same, 8 seeds, $jobs at a time" cuda "${wide[@]}" --set train.epochs=5 --seeds 1..8 --set run.jobs=$jobs
  time_of "linedraw ccRNN, 8 seeds, $jobs at a time" cuda experiments/linedraw_dni.yaml --set train.epochs=10 --seeds 1..8 \
    --set task.train_noise=0.1 --set run.jobs=$jobs
done
