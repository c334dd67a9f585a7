#!/usr/bin/env python3
"""DreamBooth's loss with prior preservation as diffusers computes it -> tests/golden/prior.safetensors.

For each case NAME (pictures of the subject first, then as many class pictures):
    NAME.prediction, NAME.target   (2B,C,H,W)
    NAME.timesteps                 (2B)
    NAME.loss                      the whole loss
    NAME.grad                      its gradient with respect to the prediction
Metadata NAME: {"batch", "prior_loss_weight", "snr_gamma", "prediction_type"} as JSON.

The lines are those of examples/dreambooth/train_dreambooth.py. With --snr_gamma it fails for B > 1 (the weights of all 2B
timesteps meet B losses); here each picture's loss has the weight of its own timestep, the class's too, as
apply_snr_weight of sd-scripts' library/custom_train_functions.py gives it.

Ran with the schedule and compute_snr of diffusers 0.42.1, torch 1.13.1.
"""
import json
import os

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from safetensors.torch import save_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SD15 = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CASES = {
    "one": {"batch": 1, "prior_loss_weight": 1.0, "snr_gamma": None, "prediction_type": "epsilon"},
    "weighted": {"batch": 3, "prior_loss_weight": 0.3, "snr_gamma": None, "prediction_type": "epsilon"},
    "snr": {"batch": 2, "prior_loss_weight": 1.0, "snr_gamma": 5.0, "prediction_type": "epsilon"},
    "snr_v": {"batch": 2, "prior_loss_weight": 2.0, "snr_gamma": 5.0, "prediction_type": "v_prediction"},
}


def dreambooth_loss(scheduler, case, model_pred, target, timesteps):
    if case["snr_gamma"] is None:
        weights = torch.ones(len(timesteps))
    else:
        snr = compute_snr(scheduler, timesteps)
        base = torch.stack([snr, case["snr_gamma"] * torch.ones_like(timesteps)], dim=1).min(dim=1)[0]
        # as train_text_to_image.py: for v the weight is over SNR + 1 (train_dreambooth.py adds 1 to min(SNR,γ)/SNR)
        weights = base / (snr + 1) if case["prediction_type"] == "v_prediction" else base / snr
    model_pred, model_pred_prior = torch.chunk(model_pred, 2, dim=0)
    target, target_prior = torch.chunk(target, 2, dim=0)
    weights, weights_prior = torch.chunk(weights, 2, dim=0)

    def mean(pred, target, weights):
        loss = F.mse_loss(pred.float(), target.float(), reduction="none")
        return (loss.mean(dim=list(range(1, len(loss.shape)))) * weights).mean()

    return mean(model_pred, target, weights) + case["prior_loss_weight"] * mean(model_pred_prior, target_prior, weights_prior)


def main():
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for name, case in CASES.items():
        scheduler = DDPMScheduler(**SD15, prediction_type=case["prediction_type"])
        shape = (2 * case["batch"], 4, 3, 3)
        prediction = torch.randn(shape, generator=generator).requires_grad_()
        target = torch.randn(shape, generator=generator)
        timesteps = torch.randint(0, 1000, shape[:1], generator=generator)
        timesteps[0] = 10  # where min-SNR weighs
        timesteps[-1] = 20  # and of a class picture
        loss = dreambooth_loss(scheduler, case, prediction, target, timesteps)
        loss.backward()
        tensors |= {f"{name}.prediction": prediction.detach(), f"{name}.target": target,
                    f"{name}.timesteps": timesteps.int(), f"{name}.loss": loss.detach().reshape(1),
                    f"{name}.grad": prediction.grad}
    save_file(tensors, os.path.join(ROOT, "tests", "golden", "prior.safetensors"),
              {name: json.dumps(case) for name, case in CASES.items()})


if __name__ == "__main__":
    main()
