#!/usr/bin/env python3
"""Losses with masks -> tests/golden/masks.safetensors.

    mask                       (3,48,40), 0 to 255: pictures of 40 x 48, of which a latent is an eighth
    prediction, target         (3,4,6,5)
    weights                    (3): of the samples
    area                       (3,6,5): the mask as the loss sees it
    NAME.loss, NAME.grad       of each way to count

plain is sd-scripts' --masked_loss and alpha_mask (library/custom_train_functions.py, apply_masked_loss: F.interpolate with
mode="area", times the loss, then the mean over all of a sample); floor and normalised are OneTrainer's
(modules/util/loss/masked_loss.py: the mask clamped from below; the loss divided by the clamped mask's mean). Both programs'
formulas are written out here.

Ran with torch 2.15.
"""
import os

import torch
from safetensors.torch import save_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def masked(loss, mask, floor, normalise):
    mask = torch.nn.functional.interpolate(mask.unsqueeze(1), size=loss.shape[2:], mode="area").clamp(floor, 1)
    loss = loss * mask
    return loss / mask.mean(dim=(1, 2, 3), keepdim=True) if normalise else loss


def main():
    generator = torch.Generator().manual_seed(5)
    mask = torch.zeros(3, 48, 40, dtype=torch.uint8)
    mask[0, 3:30, 7:22] = 255
    mask[1] = torch.randint(0, 256, (48, 40), generator=generator)
    mask[2, :, 20:] = 128
    prediction, target = (torch.randn((3, 4, 6, 5), generator=generator) for _ in range(2))
    weights = torch.tensor([1.0, 0.25, 3.0])
    unit = mask.float() / 255
    tensors = {"mask": mask.float(), "prediction": prediction, "target": target, "weights": weights,
               "area": torch.nn.functional.interpolate(unit.unsqueeze(1), size=(6, 5), mode="area").squeeze(1)}
    for name, floor, normalise in (("plain", 0.0, False), ("floor", 0.1, False), ("normalised", 0.1, True)):
        asked = prediction.clone().requires_grad_()
        loss = masked((asked - target) ** 2, unit, floor, normalise)
        loss = (loss.mean(dim=(1, 2, 3)) * weights).mean()
        loss.backward()
        tensors |= {f"{name}.loss": loss.detach().reshape(1), f"{name}.grad": asked.grad}
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(ROOT, "tests", "golden", "masks.safetensors"))


if __name__ == "__main__":
    main()
