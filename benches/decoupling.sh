#!/bin/sh
# Steps per second of networks of blocks, locked and decoupled, on one thread and on two: benches/decoupling.sh PROGRAM [EPOCHS]
#
# An epoch has 100 steps with 64 digits each, and one batch of validation. Printed is the median over epochs.
set -eu
program=$1
epochs=${2:-5}
outputs=$(mktemp -d)
trap 'rm -rf "$outputs"' EXIT

steps_per_second() {
  threads=$1
  shift
  rm -rf "$outputs"/*
  "$program" run experiments/dni/mnist_mlp.yaml --set 'task.source={kind: glyphs, train: 6400, test: 64}' "$@" --seeds 1 \
    --set run.device=cpu --set run.threads="$threads" --set train.epochs="$epochs" --outputs "$outputs" \
    >"$outputs/said" 2>&1 || { cat "$outputs/said" >&2; exit 1; }
  awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "seconds") at = i } NR > 1 { print $at }' \
    "$outputs"/*/metrics.csv | sort -n | awk '{ s[NR] = $1 } END { printf "%.0f", 100 / s[int((NR + 1) / 2)] }'
}

row() {
  name=$1
  shift
  one=$(steps_per_second 1 "$@")
  two=$(steps_per_second 2 "$@")
  printf '| %s | %s | %s |\n' "$name" "$one" "$two"
}

hidden='{kind: linear, units: 512, bias: false}, {kind: batch_norm}, {kind: relu}'
deep() {
  interface="{kind: linear, units: 512, bias: false}, {kind: batch_norm, dni: $1}, {kind: relu}"
  echo "model.blocks=[{kind: flatten}, $hidden, $interface, $hidden, $hidden, {kind: linear}]"
}

printf '| network | 1 thread | 2 threads |\n|---|---|---|\n'
row 'perceptron, locked' --set model.blocks.5.dni=null
row 'perceptron, update unlock' --set 'model.blocks.5.dni={hidden: [256]}'
row 'perceptron, full unlock' --set 'model.blocks.5.dni={unlock: both, hidden: [256, 256]}'
row 'two equal halves, locked' --set "$(deep null)"
row 'two equal halves, update unlock' --set "$(deep '{hidden: [128]}')"
row 'two equal halves, full unlock' --set "$(deep '{unlock: both, hidden: [128]}')"
