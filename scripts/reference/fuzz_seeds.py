"""Makes the seeds of tests/fuzz/corpus that are not written by hand: files as PyTorch's, transformers' and h5py's
users have them, small. What fuzzing found lies in the same folders, under names of its own.

    python scripts/reference/fuzz_seeds.py ATELIER        (h5py 3.16, numpy 2.4, Pillow 12)
"""

import io
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import h5py
import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests/fuzz/corpus"
GOLDEN = ROOT / "tests/golden"


def put(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


# Pictures ---------------------------------------------------------------------------------------------------------


def encode(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def pictures():
    for name in "444 420 progressive grey cmyk exif6".split():
        put("jpeg", name + ".jpg", (GOLDEN / f"pictures/jpeg-{name}.jpg").read_bytes())
    for path in sorted((GOLDEN / "pictures").glob("png-*.png")):
        if path.stat().st_size < 2500:
            put("png", path.name[4:], path.read_bytes())
    for path in sorted((GOLDEN / "pictures").glob("webp-*.webp")):
        put("webp", path.name[5:], path.read_bytes())
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (17, 24, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 8
    put("jpeg", "restarts.jpg", encode(noise, "JPEG", quality=40, restart_marker_blocks=1))
    put("jpeg", "exif-icc-comment.jpg",
        encode(noise, "JPEG", quality=20, exif=exif, icc_profile=b"x" * 200, comment=b"a comment"))
    put("png", "text.png", encode(noise.resize((8, 8)), "PNG", exif=exif, dpi=(72, 72), icc_profile=b"x" * 50))
    put("webp", "lossy-alpha-exif.webp", encode(noise.convert("RGBA"), "WEBP", quality=20, exif=exif))


# safetensors ------------------------------------------------------------------------------------------------------


def safetensors(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def tensors():
    put("safetensors", "types", safetensors(
        {"__metadata__": {"format": "pt", "note": "\u00e4\n"}, "a": entry("F32", [2, 1], 0, 8),
         "b": entry("BF16", [], 8, 10), "c": entry("I64", [1], 10, 18), "d": entry("F16", [0, 4], 18, 18),
         "e": entry("U8", [1, 1, 1, 1, 2], 18, 20)}, bytes(20)))
    put("safetensors", "empty", safetensors({}, b""))
    put("safetensors", "lora", safetensors(
        {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": entry("F16", [1, 2, 1, 1], 0, 4),
         "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": entry("F16", [2, 1, 1, 1], 4, 8),
         "lora_unet_mid_block_attentions_0_proj_in.alpha": entry("F32", [], 8, 12)}, bytes(12)))
    faults = {
        "overlap": {"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)},
        "gap": {"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)},
        "huge-shape": {"a": entry("F32", [2**62, 4], 0, 3)},
        "negative": {"a": entry("U8", [-3], 0, 3)},
        "past-the-end": {"a": entry("U8", [4], 0, 4)},
        "backwards": {"a": entry("U8", [0], 3, 0)},
        "metadata-number": {"__metadata__": {"n": 1}, "a": entry("U8", [3], 0, 3)},
        "type": {"a": entry("F8_E4M3", [3], 0, 3)},
        "dimensions": {"a": entry("U8", [1, 1, 1, 1, 1, 3], 0, 3)},
        "extra-key": {"a": entry("U8", [3], 0, 3) | {"x": 1}},
    }
    for name, header in faults.items():
        put("safetensors", name, safetensors(header, bytes(3)))
    put("safetensors", "twice", safetensors(
        b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}',
        bytes(3)))
    put("safetensors", "deep", safetensors(b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", b""))
    put("safetensors", "long-header", struct.pack("<Q", 2**63) + b"{}")
    put("safetensors", "pickle", b"PK\x03\x04" + bytes(40))
    for name in "flat.bin checkpoint.ckpt old.ckpt embedding.pt runs.ckpt module.pt protocol4.bin".split():
        put("ckpt", name, (GOLDEN / "torch" / name).read_bytes())
    # A whole model's names, every tensor one or two bytes a side.
    with open(GOLDEN / "models/sd1.safetensors", "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    small, at = {}, 0
    for key, value in header.items():
        if key == "__metadata__" or (".1." in key and "input_blocks" not in key):
            continue
        shape = [min(n, 4 if key.endswith("input_blocks.0.0.weight") else 1) for n in value["shape"]]
        size = int(np.prod(shape))
        small[key] = entry("U8", shape, at, at + size)
        at += size
    put("safetensors", "model", safetensors(small, bytes(at)))
    sdxl_files()


def sdxl_files():
    """SDXL's names, and its configurations in the metadata of a file with them and of one without."""
    small = [line.split()[0] for line in (GOLDEN / "single/sdxl/keys.txt").read_text().splitlines()]
    small = [k for k in dict.fromkeys(small) if ".transformer_blocks." not in k and "output_blocks" not in k]
    header = {k: entry("U8", [1, 4, 1, 1] if "input_blocks.0.0.w" in k else [1, 1], 0, 0) for k in small}
    at = 0
    for value in header.values():
        value["data_offsets"] = [at, at + int(np.prod(value["shape"]))]
        at = value["data_offsets"][1]
    put("safetensors", "sdxl", safetensors(header, bytes(at)))
    texts = {f"atelier:{p}/config.json": (GOLDEN / f"models/sdxl/{p}/config.json").read_text()
             for p in ("unet", "vae", "text_encoder", "text_encoder_2")}
    first = {"model.diffusion_model.input_blocks.0.0.weight": entry("U8", [1, 4, 1, 1], 0, 4)}
    put("safetensors", "sdxl-otherwise", safetensors({"__metadata__": texts, **first}, bytes(4)))
    second = {"conditioner.embedders.1.model.text_projection": entry("U8", [2, 3], 4, 10)}
    put("safetensors", "sdxl-told", safetensors({"__metadata__": texts, **first, **second}, bytes(10)))


# Datasets ---------------------------------------------------------------------------------------------------------


def columns(f, pictures, captions, names, strings):
    """What a user of h5py would write after reading docs/dataset-file.md."""
    data = np.frombuffer(b"".join(pictures), np.uint8)
    lengths = np.array([len(p) for p in pictures], np.uint64)
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.uint64)
    texts = [c.encode() for c in captions]
    ends = np.cumsum([len(t) for t in texts])
    n = len(pictures)
    f.attrs["format_version"] = 1
    f.attrs["tool"] = "h5py"
    f["images/data"] = data
    f["images/offset"] = offsets
    f["images/length"] = lengths
    f["images/width"] = np.full(n, 8, np.int64)
    f["images/height"] = np.full(n, 8, np.uint32)
    f["images/orientation"] = np.ones(n, np.uint8)
    f["images/sha256"] = np.zeros((n, 32), np.uint8)
    f["images/name"] = np.array(names, "S") if strings == "fixed" else names
    f["captions/text"] = np.frombuffer(b"".join(texts), np.uint8)
    f["captions/offset"] = np.concatenate([[0], ends]).astype(np.uint64)


def write(name, fill, **options):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "set.h5"
        with h5py.File(path, "w", **options) as f:
            fill(f)
        put("dataset", name, path.read_bytes())


def datasets(atelier):
    picture = encode(Image.new("RGB", (8, 8), (200, 30, 30)), "PNG")
    rest = [picture, picture], ["a red square", "rot"], ["a.png", "b.png"]
    write("h5py", lambda f: columns(f, *rest, "variable"))
    write("h5py-fixed", lambda f: columns(f, *rest, "fixed"))
    write("h5py-v110", lambda f: columns(f, *rest, "fixed"), libver="v110")
    write("h5py-latest", lambda f: columns(f, *rest, "variable"), libver="latest")
    write("h5py-v108", lambda f: columns(f, *rest, "variable"), libver=("v108", "v110"))

    def chunked(f):
        columns(f, *rest, "fixed")
        for name in "images/data", "images/offset", "captions/text":
            values = f[name][:]
            del f[name]
            f.create_dataset(name, data=values, chunks=(max(1, len(values) // 3),), maxshape=(None,))

    write("h5py-chunked", chunked)
    write("h5py-chunked-v110", chunked, libver="v110")

    def group(f):
        f.attrs["flag"] = True
        f.create_dataset("other", data=[1.5, 2.5], chunks=(1,), compression="gzip")
        columns(f, *rest, "variable")

    write("h5py-more", group)
    with tempfile.TemporaryDirectory() as folder:
        pictures_in = pathlib.Path(folder) / "in"
        pictures_in.mkdir()
        for name in "a.png", "b.png":
            (pictures_in / name).write_bytes(picture)
        out = pathlib.Path(folder) / "set.h5"
        subprocess.run([atelier, "data", "build", pictures_in, "--out", out, "--caption", "red"], check=True)
        put("dataset", "atelier", out.read_bytes())
    key = "0123456789abcdef" * 4

    def cache(f):
        g = f.create_group("cache/" + key)
        g["text"] = np.arange(12, dtype=np.float32).reshape(2, 6)
        g["text_hash"] = np.zeros((2, 32), np.uint8)
        g["text_check"] = np.zeros((2, 32), np.uint8)

    write("cache", cache, libver="v108")

    def shaped(f):
        g = f.create_group("cache/" + key)
        for name, shape in ("text", (2, 3, 4)), ("latent_mean", (2, 4, 2, 2)), ("latent_std", (2, 4, 2, 2)):
            g[name] = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            g[name + "_hash"] = np.zeros((2, 32), np.uint8)
            g[name + "_check"] = np.zeros((2, 32), np.uint8)

    write("cache-shaped", shaped, libver="v108")
    write("cache-shaped-h5py", shaped)
    write("cache-five-dimensions", lambda f: f.create_dataset(
        "cache/" + key + "/text", data=np.zeros((2, 1, 1, 1, 3), np.float32)))


# Texts ------------------------------------------------------------------------------------------------------------


def models():
    folder = GOLDEN / "models"
    for letter, part, file in (("u", "unet", "config.json"), ("v", "vae", "config.json"),
                               ("c", "text_encoder", "config.json"), ("s", "scheduler", "scheduler_config.json")):
        for kind in "sd1", "sd2":
            put("model_json", f"{part}-{kind}", letter + (folder / kind / part / file).read_text())
    put("model_json", "index", 'i{"metadata": {"total_size": 8}, "weight_map": {"a": "one.safetensors", '
        '"b": "two.safetensors"}}')
    put("model_json", "index-list", 'i{"weight_map": {"a": ["../x"], "b": null}}')
    put("model_json", "deep", "u" + "[" * 3000)
    put("model_json", "large-numbers", 'u{"layers_per_block": 99999999999, "block_out_channels": [-1, 1e400], '
        '"sample_size": 4.5, "down_block_types": []}')
    put("model_json", "twice", 'v{"scaling_factor": 1, "scaling_factor": 2}')


def tokenizers():
    vocabulary = {"!": 0, "a": 1, "b": 2, "a</w>": 3, "b</w>": 4, "ab": 5, "ab</w>": 6, "\u0120": 7,
                  "<|startoftext|>": 8, "<|endoftext|>": 9}
    v = json.dumps(vocabulary)
    between = "\n----\n"
    config = json.dumps({"bos_token": "<|startoftext|>", "pad_token": {"content": "!", "lstrip": False},
                         "added_tokens_decoder": {"9": {"content": "<|endoftext|>", "special": True}}})
    put("tokenizer", "files", between.join([v, "#version: 0.2\na b</w>\na b", config, '{"unk_token": "!"}', "",
                                            "ab abba <|endoftext|>"]))
    put("tokenizer", "one-file", between.join(["", "", "", "", json.dumps(
        {"added_tokens": [{"id": 9, "content": "<|endoftext|>", "normalized": False}],
         "model": {"type": "BPE", "vocab": vocabulary, "merges": ["a b", ["a", "b</w>"]]}}), "ab"]))
    put("tokenizer", "faults", between.join([v, "a\nb c d\na zz\n", '{"added_tokens_decoder": {"-1": 3}}', "[]"]))
    put("tokenizer", "ids", between.join(['{"a": -5, "b": 99999999999, "c": 1.5}', "a b"]))
    put("tokenizer", "large-ids", between.join(['{"a": 2147483646, "b": 2147483645}', "a b"]))


def main():
    pictures()
    tensors()
    datasets(sys.argv[1])
    models()
    tokenizers()


main()
