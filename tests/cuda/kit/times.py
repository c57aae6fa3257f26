"""Seconds per epoch: on the GPU by both backends, on the CPU, of several seeds at a time, and of the same networks in PyTorch and JAX."""
import csv
import importlib.util
import json
import os
import shutil
import signal
import statistics
import sys
import time

from jobs import JOBS, run

SECONDS = 2   # of training for each number
LIMIT = 25    # with everything that comes before
SEEDS = 8
# How many seeds take the seconds of one at a time, and the keys for it. Of seeds that are trained together, each has its share of the time.
AT_A_TIME = {f"{count} at a time": (count, [f"run.jobs={count}"]) for count in (1, 2, 4, 8)}
AT_A_TIME["together"] = (1, ["run.seed_batch=auto"])


def measured(kit, job, *keys, seeds=1, at_a_time=1):
    """Median of the seconds per epoch of the seeds that train first, in a run that is ended after some epochs; the first of each seed
    does not count. Without a median, why there is none."""
    outputs = kit.work / "outputs"
    shutil.rmtree(outputs, ignore_errors=True)
    begun, limit = time.monotonic(), min(900 if kit.dry else LIMIT, kit.left())
    process = kit.start(run(kit, job, outputs, "train.epochs=1000000", *keys, seeds=f"1..{seeds}"), kit.results.log("times"))
    median = None
    while process.poll() is None and time.monotonic() - begun < limit:
        by_seed = [[float(row["seconds"]) for row in csv.DictReader(table.open())][1:] for table in outputs.glob("*/seeds/*/metrics.csv")]
        warm = [seconds for seconds in by_seed if len(seconds) >= 2 and (kit.dry or sum(seconds) > SECONDS)]
        if len(warm) >= at_a_time:
            median = statistics.median(second for seconds in warm for second in seconds)
            break
        time.sleep(0.02)
    ended = process.poll()
    process.send_signal(signal.SIGINT)
    kit.end(process, 20)
    return median, "it took too long" if ended is None else f"it ended with {ended}"


def epochs(kit, job, how, *keys):
    seconds, why = measured(kit, job, *keys)
    if seconds is None:
        kit.results.left_out(f"{job.name}, {how}", why)
    else:
        kit.results.epoch(job.name, how, seconds)


def each(kit, what, measure):
    """Measures every job while there is time."""
    for job in JOBS:
        if kit.left() < 5:
            return kit.results.left_out(f"{job.name} and what comes after, {what}", "the time was up")
        measure(job)


def backends(kit, tf32):
    note = ", TF32" if tf32 else ""

    def both(job):
        for backend in ["unrolled", "composed"]:
            keys = ["run.device=cuda", f"run.backend={backend}", f"run.tf32={str(tf32).lower()}"]
            epochs(kit, job, backend + note, *keys)

    each(kit, "on the GPU" + note, both)


def cpu(kit):
    def by_threads(job):
        for threads in dict.fromkeys([1, len(os.sched_getaffinity(0))]):
            how = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
            epochs(kit, job, how, "run.device=cpu", f"run.threads={threads}")

    each(kit, "on the CPU", by_threads)


def seeds(kit):
    """An epoch of all seeds, from those that train at a time."""
    for job in JOBS[:2]:
        for how, (count, keys) in AT_A_TIME.items():
            seconds, why = measured(kit, job, "run.device=cuda", *keys, seeds=SEEDS, at_a_time=count)
            if seconds is None:
                kit.results.left_out(f"{SEEDS} seeds of {job.name}, {how}", why)
            else:
                kit.results.seeds(job.name, how, seconds * SEEDS / count)


def peers(kit, name):
    """A script of benches/peers by the Python that runs this, if it has what the script needs. Products in float32, as ours."""
    module = name.lower().removeprefix("py")
    if not importlib.util.find_spec(module):
        return kit.results.left_out(name, f"{sys.executable} does not have it")
    # JAX takes the GPU where there is one.
    device = ["--device", "cpu" if kit.dry else "cuda"] if name == "PyTorch" else []
    command = [sys.executable, kit.place / "benches" / "peers" / f"bench_{module}.py"]
    each(kit, name, lambda job: job.peer and peer(kit, job, name, [*command, job.peer, *device, "--seconds", SECONDS]))


def peer(kit, job, name, command):
    # They find their own libraries; JAX is not to take all memory at once.
    environment = {"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""), "JAX_DEFAULT_MATMUL_PRECISION": "highest",
                   "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    code, said = kit.call(command, 60, kit.results.log(name), environment)
    if code == 0:
        kit.results.epoch(job.name, name, json.loads(said.splitlines()[-1])["seconds"])
    else:
        kit.results.left_out(f"{job.name}, {name}", "it took too long" if code is None else f"it ended with {code}")
