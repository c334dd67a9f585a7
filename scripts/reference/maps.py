#!/usr/bin/env python3
"""What diffusers' UNet and VAE make of feature maps of odd sides, and of maps that go on at the opposite edge; noise
between two seeds; two passes.

Reads tests/golden/models/sd1 and writes tests/golden/maps.safetensors:
  odd.W.H      the UNet's output (1,4,H,W) for x = randn(60), t = 500, text = randn(61, 1,77,D); D as the model has it
  wrap.unet.A  the same for 12 x 16 with every convolution padded circularly along A: x, y or xy
  slerp.S      randn(70, 4,16,12) on its way to randn(71), share S, as A1111 varies noise
  hires        (1,4,24,24) two passes of DDIM, 4 steps each, at 32 and 48 pixels: the latents of the first enlarged by
               interpolate(mode="bilinear"), then picture to picture with strength 0.75; prompt "a red heart", guidance 5,
               seed 42
  wrap.vae.A   the VAE's decoder (1,3,32,24) for z = randn(62, 1,4,16,12), likewise
Padding along one axis alone is zeros along the other.

Prints the versions it ran with: torch 2.15.0, diffusers 0.42.1 made what is there.

usage: scripts/reference/maps.py
"""
import json
from pathlib import Path

import diffusers
import torch
import torch.nn.functional as F
from diffusers import (AutoencoderKL, DDIMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline,
                       UNet2DConditionModel)
from safetensors.torch import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
SD1 = GOLDEN / "models" / "sd1"


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def wrap(model, axes):
    """Pads the convolutions of the model circularly along the axes."""
    for conv in model.modules():
        if not isinstance(conv, torch.nn.Conv2d) or conv.padding == (0, 0):
            continue
        pad_y, pad_x = conv.padding

        def forward(x, weight, bias, conv=conv, pad_x=pad_x, pad_y=pad_y):
            x = F.pad(x, (pad_x, pad_x, 0, 0), mode="circular" if "x" in axes else "constant")
            x = F.pad(x, (0, 0, pad_y, pad_y), mode="circular" if "y" in axes else "constant")
            return F.conv2d(x, weight, bias, conv.stride)

        conv._conv_forward = forward
    return model


def slerp(share, low, high):
    """A1111's: each column of each channel is a vector."""
    dot = (low / low.norm(dim=1, keepdim=True) * (high / high.norm(dim=1, keepdim=True))).sum(1)
    omega = torch.acos(dot)
    return ((torch.sin((1 - share) * omega) / torch.sin(omega)).unsqueeze(1) * low +
            (torch.sin(share * omega) / torch.sin(omega)).unsqueeze(1) * high)


def hires():
    """Two passes: diffusers' pipelines one after the other."""
    text_to = StableDiffusionPipeline.from_pretrained(SD1, torch_dtype=torch.float32)
    raw = json.loads((SD1 / "scheduler" / "scheduler_config.json").read_text())
    text_to.scheduler = DDIMScheduler.from_config(raw)
    to_picture = StableDiffusionImg2ImgPipeline(**text_to.components, requires_safety_checker=False)
    more = {"guidance_scale": 5, "output_type": "latent", "num_inference_steps": 4}
    first = text_to("a red heart", generator=torch.Generator().manual_seed(42), **more).images
    large = F.interpolate(first, size=(24, 24), mode="bilinear", align_corners=False)
    return to_picture("a red heart", image=large, strength=0.75, generator=torch.Generator().manual_seed(42),
                      **more).images


def load(cls, part):
    return cls.from_pretrained(SD1 / part, torch_dtype=torch.float32).eval()


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}")
    out = {}
    unet = load(UNet2DConditionModel, "unet")
    text = randn(61, 1, 77, unet.config.cross_attention_dim)
    for width, height in ((15, 16), (16, 11), (13, 9)):
        out[f"odd.{width}.{height}"] = unet(randn(60, 1, 4, height, width), 500, text).sample
    for axes in ("x", "y", "xy"):
        out[f"wrap.unet.{axes}"] = wrap(load(UNet2DConditionModel, "unet"), axes)(
            randn(60, 1, 4, 16, 12), 500, text).sample
        out[f"wrap.vae.{axes}"] = wrap(load(AutoencoderKL, "vae"), axes).decode(randn(62, 1, 4, 16, 12)).sample
    for share in (0.3, 1.0):
        out[f"slerp.{share}"] = slerp(share, randn(70, 4, 16, 12), randn(71, 4, 16, 12))
    out["hires"] = hires()
    save_file({k: v.contiguous() for k, v in out.items()}, GOLDEN / "maps.safetensors")
    for k, v in out.items():
        print(k, tuple(v.shape), f"{v.abs().max():.3f}")


if __name__ == "__main__":
    main()
