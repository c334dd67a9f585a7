#!/usr/bin/env python3
"""Replays a `train --trace` of LoRA steps in PyTorch + peft and compares every number.

With prior preservation a batch's second half are its class pictures, and the loss is diffusers' (train_dreambooth.py).

For each step, from the trace's own weights before it: the prediction, the target, the loss, the gradient of every
trained tensor, and the weights after AdamW. Then all steps in a row from the first weights, to see what adds up.
Tolerances (docs: agreement with PyTorch):
  prediction   1e-4 of its largest value      gradients  1e-4 of each one's largest value
  one step     1e-3, ten in a row 2e-3: L2 norm of the difference to that of the change, over the whole adapter
Model, run and trace have to be of `model.dtype: f32`.

    atelier train CONFIG.yaml --trace TRACE:10
    scripts/reference/replay_trace.py --model MODEL_FOLDER --run RUN_FOLDER --trace TRACE

Needs torch, diffusers, peft, transformers, PyYAML; prints their versions. Exit status 1: something is off.
"""
import argparse
import json
import math
from pathlib import Path

import diffusers
import peft
import torch
import transformers
import yaml
from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from sdxl_lora import original

PREDICTION, GRADIENT, STEP, IN_A_ROW = 1e-4, 1e-4, 1e-3, 2e-3


def attach(module, prefix, keys, config, named=lambda path: path):
    """LoRA on the modules whose kohya names stand in keys. -> {key: parameter}"""
    names = {prefix + named(name).replace(".", "_"): name for name, _ in module.named_modules()}
    # transformers 5 leaves "text_model." out of its module names, the files have it
    names |= {prefix + "text_model_" + name.replace(".", "_"): name for name, _ in module.named_modules()}
    wanted = sorted({key.split(".")[0] for key in keys if key.startswith(prefix)})
    if not wanted:
        return {}
    lora = LoraConfig(r=config["method"]["rank"], lora_alpha=config["method"]["alpha"],
                      target_modules=[names[w] for w in wanted])
    inject_adapter_in_model(lora, module)
    found = {}
    for name, p in module.named_parameters():
        if ".lora_" in name:
            path, side = name.split(".lora_")
            back = [w for w in wanted if names[w] == path][0]
            found[f"{back}.lora_{'down' if side[0] == 'A' else 'up'}.weight"] = p
    return found


def rate(config, step, steps):
    """schedule_factor of train/step/optimizer.c."""
    warmup = config["optimizer"]["warmup"]
    if step <= warmup:
        return step / warmup
    done = min((step - 1 - warmup) / max(steps - warmup, 1), 1)
    return {"constant": 1, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[
        config["optimizer"]["schedule"]]


class Reference:
    def __init__(self, model, config, keys):
        self.config = config
        self.unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
        self.unet.requires_grad_(False)
        self.sdxl = (model / "text_encoder_2").exists()
        row = self.unet.config.layers_per_block + 1
        self.parameters = attach(self.unet, "lora_unet_", keys, config,
                                 (lambda path: original(path, row)) if self.sdxl else (lambda path: path))
        self.texts = []
        if config["method"]["text_encoder"]:
            parts = [(CLIPTextModel, "text_encoder", "lora_te1_" if self.sdxl else "lora_te_")]
            parts += [(CLIPTextModelWithProjection, "text_encoder_2", "lora_te2_")] * self.sdxl
            for kind, folder, prefix in parts:
                self.texts.append(kind.from_pretrained(model / folder, torch_dtype=torch.float32))
                self.texts[-1].requires_grad_(False)
                self.parameters |= attach(self.texts[-1], prefix, keys, config)
        missing = set(keys) ^ set(self.parameters)
        assert not missing, f"keys that fit nothing: {sorted(missing)[:4]}"
        scheduler = json.loads((model / "scheduler" / "scheduler_config.json").read_text())
        self.prediction_type = scheduler.get("prediction_type", "epsilon")
        beta = torch.linspace(scheduler["beta_start"] ** 0.5, scheduler["beta_end"] ** 0.5, 1000) ** 2
        self.alphas = torch.cumprod(1 - beta, 0)
        o = config["optimizer"]
        text_lr = o["text_encoder_lr"] or o["lr"]
        rates = {"lora_unet_": o["lr"], "lora_te_": text_lr, "lora_te1_": text_lr,
                 "lora_te2_": o["text_encoder_2_lr"] or text_lr}
        groups = [{"params": [p for k, p in self.parameters.items() if k.startswith(prefix)], "base": lr}
                  for prefix, lr in rates.items()]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=o["lr"],
                                           betas=(o["beta1"], o["beta2"]), eps=o["eps"],
                                           weight_decay=o["weight_decay"])

    def set_weights(self, weights):
        with torch.no_grad():
            for key, p in self.parameters.items():
                p.copy_(weights[key])

    def weights(self):
        return {key: p.detach().clone() for key, p in self.parameters.items()}

    def predict(self, t, s, noisy, steps):
        """From the trace's texts, or through the encoders that are trained."""
        states, told = t["conditioning"][s], {}
        if self.sdxl:
            told = {"text_embeds": t["pooled"][s], "time_ids": t["sizes"][s]}
        if self.texts:
            ids = t["ids"][s].long().chunk(len(self.texts), -1)
            results = [text(i, output_hidden_states=True) for text, i in zip(self.texts, ids)]
            states = results[0].last_hidden_state
            if self.sdxl:
                states = torch.cat([r.hidden_states[-2] for r in results], -1)
                told["text_embeds"] = results[1].text_embeds
        return self.unet(noisy, steps, states, added_cond_kwargs=told).sample

    def backward(self, t):
        """Loss and gradients of one traced step; micro-batches one after the other."""
        self.optimizer.zero_grad()
        prior = self.config["prior"]["weight"]
        batch = self.config["train"]["batch"] * (2 if prior else 1)
        total, predictions, targets = 0.0, [], []
        micro = len(t["timesteps"]) // batch
        for i in range(micro):
            s = slice(i * batch, (i + 1) * batch)
            steps = t["timesteps"][s].long()
            a = self.alphas[steps].view(-1, 1, 1, 1)
            x, e = t["latents"][s], t["noise"][s]
            noisy = a.sqrt() * x + (1 - a).sqrt() * e
            target = e if self.prediction_type == "epsilon" else a.sqrt() * e - (1 - a).sqrt() * x
            prediction = self.predict(t, s, noisy, steps)
            loss = ((prediction - target) ** 2).mean(dim=(1, 2, 3))
            snr = a.flatten() / (1 - a.flatten())
            gamma = self.config["loss"]["snr_gamma"]
            if gamma:
                v = self.prediction_type == "v_prediction"
                loss = loss * snr.clamp(max=gamma) / (snr + 1 if v else snr)
            if prior:
                own, of_class = loss.chunk(2)
                loss = own.mean() + prior * of_class.mean()
            else:
                loss = loss.mean()
            (loss / micro).backward()
            for p in self.parameters.values():  # what SDXL does not take of its first encoder has none in PyTorch
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            total += loss.item() / micro
            predictions.append(prediction.detach())
            targets.append(target)
        return total, torch.cat(predictions), torch.cat(targets)

    def step(self, number, steps):
        limit = self.config["train"]["max_grad_norm"]
        if limit:
            torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), limit)
        for g in self.optimizer.param_groups:
            g["lr"] = g["base"] * rate(self.config, number, steps)
        self.optimizer.step()


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max().clamp(min=1e-30)).item()


def change_error(after, reference, before):
    """L2 of the difference to L2 of the change, over all tensors."""
    d = sum(((after[k] - reference[k]).double() ** 2).sum() for k in reference)
    c = sum(((reference[k] - before[k]).double() ** 2).sum() for k in reference)
    return (d / c).sqrt().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the diffusers folder that was fine-tuned")
    parser.add_argument("--run", type=Path, required=True, help="the run's folder: its config.yaml is read")
    parser.add_argument("--trace", type=Path, required=True)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, peft {peft.__version__}, "
          f"transformers {transformers.__version__}")
    config = yaml.safe_load((args.run / "config.yaml").read_text())
    for section in ("lr", "text_encoder_lr", "text_encoder_2_lr", "weight_decay", "beta1", "beta2", "eps"):
        config["optimizer"][section] = float(config["optimizer"].get(section) or 0)  # YAML reads 1e-8 as text
    trace = [load_file(p) for p in sorted(args.trace.glob("step-*.safetensors"))]
    start = {k[7:]: v for k, v in trace[0].items() if k.startswith("weight.")}
    steps = config["train"]["steps"]
    single, row = (Reference(args.model, config, start) for _ in range(2))
    row.set_weights(start)

    worst = {"prediction": 0.0, "target": 0.0, "loss": 0.0, "gradient": 0.0, "step": 0.0}
    before = start
    for number, t in enumerate(trace[1:], 1):
        single.set_weights(before)
        loss, prediction, target = single.backward(t)
        errors = {"prediction": relative(t["prediction"], prediction), "target": relative(t["target"], target),
                  "loss": abs(t["loss"].item() - loss) / loss,
                  "gradient": max(relative(t["grad." + k], p.grad) for k, p in single.parameters.items()
                                  if p.grad.abs().max() > 0)}
        single.step(number, steps)
        after = {k[7:]: v for k, v in t.items() if k.startswith("weight.")}
        errors["step"] = change_error(after, single.weights(), before)
        row.backward(t)
        row.step(number, steps)
        print(f"step {number}: " + "  ".join(f"{k} {v:.1e}" for k, v in errors.items()))
        worst = {k: max(worst[k], v) for k, v in errors.items()}
        before = after
    worst["in a row"] = change_error(before, row.weights(), start)
    limits = {"prediction": PREDICTION, "target": PREDICTION, "loss": PREDICTION, "gradient": GRADIENT, "step": STEP,
              "in a row": IN_A_ROW}
    for name, limit in limits.items():
        print(f"{name:11} {worst[name]:.2e}  allowed {limit:.0e}  {'ok' if worst[name] <= limit else 'TOO FAR'}")
    raise SystemExit(any(worst[k] > v for k, v in limits.items()))


if __name__ == "__main__":
    main()
