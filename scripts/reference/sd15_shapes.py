#!/usr/bin/env python3
"""A diffusers folder of Stable Diffusion 1.5's shapes with random weights in f16, for figures that depend on shapes alone
(scripts/plan_check sd15). About 2.1 GB.

Made with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0.

usage: scripts/reference/sd15_shapes.py FOLDER
"""
import sys
from pathlib import Path
from shutil import copytree

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

ROOT = Path(__file__).resolve().parents[2]
folder = Path(sys.argv[1])
torch.manual_seed(0)
torch.set_default_dtype(torch.float16)

UNet2DConditionModel(
    sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280)
).save_pretrained(folder / "unet")
AutoencoderKL(
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
).save_pretrained(folder / "vae")
CLIPTextModel(
    CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                   num_attention_heads=12, max_position_embeddings=77, projection_dim=768)
).save_pretrained(folder / "text_encoder")
PNDMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
).save_pretrained(folder / "scheduler")
copytree(ROOT / "data" / "builtin" / "tiny" / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
