#!/usr/bin/env python3
"""What LoRA files call the layers of SDXL, by the programs themselves -> tests/golden/sdxl_names.txt.

sd-scripts' names from its own module tree (library/sdxl_original_unet.py of a checkout, at commit 48d368f of February 2026),
walked as its networks/lora.py does; PEFT's from diffusers' UNet; both text encoders' from transformers'. On PyTorch's meta
device: shapes alone. A line each

    SPELLING MODULES SHA256

of the sorted lines "NAME OUT IN", which are printed with --list.

Ran with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0.

usage: scripts/reference/sdxl_names.py SD_SCRIPTS [--list]
"""
import hashlib
import sys
import types
from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import sdxl_shapes

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
UNET_ENDS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")


def sd_scripts_unet(checkout):
    """Its file asks for a logger and for einops, neither of which is needed to make modules."""
    for name in ("library", "library.utils", "einops"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["library.utils"].setup_logging = lambda: None
    sys.modules["einops"].rearrange = None
    sys.path.insert(0, str(Path(checkout) / "library"))
    from sdxl_original_unet import SdxlUNet2DConditionModel
    return SdxlUNet2DConditionModel()


def texts():
    one = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                                       num_attention_heads=12))
    two = CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32,
                                                     num_attention_heads=20, projection_dim=1280))
    return one, two


def linears(root, within):
    """(path, out, in) of the linear layers in modules of these classes."""
    for name, module in root.named_modules():
        if type(module).__name__ in within:
            for inner, layer in module.named_modules():
                if "Linear" in type(layer).__name__:
                    yield f"{name}.{inner}", *layer.weight.shape


def text_layers(model):
    for path, *shape in linears(model, ("CLIPAttention", "CLIPMLP")):
        yield path if path.startswith("text_model.") else "text_model." + path, *shape


def kohya(checkout):
    one, two = texts()
    parts = (("lora_unet_", linears(sd_scripts_unet(checkout), ("Transformer2DModel",))),
             ("lora_te1_", text_layers(one)), ("lora_te2_", text_layers(two)))
    return [(prefix + path.replace(".", "_"), *shape) for prefix, layers in parts for path, *shape in layers]


def peft():
    one, two = texts()
    unet = [(n, *m.weight.shape) for n, m in sdxl_shapes.unet().named_modules()
            if "attentions" in n and n.endswith(UNET_ENDS) and hasattr(m, "weight")]
    parts = (("unet.", unet), ("text_encoder.", text_layers(one)), ("text_encoder_2.", text_layers(two)))
    return [(prefix + path, *shape) for prefix, layers in parts for path, *shape in layers]


def main():
    with torch.device("meta"):
        found = {"kohya": kohya(sys.argv[1]), "peft": peft()}
    written = []
    for spelling, names in found.items():
        lines = sorted("%s %d %d\n" % n for n in set(names))
        written.append(f"{spelling} {len(lines)} {hashlib.sha256(''.join(lines).encode()).hexdigest()}\n")
        if "--list" in sys.argv:
            print("".join(lines), end="")
    (GOLDEN / "sdxl_names.txt").write_text("".join(written))


if __name__ == "__main__":
    main()
