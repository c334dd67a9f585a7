#!/usr/bin/env python3
"""What each objective asks and how it judges -> tests/golden/objectives.safetensors.

For each NAME of train/objectives/objective.h, five samples at timesteps over the whole schedule:
    NAME.latent, NAME.noise, NAME.noisy, NAME.target   (5,C,H,W)
    NAME.timesteps                                     (5)
    NAME.min_snr, NAME.debiased                        (5): weights, gamma 5
    NAME.prediction, NAME.loss, NAME.grad              loss weighted by min_snr, its gradient

Noisy latents and targets are DDPMScheduler's. min-SNR is as in diffusers' train_text_to_image.py (sample: as in Hang et
al.'s own code); debiased as apply_debiased_estimation of sd-scripts' library/custom_train_functions.py, where the SNR is at
most 1000 (sample, which sd-scripts does not have: 1/sqrt(SNR) on the noise is sqrt(SNR) on the latent).

Ran with the schedule and compute_snr of diffusers 0.42.1, torch 1.13.1.
"""
import os

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from safetensors.torch import save_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SD15 = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
GAMMA = 5.0


def target_of(name, scheduler, latent, noise, timesteps):
    if name == "epsilon":
        return noise.clone()
    return scheduler.get_velocity(latent, noise, timesteps) if name == "v_prediction" else latent.clone()


def weights_of(name, snr):
    least = torch.minimum(snr, torch.full_like(snr, GAMMA))
    limited = snr.clamp(max=1000)
    return {"epsilon": (least / snr, 1 / torch.sqrt(limited)),
            "v_prediction": (least / (snr + 1), 1 / (limited + 1)),
            "sample": (least, torch.sqrt(limited))}[name]


def main():
    generator = torch.Generator().manual_seed(11)
    tensors = {}
    for name in ("epsilon", "v_prediction", "sample"):
        scheduler = DDPMScheduler(**SD15, prediction_type=name)
        latent, noise, prediction = (torch.randn((5, 4, 3, 3), generator=generator) for _ in range(3))
        timesteps = torch.tensor([0, 20, 250, 700, 999])
        prediction.requires_grad_()
        target = target_of(name, scheduler, latent, noise, timesteps)
        min_snr, debiased = weights_of(name, compute_snr(scheduler, timesteps))
        loss = (((prediction - target) ** 2).mean(dim=(1, 2, 3)) * min_snr).mean()
        loss.backward()
        tensors |= {f"{name}.latent": latent, f"{name}.noise": noise, f"{name}.target": target,
                    f"{name}.noisy": scheduler.add_noise(latent, noise, timesteps), f"{name}.timesteps": timesteps.int(),
                    f"{name}.min_snr": min_snr, f"{name}.debiased": debiased,
                    f"{name}.prediction": prediction.detach(), f"{name}.loss": loss.detach().reshape(1),
                    f"{name}.grad": prediction.grad}
    save_file(tensors, os.path.join(ROOT, "tests", "golden", "objectives.safetensors"))


if __name__ == "__main__":
    main()
