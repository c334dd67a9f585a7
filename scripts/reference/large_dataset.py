#!/usr/bin/env python3
"""A dataset file of very many entries (docs/dataset-file.md), for figures of opening and of a first step: pictures of nine
shapes, of which each entry shows one, a caption and a name of its own. A million entries are 80 MB.

Made with h5py 3.16.0, Pillow 13.0.0.

usage: scripts/reference/large_dataset.py FILE.h5 [ENTRIES]
"""
import hashlib
import io
import sys

import h5py
import numpy as np
from PIL import Image

path, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
SHAPES = [(96, 96), (128, 72), (72, 128), (120, 80), (80, 120), (112, 84), (84, 112), (144, 60), (60, 144)]
SUBJECTS = ["cat", "dog", "red car", "blue vase", "tall tree", "old house", "small boat"]

encoded = []
for k, size in enumerate(SHAPES):
    rng = np.random.default_rng(k)
    small = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize(size, Image.BICUBIC).save(buffer, "JPEG", quality=90)
    encoded.append(buffer.getvalue())

shape = np.random.default_rng(0).integers(0, len(SHAPES), count)
lengths = np.array([len(e) for e in encoded], "u8")
starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype("u8")
hashes = np.array([np.frombuffer(hashlib.sha256(e).digest(), "u1") for e in encoded])
captions = [f"a photo of a {SUBJECTS[i % len(SUBJECTS)]}, number {i}".encode() for i in range(count)]
ends = np.concatenate([[0], np.cumsum([len(c) for c in captions])]).astype("u8")

with h5py.File(path, "w", libver=("v110", "v110")) as f:
    f.attrs["format_version"] = 1
    f.attrs["tool"] = "large_dataset.py"
    f.attrs["source"] = "large"
    images = f.create_group("images")
    images["data"] = np.frombuffer(b"".join(encoded), "u1")
    images["offset"] = starts[shape]
    images["length"] = lengths[shape]
    images["width"] = np.array([s[0] for s in SHAPES], "u4")[shape]
    images["height"] = np.array([s[1] for s in SHAPES], "u4")[shape]
    images["orientation"] = np.ones(count, "u1")
    images["sha256"] = hashes[shape]
    images["name"] = np.array([f"{i:07}.jpg" for i in range(count)], "S11")
    texts = f.create_group("captions")
    texts["text"] = np.frombuffer(b"".join(captions), "u1")
    texts["offset"] = ends
