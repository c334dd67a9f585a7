#!/usr/bin/env python3
"""PyTorch's CPU randn: what a seed must give, bit for bit.

Writes tests/golden/randn.txt, a line a case:
  SEED SIZES SHA256 FIRST...
one generator with this seed draws randn of each of SIZES (joined by commas) in turn; SHA256 is over all their f32 bytes,
FIRST are the bits of the first four values in hexadecimal. Ran with torch 2.15.0 on a processor with AVX-512.

usage: scripts/reference/randn.py
"""
import hashlib
from pathlib import Path

import numpy
import torch

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "randn.txt"
CASES = [
    (0, [1]), (0, [4]), (42, [4]), (3, [15]),  # below 16: double, one by one
    (0, [16]), (42, [20]), (5, [17]), (5, [31]), (9, [33]),  # blocks of 16, the last one drawn again
    (0, [256]), (0, [4 * 64 * 64]), (7, [100003]), (123456789012345, [1 << 18]), (2**63 - 1, [48]),
    (11, [3, 3, 20, 1, 16, 2]),  # the kept second number of a pair outlives calls of 16 and more
]

print("torch", torch.__version__)
lines = []
for seed, sizes in CASES:
    generator = torch.Generator().manual_seed(seed)
    values = numpy.concatenate([torch.randn(n, generator=generator).numpy() for n in sizes])
    first = " ".join(f"{bits:08x}" for bits in values.view(numpy.uint32)[:4])
    lines.append(f"{seed} {','.join(map(str, sizes))} {hashlib.sha256(values.tobytes()).hexdigest()} {first}\n")
OUT.write_text("".join(lines))
