#!/usr/bin/env bash
# Puts what a build for CUDA needs into a folder, from NVIDIA's packages on PyPI: compiler, headers and libraries. With the
# stand-in for the driver's library (driver.c), nothing of NVIDIA's has to be on the machine. Prints nothing if it is there.
#
#   toolkit.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
packages=(
  nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-nvrtc==13.0.88
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.1.0.3 nvidia-curand==10.4.5.25
)
# What was asked for last time: a change of versions, or of these two files, makes the folder again.
wanted="${packages[*]} $(cat "$here/toolkit.sh" "$here/driver.c" | cksum)"
[ "$(cat "$folder/complete" 2>/dev/null)" = "$wanted" ] && exit 0

need() { echo "a build for CUDA needs $1" >&2; exit 2; }
cc=${CC:-gcc}
python3 -m pip --version >/dev/null 2>&1 || need 'python3 with pip, to fetch packages from PyPI'
command -v "$cc" >/dev/null || need "$cc"
command -v g++ >/dev/null || need 'g++, which compiles the host'"'"'s side of kernels'
# How the stand-in's calls go on, in the machine's own language.
case $(uname -sm) in
  'Linux x86_64') jump() { echo "  endbr64; jmp *$1(%rip)"; } ;;
  'Linux aarch64') jump() { echo "  hint #34; adrp x16, $1; ldr x16, [x16, :lo12:$1]; br x16"; } ;; # written, never run
  *) need "Linux on x86-64 (this is $(uname -sm))" ;;
esac
[ -d "$folder/nvidia" ] || [ -z "$(ls -A "$folder" 2>/dev/null)" ] || need "an empty folder: $folder holds something else"
rm -rf "$folder"
mkdir -p "$folder"
PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
  --target "$folder" "${packages[@]}"

root="$folder/nvidia/cu13"
ln -s lib "$root/lib64"
# The linker looks for names without versions.
for library in "$root"/lib/*.so.*; do
  name=$(basename "$library")
  ln -sf "$name" "$root/lib/${name%%.so.*}.so"
done
# The runtime goes into the program, and opens the driver's library when it needs it.
rm -f "$root/lib/libcudart.so"
ln -s libcudart_static.a "$root/lib/libcudart.a"

# The stand-in: a name for everything that cuda.h declares.
calls="$folder/calls.S"
names=$(grep -ohE '\bcu[A-Z][A-Za-z0-9_]*' "$root/include/cuda.h" | sort -u | grep -vx cuInit)
{
  echo '.section .note.GNU-stack,"",%progbits'
  echo '.text'
  i=0
  for name in $names; do
    echo ".globl $name"
    echo ".type $name, %function"
    echo "$name:"
    jump "ccdni_cuda_calls+$((8 * i))"
    i=$((i + 1))
  done
  echo '.data'
  echo '.balign 8'
  echo '.globl ccdni_cuda_calls'
  echo 'ccdni_cuda_calls:'
  for name in $names; do echo '  .quad ccdni_cuda_absent'; done
  echo '.globl ccdni_cuda_names'
  echo 'ccdni_cuda_names:'
  i=0
  for name in $names; do echo "  .quad name_$i"; i=$((i + 1)); done
  echo '  .quad 0'
  echo '.section .rodata'
  i=0
  for name in $names; do echo "name_$i: .asciz \"$name\""; i=$((i + 1)); done
} >"$calls"
"$cc" -fPIC -O2 -Wall -c "$here/driver.c" -o "$folder/driver.o"
"$cc" -fPIC -c "$calls" -o "$folder/calls.o"
rm -f "$root/lib/libcuda.a"
ar rcs "$root/lib/libcuda.a" "$folder/driver.o" "$folder/calls.o"
# What was built with another toolkit does not notice that this one is here.
(cd "$here/../.." && cargo clean --quiet --locked --release --target-dir target -p ccdni -p candle-kernels -p cudarc)
echo "$wanted" >"$folder/complete"
