"""Seconds per epoch of a job in JAX, training and validation: an epoch is one compiled call, with its data in memory.

    bench_jax.py JOB [--epochs N] [--seconds S] [--fold]     --fold: line drawing without noise, each of the seven distinct sequences computed once;
                                               --seconds: no epoch begins after so many, from the third on
    bench_jax.py verify GOLDEN                 gradients and parameters against golden cases of recurrent networks
"""
import argparse, json, sys, time
from pathlib import Path

import jax, jax.numpy as jnp
import numpy as np
from jax import lax

from ccrnn import Job, evaluate, init, opt_init, train_step

JOBS = {
    "linedraw_ccrnn": Job(1, 50, 2, 10, 1, (400, 400), 2, "mse"),
    "linedraw_crnn": Job(1, 50, 2, 10, 1, None, 2, "mse", unroll=10),
    "recognition_ccrnn": Job(28, 30, 10, 28, 3, (300,), None, "ce"),
    "recognition_crnn": Job(28, 30, 10, 28, 3, None, None, "ce"),
    "lines_ccrnn": Job(28, 30, 2, 28, 3, (300,), 4, "mse"),
    "lines_crnn": Job(28, 30, 2, 28, 3, None, 4, "mse"),
    "wide_ccrnn": Job(1, 512, 2, 10, 1, (1024, 1024), 2, "mse"),
}
BATCHES = {"wide_ccrnn": (5, 256)}  # and their size
NOISE = 0.1


def points_on_circle(count, first=0):
    angle = 2 * np.pi * np.arange(first, first + count) / count
    return np.stack([10 * np.sin(angle), 10 * np.cos(angle)], -1)


def paths(ends, steps):
    """[steps, ends, 2]: straight lines from the origin."""
    return (np.arange(steps)[:, None, None] / (steps - 1) * ends[None]).astype(np.float32)


def linedraw(job, rng, fold, batches, batch):
    """Batches of an epoch, and a function from parameters to the validation loss."""
    cues = 0.1 * np.arange(-3, 4)
    lines = paths(np.insert(points_on_circle(6)[::-1], 3, 0, 0), job.steps)

    def draw(rows):
        index = rng.integers(0, 7, rows)
        x = np.concatenate([cues[index][None], NOISE * rng.standard_normal((job.steps - 1, rows))])
        return jnp.asarray(x[..., None].astype(np.float32)), jnp.asarray(lines[:, index])

    if not fold:
        drawn = [draw(batch) for _ in range(batches)]
        x, y = draw(batches * batch // 4)
        data = tuple(jnp.stack(part) for part in zip(*drawn))
        return data, lambda d: (*d, None), lambda p: jnp.mean(jnp.sum(jnp.square(evaluate(job, p, x) - y), -1))
    x = np.zeros((job.steps, 7, 1), np.float32)
    x[0, :, 0] = cues
    x, y = jnp.asarray(x), jnp.asarray(lines)
    counts = lambda rows: np.bincount(rng.integers(0, 7, rows), minlength=7).astype(np.float32)
    data, often = jnp.asarray([counts(batch) for _ in range(batches)]), jnp.asarray(counts(batches * batch // 4))
    error = lambda p: jnp.mean(jnp.sum(jnp.square(evaluate(job, p, x) - y), -1), 0)
    return data, lambda d: (x, y, d), lambda p: jnp.sum(error(p) * often) / jnp.sum(often)


def digits(job, rng, batch):
    train, validation = 8000, 2000
    images = rng.random((train + validation, 28, 28), dtype=np.float32) * (rng.random((train + validation, 28, 28)) < .2)
    labels = rng.integers(0, 10, train + validation).astype(np.int32)
    images[np.arange(train + validation), :, labels] += .5  # something to learn
    lines = jnp.asarray(paths(points_on_circle(10), job.steps))
    target = lambda label: label if job.loss == "ce" else lines[:, label]
    x, label = jnp.asarray(images[:train]), jnp.asarray(labels[:train])
    vx, vlabel = jnp.asarray(images[train:].transpose(1, 0, 2).copy()), jnp.asarray(labels[train:])

    def validate(p):
        out = evaluate(job, p, vx)
        if job.loss == "mse":
            return jnp.mean(jnp.sum(jnp.square(out - target(vlabel)), -1))
        return jnp.mean(jax.nn.logsumexp(out, -1) - jnp.take_along_axis(out, vlabel[:, None], -1)[:, 0])

    data = jnp.asarray(rng.permutation(train).reshape(-1, batch).astype(np.int32))
    return data, lambda index: (jnp.swapaxes(x[index], 0, 1), target(label[index]), None), validate


def bench(name, epochs, seconds, fold):
    job, rng, size = JOBS[name], np.random.default_rng(1), BATCHES.get(name, (16, 50))
    data, batch, validate = linedraw(job, rng, fold, *size) if job.inputs == 1 else digits(job, rng, size[1])

    def epoch(p, o, data):
        def body(state, here):
            p, o, loss, _, _ = train_step(job, *state, *batch(here))
            return (p, o), loss
        (p, o), loss = lax.scan(body, (p, o), data)
        return p, o, jnp.mean(loss), validate(p)

    p = init(job, jax.random.key(7))
    o = opt_init(p)
    epoch = jax.jit(epoch, donate_argnums=(0, 1)).lower(p, o, data).compile()
    times = []
    while len(times) < epochs and (len(times) < 3 or sum(times) < seconds):
        jax.block_until_ready(p)
        begun = time.perf_counter()
        p, o, loss, validation = jax.block_until_ready(epoch(p, o, data))
        times.append(time.perf_counter() - begun)
    times = sorted(times[2:])
    print(json.dumps({"seconds": times[len(times) // 2], "loss": float(loss), "validation": float(validation)}))


def verify(golden):
    from safetensors.numpy import load_file
    for case in ["lstm_T1_sparse2", "dni_lstm_T1_sparse2", "lstm_T5_predict_last", "dni_lstm_T5_predict_last"]:
        described = json.loads((golden / case / "case.json").read_text())
        t, tolerance = load_file(golden / case / "tensors.safetensors"), described["tolerance"]
        s = described["synth"] if described["dni"] else None
        prefix = "rnn.rnn." if s else "rnn."
        names = {"wx": "weight_ih_l0", "wh": "weight_hh_l0", "bx": "bias_ih_l0", "bh": "bias_hh_l0"}
        names = {k: prefix + v for k, v in names.items()} | {"wo": "linear.weight", "bo": "linear.bias"}
        for k in range(s["hidden_layers"] + 1 if s else 0):
            layer = "rnn.backward_interface.synthesizer." + ("input_trigger" if k == 0 else f"layers.{k - 1}")
            names |= {f"s{k}w": layer + ".weight", f"s{k}b": layer + ".bias"}
        job = Job(described["input_size"], described["hidden_size"], described["output_size"], described["seq_len"], described["bptt"],
                  (s["hidden_size"],) * s["hidden_layers"] if s else None,
                  None if described["predict_last"] else described["sparse_interval"] or 1, "mse" if described["loss"] == "mse" else "ce",
                  lr=described["optimizer"]["lr"], scale=described["sg_factor"] or 0.1, clip=described["grad_clip_norm"])
        p = {k: jnp.asarray(t["init." + v].T) for k, v in names.items()}
        o = opt_init(p)
        for b in range(described["steps"]):
            y = t[f"batch{b}.target"]
            y = jnp.asarray(y.transpose(1, 0, 2) if y.ndim == 3 else y.astype(np.int32))
            p, o, _, _, g = train_step(job, p, o, jnp.asarray(t[f"batch{b}.input"].transpose(1, 0, 2)), y)
            for k, v in names.items():
                expected = t[f"batch{b}.grad.{v}"].T
                bound = max(tolerance["grad_rel_to_tensor_max"] * np.abs(expected).max(), tolerance["grad_abs_floor"])
                assert np.abs(np.asarray(g[k]) - expected).max() <= bound, (case, b, v)
                assert np.abs(np.asarray(p[k]) - t[f"batch{b}.after.{v}"].T).max() <= tolerance["param_abs"], (case, b, v)
        print(case, "agrees")


if __name__ == "__main__":
    if sys.argv[1:2] == ["verify"]:
        verify(Path(sys.argv[2]))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("job", choices=JOBS)
        parser.add_argument("--epochs", type=int, default=14)
        parser.add_argument("--seconds", type=float, default=float("inf"))
        parser.add_argument("--fold", action="store_true")
        args = parser.parse_args()
        bench(args.job, args.epochs, args.seconds, args.fold)
