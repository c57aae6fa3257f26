#!/usr/bin/env sh
# Tests the pages of `ccdni view` in a browser: tests/view/run.sh PROGRAM [further arguments of `node --test`]
set -eu
CCDNI=$(realpath "$1")
export CCDNI
shift
cd "$(dirname "$0")"
npm ci --silent --no-audit --no-fund
node --test --test-concurrency=1 "$@"
