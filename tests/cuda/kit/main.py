"""The order of what run.sh does, by importance: where the time is up, only the rest is lost."""
import argparse
import os
import sys
from pathlib import Path

import checks
import times
from machine import Kit
from results import Results


# Name, seconds at most, function. What a part does not take is there for the rest.
PARTS = [
    ("tests", 240, checks.tests),
    ("epochs on the GPU", 110, lambda kit: times.backends(kit, tf32=False)),
    ("failures", 60, checks.failures),
    ("bits", 50, checks.bits),
    ("seeds at a time", 60, times.seeds),
    ("PyTorch", 60, lambda kit: times.peers(kit, "PyTorch")),
    ("JAX", 90, lambda kit: times.peers(kit, "JAX")),
    ("epochs with TF32", 60, lambda kit: times.backends(kit, tf32=True)),
    ("epochs on the CPU", 90, times.cpu),
]


def main():
    parser = argparse.ArgumentParser(prog="run.sh", description="Tests and times the program on this machine's NVIDIA GPU.")
    parser.add_argument("folder", nargs="?", default="results", type=Path, help="where results.json, table.md and logs go")
    parser.add_argument("--minutes", type=float, default=9, help="time for all parts together (9)")
    parser.add_argument("--libraries", type=Path, help="a folder with CUDA's libraries, before those that are found")
    parser.add_argument("--dry", action="store_true", help="with little data, for a stand-in of the driver: times mean nothing")
    args = parser.parse_args()
    results = Results(args.folder)
    kit = Kit(Path(__file__).resolve().parent, results, 60 * args.minutes, args.libraries, args.dry)
    results.machine(kit.describe())
    for name, seconds, part in PARTS:
        if kit.begin(seconds):
            part(kit)
        else:
            results.left_out(name, "the time was up")
    results.finish()
    sys.exit(0 if results.passed() else 1)


if __name__ == "__main__":
    os.umask(0o022)
    main()
