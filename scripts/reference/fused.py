#!/usr/bin/env python3
"""Four steps of a whole UNet whose weights move inside of the backward pass, as sd-scripts' --fused_backward_pass and
OneTrainer's fused back pass do it: each tensor has an optimizer of its own, and a hook that runs as soon as its gradient
is there clips it by its own norm, steps and drops it. For tests/train/test_fused.c.

Writes tests/golden/fused.safetensors, of tests/golden/models/sd1 (scripts/reference/models.py):
  t (4,2) i32, loss (4)     in step k (from 0) the noise is randn(1000 + k), x_0 is randn(7), the text is clip.out
  change (n,2)              of each parameter's change over the steps: its L2 norm, and the sum of it times randn(i); in the
                            order of `names` in the metadata, which has `clip` too, and how many gradients it shortened

Prints the versions it ran with: torch 2.15.0, diffusers 0.42.1 made what is there.

usage: scripts/reference/fused.py
"""
from pathlib import Path

import diffusers
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
STEPS, CLIP = 4, 0.02
SETTINGS = dict(lr=1e-3, betas=(0.9, 0.999), eps=0.01, weight_decay=0.1)  # eps is large: else clipping would not show


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def main():
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}")
    model = GOLDEN / "models" / "sd1"
    unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
    scheduler = DDIMScheduler.from_pretrained(model / "scheduler")
    states = load_file(GOLDEN / "models" / "sd1.safetensors")["clip.out"]
    shortened = 0

    def hook(p):
        nonlocal shortened
        shortened += torch.nn.utils.clip_grad_norm_([p], CLIP).item() > CLIP
        optimizers[p].step()
        p.grad = None

    names, parameters = zip(*unet.named_parameters())
    before = [p.detach().clone() for p in parameters]
    optimizers = {p: torch.optim.AdamW([p], **SETTINGS) for p in parameters}
    for p in parameters:
        p.register_post_accumulate_grad_hook(hook)
    out = {"t": torch.randint(0, 1000, (STEPS, 2), generator=torch.Generator().manual_seed(9), dtype=torch.int32)}
    losses = []
    for k in range(STEPS):
        noise, t = randn(1000 + k, 2, 4, 16, 16), out["t"][k].long()
        noisy = scheduler.add_noise(randn(7, 2, 4, 16, 16), noise, t)
        loss = torch.nn.functional.mse_loss(unet(noisy, t, states).sample, noise)
        loss.backward()
        losses.append(loss.item())
    out["loss"] = torch.tensor(losses)
    changes = [p.detach() - b for p, b in zip(parameters, before)]
    out["change"] = torch.stack([torch.stack((d.norm(), (d * randn(i, *d.shape)).sum())) for i, d in enumerate(changes)])
    print(f"{shortened} of {STEPS * len(names)} gradients were shortened; losses {losses}")
    save_file(out, GOLDEN / "fused.safetensors",
              {"names": "\n".join(names), "clip": str(CLIP), "shortened": str(shortened), "torch": torch.__version__})


if __name__ == "__main__":
    main()
