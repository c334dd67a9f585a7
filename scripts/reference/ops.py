#!/usr/bin/env python3
"""What PyTorch computes for each operation, forward and backward.

Writes tests/golden/ops.safetensors, f32, maps as NHWC. For a case NAME of tests/kernels/test_ops_golden.c:
  NAME.in0 …     inputs         NAME.out     result
  NAME.cot       cotangent: the gradients are those of sum(out * cot)
  NAME.grad0 …   gradients of the inputs that have one
and for tests/train/test_optimizers.c NAME.* of each optimizer. Ran with torch 2.15.0, diffusers 0.42.1.

usage: scripts/reference/ops.py
"""
from pathlib import Path

import diffusers
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "ops.safetensors"
generator = torch.Generator().manual_seed(2024)
tensors = {}


def randn(*shape, scale=1.0):
    return torch.randn(*shape, generator=generator) * scale


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def case(name, function, *inputs, constants=()):
    """Runs function; inputs whose number is in constants have no gradient."""
    leaves = [x.clone().requires_grad_(i not in constants) if x.is_floating_point() else x for i, x in enumerate(inputs)]
    out = function(*leaves)
    out = out.reshape(1) if out.ndim == 0 else out
    cotangent = randn(*out.shape)
    (out * cotangent).sum().backward()
    tensors[f"{name}.out"] = out.detach()
    tensors[f"{name}.cot"] = cotangent
    for i, x in enumerate(leaves):
        tensors[f"{name}.in{i}"] = inputs[i]
        if x.is_floating_point() and x.grad is not None:
            tensors[f"{name}.grad{i}"] = x.grad


def conv(stride, padding):
    def function(x, w, b):
        left, right, top, bottom = padding
        return nhwc(F.conv2d(F.pad(nchw(x), (left, right, top, bottom)), w, b, stride))

    return function


def attention(heads, causal):
    def function(q, k, v):
        split = [t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (q, k, v)]
        return F.scaled_dot_product_attention(*split, is_causal=causal).transpose(1, 2).flatten(2)

    return function


def lora(x, w, b, down, up):
    return F.linear(x, w, b) + 0.75 * F.linear(F.linear(x, down), up)


def geglu(x):
    a, b = x.chunk(2, -1)
    return a * F.gelu(b)


def weighted_mse(p, t, weight):
    return ((p - t) ** 2).mean((1, 2, 3)).mul(weight).mean()


case("linear", F.linear, randn(2, 7, 19), randn(13, 19, scale=0.3), randn(13))
case("linear_lora", lora, randn(2, 5, 19), randn(13, 19, scale=0.3), randn(13), randn(4, 19), randn(13, 4), constants=(1, 2))
case("linear_add", lambda x, w, b, r: F.linear(x, w, b) + r, randn(2, 7, 19), randn(13, 19, scale=0.3), randn(13), randn(2, 7, 13))
case("linear_geglu", lambda x, w, b: geglu(F.linear(x, w, b)), randn(2, 7, 19), randn(26, 19, scale=0.3), randn(26))
case("conv2d", conv(1, (1, 1, 1, 1)), randn(2, 7, 5, 9), randn(11, 9, 3, 3, scale=0.2), randn(11))
case("conv2d_1x1", conv(1, (0, 0, 0, 0)), randn(2, 4, 5, 9), randn(11, 9, 1, 1, scale=0.3), randn(11))
case("conv2d_down", conv(2, (1, 1, 1, 1)), randn(1, 7, 8, 6), randn(5, 6, 3, 3, scale=0.2), randn(5))
case("conv2d_down_asymmetric", conv(2, (0, 1, 0, 1)), randn(1, 8, 6, 6), randn(5, 6, 3, 3, scale=0.2), randn(5))
case("conv2d_up", lambda x, w, b: nhwc(F.conv2d(F.interpolate(nchw(x), scale_factor=2.0, mode="nearest"), w, b, padding=1)),
     randn(2, 4, 3, 9), randn(11, 9, 3, 3, scale=0.2), randn(11))
case("conv2d_add", lambda x, w, b, v, r: conv(1, (1, 1, 1, 1))(x, w, b) + v[:, None, None, :] + r,
     randn(2, 4, 3, 9), randn(7, 9, 3, 3, scale=0.2), randn(7), randn(2, 7), randn(2, 4, 3, 7))
case("group_norm", lambda x, w, b: nhwc(F.group_norm(nchw(x), 4, w, b, 1e-5)), randn(2, 5, 3, 20) + 1, randn(20), randn(20))
case("group_norm_silu", lambda x, w, b: nhwc(F.silu(F.group_norm(nchw(x), 2, w, b, 1e-6))), randn(2, 3, 5, 18, scale=2),
     randn(18), randn(18))
case("layer_norm", lambda x, w, b: F.layer_norm(x, (37,), w, b, 1e-5), randn(2, 5, 37) - 0.5, randn(37), randn(37))
case("silu", F.silu, randn(3, 37, scale=4))
case("gelu", F.gelu, randn(3, 37, scale=3))
case("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x), randn(3, 37, scale=3))
case("geglu", geglu, randn(2, 3, 34, scale=2))
case("attention", attention(2, False), randn(2, 5, 18), randn(2, 9, 18), randn(2, 9, 18))
case("attention_causal", attention(3, True), randn(1, 11, 24), randn(1, 11, 24), randn(1, 11, 24))
ids = torch.tensor([[3, 0, 3, 6], [1, 3, 3, 0]], dtype=torch.int32)
case("embedding", lambda w, i: F.embedding(i.long(), w), randn(7, 11), ids)
case("concat", lambda a, b: torch.cat((a, b), -1), randn(1, 2, 3, 5), randn(1, 2, 3, 9))
case("add", torch.add, randn(3, 5), randn(3, 5))
case("add_rows", lambda x, w: x + w[: x.shape[1]], randn(2, 3, 7), randn(5, 7))
case("multiply", torch.mul, randn(3, 7), randn(3, 7))
case("mse_loss", weighted_mse, randn(3, 4, 5, 4), randn(3, 4, 5, 4), torch.tensor([1.0, 0.25, 2.0]), constants=(1, 2))

timesteps = torch.tensor([0.0, 1.0, 521.0, 999.0, 333.25])
tensors["timesteps.t"] = timesteps
tensors["timesteps.flipped"] = get_timestep_embedding(timesteps, 32, flip_sin_to_cos=True, downscale_freq_shift=0)
tensors["timesteps.shifted"] = get_timestep_embedding(timesteps, 33, flip_sin_to_cos=False, downscale_freq_shift=1)

# AdamW with uneven settings; the gradients are given to it multiplied by 0.5.
w = torch.nn.Parameter(randn(37))
tensors["adamw.before"] = w.detach().clone()
optimizer = torch.optim.AdamW([w], lr=3e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
for step in range(1, 6):
    gradient = randn(37, scale=10.0 ** (step - 4))
    tensors[f"adamw.grad{step}"] = gradient
    w.grad = gradient * 0.5
    optimizer.step()
    tensors[f"adamw.after{step}"] = w.detach().clone()
tensors["adamw.m"] = optimizer.state[w]["exp_avg"].clone()
tensors["adamw.v"] = optimizer.state[w]["exp_avg_sq"].clone()

# Behind everything else, so that what is above draws the numbers that it always drew.
case("take_rows", lambda x, rows: x[torch.arange(3), rows.long()], randn(3, 5, 11), torch.tensor([4, 0, 2], dtype=torch.int32))

versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
print(versions)
save_file({k: v.contiguous() for k, v in tensors.items()}, OUT, metadata=versions)
print(OUT.stat().st_size, "bytes")
