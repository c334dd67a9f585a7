#!/usr/bin/env python3
"""SDXL's shapes with random weights in f16, as a diffusers folder and, where FILE is given, as the single file that
Stability's code would read: for figures that depend on shapes alone (scripts/plan_check sdxl) and for sdxl_in_diffusers.py.
About 7 GB each. The configurations are those of stabilityai/stable-diffusion-xl-base-1.0, with what is odd in them (end
token 2, which no vocabulary has there).

Made with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0.

usage: scripts/reference/sdxl_shapes.py FOLDER [FILE.safetensors]
"""
import json
import re
import struct
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

ROOT = Path(__file__).resolve().parents[2]
ODD = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "vocab_size": 49408, "max_position_embeddings": 77}
PARTS = {  # folder: library and class in model_index.json
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
}


def unet():
    return UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20), cross_attention_dim=2048,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816)


def vae():
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=1024,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, scaling_factor=0.13025,
        force_upcast=True)


def text_encoder():
    return CLIPTextModel(CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768,
        hidden_act="quick_gelu", **ODD))


def text_encoder_2():
    return CLIPTextModelWithProjection(CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280,
        hidden_act="gelu", **ODD))


def clip_vocabulary():
    """CLIP's tokens in order, and its merges, from what the program has built in (infer/text/vocabulary.h)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    tokens = [chr(b) for b in plain] + [chr(256 + i) for i in range(len(others))]
    tokens += [t + "</w>" for t in tokens]
    merges = []
    for left, right in struct.iter_unpack("<HH", (ROOT / "infer" / "text" / "clip_merges.bin").read_bytes()):
        merges.append(f"{tokens[left]} {tokens[right]}")
        tokens.append(tokens[left] + tokens[right])
    return tokens + ["<|startoftext|>", "<|endoftext|>"], merges


def write_tokenizers(folder):
    tokens, merges = clip_vocabulary()
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        at = folder / name
        at.mkdir(parents=True, exist_ok=True)
        (at / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
        (at / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
        special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
                   "pad_token": pad}
        (at / "special_tokens_map.json").write_text(json.dumps(special))
        (at / "tokenizer_config.json").write_text(json.dumps(
            special | {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}))


def write_folder(folder):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    for make in (text_encoder, text_encoder_2, vae, unet):
        make().save_pretrained(folder / make.__name__, max_shard_size="20GB")
    write_tokenizers(folder)
    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    ).save_pretrained(folder / "scheduler")
    index = {"_class_name": "StableDiffusionXLPipeline", "_diffusers_version": "0.42.1",
             "force_zeros_for_empty_prompt": True, **PARTS}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


# The single file's names: Stability's networks number their layers through ------------------------------------------

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
UNET_ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
             "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
             "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}


def block_place(half, block, kind, number):
    """Where one layer of a block of three is; upsampling comes behind the attention where there is one."""
    if half == "mid":
        return f"middle_block.{2 * number if kind == 'resnets' else 1}"
    if half == "down":
        return f"input_blocks.{3 * block + 3}.0.op" if kind == "downsamplers" else \
            f"input_blocks.{3 * block + number + 1}.{int(kind == 'attentions')}"
    if kind == "upsamplers":
        return f"output_blocks.{3 * block + 2}.{2 if block < 2 else 1}.conv"
    return f"output_blocks.{3 * block + number}.{int(kind == 'attentions')}"


def unet_key(key):
    layer, end = key.rsplit(".", 1)
    found = re.fullmatch(r"(down|mid|up)_blocks?(?:\.(\d+))?\.(\w+)\.(\d+)\.(.+)", layer)
    if not found:
        return f"model.diffusion_model.{UNET_ENDS[layer]}.{end}"
    half, block, kind, number, rest = found.groups()
    place = block_place(half, int(block or 0), kind, int(number))
    rest = {"resnets": "." + RESNET.get(rest, ""), "attentions": "." + rest}.get(kind, "")
    return f"model.diffusion_model.{place}{rest}.{end}"


def vae_key(key):
    for pattern, to in (
            (r"(encoder)\.down_blocks\.(\d)\.resnets\.(\d)", r"\1.down.\2.block.\3"),
            (r"(encoder)\.down_blocks\.(\d)\.downsamplers\.0", r"\1.down.\2.downsample"),
            (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
            (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
            (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
            (r"mid_block\.resnets\.0", "mid.block_1"), (r"mid_block\.resnets\.1", "mid.block_2"),
            ("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out")):
        key = re.sub(pattern, to, key)
    up = re.match(r"decoder\.up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)", key)
    if up:
        level, what = 3 - int(up[1]), f"block.{up[3]}" if up[2] == "resnets" else "upsample"
        key = f"decoder.up.{level}.{what}" + key[up.end():]
    return "first_stage_model." + key


def openclip(tensors, prefix):
    """transformers' names and tensors as OpenCLIP's: q, k and v in one, text_projection the other way round."""
    out, names = {}, {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
                      "self_attn.out_proj": "attn.out_proj"}
    ends = {"embeddings.token_embedding.weight": "token_embedding.weight",
            "embeddings.position_embedding.weight": "positional_embedding",
            "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias"}
    for key, t in tensors.items():
        key = key.removeprefix("text_model.")
        layer = re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
        if key == "text_projection.weight":
            out[prefix + "text_projection"] = t.T.contiguous()
        elif not layer:
            out[prefix + ends[key]] = t
        elif layer[2] in names:
            out[f"{prefix}transformer.resblocks.{layer[1]}.{names[layer[2]]}.{layer[3]}"] = t
        elif layer[2] == "self_attn.q_proj":
            three = [tensors[next(k for k in (f"text_model.{name}", name) if k in tensors)]
                     for name in (key.replace("q_proj", x + "_proj") for x in "qkv")]
            out[f"{prefix}transformer.resblocks.{layer[1]}.attn.in_proj_{layer[3]}"] = torch.cat(three)
    out[prefix + "logit_scale"] = torch.tensor(4.6055)
    return out


def single(folder):
    def tensors(part):
        return load_file(next((folder / part).glob("*.safetensors")))

    out = {unet_key(k): t for k, t in tensors("unet").items()}
    for k, t in tensors("vae").items():
        attention = "mid_block.attentions" in k and t.ndim == 2
        out[vae_key(k)] = t[:, :, None, None].contiguous() if attention else t
    for k, t in tensors("text_encoder").items():
        out[f"conditioner.embedders.0.transformer.text_model.{k.removeprefix('text_model.')}"] = t
    return out | openclip(tensors("text_encoder_2"), "conditioner.embedders.1.model.")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_folder(folder)
    if len(sys.argv) > 2:
        save_file(single(folder), sys.argv[2])
