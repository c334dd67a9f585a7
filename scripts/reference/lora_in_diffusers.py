#!/usr/bin/env python3
"""Loads a LoRA that Atelier exported into diffusers, checks that every key of it is used, draws the same picture, and compares
the final latents with those of `atelier sample --save-latents`. Without --lora it compares the model's own picture.

    atelier sample --model FOLDER --lora FILE --prompt TEXT --negative TEXT --seed 7 --save-latents ours.safetensors
    lora_in_diffusers.py --model FOLDER --lora FILE --prompt TEXT --negative TEXT --seed 7 --latents ours.safetensors

Everything goes through the pipeline's load_lora_weights; the text encoders leave memory before the UNet's turn. Exit status
0: every key used and the latents agree within --tolerance of the largest value (the design's 1e-3), 1 otherwise.

Ran with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0, peft 0.21.2.
"""
import argparse
import sys

import torch
from diffusers import AutoPipelineForText2Image, DDIMScheduler, EulerDiscreteScheduler
from safetensors.torch import load_file

SAMPLERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}
TEXT_PREFIXES = {"text_encoder": ("lora_te_", "lora_te1_", "text_encoder."),
                 "text_encoder_2": ("lora_te2_", "text_encoder_2.")}


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name in ("model", "latents", "prompt"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--lora")
    p.add_argument("--negative")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--cfg", type=float, default=7.5)
    p.add_argument("--scale", type=float, default=1.0)
    p.add_argument("--sampler", choices=SAMPLERS, default="ddim")
    p.add_argument("--tolerance", type=float, default=1e-3)
    return p.parse_args()


def lora_modules(model):
    return [(name, m) for name, m in model.named_modules() if hasattr(m, "lora_A") and len(m.lora_A)]


def load(pipe, path, scale):
    """Returns how many of the file's keys are in the pipeline now, and how many there are."""
    state = load_file(path)
    pipe.load_lora_weights(path, adapter_name="atelier")
    pipe.set_adapters(["atelier"], [scale])
    parts = [pipe.unet] + [getattr(pipe, part) for part, prefixes in TEXT_PREFIXES.items()
                           if any(k.startswith(prefixes) for k in state)]
    per_module = 3 if any(k.endswith(".alpha") for k in state) else 2
    return per_module * sum(len(lora_modules(part)) for part in parts), len(state)


def encoded(pipe, a):
    """What the pipeline is called with in place of the prompt."""
    xl = hasattr(pipe, "text_encoder_2")
    names = ["prompt_embeds", "negative_prompt_embeds"]
    names += ["pooled_prompt_embeds", "negative_pooled_prompt_embeds"] if xl else []
    with torch.no_grad():
        made = pipe.encode_prompt(prompt=a.prompt, negative_prompt=a.negative, device="cpu", num_images_per_prompt=1,
                                  do_classifier_free_guidance=a.cfg > 1)
    pipe.text_encoder = None
    if xl:
        pipe.text_encoder_2 = None
    return {name: value for name, value in zip(names, made) if value is not None}


def main():
    a = arguments()
    pipe = AutoPipelineForText2Image.from_pretrained(a.model, torch_dtype=torch.float32)
    pipe.scheduler = SAMPLERS[a.sampler].from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    used, keys = load(pipe, a.lora, a.scale) if a.lora else (0, 0)
    ours = load_file(a.latents)["latents"]
    factor = pipe.vae_scale_factor
    theirs = pipe(**encoded(pipe, a), num_inference_steps=a.steps, guidance_scale=a.cfg,
                  height=ours.shape[2] * factor, width=ours.shape[3] * factor, output_type="latent",
                  generator=torch.Generator().manual_seed(a.seed)).images
    difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    good = used == keys and difference <= a.tolerance
    print(f"keys used: {used} of {keys}; latents differ by {difference:.2e} of the largest value "
          f"({'within' if difference <= a.tolerance else 'above'} {a.tolerance:g})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
