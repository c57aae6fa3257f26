"""Matrix products of the reference jobs in numpy, on one thread: OPENBLAS_NUM_THREADS=1 python3 benches/peers/products.py

The shapes of `cargo bench --bench step -- product`: rows x columns x terms, `t` where the right factor is transposed.
"""

import time

import numpy

for shape in ["50x200x50", "7x200x50", "50x120x30", "50x1024x256", "500x400x50t", "500x400x400t", "500x400x400", "400x400x500"]:
    m, n, k = (int(size) for size in shape.rstrip("t").split("x"))
    a = numpy.full((m, k), 0.5, numpy.float32)
    b = numpy.full((n, k), 0.5, numpy.float32).T if shape.endswith("t") else numpy.full((k, n), 0.5, numpy.float32)
    out = numpy.empty((m, n), numpy.float32)
    times = []
    for _ in range(100):
        count = max(1, 10_000_000 // (m * n * k))
        begun = time.perf_counter()
        for _ in range(count):
            numpy.matmul(a, b, out=out)
        times.append((time.perf_counter() - begun) / count)
    print(f"{shape:>12}  {2 * m * n * k / sorted(times)[len(times) // 2] / 1e9:6.1f} GFLOP/s (median)")
