#!/usr/bin/env python3
"""One LoRA in the three spellings of its keys, and the latents that diffusers makes with it.

For the random tiny SD1-like model of tests/golden/models/sd1 (scripts/reference/models.py), writes to tests/golden/lora/:

    peft.safetensors        as diffusers 0.42 saves it (unet.….lora_A.weight), alpha in the metadata
    kohya.safetensors       as sd-scripts saves it (lora_unet_….lora_down.weight and .alpha), f16
    diffusers.safetensors   as older diffusers saved it (unet.….lora.down.weight, no alpha: B is scaled instead)
    latents.safetensors     latents: 20 steps of DDIM, guidance 7.5, with the LoRA at scale 0.75, and plain without

All numbers are multiples of 1/64, so that f16 holds them exactly; rank 2, alpha 3. Modules: kohya's in the UNet (linear and
1x1), and the text encoder's six.

Ran with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0, peft 0.21.2.
"""
import os

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = os.path.join(ROOT, "tests", "golden", "models", "sd1")
OUT = os.path.join(ROOT, "tests", "golden", "lora")
UNET = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
RANK, ALPHA, SCALE = 2, 3, 0.75
PROMPT, NEGATIVE, SEED = "a red heart", "blue", 11


def pipeline():
    p = StableDiffusionPipeline.from_pretrained(MODEL, torch_dtype=torch.float32, safety_checker=None)
    p.scheduler = DDIMScheduler.from_config(p.scheduler.config)
    p.set_progress_bar_config(disable=True)
    return p


def sample(p):
    return p(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=20, guidance_scale=7.5, output_type="latent",
             generator=torch.Generator().manual_seed(SEED)).images


def text_path(path):
    """transformers 5 leaves text_model out of its names; the files have it."""
    return path if path.startswith("text_model.") else "text_model." + path


def fill(model, first_seed):
    with torch.no_grad():
        for i, (name, p) in enumerate(sorted(model.named_parameters())):
            if "lora_" in name:
                g = torch.Generator().manual_seed(first_seed + i)
                p.copy_(torch.randint(-24, 25, p.shape, generator=g) / 64)


def modules(p):
    """(part, path, A, B) of every module."""
    for part, model in (("unet", p.unet), ("text_encoder", p.text_encoder)):
        state = get_peft_model_state_dict(model)
        for key in state:
            if key.endswith(".lora_A.weight"):
                path = key[: -len(".lora_A.weight")]
                yield (part, path if part == "unet" else text_path(path), state[key],
                       state[path + ".lora_B.weight"])


def main():
    os.makedirs(OUT, exist_ok=True)
    p = pipeline()
    golden = {"plain": sample(p)}
    unet_config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=UNET)
    text_config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TEXT)
    inject_adapter_in_model(unet_config, p.unet)
    inject_adapter_in_model(text_config, p.text_encoder)  # transformers' add_adapter wants peft 0.22
    p.unet.peft_config, p.text_encoder.peft_config = {"default": unet_config}, {"default": text_config}
    fill(p.unet, 100)
    fill(p.text_encoder, 5000)
    kohya, old = {}, {}
    for part, path, a, b in modules(p):
        name = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[part] + path.replace(".", "_")
        kohya[name + ".lora_down.weight"] = a.detach().half().contiguous()
        kohya[name + ".lora_up.weight"] = b.detach().half().contiguous()
        kohya[name + ".alpha"] = torch.tensor(float(ALPHA)).half()
        ending = ".lora." if part == "unet" else ".lora_linear_layer."
        old[f"{part}.{path}{ending}down.weight"] = a.detach().contiguous()
        old[f"{part}.{path}{ending}up.weight"] = (b.detach() * ALPHA / RANK).contiguous()
    save_file(kohya, os.path.join(OUT, "kohya.safetensors"), {"ss_network_module": "networks.lora"})
    save_file(old, os.path.join(OUT, "diffusers.safetensors"))
    StableDiffusionPipeline.save_lora_weights(
        OUT, unet_lora_layers=get_peft_model_state_dict(p.unet),
        text_encoder_lora_layers={text_path(k): v for k, v in get_peft_model_state_dict(p.text_encoder).items()},
        weight_name="peft.safetensors",
        unet_lora_adapter_metadata=p.unet.peft_config["default"].to_dict(),
        text_encoder_lora_adapter_metadata=p.text_encoder.peft_config["default"].to_dict())
    for model in (p.unet, p.text_encoder):
        for module in model.modules():
            if hasattr(module, "set_scale"):
                module.set_scale("default", SCALE)
    golden["latents"] = sample(p)
    save_file(golden, os.path.join(OUT, "latents.safetensors"))
    print("LoRA moves the latents by", (golden["latents"] - golden["plain"]).abs().max().item())
    for name in os.listdir(OUT):
        print(name, os.path.getsize(os.path.join(OUT, name)), len(load_file(os.path.join(OUT, name))))

    # the UNet's part through diffusers' own reader of kohya's file
    q = pipeline()
    q.load_lora_weights({k: v.float() for k, v in kohya.items() if k.startswith("lora_unet_")}, adapter_name="k")
    q.set_adapters(["k"], [SCALE])
    q.text_encoder = p.text_encoder
    print("diffusers' reader of kohya's file differs by", (sample(q) - golden["latents"]).abs().max().item())


if __name__ == "__main__":
    main()
