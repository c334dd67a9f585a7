#!/usr/bin/env python3
"""What diffusers makes of pictures: picture to picture, and inpainting with models of 4 and of 9 channels.

Reads tests/golden/models/sd1 and writes to tests/golden/:
  models/inpaint/unet/      the UNet of models/sd1 with five more input channels, whose weights are randn(90) / 10
  pipelines.safetensors     KIND.SAMPLER.STRENGTH: final latents of 10 steps with guidance 5, (1,4,16,16), of KINDs img2img,
                            inpaint4 and inpaint9; img2img.picture and inpaint4.picture (3,32,32): the first one decoded
                            masked.SAMPLER: inpaint4 with only the masked part at full size (padding_mask_crop 3), and
                            masked.picture (3,40,48), what comes of it, pasted
                            a1111.SAMPLER.STRENGTH: inpainting as AUTOMATIC1111 does it with a model of 4 channels, written
                            out here in plain PyTorch; the mask is white where 8 <= x < 20 and 12 <= y < 26
                            comfy.SAMPLER.STRENGTH: as ComfyUI does it, likewise; the mask is white where 9 <= x < 20
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
                       EulerDiscreteScheduler, HeunDiscreteScheduler, KDPM2DiscreteScheduler, PNDMScheduler,
                       StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionPipeline,
                       UniPCMultistepScheduler, UNet2DConditionModel)
from PIL import Image
from safetensors.torch import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
SD1 = GOLDEN / "models" / "sd1"
SAMPLERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "euler_a": EulerAncestralDiscreteScheduler,
            "dpmpp_2m": DPMSolverMultistepScheduler}
IMG2IMG_SAMPLERS = {"pndm": PNDMScheduler, "heun": HeunDiscreteScheduler, "dpm2": KDPM2DiscreteScheduler,
                    "unipc": UniPCMultistepScheduler}  # whose steps are more than one call, or remember earlier ones
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
    pipe.scheduler = (SAMPLERS | IMG2IMG_SAMPLERS)[sampler].from_config(raw)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe, strength, kind, **more):
    return pipe(PROMPT, negative_prompt=NEGATIVE, strength=strength, num_inference_steps=10, guidance_scale=5,
                generator=torch.Generator().manual_seed(SEED), output_type=kind, **more).images


class A1111:
    """Inpainting that keeps the picture outside of the mask at each call of the model: of the denoised latents, or with
    DDIM of those that the model is given, and once more in the end. 10 steps of which min(s, 0.999) 10 + 1 are done."""

    def __init__(self, strength):
        self.vae, self.unet = PARTS["vae"], PARTS["unet"]
        self.alphas = torch.from_numpy(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)).float()
        self.skipped = 10 - int(min(strength, 0.999) * 10) - 1
        pixels = chw(picture(32, 32)).float()[None] / 127.5 - 1
        self.original = self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor
        self.noise = randn(SEED, 1, 4, 16, 16)
        self.mask = torch.zeros(1, 1, 16, 16)
        self.mask[..., 6:13, 4:10] = 1
        ids = PARTS["tokenizer"]([NEGATIVE, PROMPT], padding="max_length", max_length=77, return_tensors="pt").input_ids
        self.states = PARTS["text_encoder"](ids)[0]

    def blend(self, x):
        return self.mask * x + (1 - self.mask) * self.original

    def epsilon(self, x, t):
        u, p = self.unet(torch.cat([x, x]), torch.tensor(float(t)), self.states).sample.chunk(2)
        return u + 5 * (p - u)

    def denoised(self, x, sigma, t):
        return self.blend(x - sigma * self.epsilon(x / (sigma * sigma + 1) ** 0.5, t))

    def k_diffusion(self, heun):
        t = torch.linspace(999, 0, 10)
        logs = ((1 - self.alphas) / self.alphas).sqrt().log()
        low = t.floor().long().clamp(max=998)
        sigmas = torch.cat([torch.lerp(logs[low], logs[low + 1], t - low).exp(), torch.zeros(1)])
        x = self.original + self.noise * sigmas[self.skipped]
        for i in range(self.skipped, 10):
            slope = (x - self.denoised(x, sigmas[i], t[i])) / sigmas[i]
            step = sigmas[i + 1] - sigmas[i]
            if heun and i < 9:
                y = x + step * slope
                slope = (slope + (y - self.denoised(y, sigmas[i + 1], t[i + 1])) / sigmas[i + 1]) / 2
            x = x + step * slope
        return self.blend(x)

    def ddim(self):
        """Noised to the e-th of the timesteps 1, 101 … 901, and then through those before it, the last of which is
        asked nothing."""
        t, e = list(range(1, 1000, 100)), 9 - self.skipped
        a = self.alphas[t]
        x = a[e].sqrt() * self.original + (1 - a[e]).sqrt() * self.noise
        for i in range(e - 1, 0, -1):
            noise = self.epsilon(self.blend(x), t[i])
            x = a[i - 1].sqrt() * (x - (1 - a[i]).sqrt() * noise) / a[i].sqrt() + (1 - a[i - 1]).sqrt() * noise
        return self.blend(x)

    def run(self, sampler):
        return self.ddim() if sampler == "ddim" else self.k_diffusion(sampler == "heun")


class Comfy(A1111):
    """Inpainting that gives the model the noised picture outside of the mask at each call, and takes the picture itself
    for what it sees there. 10 steps, the last of 10 / strength; noise at full strength as for an empty picture. The mask
    is interpolated between a latent's middle pixels, so the column that it half covers counts half."""

    def __init__(self, strength):
        super().__init__(strength)
        self.grid = int(10 / strength)
        self.mask[..., 6:13, 4] = 0.5

    def euler(self):
        t = torch.linspace(999, 0, self.grid)
        logs = ((1 - self.alphas) / self.alphas).sqrt().log()
        low = t.floor().long().clamp(max=998)
        sigmas = torch.cat([torch.lerp(logs[low], logs[low + 1], t - low).exp(), torch.zeros(1)])[self.grid - 10:]
        full = self.grid == 10
        x = self.original + self.noise * ((1 + sigmas[0] ** 2) ** 0.5 if full else sigmas[0])
        for sigma, to in zip(sigmas[:-1], sigmas[1:]):
            told = (sigma.log() - logs).abs().argmin()
            given = self.mask * x + (1 - self.mask) * (self.original + sigma * self.noise)
            slope = (x - self.denoised(given, sigma, told)) / sigma
            x = x + (to - sigma) * slope
        return x

    def run(self, sampler):
        return self.euler()


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
        for sampler in [*SAMPLERS, *(IMG2IMG_SAMPLERS if kind == "img2img" else [])]:
            for strength in (0.75, 1.0):
                out[f"{kind}.{sampler}.{strength}"] = run(load(cls, sampler, unet), strength, "latent", **more)
        out[f"{kind}.picture"] = chw(run(load(cls, "ddim", unet), 0.75, "pil", **more)[0])
    for sampler in ("ddim", "euler", "heun"):
        for strength in (0.75, 1.0):
            out[f"a1111.{sampler}.{strength}"] = A1111(strength).run(sampler)
    for strength in (0.75, 1.0):
        out[f"comfy.euler.{strength}"] = Comfy(strength).run("euler")
    more = {"image": picture(48, 40), "mask_image": hole(48, 40), "height": 32, "width": 32, "padding_mask_crop": 3}
    out["masked.picture"] = chw(run(load(StableDiffusionInpaintPipeline, "ddim", None), 0.75, "pil", **more)[0])
    save_file({k: v.contiguous() for k, v in out.items()}, GOLDEN / "pipelines.safetensors",
              metadata={"prompt": PROMPT, "negative": NEGATIVE, "seed": str(SEED)})
    for k, v in out.items():
        print(k, tuple(v.shape), f"{v.float().abs().max():.3f}")


if __name__ == "__main__":
    main()
