#!/usr/bin/env python3
"""Noise schedules and samplers as diffusers has them -> tests/golden/schedule.safetensors.

    alphas.NAME                     alphas_cumprod of the configurations below
    walk.NAME.SAMPLER.STEPS.*       timesteps, levels (sigmas of Euler), scale, and x after every step with a fake model:
                                    output = sin(3 x) / 2 + t / 2000 of the scaled input; what a sampler adds of noise
                                    comes from torch.Generator().manual_seed(7), which gave the first x
    (for spacing and prediction as the configuration says; NAME's configuration is its metadata value, as JSON)

Ran with diffusers 0.42.1, torch 2.15.0, numpy 2.
"""
import inspect
import json
import os

import torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler)
from safetensors.torch import save_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SD15 = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False, "skip_prk_steps": True, "trained_betas": None}
CONFIGS = {
    "sd15": SD15,
    "leading": {**SD15, "timestep_spacing": "leading"},
    "linspace": {**SD15, "timestep_spacing": "linspace"},
    "trailing": {**SD15, "timestep_spacing": "trailing"},
    "v": {**SD15, "prediction_type": "v_prediction"},
    "v_trailing": {**SD15, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    "sample": {**SD15, "prediction_type": "sample"},
    "defaults": {"num_train_timesteps": 500},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "clip_sample": True, "clip_sample_range": 0.5},
    "trained": {"num_train_timesteps": 4, "trained_betas": [0.1, 0.2, 0.3, 0.4], "clip_sample": False},
}
SAMPLERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "euler_a": EulerAncestralDiscreteScheduler,
            "dpmpp_2m": DPMSolverMultistepScheduler}
MISSING = {("sample", "euler_a")}  # not implemented there


def fake_model(x, t):
    return torch.sin(3 * x) / 2 + float(t) / 2000


def walk(scheduler, steps):
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(16, generator=generator)
    extra = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    x = noise * scheduler.init_noise_sigma
    states = []
    for t in scheduler.timesteps:
        x = scheduler.step(fake_model(scheduler.scale_model_input(x, t), t), t, x, **extra).prev_sample
        states.append(x)
    return scheduler.timesteps.float(), torch.tensor(float(scheduler.init_noise_sigma)), torch.stack(states)


def main():
    golden, metadata = {}, {}
    noise = torch.randn(16, generator=torch.Generator().manual_seed(7))
    golden["noise"] = noise
    for name, config in CONFIGS.items():
        metadata[name] = json.dumps(config)
        for sampler, kind in SAMPLERS.items():
            if (name, sampler) in MISSING:
                continue
            scheduler = kind.from_config(config)
            golden[f"alphas.{name}"] = scheduler.alphas_cumprod
            for steps in (1, 3, 7, 20, 30, 31, 100) if name in ("leading", "linspace", "trailing") else (20,):
                if steps > scheduler.config.num_train_timesteps:
                    steps = 2
                key = f"walk.{name}.{sampler}.{steps}"
                timesteps, scale, states = walk(kind.from_config(config), steps)
                golden[f"{key}.timesteps"], golden[f"{key}.scale"] = timesteps, scale
                golden[f"{key}.x"] = states if steps == 20 else states[-1:].clone()
                if sampler.startswith("euler"):
                    scheduler.set_timesteps(steps)
                    golden[f"{key}.levels"] = scheduler.sigmas
    save_file(golden, os.path.join(ROOT, "tests", "golden", "schedule.safetensors"), metadata)


if __name__ == "__main__":
    main()
