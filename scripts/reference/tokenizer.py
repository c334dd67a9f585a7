#!/usr/bin/env python3
"""The tokenizer's reference: transformers' CLIPTokenizer.

    tokenizer.py merges    writes infer/text/clip_merges.bin, CLIP's merges as pairs of 16-bit ids
    tokenizer.py golden    writes tests/golden/tokenizer.safetensors: 10,000 strings, and a hash of the ids that
                           each gives with CLIP's vocabulary ("clip"), with the same padded as SD2 does ("sd2"),
                           and with the built-in model's ("tiny"); BOS and EOS are not among the ids
    tokenizer.py ids TEXT  prints the ids

Ran with transformers 5.24.0, tokenizers 0.23.3, open_clip 3.3.0 (which carries OpenAI's vocabulary file).
Characters are those that Python 3.11 knows (Unicode 14): newer ones depend on the version of a library's tables. For the
same reason strings are left out that tokenizers' NFC composes otherwise than Python's: it does not know the combining
classes of marks that came after about Unicode 9.
"""
import gzip
import json
import os
import random
import struct
import sys
import tempfile
import unicodedata

import numpy
import open_clip
from safetensors.numpy import save_file
from tokenizers import normalizers
from transformers import CLIPTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STRINGS = 10000


def clip_merges():
    path = os.path.join(os.path.dirname(open_clip.__file__), "bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.open(path, "rt", encoding="utf-8").read().split("\n")
    return [tuple(line.split()) for line in lines[1:48895]]


def byte_characters():
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def clip_vocabulary():
    merges = clip_merges()
    characters = byte_characters()
    texts = characters + [c + "</w>" for c in characters] + ["".join(m) for m in merges]
    texts += ["<|startoftext|>", "<|endoftext|>"]
    return {text: i for i, text in enumerate(texts)}, merges


def write_merges():
    ids, merges = clip_vocabulary()
    with open(os.path.join(ROOT, "infer", "text", "clip_merges.bin"), "wb") as f:
        for left, right in merges:
            f.write(struct.pack("<HH", ids[left], ids[right]))


def clip_tokenizer(**settings):
    ids, merges = clip_vocabulary()
    with tempfile.TemporaryDirectory() as folder:
        json.dump(ids, open(os.path.join(folder, "vocab.json"), "w"))
        with open(os.path.join(folder, "merges.txt"), "w") as f:
            f.write("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in merges))
        json.dump({"model_max_length": 77, **settings}, open(os.path.join(folder, "tokenizer_config.json"), "w"))
        return CLIPTokenizer.from_pretrained(folder)


SUBJECTS = """cat dog castle astronaut portrait woman man child robot dragon forest city mountain river flower car train
house cottage spaceship warrior princess knight wizard owl fox horse bicycle guitar coffee cup lamp teapot avocado
armchair skyscraper volcano lighthouse galaxy nebula butterfly mushroom""".split()
STYLES = """oil painting, digital art, trending on artstation, highly detailed, 8k, 4k uhd, f/1.8, 85mm, cinematic
lighting, by greg rutkowski, studio ghibli, watercolour, pencil sketch, low-poly, isometric, art nouveau, bokeh, HDR,
ultra-realistic, Unreal Engine 5, octane render, vaporwave, masterpiece, best quality, sharp focus""".replace("\n", " ").split(", ")
SPECIAL = ["<|startoftext|>", "<|endoftext|>", "<|STARTOFTEXT|>", "<|EndOfText|>", "<|endoftext|", "|endoftext|>",
           "<|endoftext|>!!", "x<|startoftext|>y", "</w>", "<w>", "!<|STARTOFTEXT|>?"]
CONTRACTIONS = ["isn't", "It'LL", "we've", "I'm", "they'd", "you're", "dog's", "'s", "''s", "rock'n'roll", "o'clock",
                "don’t", "'Twas", "'tis", "'RE", "x'll'd've", "'", "'''t"]
WORDS = """Straße façade naïve Ångström İstanbul ıssız ΣΑΣ Σίσυφος ΟΔΥΣΣΕΥΣ ἈΡΧΉ ЁЖИК Київ ДЖЕК עברית שָׁלוֹם
العَرَبِيَّة فارسی हिन्दी বাংলা தமிழ் ไทย ខ្មែរ မြန်မာ ქართული ᲐᲑᲒ Հայերեն 日本語 カタカナ ｶﾀｶﾅ ひらがな 中文漢字 한국어 각 Việt
Ǆ ǅ ǆ ﬁ ﬃ ß ẞ Ⱥ Ⱦ K Å Ω 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐐀𐐨 Ꭰꭰ ⅷ Ⅷ ½ ² ³ ₂ ٣ ४ 一二三 ① 🄰 ⓐ e̊́ Ạ̈ ñ ñ ò́""".split()
EMOJI = """😀 😂 🥰 👍🏽 👩‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈 ❤️ ☕ ✨ 🇩🇪 1️⃣ #️⃣ 🫠 🐈‍⬛ ★ ♥ ☃ ✂️ 🤷🏿‍♀️ ™ © ® → ∞ ≠ √""".split()
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u2028", "\u3000", "\u1680", "\x85", "\u200b", "\ufeff",
          "\u180e", "\x7f", "\x1c"]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "--", "(((", ":1.3)", "&amp;", "…", "“", "”", "–", "—",
                                                           "¿", "¡", "«", "»", "、", "。", "!!", "?!", "\\("]


def assigned():
    return [c for c in map(chr, range(1, 0x110000)) if unicodedata.category(c) not in ("Cs", "Cn")
            and unicodedata.category(c) != "Co"]


def by_script(characters):
    """Characters in blocks of 128, so that a word's letters go together."""
    blocks = {}
    for c in characters:
        blocks.setdefault(ord(c) >> 7, []).append(c)
    small = [b for k, b in blocks.items() if k < 0x3400 >> 7 or k >= 0xA000 >> 7]
    large = [b for k, b in blocks.items() if 0x3400 >> 7 <= k < 0xA000 >> 7]
    return small, large


def make_strings():
    r = random.Random(20240229)
    characters = assigned()
    small, large = by_script(characters)

    def prompt(words):
        parts = [r.choice(["a", "the", "A photo of a", "portrait of"]), r.choice(SUBJECTS)]
        while len(" ".join(parts).split()) < words:
            parts.append(r.choice([r.choice(SUBJECTS), r.choice(STYLES) + ",", str(r.randrange(100000)),
                                   r.choice(CONTRACTIONS), r.choice(STYLES).upper()]))
        return " ".join(parts)

    def script_word():
        block = r.choice(small if r.random() < 0.8 else large)
        return "".join(r.choice(block) for _ in range(r.randint(1, 5)))

    def mixture():
        kinds = [lambda: r.choice(SUBJECTS), lambda: r.choice(WORDS), lambda: r.choice(EMOJI), script_word,
                 lambda: r.choice(CONTRACTIONS), lambda: r.choice(PUNCTUATION), lambda: r.choice(SPACES),
                 lambda: str(r.randrange(10 ** r.randint(1, 6))), lambda: r.choice(SPECIAL) if r.random() < .3 else "",
                 lambda: r.choice(SUBJECTS).upper(), lambda: r.choice(characters), lambda: chr(r.randrange(1, 128))]
        return "".join(r.choice(kinds)() + r.choice(["", " ", ""]) for _ in range(r.randint(1, 6)))

    strings = ["", " ", "a photo of a cat, 3d It's", "isn't It'LL 1234", "a" * 300, "ab" * 200, "\u017f", "\ufffe", "\u0378"]
    strings += SPECIAL + CONTRACTIONS + WORDS + EMOJI + SPACES + PUNCTUATION
    strings += ["the " * 500, "\u0301" * 70, "e" + "\u0323\u0302" * 9, "漢" * 200, "🐈‍⬛" * 40]
    strings += [prompt(500) for _ in range(3)] + [prompt(r.randint(1, 12)) for _ in range(1700)]
    seen = set(strings)
    nfc = normalizers.NFC()
    while len(strings) < STRINGS:
        s = mixture() if r.random() < .7 else script_word()
        if s not in seen and nfc.normalize_str(s) == unicodedata.normalize("NFC", s):
            seen.add(s)
            strings.append(s)
    return strings


def fold(ids):
    """FNV-1a over the ids as little-endian 32-bit numbers, folded to 32 bits."""
    h = 0xcbf29ce484222325
    for byte in b"".join(struct.pack("<i", i) for i in ids):
        h = (h ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return (h ^ h >> 32) & 0xffffffff


def write_golden():
    strings = make_strings()
    tiny = CLIPTokenizer.from_pretrained(os.path.join(ROOT, "data", "builtin", "tiny", "tokenizer"))
    golden = {"text": numpy.frombuffer(b"".join(s.encode() + b"\0" for s in strings), dtype=numpy.uint8)}
    for name, tokenizer in (("clip", clip_tokenizer()), ("sd2", clip_tokenizer(pad_token="!")), ("tiny", tiny)):
        ids = [tokenizer(s, add_special_tokens=False).input_ids for s in strings]
        golden[name] = numpy.array([fold(i) for i in ids], dtype=numpy.uint32).view(numpy.int32)
        print(name, "longest", max(map(len, ids)), "tokens", sum(map(len, ids)))
    save_file(golden, os.path.join(ROOT, "tests", "golden", "tokenizer.safetensors"))


if __name__ == "__main__":
    if sys.argv[1:] == ["merges"]:
        write_merges()
    elif sys.argv[1:] == ["golden"]:
        write_golden()
    elif sys.argv[1:2] == ["ids"]:
        print(clip_tokenizer()(" ".join(sys.argv[2:]), add_special_tokens=False).input_ids)
    else:
        sys.exit(__doc__)
