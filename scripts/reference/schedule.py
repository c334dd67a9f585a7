#!/usr/bin/env python3
"""Noise schedules as diffusers has them -> tests/golden/schedule.safetensors.

    alphas.NAME     alphas_cumprod of the configurations below (NAME's is its metadata value, as JSON)

Ran with diffusers 0.42.1, torch 2.15.0, numpy 2.
"""
import json
import os

import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SD15 = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False, "skip_prk_steps": True, "trained_betas": None}
CONFIGS = {
    "sd15": SD15,
    "zero_snr": {**SD15, "rescale_betas_zero_snr": True},
    "cosine_zero_snr": {"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": True},
    "defaults": {"num_train_timesteps": 500},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "clip_sample": True, "clip_sample_range": 0.5},
    "trained": {"num_train_timesteps": 4, "trained_betas": [0.1, 0.2, 0.3, 0.4], "clip_sample": False},
}
def fake_model(x, t):
    """What samplers are walked with (samplers.py)."""
    return torch.sin(3 * x) / 2 + float(t) / 2000


def main():
    golden, metadata = {}, {}
    for name, config in CONFIGS.items():
        metadata[name] = json.dumps(config)
        golden[f"alphas.{name}"] = DDIMScheduler.from_config(config).alphas_cumprod
    save_file(golden, os.path.join(ROOT, "tests", "golden", "schedule.safetensors"), metadata)


if __name__ == "__main__":
    main()
