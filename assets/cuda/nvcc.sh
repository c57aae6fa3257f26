#!/usr/bin/env bash
# The toolkit's compiler. candle compiles the kernels that it launches by name to PTX (--ptx), and others into a library (-c), all of them
# for quantised language models, which this program does not have. That library would be most of the build's time and of the program's
# size: here its kernels stay in PTX, too, and are not optimised.
set -euo pipefail
if [[ " $* " == *' -c '* ]]; then set -- "${@/code=sm_/code=compute_}" -Xcicc -O0; fi
exec "$CUDA_HOME/bin/nvcc" "$@"
