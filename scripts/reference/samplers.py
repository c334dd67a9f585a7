#!/usr/bin/env python3
"""Samplers, schedules and what programs do with them -> tests/golden/samplers.safetensors.

    walk.CASE.SAMPLER.STEPS.timesteps   what the model is told, call by call
    walk.CASE.SAMPLER.STEPS.x           the first x, and the last, of a walk with the fake model of schedule.py: 16
                                        numbers of torch.Generator().manual_seed(7), which also gives what is added
    brownian.SEED.FROM.TO               an increment of torchsde's Brownian tree over [0.1, 14.6], 16 numbers
    cuda.SEED.SMS.THREADS.SIZES         PyTorch's noise on a GPU with so many multiprocessors and threads on each, drawn
                                        in calls of SIZES, thread by thread
    (CASE's metadata is JSON: scheduler_config.json as `config`, and --eta, the words of --schedule and --compat)

diffusers is the reference where it has a sampler and a schedule; k-diffusion's own functions, on the grids of
AUTOMATIC1111 and ComfyUI, for those two; and for their UniPC, diffusers' on their grids, with their order and B.

Ran with diffusers 0.42.1, k-diffusion 0.1.1, torchsde 0.2.6, torch 2.15.0, scipy 1.17, numpy 2.4.
"""
import inspect
import json
import math
import os
import sys
import types

import numpy
import torch
import torchsde
from safetensors.torch import save_file

import diffusers
import schedule

SEED = 7
SAMPLERS = {"ddim": "DDIM", "pndm": "PNDM", "euler": "EulerDiscrete", "euler_a": "EulerAncestralDiscrete",
            "heun": "HeunDiscrete", "dpm2": "KDPM2Discrete", "dpm2_a": "KDPM2AncestralDiscrete",
            "dpmpp_2m": "DPMSolverMultistep", "dpmpp_2m_sde": "DPMSolverMultistep", "dpmpp_sde": "DPMSolverSDE",
            "unipc": "UniPCMultistep", "lcm": "LCM"}
WITHOUT_CURVES = {"ddim", "pndm", "euler_a", "lcm"}  # in diffusers
WITHOUT_SAMPLE = {"pndm", "euler_a", "dpm2", "dpm2_a", "dpmpp_sde"}
WITH_ZERO_SNR = {"ddim", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "lcm"}

golden, metadata = {}, {}


def scheduler_of(sampler, config, seed=SEED):
    if sampler == "dpmpp_2m_sde":
        config = {**config, "algorithm_type": "sde-dpmsolver++"}
    s = getattr(diffusers, SAMPLERS[sampler] + "Scheduler").from_config(config)
    if sampler == "dpmpp_sde" and s.noise_sampler_seed is None:
        s.noise_sampler_seed = seed
    return s


def keep(case, sampler, steps, timesteps, first, last):
    key = f"walk.{case}.{sampler}.{steps}"
    golden[f"{key}.timesteps"] = torch.as_tensor(timesteps).float()
    golden[f"{key}.x"] = torch.stack([first, last])


def walk(case, sampler, steps, config, grid=None, **words):
    """As diffusers; grid(scheduler, steps) puts other sigmas and timesteps into it."""
    metadata[case] = json.dumps({"config": config, **words})
    s = scheduler_of(sampler, config)
    s.set_timesteps(steps)
    if grid:
        grid(s, steps)
    generator = torch.Generator().manual_seed(SEED)
    first = x = torch.randn(1, 4, 2, 2, generator=generator) * s.init_noise_sigma
    extra = {"generator": generator} if "generator" in inspect.signature(s.step).parameters else {}
    if "eta" in words:
        extra["eta"] = words["eta"]
    for t in s.timesteps:
        x = s.step(schedule.fake_model(s.scale_model_input(x, t), t), t, x, **extra).prev_sample
    keep(case, sampler, steps, s.timesteps, first.flatten(), x.flatten())


# diffusers -----------------------------------------------------------------------------------------------------------

SD = schedule.SD15
CURVES = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas"}


def sgm_uniform(s, steps):
    """A1111's and ComfyUI's, which diffusers does not have."""
    k = Schedule(s.alphas_cumprod)
    t = torch.linspace(999, 0, steps + 1)[:-1]
    s.sigmas = torch.cat([k.t_to_sigma(t), torch.zeros(1)])
    s.timesteps = t


def diffusers_cases():
    for sampler in SAMPLERS:
        for spacing in ("leading", "linspace", "trailing"):
            config = {**SD, "timestep_spacing": spacing}
            for steps in (1, 2, 3, 7, 20, 31) if sampler != "lcm" else (1, 4, 8):
                walk(spacing, sampler, steps, config)
        walk("sd15", sampler, 20, SD)
        walk("v", sampler, 20, {**SD, "prediction_type": "v_prediction"})
        if sampler not in WITHOUT_SAMPLE:
            walk("sample", sampler, 20, {**SD, "prediction_type": "sample"})
        for curve, key in CURVES.items():
            if sampler not in WITHOUT_CURVES:
                walk(f"said_{curve}", sampler, 20, {**SD, key: True})
                for steps in (7, 20):
                    walk(curve, sampler, steps, {**SD, key: True}, schedule=curve)
                walk(f"leading_{curve}", sampler, 10, {**SD, key: True, "timestep_spacing": "leading"})
        if sampler in WITH_ZERO_SNR:
            walk("zero_snr", sampler, 20, {**SD, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
                                           "timestep_spacing": "trailing"})
    for case, eta in (("eta_half", 0.5), ("eta_one", 1.0)):
        for steps in (7, 20):
            walk(case, "ddim", steps, SD, eta=eta)
    walk("sgm_uniform", "euler", 20, SD, sgm_uniform, schedule="sgm_uniform")
    for case, key in CURVES.items():  # a word of the user's instead of the file's
        metadata[f"asked_{case}"] = metadata[case].replace(f'"{key}": true', f'"{key}": false')
        for sampler in ("euler", "dpmpp_2m"):
            for part in ("timesteps", "x"):
                golden[f"walk.asked_{case}.{sampler}.20.{part}"] = golden[f"walk.{case}.{sampler}.20.{part}"].clone()
        assert metadata[case] != metadata[f"asked_{case}"]


def settings_cases():
    def each(samplers, **cases):
        for case, (steps, more) in cases.items():
            for sampler in samplers:
                walk(case, sampler, steps, {**SD, **more})

    each(["dpmpp_2m", "dpmpp_2m_sde"],
         order1=(20, {"solver_order": 1}), order3=(20, {"solver_order": 3}), order3_few=(10, {"solver_order": 3}),
         order3_open=(10, {"solver_order": 3, "lower_order_final": False, "final_sigmas_type": "sigma_min"}),
         heun=(20, {"solver_type": "heun"}), few=(8, {}), euler_at_final=(20, {"euler_at_final": True}),
         sigma_min=(20, {"final_sigmas_type": "sigma_min"}), lu=(20, {"use_lu_lambdas": True}),
         thresholding=(20, {"thresholding": True, "sample_max_value": 1.5}))
    each(["unipc"], unipc1=(20, {"solver_order": 1}), unipc3=(20, {"solver_order": 3}), bh1=(20, {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}),
         unipc_few=(4, {"solver_order": 3}), unipc_min=(20, {"final_sigmas_type": "sigma_min"}),
         unipc_open=(20, {"final_sigmas_type": "sigma_min", "lower_order_final": False}),
         unipc_threshold=(20, {"thresholding": True}))
    each(["euler"], euler_min=(20, {"final_sigmas_type": "sigma_min"}),
         ends=(20, {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0}))
    each(["ddim", "heun", "lcm"], clipped=(20, {"clip_sample": True, "clip_sample_range": 0.5}))
    each(["ddim", "lcm"], threshold=(20, {"thresholding": True, "dynamic_thresholding_ratio": 0.9,
                                          "sample_max_value": 2.0}))
    each(["ddim", "pndm", "lcm"], alpha_one=(20, {"set_alpha_to_one": True}))
    each(["pndm"], runge_kutta=(20, {"skip_prk_steps": False}), runge_kutta_few=(4, {"skip_prk_steps": False}),
         runge_kutta_v=(20, {"skip_prk_steps": False, "prediction_type": "v_prediction"}))
    each(["lcm"], taught=(4, {"original_inference_steps": 100, "timestep_scaling": 5.0}))
    each(["dpmpp_sde"], own_seed=(10, {"noise_sampler_seed": 3}))


# k-diffusion ---------------------------------------------------------------------------------------------------------

package = types.ModuleType("k_diffusion")  # without the rest of it, which asks for much more
package.__path__ = [next(p for p in (os.path.join(d, "k_diffusion") for d in sys.path) if os.path.isdir(p))]
sys.modules["k_diffusion"] = package
sys.modules["k_diffusion.utils"] = utils = types.ModuleType("k_diffusion.utils")
utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
package.utils = utils
import k_diffusion.external  # noqa: E402
import k_diffusion.sampling as ks  # noqa: E402


class Schedule(k_diffusion.external.DiscreteSchedule):
    def __init__(self, alphas_cumprod, quantize=False):
        super().__init__(((1 - alphas_cumprod) / alphas_cumprod) ** 0.5, quantize)


def grid_of(k, name, steps):
    low, high = k.sigma_min.item(), k.sigma_max.item()
    if name == "linspace":
        return ks.append_zero(k.t_to_sigma(torch.linspace(999, 0, steps)))
    if name == "sgm_uniform":
        return ks.append_zero(k.t_to_sigma(torch.linspace(999, 0, steps + 1)[:-1]))
    if name == "beta":
        import scipy.stats
        ppf = [scipy.stats.beta.ppf(1 - p, 0.6, 0.6) for p in numpy.linspace(0, 1, steps)]
        return torch.tensor([low + p * (high - low) for p in ppf] + [0.0], dtype=torch.float32)
    return {"karras": ks.get_sigmas_karras, "exponential": ks.get_sigmas_exponential}[name](steps, low, high)


FUNCTIONS = {"euler": ks.sample_euler, "euler_a": ks.sample_euler_ancestral, "heun": ks.sample_heun, "dpm2": ks.sample_dpm_2,
             "dpm2_a": ks.sample_dpm_2_ancestral, "dpmpp_2m": ks.sample_dpmpp_2m,
             "dpmpp_2m_sde": ks.sample_dpmpp_2m_sde, "dpmpp_sde": ks.sample_dpmpp_sde}
AUTOMATIC = {"dpm2": "karras", "dpm2_a": "karras", "dpmpp_2m": "karras", "dpmpp_2m_sde": "exponential",
             "dpmpp_sde": "karras"}  # A1111's own choice for each; ComfyUI has none


def k_walk(case, compat, sampler, steps, word, v=False):
    config = {**SD, **({"prediction_type": "v_prediction"} if v else {})}
    words = {"schedule": word} if word else {}
    metadata[case] = json.dumps({"config": config, "compat": compat, **words})
    k = Schedule(scheduler_of("euler", SD).alphas_cumprod, quantize=compat == "comfy")
    name = word or (AUTOMATIC.get(sampler, "linspace") if compat == "a1111" else "linspace")
    without = sampler.startswith("dpm2")
    sigmas = grid_of(k, name, steps + without)
    if without:
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(16, generator=generator)
    first = noise * (sigmas[0] if compat == "a1111" else (1 + sigmas[0] ** 2) ** 0.5)
    if compat == "comfy":  # on a processor
        generator = torch.Generator().manual_seed(SEED + 1)
    told = []

    def model(x, sigma):
        t = k.sigma_to_t(sigma)[0].float()
        told.append(t)
        sigma = sigma[0]
        out = schedule.fake_model(x[0] / (sigma ** 2 + 1) ** 0.5, t)[None]
        return x / (sigma ** 2 + 1) - out * sigma / (sigma ** 2 + 1) ** 0.5 if v else x - out * sigma

    extra = {}
    function = FUNCTIONS[sampler]
    if "noise_sampler" in inspect.signature(function).parameters:
        fresh = lambda *_: torch.randn(16, generator=generator)[None]  # noqa: E731
        if "sde" in sampler:
            fresh = ks.BrownianTreeNoiseSampler(first[None], sigmas[sigmas > 0].min(), sigmas.max(), seed=[SEED])
        extra["noise_sampler"] = fresh
    last = function(model, first[None], sigmas, disable=True, **extra)[0]
    if sampler in ("dpmpp_2m", "dpmpp_2m_sde"):  # here x is kept as diffusers keeps it
        first = first / (sigmas[0] ** 2 + 1) ** 0.5
    keep(case, sampler, steps, torch.stack(told), first, last)


def by_timesteps(case, sampler, steps):
    """A1111's DDIM and PLMS: from its own grid of timesteps down to 1."""
    metadata[case] = json.dumps({"config": SD, "compat": "a1111"})
    alphas = scheduler_of("euler", SD).alphas_cumprod.double()
    grid = [min(t + 1, 999) for t in range(0, 1000, 1000 // steps)]
    first = x = torch.randn(16, generator=torch.Generator().manual_seed(SEED))
    told, old = [], []

    def moved(e, i):
        x0 = (x - (1 - alphas[grid[i]]).sqrt() * e) / alphas[grid[i]].sqrt()
        return alphas[grid[i - 1]].sqrt() * x0 + (1 - alphas[grid[i - 1]]).sqrt() * e

    def ask(x, t):
        told.append(float(t))
        return schedule.fake_model(x.double(), t)

    for i in range(len(grid) - 1, 0, -1):
        e = ask(x, grid[i])
        if sampler == "pndm":
            old.append(e)
            if len(old) == 1:
                e = (e + ask(moved(e, i), grid[i - 1])) / 2
            elif len(old) == 2:
                e = (3 * old[-1] - old[-2]) / 2
            elif len(old) == 3:
                e = (23 * old[-1] - 16 * old[-2] + 5 * old[-3]) / 12
            else:
                e = (55 * old[-1] - 59 * old[-2] + 37 * old[-3] - 9 * old[-4]) / 24
        x = moved(e, i)
    keep(case, sampler, steps, told, first, x.float())


def unipc(case, compat, steps):
    """A1111's goes evenly in t down to timestep 0, ComfyUI's over its grid without the last but one to 0.001; both with
    order 3, as far as the steps go, and B(h) = h."""
    metadata[case] = json.dumps({"config": SD, "compat": compat})
    alphas = scheduler_of("euler", SD).alphas_cumprod
    if compat == "a1111":
        count, order = -(-1000 // (1000 // steps)), 3
        t = torch.linspace(1, 0.001, count + 1).double() * 1000 - 1
        logs, low = 0.5 * alphas.double().log(), t.floor().long().clamp(max=998)
        signal = torch.lerp(logs[low], logs[low + 1], t - low).exp()
        sigmas, told = (1 - signal**2).sqrt() / signal, t[:-1]
    else:
        k, order = Schedule(alphas, quantize=True), max(1, min(3, steps - 1))
        sigmas = grid_of(k, "linspace", steps + 1)
        sigmas = torch.cat([sigmas[:-2], torch.tensor([0.001])])
        told = torch.stack([k.sigma_to_t(s[None])[0] for s in sigmas[:-1]])
    s = diffusers.UniPCMultistepScheduler.from_config({**SD, "solver_type": "bh1", "solver_order": order})
    s.set_timesteps(len(told))
    s.sigmas, s.timesteps = sigmas.float(), told.float()
    first = x = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(SEED))
    for t in s.timesteps:
        x = s.step(schedule.fake_model(x, t), t, x).prev_sample
    keep(case, "unipc", steps, told, first.flatten(), x.flatten())


def lcm(case, compat, steps):
    """A1111's stands on the 50 timesteps of the teacher, which the model is told, and keeps a little of x; ComfyUI's
    takes its own grid and what the model sees as it is."""
    metadata[case] = json.dumps({"config": SD, "compat": compat})
    alphas = scheduler_of("euler", SD).alphas_cumprod
    if compat == "a1111":
        k = Schedule(alphas[19::20])
        sigmas = ks.append_zero(k.t_to_sigma(torch.linspace(49, 0, steps)))
    else:
        k = Schedule(alphas, quantize=True)
        sigmas = grid_of(k, "linspace", steps)
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(16, generator=generator)
    first = x = noise * (sigmas[0] if compat == "a1111" else (1 + sigmas[0] ** 2) ** 0.5)
    if compat == "comfy":
        generator = torch.Generator().manual_seed(SEED + 1)
    told = []
    for sigma, to in zip(sigmas[:-1], sigmas[1:]):
        place = (sigma.log() - k.log_sigmas).abs().argmin()
        told.append(float(place * 20 + 19 if compat == "a1111" else place))
        seen = x - sigma * schedule.fake_model(x / (sigma**2 + 1) ** 0.5, told[-1])
        if compat == "a1111":
            scaled = 10 * told[-1]
            seen = scaled / (scaled**2 + 0.25) ** 0.5 * seen + 0.25 / (scaled**2 + 0.25) * x
        x = seen + to * torch.randn(16, generator=generator) if to > 0 else seen
    keep(case, "lcm", steps, told, first, x)


def k_cases():
    for compat in ("a1111", "comfy"):
        for sampler in FUNCTIONS:
            for steps in (1, 7, 20) if sampler != "dpmpp_2m_sde" else (2, 7, 20):
                k_walk(compat, compat, sampler, steps, None)
            k_walk(f"{compat}_v", compat, sampler, 20, None, v=True)
            for word in ("linspace", "sgm_uniform", "karras", "exponential", "beta"):
                k_walk(f"{compat}_{word}", compat, sampler, 20, word)
    for sampler in ("ddim", "pndm"):
        for steps in (7, 20):
            by_timesteps("a1111", sampler, steps)
    for compat in ("a1111", "comfy"):
        for steps in (3, 7, 20, 30):
            unipc(compat, compat, steps)
        for steps in (1, 4, 8):
            lcm(compat, compat, steps)


# Noise ---------------------------------------------------------------------------------------------------------------


def brownian_cases():
    for seed in (0, 7, 2**40 + 5):
        tree = torchsde.BrownianTree(t0=0.1, w0=torch.zeros(16), t1=14.6, entropy=seed)
        for a, b in ((0.1, 14.6), (2.0, 3.5), (0.1, 0.123456), (7.0, 14.6), (0.654321, 0.654322), (5.0, 11.0)):
            golden[f"brownian.{seed}.{a}.{b}"] = tree(a, b)


def cuda_randn(seed, sms, threads, sizes):
    """Each thread has a stream of Philox and takes four numbers of it at a time."""
    offset, out = 0, []
    for n in sizes:
        T = 256 * min(sms * (threads // 256), -(-n // 256))
        numbers = numpy.empty(n, numpy.float32)
        rounds = (n - 1) // (4 * T) + 1
        for i in range(min(T, n)):
            for r in range(rounds):
                counter = offset // 4 + r | i << 64
                words = philox4x32(counter, seed)
                u = [(w * numpy.float32(2.0**-32) + numpy.float32(2.0**-33)) for w in numpy.float32(words)]
                pair = []
                for a, b in ((0, 1), (2, 3)):
                    radius, angle = math.sqrt(-2 * math.log(u[a])), 2 * math.pi * float(u[b])
                    pair += [radius * math.sin(angle), radius * math.cos(angle)]
                for k in range(4):
                    place = (4 * r + k) * T + i
                    if place < n:
                        numbers[place] = pair[k]
        offset += 4 * rounds
        out.append(torch.from_numpy(numbers))
    return torch.cat(out)


def philox4x32(counter, key):
    c = [counter >> 32 * i & 0xFFFFFFFF for i in range(4)]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & 0xFFFFFFFF, a >> 32 ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [k[0] + 0x9E3779B9 & 0xFFFFFFFF, k[1] + 0xBB67AE85 & 0xFFFFFFFF]
    return c


def cuda_cases():
    for seed, sms, threads, sizes in ((0, 128, 1536, [4]), (0, 128, 1536, [64, 16, 5]), (2**40 + 1, 1, 256, [700]),
                                      (3, 1, 512, [2100, 300]), (5, 1, 256, [257, 1025])):
        golden[f"cuda.{seed}.{sms}.{threads}." + "-".join(map(str, sizes))] = cuda_randn(seed, sms, threads, sizes)


if __name__ == "__main__":
    diffusers_cases()
    settings_cases()
    k_cases()
    brownian_cases()
    cuda_cases()
    save_file(golden, os.path.join(schedule.ROOT, "tests", "golden", "samplers.safetensors"), metadata)
