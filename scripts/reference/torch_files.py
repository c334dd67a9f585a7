"""Files as torch.save writes them, for tests/infer/test_torch_files.c: tests/golden/torch/*, and beside each what is in
it as safetensors. Beside what models have: shared storages, other strides, types without a storage of their own, what
Lightning leaves in checkpoints, an embedding as A1111 saves it, and pickles that want something run.

    python scripts/reference/torch_files.py        (torch 2.15, numpy 2.4, safetensors 0.8)
"""

import collections
import os
import pathlib
import pickle

import numpy as np
import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/torch"
OUT.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)


def weights():
    base = torch.randn(3, 4)
    d = collections.OrderedDict()
    d["whole"] = base
    d["same"] = base
    d["turned"] = base.t()
    d["cut"] = base[1:, 1:3]
    d["column"] = base[:, 2]
    d["spread"] = torch.arange(3.0)[:, None].expand(3, 1)
    d["parameter"] = torch.nn.Parameter(torch.randn(2, 2))
    for name in "float16 bfloat16 float64 float8_e4m3fn float8_e5m2".split():
        d[name] = torch.randn(5).to(getattr(torch, name))
    for name in "int8 uint8 int16 int32 int64 uint16 bool".split():
        d[name] = (torch.arange(4) % 2).to(getattr(torch, name))
    d["number"] = torch.tensor(3.5)
    d["none"] = torch.zeros(0, 4)
    return d


def expect(name, tensors):
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, str(OUT / name) + ".safetensors")


old = {"_use_new_zipfile_serialization": False}
sd = weights()
expect("weights", sd)
torch.save(sd, OUT / "flat.bin")
torch.save(sd, OUT / "protocol4.bin", pickle_protocol=4)
checkpoint = {
    "epoch": 3,
    "global_step": 470000,
    "pytorch-lightning_version": "1.4.2",
    "state_dict": sd,
    "callbacks": {"best_model_score": np.float64(0.25), "lr": 1e-4},
    "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
    "big": 1 << 70,
}
torch.save(checkpoint, OUT / "checkpoint.ckpt")
few = {k: v for k, v in sd.items() if "float8" not in k and k != "uint16"}
expect("few", few)
torch.save({"state_dict": few, "global_step": 9}, OUT / "old.ckpt", **old)

embedding = {
    "string_to_token": {"*": torch.tensor(265)},
    "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.randn(2, 6))}),
    "name": "sketch",
    "step": 499,
    "sd_checkpoint": None,
}
torch.save(embedding, OUT / "embedding.pt")
expect("embedding", {"string_to_token.*": embedding["string_to_token"]["*"],
                     "string_to_param.*": embedding["string_to_param"]["*"]})


class Runs:
    def __reduce__(self):
        return os.system, ("echo this was run",)


class Shape(torch.nn.Linear):
    pass


torch.save({"a": torch.ones(2), "b": Runs()}, OUT / "runs.ckpt")
torch.save({"a": torch.ones(2), "b": Runs()}, OUT / "runs-old.ckpt", **old)
torch.save(torch.nn.Linear(2, 2), OUT / "module.pt")
torch.save(torch.ones(3), OUT / "tensor.pt")
(OUT / "plain.pkl").write_bytes(pickle.dumps({"a": [1, 2]}, 2))
