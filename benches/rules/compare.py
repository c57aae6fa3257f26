"""Learning rules: microseconds per step and sequence of `ccdni` against units and steps, and beside plain numpy and PyTorch.

    python3 benches/rules/compare.py target/release/ccdni [PLOT]

Needs numpy and torch for the comparison, which is left out without them, and matplotlib for the plot of the costs. Everything runs on one thread. Times of `ccdni` are of whole
training epochs (column `seconds` of metrics.csv): data, forward pass, rule and update; of the others, of forward pass and rule alone.
"""

import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"

INPUTS, OUTPUTS = 8, 4
BP_LAMBDA = {"kind": "bp_lambda", "lambda": 0.9, "gamma": 0.9}


def ccdni(program, rule, units, steps, rows):
    """The fastest epoch's microseconds per step and sequence; an epoch is one batch."""
    epochs = 5 if rule["kind"] == "rtrl" and units > 32 else 25
    layer = {"cell": "tanh", "hidden": units}
    if rule["kind"] == "bp_lambda":
        layer["dni"] = {"hidden": [], "scale": 1}
    spec = {
        "name": "bench",
        "task": {
            "kind": "mimic", "seq_len": steps, "inputs": INPUTS, "outputs": OUTPUTS,
            "train_size": rows, "validation_size": 0, "test_size": 0,
        },
        "model": {"layers": [layer]},
        "train": {"epochs": epochs, "batch_size": rows, "rule": rule},
        "run": {"device": "cpu", "jobs": 1, "threads": 1},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "spec.yaml")
        path.write_text(json.dumps(spec))
        subprocess.run([program, "run", path, "--outputs", folder], check=True, capture_output=True)
        (metrics,) = pathlib.Path(folder).glob("*/seeds/1/metrics.csv")
        with open(metrics) as file:
            seconds = min(float(row["seconds"]) for row in csv.DictReader(file))
    return seconds / (rows * steps) * 1e6


def fastest(work, per):
    times = []
    for _ in range(15):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times) / per * 1e6


def plot(path, panels):
    """Draws the costs of every rule: one panel per quantity that they are measured against."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(10, 4), sharey=True, layout="constrained")
    for axis, (label, values, costs) in zip(axes, panels):
        for rule, row in costs.items():
            axis.loglog(values, row, "o-", label=rule)
        axis.set_xlabel(label)
        axis.set_xticks(values, map(str, values))
        axis.minorticks_off()
    axes[0].set_ylabel("microseconds per step and sequence")
    axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=110)


def numpy_rtrl(units, steps):
    """RTRL of one sequence, as one writes it: M' = J M + immediate, gradient += q M."""
    import numpy as np

    random, width = np.random.default_rng(1), units + INPUTS + 1
    weights = random.normal(size=(units, width)) / np.sqrt(width)
    readout = random.normal(size=(OUTPUTS, units)) / np.sqrt(units)
    inputs, targets = random.normal(size=(steps, INPUTS)), random.normal(size=(steps, OUTPUTS))

    def work():
        h, influence = np.zeros(units), np.zeros((units, units, width))
        gradient = np.zeros((units, width))
        for x, y in zip(inputs, targets):
            presynaptic = np.concatenate([h, x, [1.0]])
            h = np.tanh(weights @ presynaptic)
            slope = 1 - h**2
            jacobian = slope[:, None] * weights[:, :units]
            influence = (jacobian @ influence.reshape(units, -1)).reshape(influence.shape)
            influence[np.arange(units), np.arange(units)] += slope[:, None] * presynaptic
            credit = (readout @ h - y) @ readout
            gradient += np.tensordot(credit, influence, 1)
        return gradient

    return fastest(work, steps)


def torch_bp_lambda(units, steps, rows):
    """BP(lambda) of a tanh network with a linear synthesizer, batched: traces [rows, n, n, n + 1]."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    n, decay, gamma = units, 0.81, 0.9
    w, v = torch.randn(n, n) / n**0.5, torch.randn(n, INPUTS)
    readout, synthesizer = torch.randn(OUTPUTS, n) / n**0.5, 0.1 * torch.randn(n, n + 1) / n**0.5
    inputs, targets = torch.randn(steps, rows, INPUTS), torch.randn(steps, rows, OUTPUTS)
    ones, index = torch.ones(rows, 1), torch.arange(n)

    def work():
        h, traces = torch.zeros(rows, n), torch.zeros(rows, n, n, n + 1)
        gradient, update, before = torch.zeros(n, n), torch.zeros(n, n + 1), None
        for x, y in zip(inputs, targets):
            last = h
            h = torch.tanh(last @ w.T + x @ v.T)
            jacobian = (1 - h**2)[:, :, None] * w
            immediate = (h @ readout.T - y) @ readout / rows
            features = torch.cat([h, ones], 1)
            predicted = features @ synthesizer.T
            if before is not None:
                features_before, jacobian_before, predicted_before = before
                error = torch.einsum("bi,bij->bj", immediate + gamma * predicted, jacobian) - predicted_before
                traces = decay * torch.bmm(jacobian_before, traces.view(rows, n, -1)).view(traces.shape)
                traces[:, index, index] += features_before[:, None]
                update += torch.einsum("bi,bikl->kl", error, traces) / rows
            before = features, jacobian, predicted
            gradient += ((immediate + predicted) * (1 - h**2)).T @ last
        return gradient

    with torch.no_grad():
        return fastest(work, steps * rows)


def main():
    program = os.path.abspath(sys.argv[1])
    rules = [{"kind": kind} for kind in ("bptt", "rflo", "eprop", "uoro", "kernl", "dni", "rtrl")] + [BP_LAMBDA]
    sizes = [16, 32, 64, 128]
    print("Microseconds per step and sequence: batches of 10 sequences of 20 steps\n")
    print("| rule |" + "".join(f" {units} units |" for units in sizes))
    print("|---|" + "---|" * len(sizes))
    by_units, by_steps = {}, {}
    for rule in rules:
        row = by_units[rule["kind"]] = [ccdni(program, rule, units, 20, 10) for units in sizes]
        print(f"| `{rule['kind']}` |" + "".join(f" {cost:.1f} |" for cost in row), flush=True)
    lengths = [10, 20, 50, 100, 200]
    print("\nThe same with 32 units, against the length of the sequence\n")
    print("| rule |" + "".join(f" {steps} steps |" for steps in lengths))
    print("|---|" + "---|" * len(lengths))
    for rule in rules:
        row = by_steps[rule["kind"]] = [ccdni(program, rule, 32, steps, 10) for steps in lengths]
        print(f"| `{rule['kind']}` |" + "".join(f" {cost:.1f} |" for cost in row), flush=True)
    if len(sys.argv) > 2:
        plot(sys.argv[2], [("units, 20 steps", sizes, by_units), ("steps, 32 units", lengths, by_steps)])
    try:
        import numpy  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        return
    print("\n| job | plain | ccdni | speed-up |\n|---|---|---|---|")
    jobs = [
        ("rtrl, 32 units, one sequence of 100 steps, numpy", numpy_rtrl(32, 100), ({"kind": "rtrl"}, 32, 100, 1)),
        ("bp_lambda, 100 units, 10 sequences of 20 steps, torch", torch_bp_lambda(100, 20, 10), (BP_LAMBDA, 100, 20, 10)),
    ]
    for name, theirs, (rule, units, steps, rows) in jobs:
        ours = ccdni(program, rule, units, steps, rows)
        print(f"| {name} | {theirs:.1f} | {ours:.1f} | {theirs / ours:.1f} |")


if __name__ == "__main__":
    main()
