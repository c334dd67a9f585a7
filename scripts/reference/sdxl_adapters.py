#!/usr/bin/env python3
"""LyCORIS's kinds of adapters on SDXL: pictures drawn with them, and a LoRA trained over them.

For the random tiny model of tests/golden/models/sdxl (scripts/reference/sdxl.py) writes to tests/golden/sdxl_adapters/,
for KIND loha, lokr, locon-dora, loha-dora, lokr-dora:

    KIND.safetensors        as LyCORIS saves it for sd-scripts' names: layers of the UNet, those without DoRA of both text
                            encoders too
    results.safetensors     KIND: latents of 8 steps of Euler, guidance 5, at scale 0.75
                            KIND.loss (1), KIND.grads (N,2): of the first step of sdxl_lora.py over the model with the
                            adapters at scale 1; of tensor n of its N the gradient's norm, and its product with randn(n)

Ran with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0, peft 0.21.2, lycoris-lora 4.1.3.
"""
import torch
from diffusers import StableDiffusionXLPipeline
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from safetensors.torch import save_file

import sdxl_lora
from adapters import change_of, draw_module, make_lokr
from sdxl_lora import GOLDEN, LATENT, randn

OUT = GOLDEN / "sdxl_adapters"
SCALE = 0.75
# linear, 3x3, 3x3 with stride 2, 1x1; what sd-scripts calls them
UNET = {
    "add_embedding.linear_1": "label_emb_0_0",
    "down_blocks.0.resnets.0.conv1": "input_blocks_1_0_in_layers_2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks_2_0_op",
    "mid_block.resnets.0.time_emb_proj": "middle_block_0_emb_layers_1",
    "up_blocks.2.resnets.1.conv_shortcut": "output_blocks_5_0_skip_connection",
}
ATTENTION = {
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": "input_blocks_3_1_transformer_blocks_0_attn1_to_q",
    "mid_block.attentions.0.transformer_blocks.2.ff.net.2": "middle_block_1_transformer_blocks_2_ff_net_2",
    "up_blocks.0.attentions.1.proj_out": "output_blocks_1_1_proj_out",
}
TEXT = ["encoder.layers.0.self_attn.q_proj", "encoder.layers.1.mlp.fc1"]


def lengths(i):
    return {"weight_decompose": True, "wd_on_out": i % 2 == 0, "lora_dim": 2, "alpha": 3}


# name: LyCORIS's module for layer number i, the largest number in it in 64ths
KINDS = {
    "loha": (lambda i, layer: LohaModule("", layer, lora_dim=2, alpha=3), 24),
    "lokr": (make_lokr, 16),
    "locon-dora": (lambda i, layer: LoConModule("", layer, **lengths(i)), 16),
    "loha-dora": (lambda i, layer: LohaModule("", layer, **lengths(i)), 24),
    "lokr-dora": (lambda i, layer: LokrModule("", layer, factor=2, **lengths(i)), 16),
}


def inner(model, path):
    """The layer itself, whatever stands around it or before its name."""
    names = dict(model.named_modules())
    layer = names.get(path) or names["text_model." + path]
    return getattr(layer, "base_layer", layer)


def layers_of(m, dora):
    """-> [(sd-scripts' name, layer)]; lengths only where no LoRA is trained on the same layer."""
    unet = UNET if dora else UNET | ATTENTION
    found = [("lora_unet_" + name, inner(m.unet, path)) for path, name in unet.items()]
    for k, text in enumerate(m.texts, 1):
        found += [(f"lora_te{k}_text_model_{path.replace('.', '_')}", inner(text, path)) for path in TEXT if not dora]
    return found


@torch.no_grad()
def changes(m, kind):
    """The file, and [(layer, its weight's change at scale 1)]."""
    make, largest = KINDS[kind]
    out, found = {}, []
    for i, (name, layer) in enumerate(layers_of(m, "dora" in kind)):
        module = make(i, layer)
        draw_module(module, 1000 + 20 * i, largest)
        for key, value in module.custom_state_dict().items():
            out[f"{name}.{key}"] = value.detach().half().contiguous()
        found.append((layer, change_of(module, layer.weight)))
    save_file(out, OUT / f"{kind}.safetensors", {"ss_network_module": "lycoris.kohya"})
    return found


@torch.no_grad()
def add(found, scale):
    for layer, delta in found:
        layer.weight += scale * delta


def step(m, out, kind):
    out[f"{kind}.loss"] = m.backward(m.ids(), randn(8, *LATENT), torch.tensor([900, 250]))[None]
    grads = [p.grad.double() for pair in m.modules.values() for p in pair]
    out[f"{kind}.grads"] = torch.stack([torch.stack([g.norm(), (g * randn(n, *g.shape).double()).sum()])
                                        for n, g in enumerate(grads)]).float()


@torch.no_grad()
def draw(m):
    for _, up in m.modules.values():
        up.zero_()
    pipe = StableDiffusionXLPipeline.from_pretrained(sdxl_lora.MODEL, torch_dtype=torch.float32, unet=m.unet,
                                                     text_encoder=m.texts[0], text_encoder_2=m.texts[1])
    pipe.set_progress_bar_config(disable=True)
    return pipe("a red heart", negative_prompt="blue", num_inference_steps=8, guidance_scale=5, output_type="latent",
                generator=torch.Generator().manual_seed(11)).images


def main():
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    out = {}
    for kind in KINDS:
        m = sdxl_lora.Model()
        found = changes(m, kind)
        add(found, 1)
        step(m, out, kind)
        add(found, SCALE - 1)
        out[kind] = draw(m)
    save_file({k: v.contiguous() for k, v in out.items()}, OUT / "results.safetensors")
    for kind in KINDS:
        print(kind, out[kind].abs().max().item(), out[f"{kind}.loss"].item())


if __name__ == "__main__":
    main()
