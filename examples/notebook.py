# %% [markdown]
# # Results of `ccdni` in Python
#
# How to read a run, a table of many runs, and recordings with NumPy, and how to draw Fig. 2 of Pemberton et al.,
# NeurIPS 2021. The cells run in VS Code, Spyder or Jupyter (with jupytext), or all at once: `python examples/notebook.py`.
# They train small versions of the networks first, which takes some ten seconds, and nothing the second time.

# %%
import json
import os
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

PROGRAM = os.environ.get("CCDNI", "ccdni")  # or "target/release/ccdni"
OUTPUTS = Path(os.environ.get("OUTPUTS", "outputs"))
REPOSITORY = Path(__file__).resolve().parents[1] if "__file__" in globals() else Path.cwd()


def ccdni(*arguments):
    """Runs a command of the program in the repository, and returns what it prints."""
    command = [PROGRAM, *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout


OUTPUTS = OUTPUTS.resolve()
print(ccdni("reproduce", "fig2", "--quick", "--outputs", OUTPUTS))

# %% [markdown]
# ## A table of many runs
#
# One row per run, seed, epoch and metric. With pandas: `pd.read_csv(file)`; `-o fig2.parquet` and `.json` work, too.

# %%
file = OUTPUTS / "fig2_quick.csv"
ccdni("table", "experiments/paper/fig2.yaml", "--quick", "--outputs", OUTPUTS, "--out", file)
table = np.genfromtxt(file, delimiter=",", names=True, dtype=None, encoding="utf-8")
print(table.dtype.names)


def curves(name, metric="val_mse"):
    """The metric of a network, (seeds, epochs)."""
    rows = table[(table["name"] == name) & (table["metric"] == metric)]
    return rows["value"].reshape(len(np.unique(rows["seed"])), -1)


for name in ["cRNN", "ccRNN", "full BPTT"]:
    last = curves(name)[:, -1]
    print(f"{name:<10} last validation error {last.mean():6.2f} ± {last.std(ddof=1) / np.sqrt(len(last)):.2f} (SEM)")

# %% [markdown]
# ## A run
#
# A run is a directory named after a hash of its spec. `predictions.npy` has the drawn lines, (seeds, patterns, time, 2).


# %%
def run_of(name):
    """The directory of a network's run."""
    return OUTPUTS / str(table["run"][table["name"] == name][0])


axes = json.loads((run_of("ccRNN") / "predictions.json").read_text())
lines = {name: np.load(run_of(name) / "predictions.npy") for name in ["cRNN", "ccRNN"]}
targets = np.load(run_of("ccRNN") / "targets.npy")
print(axes["axes"], lines["ccRNN"].shape, "seeds", axes["seeds"])

# %% [markdown]
# ## Fig. 2: learning with and without a synthesizer
#
# Left: validation error, mean ± SEM over seeds. Right: what the networks of one seed draw; targets are dashed.

# %%
figure, (left, *right) = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for name, colour in [("cRNN", "0.5"), ("ccRNN", "tab:orange"), ("full BPTT", "black")]:
    values = curves(name)
    epochs = np.arange(1, values.shape[1] + 1)
    mean, sem = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
    left.plot(epochs, mean, color=colour, label=name)
    left.fill_between(epochs, mean - sem, mean + sem, color=colour, alpha=0.2, linewidth=0)
left.set(xlabel="epoch", ylabel="validation error (squared distance)", yscale="log")
left.legend(frameon=False)
for panel, (name, drawn) in zip(right, lines.items()):
    for pattern in range(drawn.shape[1]):
        colour = plt.cm.viridis(pattern / drawn.shape[1])
        panel.plot(*targets[0, pattern].T, "--", color=colour, linewidth=0.8)
        panel.plot(*drawn[0, pattern].T, color=colour)
    panel.set(title=f"{name}, seed {axes['seeds'][0]}", aspect="equal")
    panel.axis("off")
figure.savefig(OUTPUTS / "fig2.png", dpi=150)
print(OUTPUTS / "fig2.png")

# %% [markdown]
# ## Recordings
#
# With `record` in the spec, states and gradients of every n-th batch are saved, one file per epoch. The format is
# safetensors: `from safetensors.numpy import load_file`, or these few lines.


# %%
def load_file(path):
    """The tensors of a safetensors file by name."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    types = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "U8": np.uint8}
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = np.frombuffer(data[start + begin : start + end], types[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"])
    return tensors


recorded = ["experiments/linedraw_dni.yaml", "--set", "train.epochs=10"]
recorded += ["--set", "record={every: 100, what: [hidden, synthetic, true]}"]
ccdni("run", *recorded, "--outputs", OUTPUTS)
seed = OUTPUTS / ccdni("hash", *recorded).strip() / "seeds" / "1"
cosines = []
for file in sorted((seed / "recordings").glob("epoch-*.safetensors")):
    batch = load_file(file)  # (windows, batch, state); an LSTM's state is h, then c
    synthetic, true = (batch[f"batch0001.{what}.layer0"] for what in ["synthetic", "true"])
    product = (synthetic * true).sum(axis=-1)
    norms = np.linalg.norm(synthetic, axis=-1) * np.linalg.norm(true, axis=-1)
    cosines.append(np.mean(product / np.maximum(norms, 1e-8)))
print("hidden states", batch["batch0001.hidden.layer0"].shape)
print("cosine of synthetic and true gradients, by epoch:", np.round(cosines, 2))
