#!/usr/bin/env python3
"""Which tensor of a single-file checkpoint is which of a diffusers folder, as diffusers itself sees it.

Writes to tests/golden/single/{sd1,sd2,sdxl}/ the configurations of a narrow model of SD1.x's, SD2.x's and SDXL's build
(all their blocks and levels, few channels; CLIP's whole vocabulary) as config.json files, and keys.txt:
    SINGLE-FILE-KEY DIFFUSERS-FOLDER DIFFUSERS-KEY D0xD1… [turned]      one line a tensor of the folder
Where several tensors of the folder are one in the file (OpenCLIP's in_proj), they follow each other, in the order in
which they lie in it; turned: with rows and columns changed. The file's keys are made as the models of CompVis and OpenCLIP number their layers; what they
mean is asked of diffusers' converters, with a number in place of each tensor. The test draws the weights.

Prints the versions it ran with: diffusers 0.42.1, transformers 5.24.0 made what is there.

usage: scripts/reference/single_files.py
"""
import json
import shutil
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (convert_ldm_clip_checkpoint, convert_ldm_unet_checkpoint,
                                                 convert_ldm_vae_checkpoint, convert_open_clip_checkpoint)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "single"
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
TEXTS = {"text_encoder": "conditioner.embedders.0.", "text_encoder_2": "conditioner.embedders.1."}  # SDXL's
LAYERS = {"sd1": 2, "sd2": 24, "sdxl": 3}  # of the text encoders; SD2's last is not used


def both(*names):
    return [f"{n}.{end}" for n in names for end in ("weight", "bias")]


def transformer(at, depth):
    names = both(f"{at}.norm", f"{at}.proj_in", f"{at}.proj_out")
    for i in range(depth):
        block = f"{at}.transformer_blocks.{i}"
        names += both(*(f"{block}.norm{i}" for i in (1, 2, 3)), f"{block}.ff.net.0.proj", f"{block}.ff.net.2")
        for attention in ("attn1", "attn2"):
            names += [f"{block}.{attention}.to_{x}.weight" for x in "qkv"] + both(f"{block}.{attention}.to_out.0")
    return names


def unet_keys(levels=4, blocks=2, depth=(1, 1, 1, 0), middle=1, more=()):
    """CompVis' UNetModel: one row of input_blocks down, one of output_blocks up. depth: of each level's
    transformers."""
    def resnet(at, shortcut):
        parts = ["in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"]
        return both(*(f"{at}.{p}" for p in parts + ["skip_connection"] * shortcut))

    keys = both("time_embed.0", "time_embed.2", *more, "input_blocks.0.0")
    n = 1
    for level in range(levels):
        for block in range(blocks):
            # the channels change but for the last level, which has those of the one above
            keys += resnet(f"input_blocks.{n}.0", shortcut=block == 0 and 0 < level < 3)
            keys += transformer(f"input_blocks.{n}.1", depth[level]) if depth[level] else []
            n += 1
        if level < levels - 1:
            keys += both(f"input_blocks.{n}.0.op")
            n += 1
    keys += resnet("middle_block.0", False) + transformer("middle_block.1", middle) + resnet("middle_block.2", False)
    n = 0
    for level in reversed(range(levels)):
        for block in range(blocks + 1):
            keys += resnet(f"output_blocks.{n}.0", shortcut=True)
            keys += transformer(f"output_blocks.{n}.1", depth[level]) if depth[level] else []
            if block == blocks and level > 0:
                keys += both(f"output_blocks.{n}.{2 if depth[level] else 1}.conv")
            n += 1
    return keys + both("out.0", "out.2")


def vae_keys(levels=4, blocks=2):
    def resnet(at, shortcut):
        return both(*(f"{at}.{p}" for p in ["norm1", "conv1", "norm2", "conv2"] + ["nin_shortcut"] * shortcut))

    keys = both("quant_conv", "post_quant_conv")
    for half in ("encoder", "decoder"):
        keys += both(*(f"{half}.{p}" for p in ("conv_in", "conv_out", "norm_out")))
        keys += resnet(f"{half}.mid.block_1", False) + resnet(f"{half}.mid.block_2", False)
        keys += both(*(f"{half}.mid.attn_1.{p}" for p in ("norm", "q", "k", "v", "proj_out")))
    for level in range(levels):
        for block in range(blocks):
            keys += resnet(f"encoder.down.{level}.block.{block}", block == 0 and level in (1, 2))
        keys += both(f"encoder.down.{level}.downsample.conv") if level < levels - 1 else []
        for block in range(blocks + 1):
            keys += resnet(f"decoder.up.{level}.block.{block}", block == 0 and level in (0, 1))
        keys += both(f"decoder.up.{level}.upsample.conv") if level > 0 else []
    return keys


def clip_keys(layers):
    keys = ["embeddings.token_embedding.weight", "embeddings.position_embedding.weight"] + both("final_layer_norm")
    for i in range(layers):
        keys += both(*(f"encoder.layers.{i}.{p}" for p in (
            "layer_norm1", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj",
            "layer_norm2", "mlp.fc1", "mlp.fc2")))
    return [f"transformer.text_model.{k}" for k in keys]


def openclip_keys(layers):
    keys = ["token_embedding.weight", "positional_embedding", "text_projection"] + both("ln_final")
    for i in range(layers):
        at = f"transformer.resblocks.{i}"
        keys += [f"{at}.attn.in_proj_weight", f"{at}.attn.in_proj_bias"]
        keys += both(*(f"{at}.{p}" for p in ("attn.out_proj", "ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj")))
    return [f"model.{k}" for k in keys]


def make_sdxl_parts():
    one = CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=64, intermediate_size=96, num_hidden_layers=LAYERS["sdxl"],
        num_attention_heads=1, hidden_act="quick_gelu", bos_token_id=49406, eos_token_id=49407, pad_token_id=49407))
    two = CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=49408, hidden_size=128, intermediate_size=96, num_hidden_layers=LAYERS["sdxl"],
        num_attention_heads=2, hidden_act="gelu", projection_dim=96, bos_token_id=49406, eos_token_id=49407,
        pad_token_id=0))
    unet = UNet2DConditionModel(
        sample_size=128, block_out_channels=(64, 128, 64), cross_attention_dim=64 + 128, attention_head_dim=[1, 2, 1],
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
        transformer_layers_per_block=[1, 2, 3], addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=96 + 6 * 256)
    return {"unet": unet, "vae": make_vae(1024, scaling_factor=0.13025), "text_encoder": one, "text_encoder_2": two}


def make_vae(size, **more):
    return AutoencoderKL(
        block_out_channels=(32, 64, 32, 32), layers_per_block=2, latent_channels=4, sample_size=size,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **more)


def make_parts(kind):
    if kind == "sdxl":
        return make_sdxl_parts()
    one = kind == "sd1"
    channels = (32, 64, 32, 32) if one else (64, 128, 64, 64)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=64, intermediate_size=96, num_hidden_layers=2 if one else 23, num_attention_heads=1,
        hidden_act="quick_gelu" if one else "gelu", bos_token_id=49406,
        eos_token_id=49407, pad_token_id=49407 if one else 0))
    unet = UNet2DConditionModel(
        sample_size=64 if one else 96, block_out_channels=channels, cross_attention_dim=64,
        attention_head_dim=8 if one else [c // 64 for c in channels], use_linear_projection=not one,
        upcast_attention=not one)
    return {"unet": unet, "vae": make_vae(512 if one else 768), "text_encoder": text}


def numbered(keys, prefix):
    """Each key's number in place of its tensor; OpenCLIP's three in one are three numbers."""
    tensors = {prefix + k: torch.tensor([3 * i, 3 * i + 1, 3 * i + 2] if "in_proj" in k else [3 * i], dtype=torch.long)
               .reshape((-1, 1) if k.endswith("weight") else (-1,)) for i, k in enumerate(keys)}
    return {k: v.expand(1, 2) if k.endswith("text_projection") else v for k, v in tensors.items()}


def meaning(kind, part, model):
    """[(the file's key, diffusers' key, is it turned?)] in the file's order."""
    if part == "unet":
        prefix = UNET
        keys = unet_keys() if kind != "sdxl" else \
            unet_keys(levels=3, depth=(0, 2, 3), middle=3, more=("label_emb.0.0", "label_emb.0.2"))
        converted = convert_ldm_unet_checkpoint(numbered(keys, prefix), model.config)
    elif part == "vae":
        prefix, keys = VAE, vae_keys()
        converted = convert_ldm_vae_checkpoint(numbered(keys, prefix), model.config)
    else:
        open_clip = kind == "sd2" or part == "text_encoder_2"
        prefix, keys = TEXTS[part] if kind == "sdxl" else TEXT, (openclip_keys if open_clip else clip_keys)(LAYERS[kind])
        converted = (convert_ldm_clip_checkpoint if not open_clip else
                     lambda c: convert_open_clip_checkpoint(model, c, prefix + "model."))(numbered(keys, prefix))
    found = sorted((int(v.flatten()[0]), k, v.shape == (2, 1)) for k, v in converted.items())
    return [(prefix + keys[n // 3], k, turned) for n, k, turned in found]


def main():
    print(f"diffusers {diffusers.__version__}, transformers {transformers.__version__}")
    for kind in ("sd1", "sd2", "sdxl"):
        folder = GOLDEN / kind
        shutil.rmtree(folder, ignore_errors=True)
        lines = []
        for part, model in make_parts(kind).items():
            (folder / part).mkdir(parents=True)
            model.config.to_json_file(folder / part / "config.json") if part.startswith("text_encoder") else \
                model.save_config(folder / part)
            shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
            bare = {k.removeprefix("text_model."): k for k in shapes}
            pairs = meaning(kind, part, model)
            assert len(pairs) == len(shapes) and {k.removeprefix("text_model.") for _, k, _ in pairs} == set(bare), kind
            for single, key, turned in pairs:
                shape = "x".join(map(str, shapes[bare[key.removeprefix("text_model.")]]))
                lines.append(f"{single} {part} {key} {shape}" + " turned" * turned)
        (folder / "keys.txt").write_text("\n".join(lines) + "\n")
        print(kind, len(lines), "tensors")


if __name__ == "__main__":
    main()
