"""Times the program beside JAX and PyTorch on one thread, alternately, and prints medians of the rounds in seconds per epoch.

    peers.py PROGRAM [--rounds N] [--jax PYTHON] [--torch PYTHON] [--jobs PREFIX]

The interpreters default to this one; what is missing is said and left out.
"""
import argparse, csv, json, os, statistics, subprocess, sys, tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SPECS = HERE.parent.parent / "experiments"
NOISE = ["--set", "task.train_noise=0.1"]
# name: spec, arguments, epochs, job of the peers, arguments of JAX (None: not there in JAX)
JOBS = {
    "linedraw ccRNN, noise": ("linedraw_dni.yaml", NOISE, 14, "linedraw_ccrnn", []),
    "linedraw cRNN, noise": ("linedraw.yaml", NOISE, 40, "linedraw_crnn", []),
    "linedraw ccRNN, identical once": ("linedraw_dni.yaml", [], 40, "linedraw_ccrnn", ["--fold"]),
    "linedraw cRNN, identical once": ("linedraw.yaml", [], 100, "linedraw_crnn", ["--fold"]),
    "recognition ccRNN": ("seqmnist_dni.yaml", [], 6, "recognition_ccrnn", []),
    "recognition cRNN": ("seqmnist.yaml", [], 8, "recognition_crnn", []),
    "lines ccRNN": ("seqmnist_lines_dni.yaml", [], 6, "lines_ccrnn", []),
    "lines cRNN": ("seqmnist_lines.yaml", [], 8, "lines_crnn", []),
    "language LSTM": ("dni/ptb.yaml", [], 5, "lstm", None),
    "language DNI-LSTM": ("dni/ptb_dni.yaml", [], 5, "dni_lstm", None),
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
              "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}


def run(command):
    # On one core: XLA's flags alone do not keep it to one thread.
    pin = (lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})) if hasattr(os, "sched_setaffinity") else None
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD}, preexec_fn=pin)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr[-2000:]}")
    return result.stdout


def program(path, spec, arguments, epochs):
    with tempfile.TemporaryDirectory() as outputs:
        run([path, "run", SPECS / spec, *arguments, "--seeds", "1", "--set", f"train.epochs={epochs}", "--set", "run.threads=1",
             "--outputs", outputs])
        table = next(Path(outputs).glob("*/seeds/1/metrics.csv")).read_text().splitlines()
        return statistics.median(float(row["seconds"]) for row in csv.DictReader(table))


def peer(python, script, *arguments):
    return json.loads(run([python, HERE / script, *arguments]).splitlines()[-1])["seconds"]


def has(python, module):
    there = subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0
    if not there:
        print(f"{python} has no {module}: left out (pip install {module})", file=sys.stderr)
    return there


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jax", default=sys.executable)
    parser.add_argument("--torch", default=sys.executable)
    parser.add_argument("--jobs", default="", help="only jobs whose name begins with this")
    args = parser.parse_args()
    torch = lambda job, fold, *flags: peer(args.torch, "bench_language.py" if fold is None else "bench_torch.py", job, *flags)
    columns = []
    if has(args.torch, "torch"):
        columns += [("torch eager", torch)]
        columns += [("torch.compile", lambda job, fold: None if fold else torch(job, fold, "--compile"))]
    if has(args.jax, "jax"):
        columns.append(("JAX", lambda job, fold: None if fold is None else peer(args.jax, "bench_jax.py", job, *fold)))
    names = [name for name, _ in columns] + ["ccdni"]
    jobs = {job: how for job, how in JOBS.items() if job.startswith(args.jobs)}
    times = {job: {name: [] for name in names} for job in jobs}
    for _ in range(args.rounds):
        for job, (spec, arguments, epochs, other, fold) in jobs.items():
            for name, time in columns:
                seconds = time(other, fold)
                times[job][name] += [] if seconds is None else [seconds]
            times[job]["ccdni"].append(program(args.program, spec, arguments, epochs))
    print("| job | " + " | ".join(names) + " | ccdni / " + " | ccdni / ".join(names[:-1]) + " |" if columns else "| job | ccdni |")
    print("|---" * (2 * len(names)) + "|")
    for job, by in times.items():
        median = {name: statistics.median(values) if values else None for name, values in by.items()}
        cells = [f"{median[name]:.4f}" if median[name] else "" for name in names]
        ratios = [f"{median['ccdni'] / median[name]:.2f}" if median[name] else "" for name in names[:-1]]
        print(f"| {job} | " + " | ".join(cells + ratios) + " |")


main()
