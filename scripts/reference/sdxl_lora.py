#!/usr/bin/env python3
"""Training and drawing with a LoRA of SDXL's UNet and both its text encoders in PyTorch.

For the random tiny model in tests/golden/models/sdxl (scripts/reference/sdxl.py) writes tests/golden/sdxl_lora.safetensors:

    ids (2,154) i32     tokens of two captions, the first encoder's and then the second's
    sizes (2,6)         (h_original, w_original, top, left, h_target, w_target) of each sample
    loss (1), grad.MODULE.{down,up}    of the first step, at t 900 and 250
    t (10,2) i32, losses (10)
    K.MODULE.{down,up}  after K = 1 and 10 steps of AdamW
    latents             drawn with the file below at strength 0.75: 8 steps, guidance 5, seed 11

and tests/golden/lora/sdxl.safetensors, as sd-scripts writes one: f16, multiples of 1/64, which f16 holds exactly.

A MODULE has the name that sd-scripts gives it, and they stand in its order in the metadata's "names". The i-th has
down = randn(2i) / 4 and up = randn(2i + 1) / 50; rank 2, alpha 4. A sample's noisy latents are add_noise(randn(7),
randn(8), t), in step k (from 0) of randn(1000 + k). Rates: UNet 1e-3, first text encoder 5e-4, second 2e-4. What of the
first encoder stands behind the states that SDXL takes gets no gradient; PyTorch leaves such weights alone, here they have
one of zeros, and so decay.

Ran with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0, peft 0.21.2.
"""
import re
from pathlib import Path

import diffusers
import peft
import torch
import transformers
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
MODEL = GOLDEN / "models" / "sdxl"
CAPTIONS = ["a red heart on a blue background", "a cat face"]
SIZES = [[600, 800, 0, 13, 64, 96], [64, 96, 5, 0, 64, 96]]
LATENT = (2, 4, 16, 16)
UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
RANK, ALPHA = 2, 4
RATES = {"lora_unet_": 1e-3, "lora_te1_": 5e-4, "lora_te2_": 2e-4}
STEPS, SCALE = 10, 0.75


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def original(path, row):
    """What the single file calls a transformer of the UNet: blocks in one row down and one row up."""
    down = re.fullmatch(r"down_blocks\.(\d+)\.attentions\.(\d+)\.(.*)", path)
    up = re.fullmatch(r"up_blocks\.(\d+)\.attentions\.(\d+)\.(.*)", path)
    if down:
        return f"input_blocks.{1 + int(down[1]) * row + int(down[2])}.1.{down[3]}"
    if up:
        return f"output_blocks.{int(up[1]) * row + int(up[2])}.1.{up[3]}"
    return re.sub(r"^mid_block\.attentions\.0", "middle_block.1", path)


def add_lora(model, layers, prefix, named):
    """-> {kohya's name: (down, up)} in the order of the model's own modules."""
    model.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=layers), model)
    found = {}
    for name, p in model.named_parameters():
        if ".lora_A." in name:
            found[name.split(".lora_A.")[0]] = [p]
    for name, p in model.named_parameters():
        if ".lora_B." in name:
            found[name.split(".lora_B.")[0]].append(p)
    return {prefix + named(path).replace(".", "_"): pair for path, pair in found.items()}


class Model:
    def __init__(self):
        def load(kind, folder):
            return kind.from_pretrained(MODEL / folder, torch_dtype=torch.float32).eval()

        self.unet = load(UNet2DConditionModel, "unet")
        self.texts = load(CLIPTextModel, "text_encoder"), load(CLIPTextModelWithProjection, "text_encoder_2")
        self.tokenizers = [CLIPTokenizer.from_pretrained(MODEL / f) for f in ("tokenizer", "tokenizer_2")]
        euler = EulerDiscreteScheduler.from_pretrained(MODEL / "scheduler")
        self.scheduler = DDIMScheduler.from_config(euler.config)
        row = self.unet.config.layers_per_block + 1
        self.modules = add_lora(self.unet, UNET_LAYERS, "lora_unet_", lambda path: original(path, row))
        for text, prefix in zip(self.texts, ("lora_te1_", "lora_te2_")):
            self.modules |= add_lora(text, TEXT_LAYERS, prefix, lambda path: path if path.startswith("text_model.")
                                     else "text_model." + path)
        for i, (a, b) in enumerate(self.modules.values()):
            a.data = randn(2 * i, *a.shape) / 4
            b.data = randn(2 * i + 1, *b.shape) / 50

    def ids(self):
        return [torch.tensor(t(CAPTIONS, padding="max_length", max_length=77, truncation=True).input_ids)
                for t in self.tokenizers]

    def loss(self, ids, noise, t):
        results = [text(i, output_hidden_states=True) for text, i in zip(self.texts, ids)]
        states = torch.cat([r.hidden_states[-2] for r in results], -1)
        told = {"text_embeds": results[1].text_embeds, "time_ids": torch.tensor(SIZES, dtype=torch.float32)}
        noisy = self.scheduler.add_noise(randn(7, *LATENT), noise, t)
        return torch.nn.functional.mse_loss(self.unet(noisy, t, states, added_cond_kwargs=told).sample, noise)

    def backward(self, ids, noise, t):
        loss = self.loss(ids, noise, t)
        loss.backward()
        for pair in self.modules.values():
            for p in pair:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        return loss.detach()


def put(out, kind, modules, value):
    for name, (down, up) in modules.items():
        out[f"{kind}.{name}.down"], out[f"{kind}.{name}.up"] = value(down), value(up)


def draw(m):
    """With modules of simple numbers: the UNet's by diffusers' own reader of kohya's file. -> latents"""
    kohya = {}
    for i, (name, (down, up)) in enumerate(m.modules.items()):
        for k, p in enumerate((down, up)):
            p.data = torch.randint(-24, 25, p.shape, generator=torch.Generator().manual_seed(2 * i + k)) / 64
            kohya[f"{name}.lora_{'up' if k else 'down'}.weight"] = p.detach().half().contiguous()
        kohya[f"{name}.alpha"] = torch.tensor(float(ALPHA)).half()
    save_file(kohya, GOLDEN / "lora" / "sdxl.safetensors", {"ss_network_module": "networks.lora"})
    pipe = StableDiffusionXLPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights({k: v.float() for k, v in kohya.items() if k.startswith("lora_unet_")}, adapter_name="k")
    pipe.set_adapters(["k"], [SCALE])
    pipe.text_encoder, pipe.text_encoder_2 = m.texts
    for text in m.texts:
        for module in text.modules():
            if hasattr(module, "set_scale"):
                module.set_scale("default", SCALE)
    with torch.no_grad():
        return pipe("a red heart", negative_prompt="blue", num_inference_steps=8, guidance_scale=5, output_type="latent",
                    generator=torch.Generator().manual_seed(11)).images


def main():
    torch.set_num_threads(2)
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}, "
          f"peft {peft.__version__}")
    m = Model()
    ids = m.ids()
    out = {"ids": torch.cat(ids, -1).to(torch.int32), "sizes": torch.tensor(SIZES, dtype=torch.float32)}
    out["loss"] = m.backward(ids, randn(8, *LATENT), torch.tensor([900, 250]))[None]
    put(out, "grad", m.modules, lambda p: p.grad.clone())
    optimizer = torch.optim.AdamW([{"params": [p for name, pair in m.modules.items() if name.startswith(prefix)
                                               for p in pair], "lr": lr} for prefix, lr in RATES.items()],
                                  betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    out["t"] = torch.randint(0, 1000, (STEPS, 2), generator=torch.Generator().manual_seed(9), dtype=torch.int32)
    losses = []
    for k in range(STEPS):
        optimizer.zero_grad()
        losses.append(m.backward(ids, randn(1000 + k, *LATENT), out["t"][k].long()))
        optimizer.step()
        if k in (0, STEPS - 1):
            put(out, str(k + 1), m.modules, lambda p: p.detach().clone())
    out["losses"] = torch.stack(losses)
    out["latents"] = draw(m)
    save_file({k: v.contiguous() for k, v in out.items()}, GOLDEN / "sdxl_lora.safetensors",
              {"names": "\n".join(m.modules)})
    print(len(m.modules), "modules; losses", [f"{x:.4f}" for x in losses])


if __name__ == "__main__":
    main()
