"""Seconds per epoch of the word language models of experiments/dni/ptb.yaml and ptb_dni.yaml in PyTorch, training and validation: the loop of the
example `rnn` of dni-pytorch with today's torch.nn. `--compile` compiles the step of a batch.

    bench_language.py lstm|dni_lstm [--window N] [--epochs N] [--compile]
"""
import argparse, json, time

import torch
from torch import nn

# The default text: words, tokens of training and validation; its sizes are what takes time.
WORDS, TRAIN, VALID = 71, 42960, 4268
WIDTH, SYNTHESIZER, COLUMNS, VALID_COLUMNS, SCALE = 100, 200, 20, 10, 0.1


class Model(nn.Module):
    def __init__(self, dni):
        super().__init__()
        self.embed, self.rnn, self.readout = nn.Embedding(WORDS, WIDTH), nn.LSTM(WIDTH, WIDTH), nn.Linear(WIDTH, WORDS)
        size = 2 * WIDTH
        layers = [nn.Linear(size, SYNTHESIZER), nn.ReLU(), nn.Linear(SYNTHESIZER, SYNTHESIZER), nn.ReLU(), nn.Linear(SYNTHESIZER, size)]
        self.synthesizer = nn.Sequential(*layers) if dni else None
        if dni:
            nn.init.zeros_(layers[-1].weight)

    def forward(self, x, state):
        h, (hn, cn) = self.rnn(self.embed(x), (state[..., :WIDTH].contiguous(), state[..., WIDTH:].contiguous()))
        return self.readout(h), torch.cat([hn, cn], -1)

    def losses(self, x, y, start):
        """The loss of a window with the synthetic gradient at its end, the synthesizer's prediction at its start, and the state."""
        logits, end = self(x, start)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        if self.synthesizer is None:
            return loss, None, end.detach()
        with torch.no_grad():
            synthetic = SCALE * self.synthesizer(end)
        return loss + (synthetic * end).sum(), self.synthesizer(start.detach()), end.detach()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=["lstm", "dni_lstm"])
    parser.add_argument("--window", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1), torch.set_flush_denormal(True), torch.manual_seed(1)
    columns = lambda tokens, count: torch.randint(WORDS, (tokens // count, count))
    train, valid = columns(TRAIN, COLUMNS), columns(VALID, VALID_COLUMNS)
    model = Model(args.job == "dni_lstm")
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = torch.compile(model.losses) if args.compile else model.losses
    forward = torch.compile(model) if args.compile else model
    zero = lambda count: torch.zeros(1, count, 2 * WIDTH)
    windows = lambda text: ((text[i:j], text[i + 1:j + 1]) for i in range(0, len(text) - 1, args.window)
                            for j in [min(i + args.window, len(text) - 1)])
    times = []
    for _ in range(args.epochs):
        begun = time.perf_counter()
        state = zero(COLUMNS)
        for x, y in windows(train):
            start = state.requires_grad_(model.synthesizer is not None)
            optimizer.zero_grad()
            loss, predicted, state = losses(x, y, start)
            loss.backward(retain_graph=predicted is not None)
            if predicted is not None:
                ((predicted - start.grad) ** 2).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            optimizer.step()
        with torch.no_grad():
            state = zero(VALID_COLUMNS)
            for x, y in windows(valid):
                logits, state = forward(x, state)
                nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        times.append(time.perf_counter() - begun)
    times = sorted(times[2:])
    print(json.dumps({"seconds": times[len(times) // 2]}))


main()
