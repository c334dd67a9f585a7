#!/usr/bin/env python3
"""Adapters of every kind that is read, and the latents that diffusers makes with each.

For the random tiny SD1-like model of tests/golden/models/sd1 (scripts/reference/models.py), writes to tests/golden/adapters/:

    peft/                   a LoRA's folder as peft saves it: rank 4, alpha 32, patterns for both; nothing of it in the file
    peft-loha/              a LoHa's folder as peft saves it
    locon.safetensors       LoRA on linear layers and convolutions of every shape the UNet has, kohya's names
    loha.safetensors        the same layers with LyCORIS's LoHa, and with its LoKr in each of its forms
    lokr.safetensors
    KIND-tucker.safetensors the three with LyCORIS's middle parts on convolutions
    KIND-dora.safetensors   the three with LyCORIS's lengths (DoRA), of rows or of input channels
    peft-dora/              a LoRA's folder with PEFT's lengths
    latents.safetensors     for each: 20 steps of DDIM, guidance 7.5, at scale 0.75

At a strength s LyCORIS's DoRA goes s of the way from W to the W' that LyCORIS makes, as AUTOMATIC1111 and ComfyUI do;
PEFT's has its change times s, as PEFT does. Numbers are small multiples of 1/64, so that f16 holds them exactly.

Ran with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0, peft 0.21.2, lycoris-lora 4.1.3.
"""
import os
import shutil

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from peft import LoHaConfig, LoraConfig, get_peft_model, inject_adapter_in_model
from safetensors.torch import save_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = os.path.join(ROOT, "tests", "golden", "models", "sd1")
OUT = os.path.join(ROOT, "tests", "golden", "adapters")
SCALE = 0.75
PROMPT, NEGATIVE, SEED = "a red heart", "blue", 11

# linear, 1x1, 3x3, 3x3 with stride 2
LAYERS = [
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.2",
    "mid_block.resnets.0.time_emb_proj",
    "mid_block.attentions.0.proj_in",
    "up_blocks.1.resnets.0.conv_shortcut",
    "down_blocks.0.resnets.0.conv1",
    "up_blocks.0.upsamplers.0.conv",
    "down_blocks.0.downsamplers.0.conv",
]


def pipeline():
    p = StableDiffusionPipeline.from_pretrained(MODEL, torch_dtype=torch.float32, safety_checker=None)
    p.scheduler = DDIMScheduler.from_config(p.scheduler.config)
    p.set_progress_bar_config(disable=True)
    return p


def sample(p):
    return p(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=20, guidance_scale=7.5, output_type="latent",
             generator=torch.Generator().manual_seed(SEED)).images


def numbers(shape, seed, largest):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=g) / 64


def fill(model, part, seed, largest):
    with torch.no_grad():
        for i, (name, p) in enumerate(sorted(model.named_parameters())):
            if part in name:
                p.copy_(numbers(p.shape, seed + i, largest))


def set_scale(model):
    for module in model.modules():
        if hasattr(module, "set_scale"):
            module.set_scale("default", SCALE)


def peft_folder(golden, name, config, part, largest):
    p = pipeline()
    folder = os.path.join(OUT, name)
    wrapped = get_peft_model(p.unet, config)
    lengths = {n: q.detach().clone() for n, q in wrapped.named_parameters() if "magnitude" in n}
    fill(wrapped, part, 300, largest)
    with torch.no_grad():
        for n, q in wrapped.named_parameters():
            if n in lengths:
                q.copy_(lengths[n] * (1.25 + q))
    wrapped.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    set_scale(wrapped)
    golden[name] = sample(p)


def locon(golden):
    p = pipeline()
    config = LoraConfig(r=3, lora_alpha=2, target_modules=LAYERS, init_lora_weights=False)
    inject_adapter_in_model(config, p.unet)
    fill(p.unet, "lora_", 700, 16)
    out = {}
    for layer in LAYERS:
        module = p.unet.get_submodule(layer)
        name = "lora_unet_" + layer.replace(".", "_")
        out[name + ".lora_down.weight"] = module.lora_A["default"].weight.detach().half().contiguous()
        out[name + ".lora_up.weight"] = module.lora_B["default"].weight.detach().half().contiguous()
        out[name + ".alpha"] = torch.tensor(2.0).half()
    save_file(out, os.path.join(OUT, "locon.safetensors"), {"ss_network_module": "lycoris.kohya"})
    set_scale(p.unet)
    golden["locon"] = sample(p)


def draw_module(module, seed, largest):
    """Simple numbers into a LyCORIS module, lengths near its own."""
    for j, (key, value) in enumerate(sorted(module.custom_state_dict().items())):
        drawn = numbers(value.shape, seed + j, largest)
        if key == "dora_scale":
            module.dora_scale.copy_((module.dora_scale * (1.25 + drawn)).half())
        elif key != "alpha":
            module.get_parameter(key).copy_(drawn)


def change_of(module, W):
    """Of the weight W at scale 1, as the module's own forward has it: what LyCORIS merges counts alpha / rank twice in
    LoHa and LoKr."""
    delta = module.get_weight(W.shape) if hasattr(module, "get_weight") else module.get_diff_weight(1, W.shape)[0]
    return module.apply_weight_decompose(W + delta) - W if getattr(module, "wd", False) else delta


def lycoris(golden, kind, make, largest):
    """make(layer number, layer) -> LyCORIS's module for it."""
    p = pipeline()
    out = {}
    with torch.no_grad():
        for i, path in enumerate(LAYERS):
            layer = p.unet.get_submodule(path)
            module = make(i, layer)
            draw_module(module, 1000 + 20 * i, largest)
            for key, value in module.custom_state_dict().items():
                out[f"lora_unet_{path.replace('.', '_')}.{key}"] = value.detach().half().contiguous()
            layer.weight += SCALE * change_of(module, layer.weight)
    save_file(out, os.path.join(OUT, kind + ".safetensors"), {"ss_network_module": "lycoris.kohya"})
    golden[kind] = sample(p)


def make_lokr(i, layer):
    """Both halves whole, one or both of low rank; alpha counts where there is a rank."""
    whole, both = i % 3 == 0, i % 3 == 2
    return LokrModule("", layer, lora_dim=1, alpha=2, factor=2, full_matrix=whole, decompose_both=both)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    golden = {}
    patterns = {"rank_pattern": {"attn2.to_q": 2}, "alpha_pattern": {"attn2.to_q": 3, "attn1.*to_v": 6}}
    peft_folder(golden, "peft", LoraConfig(r=4, lora_alpha=32, target_modules=["to_q", "to_v"], **patterns), "lora_", 8)
    peft_folder(golden, "peft-loha", LoHaConfig(r=2, alpha=6, target_modules=["to_k"]), "hada_", 64)
    locon(golden)
    lycoris(golden, "loha", lambda i, layer: LohaModule("", layer, lora_dim=2, alpha=3), 24)
    lycoris(golden, "lokr", make_lokr, 16)
    tucker = {"lora_dim": 2, "alpha": 3, "use_tucker": True}
    lycoris(golden, "locon-tucker", lambda i, layer: LoConModule("", layer, **tucker), 16)
    lycoris(golden, "loha-tucker", lambda i, layer: LohaModule("", layer, **tucker), 24)
    lycoris(golden, "lokr-tucker", lambda i, layer: LokrModule("", layer, factor=2, **tucker), 16)

    def lengths(i):
        return {"weight_decompose": True, "wd_on_out": i % 2 == 0, "lora_dim": 2, "alpha": 3}

    lycoris(golden, "locon-dora", lambda i, layer: LoConModule("", layer, **lengths(i)), 16)
    lycoris(golden, "loha-dora", lambda i, layer: LohaModule("", layer, **lengths(i)), 24)
    lycoris(golden, "lokr-dora", lambda i, layer: LokrModule("", layer, factor=2, **lengths(i)), 16)
    dora = LoraConfig(r=4, lora_alpha=8, use_dora=True, target_modules=r".*(attn1\.to_q|mid_block.*proj_in|down_blocks\.0\.resnets\.0\.conv1)")
    peft_folder(golden, "peft-dora", dora, "lora_", 16)
    plain = sample(pipeline())
    for name, latents in golden.items():
        print(name, "moves the latents by", (latents - plain).abs().max().item())
    save_file(golden, os.path.join(OUT, "latents.safetensors"))


if __name__ == "__main__":
    main()
