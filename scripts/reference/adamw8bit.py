"""bitsandbytes' 8-bit AdamW: tests/golden/adamw8bit.safetensors, for tests/train/test_optimizers.c.

adamw8bit.*: five steps of a tensor that is too small for codes, as ops.py has them of AdamW. large.*: five steps of 4500
numbers with states in 8 bits, whose weights and gradients the test makes by the formulas below. Ran with bitsandbytes
0.50.2 on the processor.

    python3 scripts/reference/adamw8bit.py
"""

import os

import bitsandbytes
import torch
from safetensors.torch import save_file

SETTINGS = dict(lr=3e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
tensors = {}

torch.manual_seed(0)
w = torch.nn.Parameter(torch.randn(37))
tensors["adamw8bit.before"] = w.detach().clone()
optimizer = bitsandbytes.optim.AdamW8bit([w], **SETTINGS)
for step in range(1, 6):
    gradient = torch.randn(37) * 10.0 ** (step - 4)
    tensors[f"adamw8bit.grad{step}"] = gradient
    w.grad = gradient * 0.5
    optimizer.step()
    tensors[f"adamw8bit.after{step}"] = w.detach().clone()
tensors["adamw8bit.m"] = optimizer.state[w]["state1"].clone()
tensors["adamw8bit.v"] = optimizer.state[w]["state2"].clone()

i = torch.arange(4500)
w = torch.nn.Parameter((i * 7919 % 2003 - 1001).float() / 1024)
optimizer = bitsandbytes.optim.AdamW8bit([w], **SETTINGS)
for step in range(1, 6):
    w.grad = (i * (4001 + 2 * step) % 1999 - 999).float() / 1024 * 2.0 ** (step - 4)
    optimizer.step()
    if step in (1, 5):
        tensors[f"large.after{step}"] = w.detach().clone()
state = optimizer.state[w]
tensors["large.m"], tensors["large.v"] = state["state1"], state["state2"]
tensors["large.m_most"], tensors["large.v_most"] = state["absmax1"], state["absmax2"]
tensors["large.m_map"], tensors["large.v_map"] = state["qmap1"], state["qmap2"]

path = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "golden", "adamw8bit.safetensors")
save_file(tensors, path, {"bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__})
