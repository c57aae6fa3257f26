"""Training steps of cRNN and ccRNN in JAX, as an expert would write them: the forward pass is a scan; the backward pass is in closed form
and goes through all windows side by side, offset by offset from their ends. A whole epoch is one compiled call (`bench_jax.py`).

Weights are [inputs, outputs]; golden files hold them transposed.
"""
from typing import NamedTuple
import jax, jax.numpy as jnp
from jax import lax
import numpy as np


class Job(NamedTuple):
    inputs: int
    hidden: int
    outputs: int
    steps: int
    bptt: int
    synth: tuple | None      # hidden layers of the synthesizer, None for a cRNN
    every: int | None        # steps from one target to the next; None: at the last step only
    loss: str                # mse | ce
    lr: float = 1e-3
    scale: float = 0.1
    clip: float = 1.0
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-9
    unroll: int = 1

    def targets(self):
        return [self.steps - 1] if self.every is None else list(range(0, self.steps, self.every))

    def windows(self):
        return [(a, min(a + self.bptt, self.steps)) for a in range(0, self.steps, self.bptt)]


# ---------------------------------------------------------------- parameters
def init(job, key):
    H, I, O = job.hidden, job.inputs, job.outputs
    ks = iter(jax.random.split(key, 32))
    u = lambda shape, fan: jax.random.uniform(next(ks), shape, jnp.float32, -1 / np.sqrt(fan), 1 / np.sqrt(fan))
    p = dict(wx=u((I, 4 * H), H), wh=u((H, 4 * H), H), bx=u((4 * H,), H), bh=u((4 * H,), H),
             wo=u((H, O), H), bo=u((O,), H))
    if job.synth is not None:
        sizes = [2 * H, *job.synth, 2 * H]
        for k, (a, b) in enumerate(zip(sizes, sizes[1:])):
            last = k == len(sizes) - 2
            p[f"s{k}w"] = jnp.zeros((a, b)) if last else u((a, b), a)
            p[f"s{k}b"] = jnp.zeros((b,)) if last else u((b,), a)
    return p


def opt_init(p):
    z = jax.tree.map(jnp.zeros_like, p)
    return dict(m=z, v=jax.tree.map(jnp.zeros_like, p), t=jnp.zeros((), jnp.float32))


# ---------------------------------------------------------------- pieces
def activate(job, a):
    """Gates i, f, g, o from pre-activations [.., 4H], by one tanh over the whole row."""
    H = job.hidden
    half = jnp.full((2 * H,), .5)
    s = jnp.concatenate([half, jnp.ones((H,)), half[:H]]).astype(jnp.float32)
    t = jnp.concatenate([half, jnp.zeros((H,)), half[:H]]).astype(jnp.float32)
    a = jnp.tanh(a * s) * s + t
    return a[..., :H], a[..., H:2 * H], a[..., 2 * H:3 * H], a[..., 3 * H:]


def cell(job, p, xa, h, c):
    """xa: the input's part of the gates, biases included."""
    i, f, g, o = activate(job, xa + h @ p["wh"])
    c2 = f * c + i * g
    tc = jnp.tanh(c2)
    return o * tc, c2, (i, f, g, o, tc)


def project(job, p, x):
    b = p["bx"] + p["bh"]
    return x * p["wx"][0] + b if job.inputs == 1 else x @ p["wx"] + b


def layers(job):
    return range(len(job.synth) + 1)


def synth(job, p, s):
    kept = []
    for k in layers(job):
        kept.append(s)
        s = s @ p[f"s{k}w"] + p[f"s{k}b"]
        if k < len(job.synth):
            s = jax.nn.relu(s)
    return s, kept


def synth_grads(job, p, kept, d):
    g = {}
    for k in reversed(layers(job)):
        g[f"s{k}w"] = kept[k].T @ d
        g[f"s{k}b"] = jnp.sum(d, 0)
        if k:
            d = jnp.where(kept[k] > 0, d @ p[f"s{k}w"].T, 0)
    return g


def loss_rows(job, out, y, mult):
    """mean over batch x outputs of one step; mult: how often each row occurs."""
    if job.loss == "mse":
        e = jnp.mean(jnp.square(out - y), -1)
    else:
        e = jax.nn.logsumexp(out, -1) - jnp.take_along_axis(out, y[..., None], -1)[..., 0]
    return jnp.mean(e, -1) if mult is None else jnp.sum(e * mult, -1) / jnp.sum(mult)


def loss_grad(job, out, y, n, count):
    """Per sequence (not times multiplicity): gradient at the outputs of a window mean over `count` target steps."""
    if job.loss == "mse":
        return (out - y) * (2.0 / (n * job.outputs * count))
    return (jax.nn.softmax(out) - jax.nn.one_hot(y, job.outputs, dtype=out.dtype)) / (n * count)


def take(z, idx):
    """z[idx] for static idx on the first axis: a (strided) slice where it can be one, as XLA's gather is slow on CPUs."""
    idx = np.asarray(idx)
    d = np.diff(idx)
    if len(idx) == 1 or (d > 0).all() and (d == d[0]).all():
        return lax.slice_in_dim(z, int(idx[0]), int(idx[-1]) + 1, int(d[0]) if len(d) else 1)
    return z[idx]


def forward(job, p, x, keep, upto=None):
    """Plain scan. Gives per-step arrays [T,B,..]: h, c (after the step), gates."""
    T, H = upto or job.steps, job.hidden
    B = x.shape[1]
    z = jnp.zeros((B, H))
    xs = project(job, p, x[:T])

    def body(hc, xa):
        h, c, kept = cell(job, p, xa, *hc)
        return (h, c), ((h, c, kept) if keep else (h, c))
    return lax.scan(body, (z, z), xs, unroll=min(job.unroll, T))


def step(job, p, x, y, mult=None):
    """Gradients and loss; x [steps, batch, inputs], mult: how often each row occurs."""
    T, K, H = job.steps, job.bptt, job.hidden
    B = x.shape[1]
    n = B if mult is None else jnp.sum(mult)
    tgts = job.targets()
    cnt = {t: sum(1 for u in tgts if u // K == t // K) for t in tgts}
    dni = job.synth is not None
    windows = job.windows()
    learning = windows if dni else [w for w in windows if any(w[0] <= t < w[1] for t in tgts)]
    span = learning[-1][1]
    (_, (h, c, (gi, gf, gg, go, tc))) = forward(job, p, x, True, span)
    hp = jnp.concatenate([jnp.zeros((1, B, H)), h[:-1]])
    cp = jnp.concatenate([jnp.zeros((1, B, H)), c[:-1]])
    # readout
    ti = np.array(tgts)
    ht = take(h, ti)
    out = ht @ p["wo"] + p["bo"]
    yy = y[None] if job.every is None else take(y, ti)
    cw = jnp.asarray(np.array([cnt[t] for t in tgts], np.float32))
    loss = jnp.sum(loss_rows(job, out, yy, mult) / cw)
    d_out = loss_grad(job, out, yy, n, cw[:, None, None])
    dh_t = d_out @ p["wo"].T                          # per sequence
    wt = (lambda z: z) if mult is None else (lambda z: z * mult[:, None])
    dw = wt(d_out).reshape(-1, job.outputs)
    g = dict(wo=ht.reshape(-1, H).T @ dw, bo=jnp.sum(dw, 0))

    W = len(learning)
    if dni:
        ends = np.array([b for _, b in learning]) - 1
        boundaries = jnp.concatenate([take(h, ends), take(c, ends)], -1).reshape(-1, 2 * H)
        boundaries = jnp.concatenate([jnp.zeros((1, 2 * H)), boundaries])
        first = boundaries.shape[0] - W * B
        pred, kept = synth(job, p, boundaries)
        e = (job.scale * pred[first:]).reshape(W, B, 2 * H)

    das, hps, xs = [], [], []
    dh = dc = None
    whT = p["wh"].T
    for r in reversed(range(K)):
        here = [k for k, (a, b) in enumerate(learning) if b - a > r]
        if not here:
            continue
        steps = np.array([learning[k][0] + r for k in here])
        old = 0 if dh is None else dh.shape[0]
        new = here[old:]
        if new:
            if dni:
                eh, ec = take(e, new)[..., :H], take(e, new)[..., H:]
            else:
                eh = ec = jnp.zeros((len(new), B, H))
            dh = eh if dh is None else jnp.concatenate([dh, eh])
            dc = ec if dc is None else jnp.concatenate([dc, ec])
        # what reaches h from the outputs
        hit = [q for q, s in enumerate(steps) if s in cnt]
        if len(hit) == len(steps):
            dh = dh + take(dh_t, [tgts.index(s) for s in steps])
        elif hit:
            # slices and zeros, one after the other
            zero = jnp.zeros((1, B, H))
            rows = [dh_t[tgts.index(s)][None] if s in cnt else zero for s in steps]
            dh = dh + jnp.concatenate(rows)
        I, F, G, O, TC, CP = (take(z, steps) for z in (gi, gf, gg, go, tc, cp))
        dc = dc + dh * O * (1 - TC * TC)
        da = jnp.concatenate([dc * G * I * (1 - I), dc * CP * F * (1 - F), dc * I * (1 - G * G), dh * TC * O * (1 - O)], -1)
        das.append(wt(da)); hps.append(take(hp, steps)); xs.append(take(x, steps))
        if r or dni:
            dh = da @ whT
            dc = dc * F
    cat = lambda zs: zs[0] if len(zs) == 1 else jnp.concatenate(zs)
    da, hq, xq = (cat(z).reshape(-1, z[0].shape[-1]) for z in (das, hps, xs))
    db = jnp.sum(da, 0)
    g |= dict(wh=hq.T @ da, wx=xq.T @ da, bx=db, bh=db)
    if dni:
        tau = jnp.concatenate([dh, dc], -1)           # [W,B,2H]
        d0 = 2 * (n * pred[:1] - jnp.sum(wt(tau[0]), 0, keepdims=True))
        dr = 2 * wt(pred[1:-B].reshape(W - 1, B, 2 * H) - tau[1:]).reshape(-1, 2 * H)
        d = jnp.concatenate([d0, dr])
        g |= synth_grads(job, p, [k[:-B] for k in kept], d)
    return g, loss


def sumsq(g):
    # over rows first: XLA vectorises that, and not a reduction to a scalar
    return jnp.sum(jnp.sum(g * g, 0)) if g.ndim > 1 else jnp.sum(g * g)


def update(job, p, o, g):
    norm = jnp.sqrt(sum(sumsq(z) for z in jax.tree.leaves(g)))
    k = jnp.minimum(1.0, job.clip / (norm + 1e-6))
    t = o["t"] + 1
    a = job.lr / (1 - job.b1 ** t)
    r = lax.rsqrt(1 - job.b2 ** t)
    def one(p, g, m, v):
        g = g * k
        m = job.b1 * m + (1 - job.b1) * g
        v = job.b2 * v + (1 - job.b2) * g * g
        return p - a * m / (jnp.sqrt(v) * r + job.eps), m, v
    new = {q: one(p[q], g[q], o["m"][q], o["v"][q]) for q in p}
    return {q: z[0] for q, z in new.items()}, dict(m={q: z[1] for q, z in new.items()}, v={q: z[2] for q, z in new.items()}, t=t), norm


def train_step(job, p, o, x, y, mult=None):
    g, loss = step(job, p, x, y, mult)
    p, o, norm = update(job, p, o, g)
    return p, o, loss, norm, g


def evaluate(job, p, x):
    """x [T,B,I] -> outputs: of every step, or of the last"""
    z = jnp.zeros((x.shape[1], job.hidden))
    xs = project(job, p, x)
    def body(hc, xa):
        h, c, _ = cell(job, p, xa, *hc)
        return (h, c), (h if job.every is not None else None)
    (h, _), hs = lax.scan(body, (z, z), xs, unroll=min(job.unroll, job.steps))
    return (h if job.every is None else hs) @ p["wo"] + p["bo"]
