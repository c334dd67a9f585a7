#!/usr/bin/env python3
"""How fast other programs are at what `atelier bench` measures: Stable Diffusion 1.5's shapes, random weights.

    bench_others.py torch|openvino unet|vae|encode|train|full f32|bf16 REPEAT [--size sd15|tiny] [--res N] [--batch N]
                    [--threads N] [--checkpointing] [--cache FOLDER]

Prints one line of JSON: {"program", "runs_s": [REPEAT numbers after one run that is not measured], "peak_bytes"}; status
3 where the program does not do such work or is not installed. unet is one guided step (a batch of two), vae decodes one
picture, encode encodes one, train is one LoRA step of rank 4, full one that trains all of the UNet's weights. OpenVINO's converted model is kept in FOLDER. scripts/bench calls
this with the virtual environment's Python: torch, diffusers, peft, and openvino where it is wanted.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import time

NOT_THERE = 3


def unet(size="sd15"):
    from diffusers import UNet2DConditionModel

    if size == "tiny":
        return UNet2DConditionModel(
            sample_size=16, cross_attention_dim=192, attention_head_dim=4, block_out_channels=(64, 128, 192), layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        )
    return UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280)
    )


def text_width(a):
    return {"sd15": 768, "tiny": 192}[a.size]


def latent_side(a):
    return a.res // {"sd15": 8, "tiny": 4}[a.size]


def timed(run, repeat):
    seconds = []
    for _ in range(repeat + 1):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def torch_unet(a, dtype):
    import torch

    model = unet(a.size).to(dtype).eval()
    side, batch = latent_side(a), a.batch or 2
    x, text = torch.randn(batch, 4, side, side, dtype=dtype), torch.randn(batch, 77, text_width(a), dtype=dtype)
    t = torch.tensor([500] * batch)
    with torch.inference_mode():
        return timed(lambda: model(x, t, text), a.repeat)


def vae(dtype):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).to(dtype).eval()


def torch_vae(a, dtype):
    import torch

    model = vae(dtype)
    x = torch.randn(a.batch or 1, 4, a.res // 8, a.res // 8, dtype=dtype)
    with torch.inference_mode():
        return timed(lambda: model.decode(x), a.repeat)


def torch_encode(a, dtype):
    import torch

    model = vae(dtype)
    x = torch.randn(a.batch or 1, 3, a.res, a.res, dtype=dtype)
    with torch.inference_mode():
        return timed(lambda: model.encode(x), a.repeat)


def training(a, model, trained, dtype):
    """Times whole steps: forward, backward, clipping, AdamW. The weights that are trained are f32."""
    import torch

    if a.checkpointing:
        model.enable_gradient_checkpointing()
    model.train()
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    side, batch = latent_side(a), a.batch or 1
    x, text = torch.randn(batch, 4, side, side, dtype=dtype), torch.randn(batch, 77, text_width(a), dtype=dtype)
    noise, t = torch.randn(batch, 4, side, side), torch.tensor([500] * batch)

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = torch.nn.functional.mse_loss(model(x, t, text).sample.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return timed(step, a.repeat)


def torch_train(a, dtype):
    from peft import LoraConfig

    model = unet(a.size).to(dtype)
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.data = p.data.float()
    return training(a, model, trained, dtype)


def torch_full(a, dtype):
    model = unet(a.size)
    return training(a, model, list(model.parameters()), dtype)


def run_torch(a):
    import diffusers
    import torch

    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[a.dtype]
    work = {"unet": torch_unet, "vae": torch_vae, "encode": torch_encode, "train": torch_train, "full": torch_full}[a.work]
    return f"PyTorch {torch.__version__.split('+')[0]}, diffusers {diffusers.__version__}", work(a, dtype)


def model_path(a):
    return os.path.join(a.cache, f"unet-{a.res}.xml")


def convert(a):
    import openvino
    import torch

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = unet().eval()

        def forward(self, x, t, text):
            return self.inner(x, t, text, return_dict=False)[0]

    side = a.res // 8
    shapes = {"x": [2, 4, side, side], "t": [2], "text": [2, 77, 768]}
    example = (torch.randn(shapes["x"]), torch.tensor([500, 500]), torch.randn(shapes["text"]))
    with torch.no_grad():
        model = openvino.convert_model(Plain(), example_input=example, input=list(shapes.items()))
    openvino.save_model(model, model_path(a))


def openvino_model(a):
    """The UNet, converted once and by a process of its own: OpenVINO's memory is then its own, without PyTorch's."""
    if not os.path.exists(model_path(a)):
        subprocess.run([sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--convert"], check=True)
    return model_path(a)


def run_openvino(a):
    if a.work != "unet" or a.size != "sd15":
        sys.exit(NOT_THERE)
    import numpy
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": a.dtype, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": a.threads,
    }
    request = core.compile_model(openvino_model(a), "CPU", settings).create_infer_request()
    side = a.res // 8
    generator = numpy.random.default_rng(0)
    x = generator.standard_normal((2, 4, side, side), dtype=numpy.float32)
    text = generator.standard_normal((2, 77, 768), dtype=numpy.float32)
    t = numpy.array([500, 500])
    version = openvino.__version__.split("-")[0]
    return f"OpenVINO {version}", timed(lambda: request.infer({0: x, 1: t, 2: text}), a.repeat)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program", choices=["torch", "openvino"])
    p.add_argument("work", choices=["unet", "vae", "encode", "train", "full"])
    p.add_argument("dtype", choices=["f32", "bf16"])
    p.add_argument("repeat", type=int)
    p.add_argument("--size", choices=["sd15", "tiny"], default="sd15")
    p.add_argument("--res", type=int, default=512)
    p.add_argument("--batch", type=int, help="2 for unet, else 1")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--checkpointing", action="store_true")
    p.add_argument("--cache", default=".")
    p.add_argument("--convert", action="store_true", help="only make OpenVINO's model")
    a = p.parse_args()
    try:
        if a.convert:
            return convert(a)
        program, seconds = {"torch": run_torch, "openvino": run_openvino}[a.program](a)
    except ModuleNotFoundError as e:
        print(e, file=sys.stderr)
        sys.exit(NOT_THERE)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"program": program, "runs_s": seconds, "peak_bytes": peak}))


main()
