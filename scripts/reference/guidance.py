#!/usr/bin/env python3
"""A model that takes guidance as a number, and guidance that is rescaled -> tests/golden/guidance.safetensors.

    cond_proj       time_embedding.cond_proj.weight that makes such a model of models/sd1 (time_cond_proj_dim 4)
    lcm.latents     4 steps of LCM with it, guidance 2.5; the first prompt of models.py and its seed
    rescaled        models/sd2, 20 steps of DDIM, guidance 7.5, guidance_rescale 0.7; prompts likewise

Ran with diffusers 0.42.1, torch 2.15.0, transformers 5.24.0.

usage: scripts/reference/guidance.py
"""
import torch
from diffusers import DDIMScheduler, LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file

from models import GOLDEN, PROMPTS, randn

COND = 4


def pipeline(kind, scheduler):
    pipe = StableDiffusionPipeline.from_pretrained(GOLDEN / "models" / kind, torch_dtype=torch.float32)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, **settings):
    prompt, negative, seed = PROMPTS[0]
    return pipe(prompt, negative_prompt=negative, output_type="latent", generator=torch.Generator().manual_seed(seed),
                **settings).images


def main():
    pipe = pipeline("sd1", LCMScheduler)
    unet = UNet2DConditionModel.from_config({**pipe.unet.config, "time_cond_proj_dim": COND})
    cond_proj = randn(5, pipe.unet.config.block_out_channels[0], COND)
    unet.load_state_dict({**pipe.unet.state_dict(), "time_embedding.cond_proj.weight": cond_proj})
    pipe.unet = unet.eval()
    out = {"cond_proj": cond_proj, "lcm.latents": draw(pipe, num_inference_steps=4, guidance_scale=2.5)}
    out["rescaled"] = draw(pipeline("sd2", DDIMScheduler), num_inference_steps=20, guidance_scale=7.5,
                           guidance_rescale=0.7)
    save_file({k: v.contiguous() for k, v in out.items()}, GOLDEN / "guidance.safetensors")


if __name__ == "__main__":
    main()
