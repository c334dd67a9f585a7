#!/usr/bin/env python3
"""Pictures marked by the package invisible-watermark, method dwtDct, for tests/infer/test_watermark.c.

Writes tests/golden/watermark.txt: a line for each picture, "KIND WIDTH HEIGHT TEXT SHA-256 RIGHT": the text in
hexadecimal, the sum of the marked picture's RGB bytes, and how many of the text's bits the package finds in it. The pictures are made here and in the test by the same whole numbers:

    smooth   r = 60 + (3x + y) % 131, g = 70 + xy / 64 % 101, b = 50 + (x + 5y) / 3 % 149
    noise    each byte 64 + (s >> 24) % 128, s = 1664525 s + 1013904223 (mod 2^32) from 1
    flat     r = 90, g = 140, b = 60

It does not find all: a coefficient that was the largest of its block need not be that once it is marked, and of one colour
it never is. What it finds after the picture was a JPEG is printed.

Ran with invisible-watermark 0.2.0, opencv-python-headless 5.0.0.93, PyWavelets 1.9.0, NumPy 2.4.6.

usage: scripts/reference/watermark.py
"""
import hashlib
import importlib.util
from importlib.metadata import distribution
from pathlib import Path

import cv2
import numpy as np

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "watermark.txt"
TEXTS = [b"StableDiffusionV1", bytes.fromhex("b3ec907bb19e")]
CASES = [("smooth", 296, 259), ("noise", 256, 256), ("flat", 262, 271), ("smooth", 512, 384)]


def load_method():
    """The module by itself: the package's own entry also imports PyTorch."""
    path = distribution("invisible-watermark").locate_file("imwatermark/maxDct.py")
    spec = importlib.util.spec_from_file_location("maxDct", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EmbedMaxDct


def make(kind, width, height):
    y, x = np.mgrid[0:height, 0:width]
    if kind == "smooth":
        rgb = np.stack([60 + (3 * x + y) % 131, 70 + x * y // 64 % 101, 50 + (x + 5 * y) // 3 % 149], -1)
    elif kind == "flat":
        rgb = np.zeros((height, width, 3)) + [90, 140, 60]
    else:
        s, values = 1, []
        for _ in range(width * height * 3):
            s = (1664525 * s + 1013904223) % 2**32
            values.append(64 + (s >> 24) % 128)
        rgb = np.array(values).reshape(height, width, 3)
    return rgb.astype(np.uint8)


def main():
    method, lines = load_method(), []
    for kind, width, height in CASES:
        for text in TEXTS:
            found = []
            bits = list(np.unpackbits(np.frombuffer(text, np.uint8)))
            marked = method(bits, wmLen=len(bits)).encode(make(kind, width, height)[:, :, ::-1])
            for quality in (None, 95, 90, 75):
                seen = marked
                if quality:
                    seen = cv2.imdecode(cv2.imencode(".jpg", marked, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
                right = (method(wmLen=len(bits)).decode(seen) == np.array(bits)).sum()
                found.append(right)
                print(kind, width, height, text, "JPEG" if quality else "PNG", quality or "", right, "of", len(bits), "bits")
            sum_ = hashlib.sha256(marked[:, :, ::-1].tobytes()).hexdigest()
            lines.append(f"{kind} {width} {height} {text.hex()} {sum_} {found[0]}\n")
    OUT.write_text("".join(lines))


if __name__ == "__main__":
    main()
