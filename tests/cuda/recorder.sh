#!/usr/bin/env bash
# Builds the recording stand-in for CUDA (recorder.c) into a folder. A program that was built for CUDA uses it where
# LD_LIBRARY_PATH begins with that folder; recorder.c has what it records and which faults it can make. Needs a C compiler.
#
#   recorder.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
mkdir -p "$folder"

# build PART LIBRARY FLAGS...
build() {
  "${CC:-gcc}" -std=gnu11 -O3 -Wall -Wextra -Werror -fPIC -fvisibility=hidden -shared -pthread -D"$1" "$here/recorder.c" \
    -Wl,-soname,"$2" -Wl,-Bsymbolic -Wl,--default-symver -o "$folder/$2" "${@:3}"
}
build DRIVER libcuda.so.1
# The others record through the driver's library, which has to lie beside them.
for library in CUBLAS=libcublas.so.13 CURAND=libcurand.so.10; do
  build "${library%%=*}" "${library#*=}" "$folder/libcuda.so.1" '-Wl,-rpath,$ORIGIN'
done
