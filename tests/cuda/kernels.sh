#!/usr/bin/env bash
# Compiles candle's CUDA kernels for the host (kernels/), as a library that the stand-in for the driver (recorder.c) finds beside
# itself: with it, it computes. Numbers of 16 bits and sorting are left out. Needs g++, cargo and python3.
#
#   kernels.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
mkdir -p "$folder/units"
folder=$(cd "$folder" && pwd)
host=$(rustc -vV | sed -n 's/^host: //p')
sources=$(cd "$here/../.." && cargo metadata --format-version 1 --locked --features cuda --filter-platform "$host" |
  python3 -c 'import json, os, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "candle-kernels": print(os.path.join(os.path.dirname(package["manifest_path"]), "src"))')

# Headers of CUDA: what is needed of them is in device.hpp.
mkdir -p "$folder/units/cuda/std"
for header in cuda.h cuda_fp16.h cuda_bf16.h cuda_fp8.h cuda/std/limits; do : >"$folder/units/$header"; done
flags=(-std=c++20 -O2 -w -fPIC -fvisibility=hidden -ffp-contract=fast -march=native -U_FORTIFY_SOURCE -I"$folder/units" -I"$sources"
  -include "$here/kernels/device.hpp")
objects=()
declarations= names=
for unit in affine binary cast conv fill indexing reduce ternary unary; do
  found=$(g++ "${flags[@]}" -D__global__=a_kernel -E -x c++ "$sources/$unit.cu" | grep -oE '\ba_kernel +void +\w+' | awk '{ print $NF }') ||
    { echo "no kernels in $sources/$unit.cu" >&2; exit 1; }
  {
    # In a namespace: they share functions that are not inline. Headers of the system are there already.
    echo "namespace unit_$unit {"
    echo 'using ::atomicAdd; // beside the one for old GPUs that is defined there'
    echo "#include \"$unit.cu\""
    echo '}'
    echo "extern const Kernel kernels_$unit[] = {"
    for name in $found; do echo "    {\"$name\", call<unit_$unit::$name>},"; done
    echo '    {nullptr, nullptr}};'
  } >"$folder/units/$unit.cpp"
  g++ "${flags[@]}" -c "$folder/units/$unit.cpp" -o "$folder/units/$unit.o"
  objects+=("$folder/units/$unit.o")
  declarations+="extern const Kernel kernels_$unit[];"$'\n'
  names+="kernels_$unit, "
done
printf '%sstatic const Kernel *const units[] = {%s};\n' "$declarations" "${names%, }" >"$folder/units/units.hpp"
g++ "${flags[@]}" -shared -pthread "$here/kernels/launch.cpp" "${objects[@]}" -o "$folder/kernels.so"
rm -rf "$folder/units"
