"""Milliseconds per training step of the papers' caption decoder in PyTorch, on one thread: 9,956 words, LSTM of 256, batches of 100 captions of 13
words, an update by Adam after every window of five. `--dni` adds a synthesizer of two layers of 1,024.

The same step: `RAYON_NUM_THREADS=1 cargo bench --bench step -- caption_decoder`.
"""
import argparse, time

import torch
from torch import nn

WORDS, HIDDEN, BATCH, STEPS, WINDOW, SCALE = 9956, 256, 100, 13, 5, 0.1

parser = argparse.ArgumentParser()
parser.add_argument("--dni", action="store_true")
parser.add_argument("--steps", type=int, default=12)
args = parser.parse_args()
torch.set_num_threads(1), torch.set_flush_denormal(True), torch.manual_seed(1)
embedding, rnn, readout = nn.Embedding(WORDS, HIDDEN), nn.LSTM(HIDDEN, HIDDEN), nn.Linear(HIDDEN, WORDS)
synthesizer = nn.Sequential(nn.Linear(2 * HIDDEN, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 2 * HIDDEN))
own = [*embedding.parameters(), *rnn.parameters(), *readout.parameters()]
other = list(synthesizer.parameters()) if args.dni else []
optimizer = torch.optim.Adam(own + other, 1e-3, (0.9, 0.98), 1e-9)
ids, targets = (torch.randint(WORDS, (STEPS, BATCH)) for _ in range(2))
feature, times = torch.randn(1, BATCH, HIDDEN), []
for _ in range(args.steps):
    begun = time.perf_counter()
    state = torch.zeros(1, BATCH, 2 * HIDDEN)
    for first in range(0, STEPS, WINDOW):
        last = min(first + WINDOW, STEPS)
        words = embedding(ids[max(first - 1, 0):last - 1])
        inputs = torch.cat([feature, words]) if first == 0 else words
        start = state.detach().requires_grad_(args.dni)
        h, (hn, cn) = rnn(inputs, (start[..., :HIDDEN].contiguous(), start[..., HIDDEN:].contiguous()))
        state = torch.cat([hn, cn], -1)
        loss = nn.functional.cross_entropy(readout(h).flatten(0, 1), targets[first:last].flatten())
        optimizer.zero_grad()
        if args.dni:
            if last < STEPS:
                with torch.no_grad():
                    synthetic = SCALE * synthesizer(state)
                loss = loss + (synthetic * state).sum()
            loss.backward()
            ((synthesizer(start.detach()) - start.grad) ** 2).sum().backward()
        else:
            loss.backward()
        optimizer.step()
    times.append(time.perf_counter() - begun)
times = sorted(times[2:])
print(f"{1000 * times[len(times) // 2]:.1f} ms (median of {len(times)} steps)")
