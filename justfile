# Recipes for daily work. Arguments are passed on untouched, so that --set 'seeds=[1, 2]' survives.
set positional-arguments

# List the recipes.
default:
    @just --list

# Train a spec: just run experiments/linedraw_dni.yaml --set train.bptt=5
run SPEC *ARGS:
    @cargo run --quiet --release --locked -- run "$@"

# Train what is missing of many runs: just sweep experiments/paper/fig2.yaml --dry-run
sweep FILE *ARGS:
    @cargo run --quiet --release --locked -- sweep "$@"

# Train, draw and check a figure of a paper: just reproduce fig2 --quick
reproduce FIGURE *ARGS:
    @cargo run --quiet --release --locked -- reproduce "$@"

# One page of HTML about runs: just report experiments/paper/fig2.yaml -o fig2.html
report +ARGS:
    @cargo run --quiet --release --locked -- report "$@"

# Use a trained network: just sample --decoder outputs/<hash>/decoder.safetensors ...
sample *ARGS:
    @cargo run --quiet --release --locked -- sample "$@"

# Pass all tests.
test *ARGS:
    cargo test --release --locked "$@"

# Test the pages of `ccdni view` in a browser: needs Node.js 20 or later and Chromium (CHROMIUM=/usr/bin/chromium).
view-test:
    cargo build --quiet --release --locked
    tests/view/run.sh target/release/ccdni

# Invent inputs for everything that the program reads, SECONDS for each target (fuzz/targets): just fuzz 60 spec image
fuzz SECONDS *TARGETS:
    @fuzz/run.sh "$@"

# Fail every system call of a small run, one at a time: half an hour. Needs strace.
faults:
    cargo test --release --locked --test all -- --ignored --nocapture --test-threads=1 faults::

# Kill training at random moments for MINUTES, and compare the bits.
torture MINUTES="5":
    CCDNI_MINUTES={{MINUTES}} cargo test --release --locked --test all -- --ignored --nocapture torture::

# Lose what was not synced at random moments. Needs a C compiler.
power TIMES="200":
    CCDNI_TIMES={{TIMES}} cargo test --release --locked --test all -- --ignored --nocapture power::

# A thousand starts at once, pairs of sweeps, 32 readers.
crowds STARTS="1000":
    CCDNI_STARTS={{STARTS}} cargo test --release --locked --test all -- --ignored --nocapture --test-threads=1 crowds::

# Licences, sources, vulnerabilities, bill of materials, unsafe code, AddressSanitizer.
supply:
    @tests/supply.sh

# Train a sweep with a real SLURM on this machine (Linux, root), disturbed in every way, and compare with a local one.
slurm-test:
    cargo build --quiet --release --locked
    tests/slurm.sh target/release/ccdni

# Build one file for any Linux machine of this architecture, which needs no library: target/static/ccdni
static *ARGS:
    cargo rustc --release --locked --bin ccdni --target-dir target "$@" -- -C strip=symbols -C target-feature=+crt-static
    mkdir -p target/static
    mv target/release/ccdni target/static/ccdni

# Build for CUDA, with a toolkit from PyPI. CUDA_COMPUTE_CAP is the oldest GPU's (80).
build-cuda *ARGS:
    #!/usr/bin/env bash
    set -euo pipefail
    assets/cuda/with-toolkit.sh cargo rustc --release --locked --features cuda --bin ccdni --target-dir target "$@" -- \
      -C strip=symbols -C 'link-arg=-Wl,-rpath,$ORIGIN/lib,--enable-new-dtags'
    # The libraries are 800 MB: where the file system can, they lie there once.
    rm -rf target/cuda
    mkdir -p target/cuda/lib
    cp target/release/ccdni target/cuda/ccdni
    for library in cublas cublasLt curand nvrtc nvrtc-builtins; do
      for file in target/cuda-toolkit/nvidia/cu13/lib/lib$library.so.*; do
        ln "$file" target/cuda/lib/ 2>/dev/null || cp "$file" target/cuda/lib/
      done
    done
    echo "target/cuda/ccdni, with the libraries that it needs beside it in target/cuda/lib"

# Pack what tests and times the program on a machine with an H100 or H200 and nothing else (docs/devices.md). --dry tries it here, without a GPU.
gpu-kit *ARGS:
    CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-90}" assets/cuda/with-toolkit.sh tests/cuda/kit.sh target/gpu-kit "$@"

# Without a GPU: what a run on CUDA launches, uploads and waits for, and what it does when the device fails; and the lints of CUDA.
cuda-record: build-cuda
    tests/cuda/record.sh target/cuda/ccdni
    assets/cuda/with-toolkit.sh cargo clippy --release --locked --features cuda --target-dir target --all-targets -- -D warnings

# Formatting, lints, documentation.
check:
    cargo fmt --all --check
    cargo clippy --release --locked --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps

# Time a training step of the reference jobs, one thread, beside a matrix product.
bench *ARGS:
    RAYON_NUM_THREADS=1 cargo bench --locked --bench step -- "$@"

# Seconds an epoch of the reference jobs, data and metrics included, as runs of one seed on one thread show them.
epochs EPOCHS="20":
    #!/usr/bin/env sh
    set -eu
    cargo build --quiet --release --locked
    outputs=$(mktemp -d)
    trap 'rm -rf "$outputs"' EXIT
    printf '| job | median | fastest |\n|---|---|---|\n'
    time_of() {
      name=$1; shift
      rm -rf "$outputs"/*
      target/release/ccdni run "$@" --set train.epochs={{EPOCHS}} --set run.threads=1 --seeds 1 --outputs "$outputs" \
        >"$outputs/said" 2>&1 || { cat "$outputs/said" >&2; exit 1; }
      awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "seconds") at = i } NR > 1 { print $at }' \
        "$outputs"/*/metrics.csv | sort -n |
        awk -v name="$name" '{ s[NR] = $1 } END { printf "| %s | %.4f s | %.4f s |\n", name, s[int((NR + 1) / 2)], s[1] }'
    }
    time_of 'linedraw ccRNN' experiments/linedraw_dni.yaml
    time_of 'linedraw ccRNN, noise' experiments/linedraw_dni.yaml --set task.train_noise=0.1
    time_of 'linedraw cRNN' experiments/linedraw.yaml
    time_of 'linedraw cRNN, noise' experiments/linedraw.yaml --set task.train_noise=0.1
    time_of 'lines ccRNN' experiments/seqmnist_lines_dni.yaml
    time_of 'lines cRNN' experiments/seqmnist_lines.yaml
    time_of 'recognition ccRNN' experiments/seqmnist_dni.yaml
    time_of 'recognition cRNN' experiments/seqmnist.yaml

# Steps per second of networks of blocks, locked and decoupled, on one thread and on two (docs/dni.md).
decoupling *ARGS:
    cargo build --quiet --release --locked
    benches/decoupling.sh target/release/ccdni "$@"

# The reference jobs beside JAX and PyTorch, alternately, one thread (`just peers --jax PYTHON --torch PYTHON --rounds 3`).
peers *ARGS:
    cargo build --quiet --release --locked
    python3 benches/peers/peers.py target/release/ccdni {{ARGS}}

# Begin a task: src/tasks/NAME.rs from the example, and the lines that register it.
new-task NAME:
    #!/usr/bin/env sh
    set -eu
    name=$1
    case $name in *[!a-z0-9_]*|[!a-z]*|'') echo "a task's name has lower-case letters, digits and _: $name" >&2; exit 2 ;; esac
    file=src/tasks/$name.rs
    if [ -e "$file" ]; then echo "$file is there already" >&2; exit 2; fi
    export name type=$(printf %s "$name" | perl -pe 's/(^|_)([a-z0-9])/\U$2/g')
    # Words of the language, and names that the example uses already, would not compile.
    if ! printf 'mod %s {}\n' "$name" | rustfmt --edition 2024 >/dev/null 2>&1 ||
      sed 's/DelayedAddition//g' examples/custom_task.rs | grep -qw "$type"; then
      echo "the name $name means something already: choose another" >&2; exit 2
    fi
    perl -0pe 's/\A(\/\/!.*\n)+/\/\/! $ENV{name}: what it is, and who did it first.\n/; s/\nfn main.*//s;
      s/delayed_addition/$ENV{name}/g; s/DelayedAddition/$ENV{type}/g; s/ccdni::/crate::/g' \
      examples/custom_task.rs > "$file"
    perl -pi -e 's/^mod registry;/pub mod $ENV{name};\n$&/' src/tasks/mod.rs
    perl -pi -e 's/^ +registry.register_task::<LineDraw>\(\);/$&\n registry.register_task::<super::$ENV{name}::$ENV{type}>();/' \
      src/tasks/registry.rs
    cargo fmt --all
    echo "$file is a copy of the example, registered as \`$name\`. Make it yours, and then bring up to date:"
    echo "  the tasks that are checked   a line in tests/all/tasks.rs"
    echo "  the editors' schema          cargo run --release -- schema > experiments/schema.json"
    echo "  the list of tasks            INSTA_UPDATE=always cargo test --release --lib cli::tasks"

# Begin a cell: crates/engine/src/nn/cells/NAME.rs from the example, and the lines that register it.
new-cell NAME:
    #!/usr/bin/env sh
    set -eu
    name=$1
    case $name in *[!a-z0-9_]*|[!a-z]*|'') echo "a cell's name has lower-case letters, digits and _: $name" >&2; exit 2 ;; esac
    file=crates/engine/src/nn/cells/$name.rs
    if [ -e "$file" ]; then echo "$file is there already" >&2; exit 2; fi
    export name type=$(printf %s "$name" | perl -pe 's/(^|_)([a-z0-9])/\U$2/g')
    # Words of the language, and names that the example uses already, would not compile.
    if ! printf 'mod %s {}\n' "$name" | rustfmt --edition 2024 >/dev/null 2>&1 ||
      sed 's/LeakyRate//g' examples/custom_cell.rs | grep -qw "$type" || grep -qw "mod $name" crates/engine/src/nn/cells/mod.rs; then
      echo "the name $name means something already: choose another" >&2; exit 2
    fi
    perl -0pe 's/\A(\/\/!.*\n)+/\/\/! $ENV{name}: what it is, its equation, and who did it first.\n/; s/\nfn main.*//s;
      s/leaky_rate/$ENV{name}/g; s/LeakyRate/$ENV{type}/g; s/ccdni::/crate::/g' \
      examples/custom_cell.rs > "$file"
    perl -pi -e 's/^mod gru;/$&\nmod $ENV{name};/; s/^    cells\.register::<Relu>.*/$&\n    cells.register::<$ENV{name}::$ENV{type}>(|cell| Box::new(cell));/' \
      crates/engine/src/nn/cells/mod.rs
    cargo fmt --all
    echo "$file is a copy of the example, registered as \`$name\`. Make it yours, and then bring up to date:"
    echo "  its test                a call of check_cell in src/testing/cells.rs"
    echo "  the editors' schema     cargo run --release -- schema > experiments/schema.json"
    echo "  the list of cells       README.md"
