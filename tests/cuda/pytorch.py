#!/usr/bin/env python3
"""Seconds an epoch of a ccRNN on the linedraw task in PyTorch, as a row of times.sh, to stand beside those of ccdni.

One window after the other, as a script in PyTorch does it: nn.LSTM (cuDNN on a GPU), one backward pass a window, losses left on the
device until the epoch ends, data drawn on the CPU and brought up once an epoch. Nothing is compiled or captured.

    pytorch.py --name wide --device cuda --hidden 1024 --batch 512 --steps 100 --bptt 10 --size 5120
    pytorch.py --check tests/golden/rnn/dni_lstm_T1_sparse2       # the arithmetic, held against recorded training steps
"""

import argparse
import json
import math
import pathlib
import statistics
import struct
import sys
import time

import torch
from torch import nn

SCALE = 0.1  # of a synthetic gradient where it is injected


class Network(nn.Module):
    """An LSTM with a readout, and a synthesizer of the LSTM's joined state (h, c)."""

    def __init__(self, inputs, hidden, outputs, layers, width):
        super().__init__()
        self.rnn = nn.LSTM(inputs, hidden, layers)
        self.linear = nn.Linear(hidden, outputs)
        widths = [2 * hidden, *width, 2 * hidden]
        pairs = [nn.Linear(a, b) for a, b in zip(widths, widths[1:])]
        nn.init.zeros_(pairs[-1].weight)
        nn.init.zeros_(pairs[-1].bias)
        parts = [part for linear in pairs for part in (nn.ReLU(), linear)][1:]
        self.synthesizer = nn.Sequential(*parts)


def train_batch(network, optimizer, inputs, targets, bptt, every, norm):
    """One step of the optimizer on [time, batch, features]; gives the loss of each window, on the device."""
    steps, batch, _ = inputs.shape
    layers, hidden = network.rnn.num_layers, network.rnn.hidden_size
    optimizer.zero_grad(set_to_none=True)
    state = inputs.new_zeros(2, layers, batch, hidden)
    losses = []
    for begin in range(0, steps, bptt):
        end = min(begin + bptt, steps)
        start = state.detach().requires_grad_()
        outputs, (h, c) = network.rnn(inputs[begin:end], (start[0].contiguous(), start[1].contiguous()))
        state = torch.stack([h, c])
        with torch.no_grad():
            injected = SCALE * network.synthesizer(torch.cat([h, c], 2))
        roots, arriving = [h, c], [injected[..., :hidden], injected[..., hidden:]]
        taught = torch.arange(-(-begin // every) * every, end, every)
        if len(taught):
            predicted = network.linear(outputs[taught[0] - begin :: every])
            loss = nn.functional.mse_loss(predicted, targets[taught[0] : end : every])
            losses.append(loss.detach())
            roots, arriving = [loss, *roots], [None, *arriving]
        torch.autograd.backward(roots, arriving)
        arrived = torch.cat([start.grad[0], start.grad[1]], 2)
        predicted = network.synthesizer(torch.cat([start[0], start[1]], 2).detach())
        (((predicted - arrived) ** 2).sum() / layers).backward()
    nn.utils.clip_grad_norm_(network.parameters(), norm)
    optimizer.step()
    return torch.stack(losses)


def draw(generator, size, steps, noise):
    """Inputs [time, size, 1] and targets [time, size, 2]: a cue at the first step, and the line that it asks for."""
    cues = torch.randint(-3, 4, (size,), generator=generator)
    inputs = noise * torch.randn(steps, size, 1, generator=generator)
    inputs[0, :, 0] = 0.1 * cues
    angle = math.tau / 6 * (torch.where(cues > 0, cues - 1, cues)).float()
    ends = 10 * (cues != 0).float()[:, None] * torch.stack([angle.sin(), angle.cos()], 1)
    return inputs, torch.linspace(0, 1, steps)[:, None, None] * ends


def adam(network, lr=1e-3):
    return torch.optim.Adam(network.parameters(), lr=lr, betas=(0.9, 0.98), eps=1e-9)


def measure(args):
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    if args.threads:
        torch.set_num_threads(args.threads)
    began = time.time()
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    network = Network(1, args.hidden, 2, 1, [400, 400]).to(device)
    optimizer = adam(network)
    training = args.size * 4 // 5
    seconds = []
    for _ in range(args.epochs):
        start = time.time()
        inputs, targets = (part.to(device) for part in draw(generator, args.size, args.steps, args.noise))
        losses = []
        for first in range(0, training, args.batch):
            rows = slice(first, min(first + args.batch, training))
            losses.append(train_batch(network, optimizer, inputs[:, rows], targets[:, rows], args.bptt, 2, 1.0))
        with torch.no_grad():
            predicted = network.linear(network.rnn(inputs[:, training:])[0])
            losses.append(nn.functional.mse_loss(predicted, targets[:, training:])[None])
        last = torch.cat(losses).tolist()[-1]
        seconds.append(time.time() - start)
    if not math.isfinite(last):
        sys.exit("the loss is no number")
    median = statistics.median(seconds[1:] or seconds)
    where = device.type if args.threads is None or device.type != "cpu" else f"cpu, threads: {args.threads}"
    print(f"| {args.name}, PyTorch {torch.__version__} | {where} | {median:.4f} s | {time.time() - began:.1f} s |")


def tensors(path):
    """The float tensors of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    table = json.loads(data[8 : 8 + length])
    read = {}
    for name, entry in table.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + length + at for at in entry["data_offsets"])
            read[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32).reshape(entry["shape"])
    return read


def check(folder, device):
    """Repeats recorded training steps, and exits with 1 if a parameter ends elsewhere."""
    case, recorded = json.loads((folder / "case.json").read_text()), tensors(folder / "tensors.safetensors")
    width = [case["synth"]["hidden_size"]] * case["synth"]["hidden_layers"]
    network = Network(case["input_size"], case["hidden_size"], case["output_size"], case["num_layers"], width)
    # Recorded names of the recurrent layer, of the readout, and of the synthesizer, in the order of its layers.
    ours = {f"rnn.{name}": f"rnn.rnn.{name}" for name, _ in network.rnn.named_parameters()}
    ours |= {f"linear.{part}": f"linear.{part}" for part in ("weight", "bias")}
    linears = ["input_trigger"] + [f"layers.{k}" for k in range(len(width))]
    for k, linear in enumerate(linears):
        for part in ("weight", "bias"):
            ours[f"synthesizer.{2 * k}.{part}"] = f"rnn.backward_interface.synthesizer.{linear}.{part}"
    network.load_state_dict({name: recorded[f"init.{theirs}"] for name, theirs in ours.items()})
    network.to(device)
    optimizer = adam(network, case["optimizer"]["lr"])
    worst = 0.0
    for k in range(case["steps"]):
        inputs, targets = (recorded[f"batch{k}.{part}"].transpose(0, 1).to(device) for part in ("input", "target"))
        train_batch(network, optimizer, inputs, targets, case["bptt"], case["sparse_interval"] or 1, case["grad_clip_norm"])
        for name, parameter in network.named_parameters():
            worst = max(worst, (parameter.detach().cpu() - recorded[f"batch{k}.after.{ours[name]}"]).abs().max().item())
    print(f"{folder.name}: parameters within {worst:.1e} of those recorded")
    sys.exit(worst > 1e-5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=pathlib.Path, metavar="CASE", help="hold recorded training steps against it")
    parser.add_argument("--name", default="linedraw ccRNN")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--threads", type=int, help="threads on the CPU")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=50)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--bptt", type=int, default=1)
    parser.add_argument("--size", type=int, default=1000, help="sequences of an epoch, a fifth of which validates")
    parser.add_argument("--noise", type=float, default=0.0)
    args = parser.parse_args()
    check(args.check, args.device) if args.check else measure(args)


main()
