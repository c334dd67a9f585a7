#!/usr/bin/env python3
"""Trains a LoRA on a folder of pictures and draws with it, over libatelier's C interface (atelier.h).

usage: train_and_draw.py MODEL PICTURES RUN PROMPT FILE.png [STEPS]

The library is found where the system finds libraries; LIBATELIER names another place.
"""
import ctypes as c
import json
import os
import sys

MESSAGE = c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_char_p)
PROGRESS = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_char_p, c.c_char_p, c.c_int64, c.c_int64, c.c_char_p)


class Listener(c.Structure):
    _fields_ = [("message", MESSAGE), ("progress", PROGRESS), ("arg", c.c_void_p)]


class RunOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("config", c.c_char_p), ("text", c.c_char_p), ("folder", c.c_char_p),
                ("set", c.POINTER(c.c_char_p)), ("set_count", c.c_int), ("resume", c.c_char_p), ("listener", Listener)]


class Sample(c.Structure):
    _fields_ = [("size", c.c_size_t), ("prompt", c.c_char_p), ("negative", c.c_char_p), ("width", c.c_int),
                ("height", c.c_int), ("steps", c.c_int), ("guidance", c.c_float), ("sampler", c.c_char_p),
                ("seed", c.c_uint64), ("clip_skip", c.c_int)]


class Picture(c.Structure):
    _fields_ = [("width", c.c_int), ("height", c.c_int), ("rgb", c.POINTER(c.c_ubyte)), ("settings", c.c_char_p),
                ("flagged", c.c_int)]


def load():
    """The library, with the types of what is not an int or a pointer that is passed."""
    atl = c.CDLL(os.environ.get("LIBATELIER", "libatelier.so.0"))
    atl.atl_message.restype = c.c_char_p
    atl.atl_run_go.argtypes = atl.atl_run_close.argtypes = atl.atl_model_close.argtypes = [c.c_void_p]
    atl.atl_model_add_lora.argtypes = [c.c_void_p, c.c_char_p, c.c_float]
    atl.atl_sample.argtypes = [c.c_void_p, c.POINTER(Sample), c.POINTER(Picture)]
    return atl


def check(atl, status):
    if status:
        sys.exit(f"train_and_draw: {atl.atl_message().decode()}")


@PROGRESS
def follow(arg, label, unit, done, total, note):
    print(f"{label.decode()}: {unit.decode()} {done} of {total}  {note.decode()}", file=sys.stderr)
    return 0


@MESSAGE
def hear(arg, level, text):
    print(text.decode(), file=sys.stderr)


def train(atl, model, pictures, folder, steps):
    config = {"model": {"base": model}, "dataset": {"path": pictures, "caption": {"missing": "a picture"}},
              "train": {"steps": steps}, "output": {"dir": folder}}
    options = RunOptions(size=c.sizeof(RunOptions), text=json.dumps(config).encode(), listener=Listener(hear, follow, None))
    run = c.c_void_p()
    check(atl, atl.atl_run_open(c.byref(options), c.byref(run)))
    check(atl, atl.atl_run_go(run))
    atl.atl_run_close(run)


def draw(atl, name, lora, prompt, path):
    model, picture = c.c_void_p(), Picture()
    check(atl, atl.atl_model_open(name.encode(), None, c.byref(model)))
    check(atl, atl.atl_model_add_lora(model, lora.encode(), 0.8))
    check(atl, atl.atl_sample(model, Sample(size=c.sizeof(Sample), prompt=prompt.encode(), seed=42), picture))
    rgb = bytes(picture.rgb[:3 * picture.width * picture.height])
    print(f"{path}: {picture.width} x {picture.height} pixels, the first is red {rgb[0]}, green {rgb[1]}, blue {rgb[2]}")
    check(atl, atl.atl_picture_write(c.byref(picture), path.encode()))
    atl.atl_picture_free(c.byref(picture))
    atl.atl_model_close(model)


def main():
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    model, pictures, folder, prompt, path = sys.argv[1:6]
    atl = load()
    train(atl, model, pictures, folder, int(sys.argv[6]) if len(sys.argv) > 6 else 500)
    draw(atl, model, os.path.join(folder, "lora.safetensors"), prompt, path)


if __name__ == "__main__":
    main()
