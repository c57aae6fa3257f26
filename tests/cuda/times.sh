#!/usr/bin/env bash
# Seconds an epoch of the reference jobs and of a wide one on the CPU and on a GPU, and of several seeds in turn and at the same time.
#
#   times.sh PROGRAM
set -euo pipefail
cd "$(dirname "$0")/../.."
program=$1
outputs=$(mktemp -d)
trap 'rm -rf "$outputs"' EXIT

# The median of the column `seconds`, without the first epoch of each seed, and the wall clock of the whole run.
time_of() { # NAME DEVICE ARGS...
  local name=$1 device=$2 began
  rm -rf "${outputs:?}"/*
  began=$(date +%s.%N)
  "$program" run "${@:3}" --set run.device="$device" --outputs "$outputs" >"$outputs/said" 2>&1 ||
    { cat "$outputs/said" >&2; exit 1; }
  awk -F, -v name="$name" -v device="$device" -v wall="$(echo "$(date +%s.%N) - $began" | bc)" '
    NR == 1 { for (i = 1; i <= NF; i++) if ($i == "seconds") at = i }
    NR > 1 && $2 > 1 { print $at | "sort -n >'"$outputs"'/sorted" }
    END { close("sort -n >'"$outputs"'/sorted"); while ((getline line < "'"$outputs"'/sorted") > 0) s[++n] = line
          printf "| %s | %s | %.4f s | %.1f s |\n", name, device, s[int((n + 1) / 2)], wall }' "$outputs"/*/metrics.csv
}

printf '| job | device | median epoch | whole run |\n|---|---|---|---|\n'
for device in cpu cuda; do
  time_of 'linedraw ccRNN' $device experiments/linedraw_dni.yaml --set train.epochs=10 --seeds 1
  time_of 'linedraw cRNN' $device experiments/linedraw.yaml --set train.epochs=10 --seeds 1
  time_of 'lines ccRNN' $device experiments/seqmnist_lines_dni.yaml --set train.epochs=5 --seeds 1
  time_of 'recognition ccRNN' $device experiments/seqmnist_dni.yaml --set train.epochs=5 --seeds 1
done
wide=(experiments/linedraw_dni.yaml --set model.layers.0.hidden=1024 --set train.batch_size=512 --set task.seq_len=100
  --set train.bptt=10 --set task.train_size=5120 --set task.test_size=512 --set task.train_noise=0.1)
time_of 'wide: hidden 1024, batch 512, 100 steps, windows of 10' cpu "${wide[@]}" --set train.epochs=2 --seeds 1
for tf32 in false true; do
  time_of "the same, tf32: $tf32" cuda "${wide[@]}" --set run.tf32=$tf32 --set train.epochs=5 --seeds 1
done
for jobs in 1 2 4 8; do
  time_of "the same, 8 seeds, $jobs at a time" cuda "${wide[@]}" --set train.epochs=5 --seeds 1..8 --set run.jobs=$jobs
  time_of "linedraw ccRNN, 8 seeds, $jobs at a time" cuda experiments/linedraw_dni.yaml --set train.epochs=10 --seeds 1..8 \
    --set run.jobs=$jobs
done
