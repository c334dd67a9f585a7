#!/usr/bin/env python3
"""A tiny random safety checker, and what diffusers makes of pictures with it.

Writes to tests/golden/safety/:
  model/safety_checker/, model/feature_extractor/   as diffusers and transformers save them (weights f16)
  pictures.safetensors                    for each of three pictures, N = 0, 1, 2:
      N.rgb (H,W,3) u8; N.pixels (28,28,3): what the feature extractor gives
      N.embedding (24), N.special_cosine (3), N.concept_cosine (17), N.special (3), N.concept (17): scores; N.flagged (1)

Thresholds are chosen so that picture 0 is flagged by itself, picture 1 only because a special score is above 0, and
picture 2 is not.

Ran with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0, Pillow 13.0.0.

usage: scripts/reference/safety.py
"""
import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "safety"
SIDE = 28
SIZES = [(61, 40), (23, 35), (28, 28)]


def make_checker():
    torch.manual_seed(19)
    config = CLIPConfig(projection_dim=24, vision_config={
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": SIDE,
        "patch_size": 7, "hidden_act": "quick_gelu", "projection_dim": 24})
    checker = StableDiffusionSafetyChecker(config).eval()
    for name, p in checker.named_parameters():
        if "norm" in name and name.endswith("weight"):
            p.data += 0.2 * torch.randn_like(p)
        elif not name.endswith("embeds_weights"):
            p.data += (0.1 if name.endswith("bias") else 0.15) * torch.randn_like(p)
    checker.concept_embeds.data = torch.randn(17, 24)
    checker.special_care_embeds.data = torch.randn(3, 24)
    return checker.half().float()


def make_pictures():
    pictures = []
    for i, (w, h) in enumerate(SIZES):
        y, x = np.mgrid[0:h, 0:w]
        rgb = np.stack([127 + 120 * np.sin(x / (3 + i) + i), 255 * y / h, 127 + 100 * np.cos((x + y) / (2 + i))], -1)
        rgb[h // 3:h // 2, w // 4:w // 2] = [250 - 90 * i, 20 + 100 * i, 40]
        pictures.append(Image.fromarray(rgb.clip(0, 255).astype(np.uint8)))
    return pictures


def cosines(checker, pixels):
    e = checker.visual_projection(checker.vision_model(pixels)[1])
    return e, cosine_distance(e, checker.special_care_embeds), cosine_distance(e, checker.concept_embeds)


def set_thresholds(checker, special, concept):
    """Halfway between what has to be above and what below; all others above everything."""
    weights, care = torch.full((17,), 0.95), torch.full((3,), 0.95)
    first = (concept[0] - concept[1:].max(0).values).argmax()
    weights[first] = (concept[0, first] + concept[1:, first].max()) / 2
    marked = (special[1] - special[[0, 2]].max(0).values).argmax()
    care[marked] = (special[1, marked] + special[[0, 2], marked].max()) / 2
    second = (concept[1] - concept[[0, 2]].max(0).values).argmax()
    weights[second] = concept[1, second] + 0.005
    checker.concept_embeds_weights.data, checker.special_care_embeds_weights.data = weights, care


class Recorder:
    """The scores that the checker computes and throws away."""

    def __init__(self):
        self.scores = []

    def __call__(self, number, digits):
        self.scores.append(round(number, digits))
        return self.scores[-1]


@torch.no_grad()
def main():
    print("torch", torch.__version__, "diffusers", diffusers.__version__, "transformers", transformers.__version__)
    shutil.rmtree(OUT, ignore_errors=True)
    checker, extractor, pictures = make_checker(), CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE), make_pictures()
    pixels = torch.cat([extractor(p, return_tensors="pt").pixel_values for p in pictures])
    _, special, concept = cosines(checker, pixels)
    set_thresholds(checker, special, concept)
    checker.half().save_pretrained(OUT / "model" / "safety_checker")
    checker.float()
    extractor.save_pretrained(OUT / "model" / "feature_extractor")
    embedding, special, concept = cosines(checker, pixels)
    recorder = Recorder()
    diffusers.pipelines.stable_diffusion.safety_checker.round = recorder
    _, flagged = checker(clip_input=pixels, images=[np.ones((4, 4, 3)) for _ in pictures])
    assert flagged == [True, True, False], flagged
    scores = np.array(recorder.scores, dtype=np.float32).reshape(3, 20)
    tensors = {}
    for i, p in enumerate(pictures):
        tensors |= {f"{i}.rgb": torch.from_numpy(np.array(p)), f"{i}.pixels": pixels[i].permute(1, 2, 0).contiguous(),
                    f"{i}.embedding": embedding[i], f"{i}.special_cosine": special[i], f"{i}.concept_cosine": concept[i],
                    f"{i}.special": torch.from_numpy(scores[i, :3]), f"{i}.concept": torch.from_numpy(scores[i, 3:]),
                    f"{i}.flagged": torch.tensor([float(flagged[i])])}
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, OUT / "pictures.safetensors")
    print(scores)


if __name__ == "__main__":
    main()
