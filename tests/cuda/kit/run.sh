#!/usr/bin/env bash
# Tests and times the program on this machine's NVIDIA GPU, in at most nine minutes. Needs Python 3.9 or newer (PYTHON=python3), a driver
# for CUDA 13, and CUDA's libraries from Python's packages or a toolkit; neither network nor a compiler. The exit code is 0 if every
# check passed.
#
#   run.sh [FOLDER]        results.json, table.md and logs go into FOLDER (results), as they come
#   run.sh --help
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$python" -m tarfile -e "$here/kit.tar.xz" "$place" 2>"$place/said" || { cat "$place/said" >&2; exit 2; }
"$python" "$place/kit/main.py" "$@"
