#!/usr/bin/env python3
"""Numbers of types that only files hold, and what PyTorch makes of them -> tests/golden/elements.safetensors.

    NAME            f8_e4m3 and f8_e5m2: all 256; f64: ties, ends of the other types' ranges, what is not finite
    NAME.f32, NAME.bf16, NAME.f16

Ran with torch 2.15.0.
"""
import os

import torch
from safetensors.torch import save_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BYTES = torch.arange(256, dtype=torch.int32).to(torch.uint8)
NUMBERS = {
    "f8_e4m3": BYTES.view(torch.float8_e4m3fn),
    "f8_e5m2": BYTES.clone().view(torch.float8_e5m2),
    "f64": torch.tensor([0.0, -0.0, 1.0, -2.5, 3.141592653589793, 1 + 2**-24, 1 + 2**-24 + 2**-50, 1 + 3 * 2**-24,
                         65504.0, 65519.999, 65520.0, 1e39, -1e39, 1e-45, 7e-46, 1e-300, 2**-24, 2**-25, 1 / 3,
                         float("inf"), float("-inf"), float("nan")], dtype=torch.float64),
}
WANTED = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}

tensors = dict(NUMBERS)
for name, numbers in NUMBERS.items():
    for wanted, dtype in WANTED.items():
        tensors[f"{name}.{wanted}"] = numbers.to(dtype)
save_file(tensors, os.path.join(ROOT, "tests", "golden", "elements.safetensors"))
