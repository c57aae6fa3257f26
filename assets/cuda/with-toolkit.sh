#!/usr/bin/env bash
# Runs a command with the CUDA toolkit of toolkit.sh in its environment, whatever toolkit the machine has: it is the one that builds
# were seen with.
#
#   with-toolkit.sh COMMAND...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder="$here/../../target/cuda-toolkit"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
"$here/toolkit.sh" "$folder"
export CUDA_HOME="$folder/nvidia/cu13"
# The names by which other builds would find another one.
unset CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR CUDARC_CUDA_VERSION
export NVCC="$here/nvcc.sh"
# GPUs of the compute capability 8.0 (A100) and newer. Kernels are compressed: candle brings many for language models.
export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-80}" NVCC_APPEND_FLAGS="${NVCC_APPEND_FLAGS:---compress-mode=size}"
export PATH="$CUDA_HOME/bin:$PATH"
export LD_LIBRARY_PATH="$CUDA_HOME/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$@"
