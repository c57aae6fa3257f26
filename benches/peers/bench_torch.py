"""Seconds per epoch of a job in PyTorch, training and validation, as one would write it with `torch.nn` and automatic differentiation: a
window is a call of the recurrent network, whose state is detached at the end; `--compile` compiles the step of a batch.

    bench_torch.py JOB [--epochs N] [--seconds S] [--device cuda] [--compile]      --seconds: no epoch begins after so many, from the third on
"""
import argparse, json, time

import numpy as np, torch
from torch import nn

# inputs, hidden, outputs, steps, window, hidden layers of the synthesizer, steps from one target to the next (None: the last alone)
JOBS = {
    "linedraw_ccrnn": (1, 50, 2, 10, 1, (400, 400), 2),
    "linedraw_crnn": (1, 50, 2, 10, 1, (), 2),
    "recognition_ccrnn": (28, 30, 10, 28, 3, (300,), None),
    "recognition_crnn": (28, 30, 10, 28, 3, (), None),
    "lines_ccrnn": (28, 30, 2, 28, 3, (300,), 4),
    "lines_crnn": (28, 30, 2, 28, 3, (), 4),
    "wide_ccrnn": (1, 512, 2, 10, 1, (1024, 1024), 2),
}
BATCHES = {"wide_ccrnn": (5, 256)}  # and their size
SCALE = 0.1


class Network(nn.Module):
    def __init__(self, inputs, hidden, outputs, steps, window, synthesizer, every):
        super().__init__()
        self.hidden, self.steps, self.window = hidden, steps, window
        self.rnn, self.readout = nn.LSTM(inputs, hidden), nn.Linear(hidden, outputs)
        self.targets = {steps - 1} if every is None else set(range(0, steps, every))
        self.loss = nn.CrossEntropyLoss() if every is None else nn.MSELoss()
        sizes, layers = [2 * hidden, *synthesizer, 2 * hidden], []
        for below, above in zip(sizes, sizes[1:]):
            layers += [nn.Linear(below, above), nn.ReLU()]
        self.synthesizer = nn.Sequential(*layers[:-1]) if synthesizer else None
        if synthesizer:
            nn.init.zeros_(layers[-2].weight), nn.init.zeros_(layers[-2].bias)

    def losses(self, x, y):
        """The loss of the network, with synthetic gradients at the ends of windows, and that of the synthesizer."""
        state = x.new_zeros(1, x.shape[1], 2 * self.hidden)
        total, predicted, starts, bootstrap = 0.0, [], [], []
        for first in range(0, self.steps, self.window):
            start = state.detach().requires_grad_(self.synthesizer is not None)
            h, (hn, cn) = self.rnn(x[first:first + self.window], (start[..., :self.hidden].contiguous(), start[..., self.hidden:].contiguous()))
            state = torch.cat([hn, cn], -1)
            here = [step for step in range(first, min(first + self.window, self.steps)) if step in self.targets]
            loss = sum(self.loss(self.readout(h[s - first]), y[s] if y.dim() == 3 else y) for s in here) / max(len(here), 1)
            if self.synthesizer is not None:
                with torch.no_grad():
                    synthetic = SCALE * self.synthesizer(state)
                loss = loss + (synthetic * state).sum()
                starts.append(start), predicted.append(self.synthesizer(start.detach()))
            total = total + loss
        if self.synthesizer is None:
            return total, None
        arrived = torch.autograd.grad(total, starts, retain_graph=True)
        return total, sum(((p - a) ** 2).sum() for p, a in zip(predicted, arrived))

    def forward(self, x):
        h, _ = self.rnn(x)
        return self.readout(h if len(self.targets) > 1 else h[-1])


def data(name, steps, rng, device):
    batches, batch = BATCHES.get(name, (16, 50))
    points = lambda n: np.stack([10 * np.sin(2 * np.pi * np.arange(n) / n), 10 * np.cos(2 * np.pi * np.arange(n) / n)], -1)
    paths = lambda ends: torch.tensor(np.arange(steps)[:, None, None] / (steps - 1) * ends[None], dtype=torch.float32)
    if not name.startswith(("recognition", "lines_")):
        lines = paths(np.insert(points(6)[::-1], 3, 0, 0))

        def draw(rows):
            index = rng.integers(0, 7, rows)
            x = np.concatenate([0.1 * (index - 3)[None], 0.1 * rng.standard_normal((steps - 1, rows))])
            return torch.tensor(x[..., None], dtype=torch.float32).to(device), lines[:, index].contiguous().to(device)
        drawn = [draw(batch) for _ in range(batches)]
        return lambda: drawn, draw(batches * batch // 4)
    images = rng.random((10000, 28, 28), dtype=np.float32) * (rng.random((10000, 28, 28)) < .2)
    labels = rng.integers(0, 10, 10000)
    images[np.arange(10000), :, labels] += .5
    images, labels, lines = (part.to(device) for part in (torch.tensor(images), torch.tensor(labels), paths(points(10))))
    pair = lambda i: (images[i].transpose(0, 1).contiguous(), lines[:, labels[i]] if name.startswith("lines") else labels[i])
    return lambda: (pair(i) for i in torch.randperm(8000, device=device).view(-1, batch)), pair(torch.arange(8000, 10000, device=device))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1), torch.set_flush_denormal(True), torch.manual_seed(1)
    network = Network(*JOBS[args.job]).to(args.device)
    batches, (vx, vy) = data(args.job, network.steps, np.random.default_rng(1), args.device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, (0.9, 0.98), 1e-9)
    evaluate = torch.compile(network) if args.compile else network
    losses = torch.compile(network.losses) if args.compile else network.losses
    own = [p for n, p in network.named_parameters() if not n.startswith("synthesizer")]
    other = [p for n, p in network.named_parameters() if n.startswith("synthesizer")]
    times = []
    while len(times) < args.epochs and (len(times) < 3 or sum(times) < args.seconds):
        begun = time.perf_counter()
        for x, y in batches():
            loss, synthesizer = losses(x, y)
            gradients = torch.autograd.grad(loss, own, retain_graph=synthesizer is not None)
            gradients += torch.autograd.grad(synthesizer, other) if synthesizer is not None else ()
            for parameter, gradient in zip(own + other, gradients):
                parameter.grad = gradient
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        with torch.no_grad():
            network.loss(evaluate(vx), vy).item()  # waits for the device
        times.append(time.perf_counter() - begun)
    times = sorted(times[2:])
    print(json.dumps({"seconds": times[len(times) // 2]}))


main()
