#!/usr/bin/env python3
"""A tiny random model of SDXL's build, and what diffusers computes with it.

Writes to tests/golden/:
  models/sdxl/              a diffusers folder (weights f16) with the built-in model's tokenizer, twice
  models/sdxl.safetensors
      ids.1, ids.2 (2,77) i32; states, states.skip (2,77,40), pooled (2,20): of both encoders, and with clip_skip 1
      numbers (2,6), numbers.embedded (2,48): as add_time_proj makes them; numbers.told (2,32): add_embedding's output
      unet.x (2,4,16,24), unet.t (2), unet.out; the text is states and pooled
      states.bf16, pooled.bf16, unet.bf16 (1): relative L2 error of PyTorch's own bf16 outputs
      full.loss (1), full.PART.NAME (2): each weight's gradient, as models.py has it; loss through both encoders
  sdxl.safetensors          final latents; what each was made with stands in the metadata, as JSON
      SAMPLER.I             20 steps, guidance 7.5, of the prompts in the metadata; the second has no negative prompt
      CASE                  other ways, below
      told.NAME             what a prompt becomes by another program's conventions: states, then the pooled text

Prints the versions it ran with: torch 2.15.0, diffusers 0.42.1, transformers 5.24.0 made what is there.

usage: scripts/reference/sdxl.py
"""
import copy
import json
import shutil

import diffusers
import torch
import transformers
from diffusers import (AutoencoderKL, DDIMScheduler, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline,
                       StableDiffusionXLPipeline, UNet2DConditionModel)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import prompts
from models import GOLDEN, TOKENIZER, randn, shake
from pipelines import mask, picture
from samplers import SAMPLERS, scheduler_of

FOLDER = GOLDEN / "models" / "sdxl"
PROMPTS = [("a red heart on a blue background", "ugly", 42), ("a cat face", None, 7)]
SCHEDULER = {"_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", "beta_end": 0.012,
             "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False,
             "interpolation_type": "linear", "num_train_timesteps": 1000, "prediction_type": "epsilon",
             "sample_max_value": 1.0, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
             "timestep_spacing": "leading", "trained_betas": None, "use_karras_sigmas": False}


def make_parts():
    torch.manual_seed(3)
    vocab = len(json.loads((TOKENIZER / "vocab.json").read_text()))
    one = CLIPTextModel(CLIPTextConfig(
        vocab_size=vocab, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=77, hidden_act="quick_gelu", bos_token_id=vocab - 2, eos_token_id=vocab - 1,
        pad_token_id=vocab - 1, projection_dim=16))
    two = CLIPTextModelWithProjection(CLIPTextConfig(  # the ids that SDXL's own file has, which are none of its words'
        vocab_size=vocab, hidden_size=24, intermediate_size=48, num_hidden_layers=4, num_attention_heads=3,
        max_position_embeddings=77, hidden_act="gelu", bos_token_id=0, eos_token_id=2, pad_token_id=1,
        projection_dim=20))
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 16, 16), layers_per_block=1, cross_attention_dim=40, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=[1, 2, 4],
        transformer_layers_per_block=[1, 2, 3], use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=20 + 6 * 8)
    vae = AutoencoderKL(
        block_out_channels=(4, 8), layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, scaling_factor=0.13025,
        force_upcast=True)
    return [shake(m).to(torch.float16) for m in (one, two, unet, vae)]


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def save_folder(one, two, unet, vae):
    shutil.rmtree(FOLDER, ignore_errors=True)
    for model, name in ((one, "text_encoder"), (two, "text_encoder_2"), (unet, "unet"), (vae, "vae")):
        model.save_pretrained(FOLDER / name)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(TOKENIZER, FOLDER / name)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):  # the second pads with "!"
        path = FOLDER / "tokenizer_2" / name
        write_json(path, json.loads(path.read_text()) | {"pad_token": "!"})
    (FOLDER / "scheduler").mkdir()
    write_json(FOLDER / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(FOLDER / "model_index.json", {
        "_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]})


def load():
    kinds = ((CLIPTextModel, "text_encoder"), (CLIPTextModelWithProjection, "text_encoder_2"),
             (UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"))
    return [kind.from_pretrained(FOLDER / name, torch_dtype=torch.float32).eval() for kind, name in kinds]


def encode(one, two, ids, skip=0):
    """As encode_prompt of StableDiffusionXLPipeline."""
    a, b = one(ids[0], output_hidden_states=True), two(ids[1], output_hidden_states=True)
    return torch.cat([a.hidden_states[-skip - 2], b.hidden_states[-skip - 2]], -1), b.text_embeds


def told(out):
    return {"text_embeds": out["pooled"], "time_ids": out["numbers"]}


@torch.no_grad()
def module_outputs(out, one, two, unet):
    ids = []
    for i in (1, 2):
        tokenizer = CLIPTokenizer.from_pretrained(FOLDER / ("tokenizer" if i == 1 else "tokenizer_2"))
        ids.append(torch.tensor(tokenizer([p[0] for p in PROMPTS], padding="max_length", max_length=77,
                                          truncation=True).input_ids))
        out[f"ids.{i}"] = ids[-1].to(torch.int32)
    out["states"], out["pooled"] = encode(one, two, ids)
    out["states.skip"] = encode(one, two, ids, 1)[0]
    out["numbers"] = torch.tensor([[1024.0, 768, 0, 0, 1024, 1024], [333, 500, 17, 128, 896, 1152]])
    out["numbers.embedded"] = unet.add_time_proj(out["numbers"].flatten()).reshape(2, -1)
    out["numbers.told"] = unet.add_embedding(torch.cat([out["pooled"], out["numbers.embedded"]], -1))
    out["unet.x"] = randn(3, 2, 4, 16, 24)
    out["unet.t"] = torch.tensor([981.0, 17.0])
    out["unet.out"] = unet(out["unet.x"], out["unet.t"], out["states"], added_cond_kwargs=told(out)).sample


@torch.no_grad()
def bf16_errors(out, one, two, unet):
    def error(name, want, got):
        out[name] = ((got.float() - want).norm() / want.norm())[None]

    half = torch.bfloat16
    one, two, unet = (copy.deepcopy(m).to(half) for m in (one, two, unet))
    states, pooled = encode(one, two, [out["ids.1"].long(), out["ids.2"].long()])
    error("states.bf16", out["states"], states)
    error("pooled.bf16", out["pooled"], pooled)
    error("unet.bf16", out["unet.out"], unet(
        out["unet.x"].to(half), out["unet.t"], out["states"].to(half),
        added_cond_kwargs={"text_embeds": out["pooled"].to(half), "time_ids": out["numbers"]}).sample)


def full_goldens(out, meta, one, two, unet):
    names = []
    for part, model in (("unet", unet), ("text_encoder", one), ("text_encoder_2", two)):
        model.requires_grad_(True)
        names += [(part, n, p) for n, p in model.named_parameters()]
    states, pooled = encode(one, two, [out["ids.1"].long(), out["ids.2"].long()])
    scheduler, t, noise = DDIMScheduler.from_config(SCHEDULER), torch.tensor([900, 250]), randn(8, 2, 4, 16, 16)
    noisy = scheduler.add_noise(randn(7, 2, 4, 16, 16), noise, t)
    more = {"text_embeds": pooled, "time_ids": out["numbers"]}
    loss = torch.nn.functional.mse_loss(unet(noisy, t, states, added_cond_kwargs=more).sample, noise)
    loss.backward()
    out["full.loss"] = loss.detach()[None]
    listed = []
    for part, name, p in names:
        if p.grad is None:  # the first encoder's last layer, which nothing looks at
            continue
        if part != "unet" and not name.startswith(("text_model.", "text_projection.")):
            name = "text_model." + name
        g = p.grad.double()
        out[f"full.{part}.{name}"] = torch.stack(
            [g.norm(), (g * randn(len(listed), *p.shape).double()).sum()]).float()
        listed.append(f"{part}.{name}")
    meta["full.names"] = "\n".join(listed)


# name: program, syntax, text, clip skip as diffusers counts it, layers that the program leaves out then
TOLD = {
    "plain": ("diffusers", "plain", prompts.LONG, 1, 1),
    "a1111": ("a1111", "a1111", "a (red:1.4) [heart], fish", 2, 0),  # which leaves clip skip aside
    "a1111.long": ("a1111", "a1111", prompts.LONG + "(a blue dog:0.7)", 0, 0),
    "a1111.break": ("a1111", "a1111", "a cat BREAK (a dog:1.2)", 0, 0),
    "comfy": ("comfy", "comfy", "a (red:1.4) heart, ((fish):0.8)", 1, 0),  # counts from the last layer
    "comfy.long": ("comfy", "comfy", prompts.LONG + "(a blue dog:0.7)", 2, 1),
}


def told_goldens(l, one, two):
    """As both programs do it, each encoder for itself; the pooled text is the first chunk's."""
    def encode(model, tokenizer, chunk, skip):
        with torch.no_grad():
            out = model(torch.tensor([prompts.padded(tokenizer, chunk)[0]]), output_hidden_states=True)
        return out.hidden_states[-2 - skip][0].numpy().astype("float64")

    prompts.encode = encode
    tokenizers = [CLIPTokenizer.from_pretrained(FOLDER / name) for name in ("tokenizer", "tokenizer_2")]
    for name, (program, syntax, text, asked, skip) in TOLD.items():
        states = [torch.from_numpy(prompts.states(model, tokenizer, syntax, [text], skip)[0])
                  for model, tokenizer in zip((one, two), tokenizers)]
        first = prompts.padded(tokenizers[1], prompts.CHUNKERS[syntax](tokenizers[1], text)[0])[0]
        with torch.no_grad():
            pooled = two(torch.tensor([first])).text_embeds
        l.out[f"told.{name}"] = torch.cat([torch.cat(states, -1).flatten(), pooled.flatten()])
        l.meta[f"told.{name}"] = json.dumps({"compat": program, "syntax": syntax, "prompt": text, "clip_skip": asked})


class Latents:
    def __init__(self):
        self.out, self.meta = {}, {}

    @torch.no_grad()
    def add(self, name, pipe, sampler, prompt, negative, seed, schedule=None, **more):
        config = SCHEDULER | ({"timestep_spacing": schedule} if schedule else {})
        pipe.scheduler = scheduler_of(sampler, config, seed)
        pipe.set_progress_bar_config(disable=True)
        arguments = {"num_inference_steps": 20, "guidance_scale": 7.5} | more
        self.out[name] = pipe(prompt, negative_prompt=negative, output_type="latent",
                              generator=torch.Generator().manual_seed(seed), **arguments).images
        said = {k: v for k, v in arguments.items() if "image" not in k}
        self.meta[name] = json.dumps({"prompt": prompt, "negative": negative, "seed": seed, "sampler": sampler,
                                      "schedule": schedule, **said})


def latents():
    l = Latents()
    pipe = StableDiffusionXLPipeline.from_pretrained(FOLDER, torch_dtype=torch.float32, add_watermarker=False)
    for sampler in SAMPLERS:
        for i, (prompt, negative, seed) in enumerate(PROMPTS):
            l.add(f"{sampler}.{i}", pipe, sampler, prompt, negative, seed)
    prompt, negative, seed = PROMPTS[0]
    l.add("empty", pipe, "euler", prompt, "", seed)
    l.add("unguided", pipe, "euler", prompt, negative, seed, guidance_scale=1.0)
    for name, sampler, steps in (("turbo", "euler_a", (1, 2, 4)), ("lightning", "euler", (1, 2, 4, 8))):
        for n in steps:
            l.add(f"{name}.{n}", pipe, sampler, prompt, None, seed, "trailing", num_inference_steps=n,
                  guidance_scale=0.0)
    for n, guidance in ((2, 1.0), (4, 1.0), (8, 1.5)):
        l.add(f"few.lcm.{n}", pipe, "lcm", prompt, None, seed, num_inference_steps=n, guidance_scale=guidance)
    l.add("skip", pipe, "euler", prompt, negative, seed, clip_skip=1)
    l.add("second", pipe, "euler", prompt, negative, seed, prompt_2="a cat face", negative_prompt_2="dull grey")
    l.add("second.prompt", pipe, "euler", prompt, None, seed, prompt_2="a cat face")
    l.add("second.negative", pipe, "euler", prompt, "", seed, negative_prompt_2="dull grey")
    l.add("sizes", pipe, "euler", prompt, negative, seed, width=48, height=32, original_size=(600, 800),
          crops_coords_top_left=(40, 8), target_size=(512, 640))
    l.add("negative_sizes", pipe, "euler", prompt, negative, seed, negative_original_size=(100, 200),
          negative_crops_coords_top_left=(3, 5), negative_target_size=(64, 32))
    begun(l, StableDiffusionXLImg2ImgPipeline(**pipe.components, add_watermarker=False), "img2img", {})
    begun(l, StableDiffusionXLInpaintPipeline(**pipe.components, add_watermarker=False), "inpaint",
          {"mask_image": mask(32, 32), "width": 32, "height": 32})
    begun(l, StableDiffusionXLInpaintPipeline(**(pipe.components | {"unet": wide_unet(pipe.unet)}), add_watermarker=False),
          "nine", {"mask_image": mask(32, 32), "width": 32, "height": 32})
    return l


def wide_unet(unet):
    """With five more input channels, whose weights are randn(90) / 10 in f16."""
    wide = UNet2DConditionModel.from_config(dict(unet.config) | {"in_channels": 9})
    state = unet.state_dict()
    w = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([w, (randn(90, w.shape[0], 5, 3, 3) / 10).half().float()], dim=1)
    wide.load_state_dict(state)
    return wide.eval()


def begun(l, pipe, kind, more):
    prompt, negative, seed = PROMPTS[0]
    for sampler in ("euler", "ddim", "dpmpp_2m"):
        for strength in (0.75, 1.0):
            l.add(f"{kind}.{sampler}.{strength}", pipe, sampler, prompt, negative, seed, strength=strength,
                  num_inference_steps=10, image=picture(32, 32), **more)


def main():
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}")
    save_folder(*make_parts())
    one, two, unet, _ = load()
    out, meta = {}, {}
    module_outputs(out, one, two, unet)
    bf16_errors(out, one, two, unet)
    full_goldens(out, meta, one, two, unet)
    save_file({k: v.detach().contiguous() for k, v in out.items()}, GOLDEN / "models" / "sdxl.safetensors",
              metadata=meta)
    l = latents()
    told_goldens(l, one, two)
    save_file({k: v.contiguous() for k, v in l.out.items()}, GOLDEN / "sdxl.safetensors", metadata=l.meta)
    for k, v in (out | l.out).items():
        print(k, tuple(v.shape), f"{v.abs().max():.3f}")


if __name__ == "__main__":
    main()
