#!/usr/bin/env python3
"""Tiny random models of SD1-like and SD2-like shape, and what diffusers computes with them.

Writes to tests/golden/:
  models/{sd1,sd2}/         diffusers folders (weights f16 and bf16) with the built-in model's tokenizer
  models/{sd1,sd2}.safetensors
      clip.ids (2,77) i32; clip.out, clip.skip (2,77,D): last hidden state, and with clip_skip 1
      unet.x (2,4,16,24), unet.t (2), unet.out; the text is clip.out
      vae.pixels (1,3,32,48), vae.moments, vae.z, vae.decoded
      clip.bf16, unet.bf16, vae.bf16 (1): relative L2 error of PyTorch's own bf16 outputs (of vae.decoded)
      lora.loss (1), lora.grad.NAME.{A,B}: gradients of a LoRA on all of kohya's linear and 1x1 layers
      full.loss (1), full.PART.NAME (2): each weight's gradient g, as (its L2 norm, the sum of g * randn(seed i)) for
          the i-th in the list; loss through the text encoder
      steps.t (10,2), steps.loss (10), steps.K.NAME.{A,B}: the LoRA after K = 1 and 10 steps of AdamW
  latents.safetensors       KIND.SAMPLER.I: final latents of 20 steps with guidance 7.5; prompts in the metadata
                            KIND.skip: of euler and the first prompt, with clip_skip 1

All randomness that a test has to repeat is torch.randn of a generator with a seed:
  x_t = add_noise(randn(7), noise = randn(8), t) for the LoRA's gradients and `full`; in step k (from 0) noise is
  randn(1000 + k). The i-th LoRA module (in the order of lora.names in the metadata) has A = randn(2i) / 4 and
  B = randn(2i + 1) / 50; rank 4, alpha 8.

Prints the versions it ran with: torch 2.15.0, diffusers 0.42.1, transformers 5.24.0, peft 0.21.2 made what is there.

usage: scripts/reference/models.py
"""
import copy
import json
import shutil
from pathlib import Path

import diffusers
import peft
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from samplers import SAMPLERS, scheduler_of

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
TOKENIZER = ROOT / "data" / "builtin" / "tiny" / "tokenizer"
PROMPTS = [("a red heart on a blue background", "ugly", 42), ("a cat face", "", 7)]
RANK, ALPHA = 4, 8
LORA_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]

SCHEDULERS = {
    # SD1.5's published file: no timestep_spacing, no prediction_type
    "sd1": {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
            "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
            "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
            "clip_sample": False},
    # SD2's
    "sd2": {"_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", "beta_end": 0.012,
            "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False,
            "num_train_timesteps": 1000, "prediction_type": "v_prediction", "set_alpha_to_one": False,
            "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None},
}


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shake(model):
    """Default weights with the norms and biases moved off 1 and 0, so that each of them counts."""
    for name, p in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            p.data += 0.2 * torch.randn_like(p)
        elif name.endswith("bias"):
            p.data += 0.1 * torch.randn_like(p)
    return model


def make_parts(kind):
    torch.manual_seed(1 if kind == "sd1" else 2)
    vocab = len(json.loads((TOKENIZER / "vocab.json").read_text()))
    one = kind == "sd1"
    width = 16 if one else 24
    clip = CLIPTextModel(CLIPTextConfig(
        vocab_size=vocab, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=77, hidden_act="quick_gelu" if one else "gelu", bos_token_id=vocab - 2,
        eos_token_id=vocab - 1, pad_token_id=vocab - 1 if one else 0, projection_dim=width))
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=width,
        norm_num_groups=4 if one else 2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D" if one else "CrossAttnDownBlock2D"),
        up_block_types=("UpBlock2D" if one else "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2 if one else [1, 4], use_linear_projection=not one, upcast_attention=not one)
    vae = AutoencoderKL(
        block_out_channels=(4, 8), layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        scaling_factor=0.18215 if one else 0.5)
    dtype = torch.float16 if one else torch.bfloat16
    return [shake(m).to(dtype) for m in (clip, unet, vae)]


def save_folder(kind, clip, unet, vae):
    folder = GOLDEN / "models" / kind
    shutil.rmtree(folder, ignore_errors=True)
    clip.save_pretrained(folder / "text_encoder")
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    shutil.copytree(TOKENIZER, folder / "tokenizer")
    if kind == "sd2":  # SD2's pads with "!"
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            path = folder / "tokenizer" / name
            config = json.loads(path.read_text())
            config["pad_token"] = "!"
            path.write_text(json.dumps(config, indent=2) + "\n")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULERS[kind], indent=2) + "\n")
    index = {"_class_name": "StableDiffusionPipeline", "feature_extractor": [None, None],
             "safety_checker": [None, None], "requires_safety_checker": False,
             "scheduler": ["diffusers", SCHEDULERS[kind]["_class_name"]],
             "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
             "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    return folder


@torch.no_grad()
def module_outputs(out, clip, unet, vae, tokenizer):
    ids = torch.tensor(tokenizer([p[0] for p in PROMPTS], padding="max_length", max_length=77,
                                 truncation=True).input_ids)
    out["clip.ids"] = ids.to(torch.int32)
    result = clip(ids, output_hidden_states=True)
    out["clip.out"] = result.last_hidden_state
    text = clip.text_model if hasattr(clip, "text_model") else clip
    out["clip.skip"] = text.final_layer_norm(result.hidden_states[-2])
    out["unet.x"] = randn(3, 2, 4, 16, 24)
    out["unet.t"] = torch.tensor([981.0, 17.0])
    out["unet.out"] = unet(out["unet.x"], out["unet.t"], out["clip.out"]).sample
    out["vae.pixels"] = randn(4, 1, 3, 32, 48).clamp(-1, 1)
    out["vae.moments"] = vae.encode(out["vae.pixels"]).latent_dist.parameters
    out["vae.z"] = randn(5, 1, 4, 16, 24)
    out["vae.decoded"] = vae.decode(out["vae.z"]).sample


@torch.no_grad()
def bf16_errors(out, clip, unet, vae):
    """How far PyTorch itself is from its f32 when it computes in bf16."""
    def error(name, want, got):
        out[name] = ((got.float() - want).norm() / want.norm())[None]

    half = torch.bfloat16
    clip, unet, vae = (copy.deepcopy(m).to(half) for m in (clip, unet, vae))
    error("clip.bf16", out["clip.out"], clip(out["clip.ids"].long()).last_hidden_state)
    error("unet.bf16", out["unet.out"], unet(out["unet.x"].to(half), out["unet.t"], out["clip.out"].to(half)).sample)
    error("vae.bf16", out["vae.decoded"], vae.decode(out["vae.z"].to(half)).sample)


def add_lora(unet):
    unet.add_adapter(peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=LORA_LAYERS))
    modules = {}
    for name, p in unet.named_parameters():
        p.requires_grad_("lora_" in name)
        if ".lora_A." in name:
            modules[name.split(".lora_A.")[0]] = [p]
    for name, p in unet.named_parameters():
        if ".lora_B." in name:
            modules[name.split(".lora_B.")[0]].append(p)
    for i, (a, b) in enumerate(modules.values()):
        a.data = randn(2 * i, *a.shape) / 4
        b.data = randn(2 * i + 1, *b.shape) / 50
    return modules


def loss_of(unet, scheduler, states, noise, t):
    noisy = scheduler.add_noise(randn(7, 2, 4, 16, 16), noise, t)
    return torch.nn.functional.mse_loss(unet(noisy, t, states).sample, noise)


def lora_goldens(out, meta, unet, scheduler, steps):
    modules = add_lora(unet)
    meta["lora.names"] = "\n".join(modules)
    loss = loss_of(unet, scheduler, out["clip.out"], randn(8, 2, 4, 16, 16), torch.tensor([900, 250]))
    loss.backward()
    out["lora.loss"] = loss.detach()[None]
    for name, (a, b) in modules.items():
        out[f"lora.grad.{name}.A"], out[f"lora.grad.{name}.B"] = a.grad.clone(), b.grad.clone()
    if not steps:
        return
    parameters = [p for pair in modules.values() for p in pair]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    out["steps.t"] = torch.randint(0, 1000, (10, 2), generator=torch.Generator().manual_seed(9), dtype=torch.int32)
    losses = []
    for k in range(10):
        optimizer.zero_grad()
        loss = loss_of(unet, scheduler, out["clip.out"], randn(1000 + k, 2, 4, 16, 16), out["steps.t"][k].long())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if k in (0, 9):
            for name, (a, b) in modules.items():
                out[f"steps.{k + 1}.{name}.A"] = a.detach().clone()
                out[f"steps.{k + 1}.{name}.B"] = b.detach().clone()
    out["steps.loss"] = torch.tensor(losses)


def full_goldens(out, meta, clip, unet, scheduler):
    names = []
    for part, model in (("unet", unet), ("clip", clip)):
        model.requires_grad_(True)
        names += [(part, n, p) for n, p in model.named_parameters()]
    states = clip(out["clip.ids"].long()).last_hidden_state
    loss = loss_of(unet, scheduler, states, randn(8, 2, 4, 16, 16), torch.tensor([900, 250]))
    loss.backward()
    out["full.loss"] = loss.detach()[None]
    listed = []
    for i, (part, name, p) in enumerate(names):
        if part == "clip" and not name.startswith("text_model."):
            name = "text_model." + name
        listed.append(f"{part}.{name}")
        g = p.grad.double()
        out[f"full.{part}.{name}"] = torch.stack([g.norm(), (g * randn(i, *p.shape).double()).sum()]).float()
    meta["full.names"] = "\n".join(listed)


def draw(pipe, prompt, negative, seed, **more):
    return pipe(prompt, negative_prompt=negative, num_inference_steps=20, guidance_scale=7.5, output_type="latent",
                generator=torch.Generator().manual_seed(seed), **more).images


@torch.no_grad()
def latents(folder, kind, out):
    raw = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    for sampler in SAMPLERS:
        for i, (prompt, negative, seed) in enumerate(PROMPTS):
            pipe.scheduler = scheduler_of(sampler, raw, seed)
            out[f"{kind}.{sampler}.{i}"] = draw(pipe, prompt, negative, seed)
    # where diffusers 0.42.1 looks for the final norm, which transformers 5.24.0 has in the model itself
    object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    prompt, negative, seed = PROMPTS[0]
    pipe.scheduler = scheduler_of("euler", raw, seed)
    out[f"{kind}.skip"] = draw(pipe, prompt, negative, seed, clip_skip=1)


def main():
    torch.set_num_threads(2)
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}, "
          f"peft {peft.__version__}")
    (GOLDEN / "models").mkdir(parents=True, exist_ok=True)
    all_latents, all_meta = {}, {}
    for kind in ("sd1", "sd2"):
        folder = save_folder(kind, *make_parts(kind))
        clip = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32).eval()
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval()
        vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        scheduler = DDIMScheduler.from_config(SCHEDULERS[kind])
        out, meta = {}, {}
        module_outputs(out, clip, unet, vae, tokenizer)
        bf16_errors(out, clip, unet, vae)
        full_goldens(out, meta, clip, unet, scheduler)
        lora_goldens(out, meta, unet, scheduler, steps=kind == "sd1")
        save_file({k: v.detach().contiguous() for k, v in out.items()}, GOLDEN / "models" / f"{kind}.safetensors",
                  metadata=meta)
        latents(folder, kind, all_latents)
    for i, (prompt, negative, seed) in enumerate(PROMPTS):
        all_meta |= {f"prompt.{i}": prompt, f"negative.{i}": negative, f"seed.{i}": str(seed)}
    save_file({k: v.contiguous() for k, v in all_latents.items()}, GOLDEN / "latents.safetensors", metadata=all_meta)
    for k, v in all_latents.items():
        print(k, tuple(v.shape), f"{v.abs().max():.3f}")


if __name__ == "__main__":
    main()
