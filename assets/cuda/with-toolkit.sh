#!/usr/bin/env bash
# Runs a command with a CUDA toolkit in its environment: the machine's, where CUDA_HOME says so, else that of toolkit.sh.
#
#   with-toolkit.sh COMMAND...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${CUDA_HOME:-}" ]; then
  folder="$here/../../target/cuda-toolkit"
  mkdir -p "$folder"
  folder=$(cd "$folder" && pwd)
  "$here/toolkit.sh" "$folder"
  export CUDA_HOME="$folder/nvidia/cu13"
fi
# GPUs of the compute capability 8.0 (A100) and newer. Kernels are compressed: candle brings many for language models.
export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-80}" NVCC_APPEND_FLAGS="${NVCC_APPEND_FLAGS:---compress-mode=size}"
export PATH="$CUDA_HOME/bin:$PATH"
export LD_LIBRARY_PATH="$CUDA_HOME/lib64:$CUDA_HOME/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$@"
