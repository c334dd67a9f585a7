#!/usr/bin/env python3
"""What diffusers makes of pictures: picture to picture, and inpainting with models of 4 and of 9 channels.

Reads tests/golden/models/sd1 and writes to tests/golden/:
  models/inpaint/unet/      the UNet of models/sd1 with five more input channels, whose weights are randn(90) / 10
  pipelines.safetensors     KIND.SAMPLER.STRENGTH: final latents of 10 steps with guidance 5, (1,4,16,16), of KINDs img2img,
                            inpaint4 and inpaint9; img2img.picture and inpaint4.picture (3,32,32): the first one decoded
                            masked.SAMPLER: inpaint4 with only the masked part at full size (padding_mask_crop 3), and
                            masked.picture (3,40,48), what comes of it, pasted
                            odd.N: the UNet's output for odd latents N (0…2), x = randn(50 + N)

The pictures that a test has to repeat are made of whole numbers: of W x H, pixel (x,y) of channel c is
(7 x + 11 y + 53 c + x y) mod 256; the mask is white where 3 <= x < W - 9 and 5 <= y < H - 8, and grey (100) in the
column x = W - 9 (which is black once it is made two-valued). Of masked.picture it is white where 10 <= x < 28 and
8 <= y < 22.

Prints the versions it ran with: torch 2.15.0, diffusers 0.42.1, transformers 5.24.0 made what is there.

usage: scripts/reference/pipelines.py
"""
import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline,
                       StableDiffusionPipeline, UNet2DConditionModel)
from PIL import Image
from safetensors.torch import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
SD1 = GOLDEN / "models" / "sd1"
SAMPLERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "euler_a": EulerAncestralDiscreteScheduler,
            "dpmpp_2m": DPMSolverMultistepScheduler}
PARTS = StableDiffusionPipeline.from_pretrained(SD1, torch_dtype=torch.float32).components
PROMPT, NEGATIVE, SEED = "a red heart on a blue background", "ugly", 42


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def picture(width, height):
    x, y, c = np.arange(width)[None, :, None], np.arange(height)[:, None, None], np.arange(3)[None, None, :]
    return Image.fromarray(((7 * x + 11 * y + 53 * c + x * y) % 256).astype(np.uint8))


def mask(width, height):
    m = np.zeros((height, width), np.uint8)
    m[5:height - 8, 3:width - 9] = 255
    m[5:height - 8, width - 9] = 100
    return Image.fromarray(m)


def hole(width, height):
    m = np.zeros((height, width), np.uint8)
    m[8:22, 10:28] = 255
    return Image.fromarray(m)


def inpainting_unet():
    """models/sd1's with nine input channels."""
    unet = UNet2DConditionModel.from_pretrained(SD1 / "unet", torch_dtype=torch.float32)
    config = dict(unet.config) | {"in_channels": 9}
    wide = UNet2DConditionModel.from_config(config)
    state = unet.state_dict()
    w = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([w, randn(90, w.shape[0], 5, 3, 3) / 10], dim=1)
    wide.load_state_dict(state)
    folder = GOLDEN / "models" / "inpaint" / "unet"
    shutil.rmtree(folder, ignore_errors=True)
    wide.to(torch.float16).save_pretrained(folder)
    return UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)


def load(cls, sampler, unet):
    raw = json.loads((SD1 / "scheduler" / "scheduler_config.json").read_text())
    more = {} if unet is None else {"unet": unet}
    pipe = cls(**(PARTS | more), requires_safety_checker=False)
    pipe.scheduler = SAMPLERS[sampler].from_config(raw)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe, strength, kind, **more):
    return pipe(PROMPT, negative_prompt=NEGATIVE, strength=strength, num_inference_steps=10, guidance_scale=5,
                generator=torch.Generator().manual_seed(SEED), output_type=kind, **more).images


def chw(image):
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).contiguous()


@torch.no_grad()
def main():
    torch.set_num_threads(2)
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}")
    out = {}
    wide = inpainting_unet()
    init, where = picture(32, 32), mask(32, 32)
    kinds = {"img2img": (StableDiffusionImg2ImgPipeline, None, {"image": init}),
             "inpaint4": (StableDiffusionInpaintPipeline, None, {"image": init, "mask_image": where, "height": 32,
                                                                 "width": 32}),
             "inpaint9": (StableDiffusionInpaintPipeline, wide, {"image": init, "mask_image": where, "height": 32,
                                                                 "width": 32})}
    for kind, (cls, unet, more) in kinds.items():
        for sampler in SAMPLERS:
            for strength in (0.75, 1.0):
                out[f"{kind}.{sampler}.{strength}"] = run(load(cls, sampler, unet), strength, "latent", **more)
        out[f"{kind}.picture"] = chw(run(load(cls, "ddim", unet), 0.75, "pil", **more)[0])
    more = {"image": picture(48, 40), "mask_image": hole(48, 40), "height": 32, "width": 32, "padding_mask_crop": 3}
    out["masked.picture"] = chw(run(load(StableDiffusionInpaintPipeline, "ddim", None), 0.75, "pil", **more)[0])
    save_file({k: v.contiguous() for k, v in out.items()}, GOLDEN / "pipelines.safetensors",
              metadata={"prompt": PROMPT, "negative": NEGATIVE, "seed": str(SEED)})
    for k, v in out.items():
        print(k, tuple(v.shape), f"{v.float().abs().max():.3f}")


if __name__ == "__main__":
    main()
