#!/usr/bin/env python3
"""What AUTOMATIC1111 and ComfyUI read into prompts, and what becomes of it.

    tests/golden/prompts.json          weights, schedules and chunks of some hundred texts, most of them random
    tests/golden/prompts.safetensors   states of prompts, from transformers' CLIP and numpy, for the tiny models
                                       tests/golden/models/sd1 and sd2

Written from how AUTOMATIC1111 1.10 describes its syntax (and checked against its own examples, EXAMPLES below) and
from what ComfyUI does; neither is needed. The grammar of schedules is read by lark (Earley), the code under test reads
it by recursive descent.

Ran with lark 1.3.1, torch 2.15.0, transformers 5.24.0.
"""
import json
import os
import random
import re

import lark
import numpy
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDEN = os.path.join(ROOT, "tests", "golden")
ROOM = 75

# Emphasis ---------------------------------------------------------------------------------------------------------

SIGN = re.compile(r"(?P<escape>\\[()\[\]\\]?)|(?P<open>[(\[])|:\s*(?P<weight>[+-]?[.\d]+)\s*\)|(?P<close>[)\]])"
                  r"|(?P<words>[^\\()\[\]:]+|:)")
BREAK = re.compile(r"\s*\bBREAK\b\s*")


def a1111_weights(text):
    """[[text, weight]], and ["BREAK", -1] where a chunk ends."""
    out, opened = [], {"(": [], "[": []}

    def scale(first, factor):
        for item in out[first:]:
            item[1] *= factor

    for m in SIGN.finditer(text):
        kind, whole = m.lastgroup, m.group(0)
        if kind == "escape":
            out.append([whole[1:], 1.0])
        elif kind == "open":
            opened[whole].append(len(out))
        elif kind == "weight" and opened["("]:
            scale(opened["("].pop(), float(m["weight"]))
        elif kind == "close" and opened["(" if whole == ")" else "["]:
            scale(opened["(" if whole == ")" else "["].pop(), 1.1 if whole == ")" else 1 / 1.1)
        else:
            for i, part in enumerate(BREAK.split(whole)):
                out += [["BREAK", -1.0] for _ in range(i > 0)]
                out.append([part, 1.0])
    for sign, factor in (("(", 1.1), ("[", 1 / 1.1)):
        for first in opened[sign]:
            scale(first, factor)
    merged = []
    for item in out or [["", 1.0]]:
        if merged and merged[-1][1] == item[1]:
            merged[-1][0] += item[0]
        else:
            merged.append(list(item))
    return merged


def comfy_weights(text, weight=1.0, hidden=False):
    text = text if hidden else text.replace("\\)", "\0\1").replace("\\(", "\0\2")
    items, item, level = [], "", 0
    for sign in text:
        if sign == "(":
            if level == 0 and item:
                items.append(item)
                item = ""
            level += 1
        item += sign
        if sign == ")":
            level -= 1
            if level == 0:
                items.append(item)
                item = ""
    out = []
    for item in items + [item] * bool(item):
        if len(item) < 2 or item[0] != "(" or item[-1] != ")":
            out.append([item.replace("\0\1", ")").replace("\0\2", "("), weight])
            continue
        inner, own = item[1:-1], weight * 1.1
        colon = inner.rfind(":")
        if colon > 0:
            try:
                inner, own = inner[:colon], float(inner[colon + 1:])
            except ValueError:
                pass
        out += comfy_weights(inner, own, True)
    return out


# Schedules --------------------------------------------------------------------------------------------------------

GRAMMAR = lark.Lark(r"""
    start: (part | STRAY)*
    ?part: words | bracket | scheduled | alternate
    prompt: part*
    words: /(?:[^\\\[\]():|]|\\.)+/
    STRAY: /[\[\]():]/
    bracket: "(" prompt ")" -> round | "(" prompt ":" prompt ")" -> weighted | "[" prompt "]" -> square
    scheduled: "[" prompt ":" _number "]" -> from_on | "[" prompt ":" prompt ":" _number "]" -> from_to
    _number: /\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*/
    alternate: "[" prompt ("|" prompt)+ "]"
""", ambiguity="resolve")


def last_step(number, steps):
    number = number.strip()
    return min(steps, int(float(number) * steps if "." in number else float(number)))


def write(node, step, steps, ends):
    def inner(child):
        return write(child, step, steps, ends)

    if isinstance(node, lark.Token):
        return str(node)
    kind, children = node.data, node.children
    if kind in ("from_on", "from_to"):
        end = last_step(children[-1], steps)
        ends.update({end} if end >= 1 else set())
        texts = [inner(child) for child in children[:-1]]
        return ([""] + texts if kind == "from_on" else texts)[step > end]
    if kind == "alternate":
        ends.update(range(1, steps + 1))
        return [inner(child) for child in children][(step - 1) % len(children)]
    around = {"round": "()", "weighted": "()", "square": "[]"}.get(kind)
    texts = [inner(child) for child in children]
    return around[0] + ":".join(texts) + around[1] if around else "".join(texts)


def schedule(text, steps):
    """[[last step, text]]"""
    try:
        tree = GRAMMAR.parse(text)
    except lark.exceptions.LarkError:
        return [[steps, text]]
    ends = {steps}
    write(tree, 1, steps, ends)
    return [[end, write(tree, end, steps, set())] for end in sorted(ends)]


# A1111's own examples, of ten steps
EXAMPLES = {
    "test": [[10, "test"]],
    "a [b:3]": [[3, "a "], [10, "a b"]],
    "a [b: 3]": [[3, "a "], [10, "a b"]],
    "a [[[b]]:2]": [[2, "a "], [10, "a [[b]]"]],
    "[(a:2):3]": [[3, ""], [10, "(a:2)"]],
    "a [b : c : 1] d": [[1, "a b  d"], [10, "a  c  d"]],
    "a[b:[c:d:2]:1]e": [[1, "abe"], [2, "ace"], [10, "ade"]],
    "a [unbalanced": [[10, "a [unbalanced"]],
    "a [b:.5] c": [[5, "a  c"], [10, "a b c"]],
    "((a][:b:c [d:3]": [[3, "((a][:b:c "], [10, "((a][:b:c d"]],
    "[a|(b:1.1)]": [[i, ["(b:1.1)", "a"][i % 2]] for i in range(1, 11)],
    "[fe|]male": [[i, ["male", "female"][i % 2]] for i in range(1, 11)],
    "[fe|||]male": [[i, "female" if i % 4 == 1 else "male"] for i in range(1, 11)],
}
WEIGHT_EXAMPLES = {
    "normal text": [["normal text", 1.0]],
    "an (important) word": [["an ", 1.0], ["important", 1.1], [" word", 1.0]],
    "(unbalanced": [["unbalanced", 1.1]],
    "\\(literal\\]": [["(literal]", 1.0]],
    "(unnecessary)(parens)": [["unnecessaryparens", 1.1]],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).":
        [["a ", 1.0], ["house", 1.5730000000000004], [" ", 1.1], ["on", 1.0], [" a ", 1.1], ["hill", 0.55],
         [", sun, ", 1.1], ["sky", 1.4641000000000006], [".", 1.1]],
}


def random_texts(count, signs, seed):
    r = random.Random(seed)
    return ["".join(r.choice(signs) for _ in range(r.randint(1, 14))) for _ in range(count)]


# Chunks -----------------------------------------------------------------------------------------------------------

def tokens_of(tokenizer, text):
    return tokenizer(text, truncation=False, add_special_tokens=False, verbose=False)["input_ids"]


def a1111_chunks(tokenizer, text, backtrack=20, parse=a1111_weights):
    """[[(token, weight)]] without BOS and EOS."""
    comma = tokens_of(tokenizer, ",")
    comma = comma[0] if len(comma) == 1 else None
    chunks, chunk, last = [], [], -1
    for words, weight in parse(text):
        if words == "BREAK" and weight == -1:
            chunks.append(chunk)
            chunk, last = [], -1
            continue
        for token in tokens_of(tokenizer, words):
            if token == comma:
                last = len(chunk)
            elif backtrack and len(chunk) == ROOM and last >= 0 and ROOM - last <= backtrack:
                chunks.append(chunk[:last + 1])
                chunk, last = chunk[last + 1:], -1
            if len(chunk) == ROOM:
                chunks.append(chunk)
                chunk, last = [], -1
            chunk.append((token, weight))
    return chunks + [chunk] if chunk or not chunks else chunks


def comfy_chunks(tokenizer, text):
    chunks = [[]]
    for words, weight in comfy_weights(text):
        group = [(token, weight) for token in tokens_of(tokenizer, words)]
        large = len(group) >= 8
        while group:
            room = ROOM - len(chunks[-1])
            if len(group) <= room:
                chunks[-1] += group
                break
            if large:
                chunks[-1] += group[:room]
                group = group[room:]
            chunks.append([])
    return chunks


def plain_chunks(tokenizer, text):
    return a1111_chunks(tokenizer, text, 0, lambda t: [[t, 1.0]])


CHUNKERS = {"plain": plain_chunks, "a1111": a1111_chunks, "comfy": comfy_chunks}


def padded(tokenizer, chunk):
    ids = [tokenizer.bos_token_id] + [t for t, _ in chunk] + [tokenizer.eos_token_id]
    weights = [1.0] + [w for _, w in chunk] + [1.0] * (ROOM + 1 - len(chunk))
    return ids + [tokenizer.pad_token_id] * (ROOM + 2 - len(ids)), weights


LONG = "a red heart, a blue fish and a green tree in the snow, " * 6
CHUNK_TEXTS = [
    "", "a (red:1.3) heart", LONG, LONG.replace(",", ""), LONG[:-2], "a BREAK b", "BREAK", "a BREAK", "BREAK a BREAK",
    "a (b BREAK c:0.5) d", "(" + LONG + ":1.2)", "x " * 70 + "(one two three four five six seven:1.2) y",
    "x " * 70 + "(one two three four five six seven eight nine ten:1.2) y", "x, " * 37 + "y, z, " * 8,
    "a \\(b\\) [c] (d) ((e:1.5) f)",
    # a comma in place 55 of 75 is near enough to end the chunk, in place 54 it is not; one in place 76 is no end
    *("x " * n + ", " + "y " * 30 for n in (54, 55, 60, 74, 75)), "x " * 55 + "(, " + "y " * 30 + ":1.2)",
]

# States -----------------------------------------------------------------------------------------------------------


def encode(model, tokenizer, chunk, skip):
    ids, _ = padded(tokenizer, chunk)
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_hidden_states=True)
        inner = getattr(model, "text_model", model)
        states = inner.final_layer_norm(out.hidden_states[-1 - skip])
    return states[0].numpy().astype(numpy.float64)


def states(model, tokenizer, syntax, texts, skip):
    """Of all texts of a schedule, each as often as it stands in it."""
    chunked = [CHUNKERS[syntax](tokenizer, t) for t in texts]
    count = max(len(c) for c in chunked)
    chunked = [c + [[]] * (count - len(c)) for c in chunked]
    out = [[] for _ in texts]
    weighted = [any(w != 1 for chunk in c for _, w in chunk) for c in chunked]
    for k in range(count):
        z = numpy.stack([encode(model, tokenizer, c[k], skip) for c in chunked])
        w = numpy.array([padded(tokenizer, c[k])[1] for c in chunked])[:, :, None]
        if syntax == "comfy":
            empty = encode(model, tokenizer, [], skip)[None]
            z = numpy.where(w != 1, (z - empty) * w + empty, z)
        elif any(weighted):
            mean = z.mean()
            z = z * w
            z *= mean / z.mean()
        for i in range(len(texts)):
            out[i].append(z[i])
    return [numpy.concatenate(o).astype(numpy.float32) for o in out]


# name: syntax, text, steps, the step (from 0) that is compared, layers left out
STATES = {
    "plain": ("plain", LONG, 20, 0, 0),
    "short": ("a1111", "a (red:1.4) [heart], fish", 20, 3, 0),
    "long": ("a1111", LONG + "(a blue dog:0.7)", 20, 0, 1),
    "before": ("a1111", "a [cat:(dog:1.5):0.5] in the (snow)", 20, 10, 0),
    "after": ("a1111", "a [cat:(dog:1.5):0.5] in the (snow)", 20, 11, 0),
    "alternate": ("a1111", "a [cat|(dog:1.5)|fish] in the snow", 20, 6, 0),
    "longer": ("a1111", "a [cat:" + LONG + ":3]", 20, 2, 0),
    "break": ("a1111", "a cat BREAK (a dog:1.2)", 20, 0, 0),
    "comfy": ("comfy", "a (red:1.4) heart, ((fish):0.8)", 20, 0, 0),
    "comfy.long": ("comfy", LONG + "(a blue dog:0.7)", 20, 0, 1),
}


def with_embedding(model, tokenizer):
    """A model whose last two tokens are the vectors of tests/fuzz/corpus/embedding/a1111.safetensors."""
    vectors = load_file(os.path.join(ROOT, "tests", "fuzz", "corpus", "embedding", "a1111.safetensors"))["emb_params"]
    count = model.config.vocab_size
    model.resize_token_embeddings(count + len(vectors), mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[count:] = vectors
    name = tokens_of(tokenizer, "toy")

    def chunks(tokenizer, text):
        out = []
        for token, weight in a1111_chunks(tokenizer, text)[0]:
            out.append((token, weight))
            if [t for t, _ in out[-len(name):]] == name:
                out[-len(name):] = [(count + i, weight) for i in range(len(vectors))]
        return [out]
    return chunks


def main():
    assert all(schedule(t, 10) == want for t, want in EXAMPLES.items()), "a schedule is not A1111's"
    assert all(a1111_weights(t) == want for t, want in WEIGHT_EXAMPLES.items()), "weights are not A1111's"
    signs = ["a", "b ", "c", "(", ")", "[", "]", ":", "\\", "\\(", " BREAK ", "(x:1.3)", ":0.5)", "[y]", ","]
    texts = list(WEIGHT_EXAMPLES) + random_texts(200, signs, 1)
    dates = ["a", "b", " ", "(", ")", "[", "]", ":", "|", "[", ":3]", ":0.4]", "[a:b:0.5]", "[a|b]", "\\[", "(c:1.2)"]
    golden = {
        "a1111": [{"text": t, "runs": a1111_weights(t)} for t in texts],
        "comfy": [{"text": t, "runs": comfy_weights(t)} for t in texts],
        "schedules": [{"text": t, "steps": 10, "parts": schedule(t, 10)}
                      for t in list(EXAMPLES) + random_texts(300, dates, 2)],
        "chunks": [], "states": [],
    }
    tensors = {}
    for kind in ("sd1", "sd2"):
        folder = os.path.join(GOLDEN, "models", kind)
        tokenizer = CLIPTokenizer.from_pretrained(os.path.join(folder, "tokenizer"))
        model = CLIPTextModel.from_pretrained(os.path.join(folder, "text_encoder"), torch_dtype=torch.float32).eval()
        for syntax, chunker in CHUNKERS.items():
            for t in CHUNK_TEXTS:
                chunks = [padded(tokenizer, c) for c in chunker(tokenizer, t)]
                golden["chunks"].append({"model": kind, "syntax": syntax, "text": t, "ids": [c[0] for c in chunks],
                                         "weights": [c[1] for c in chunks]})
        for name, (syntax, text, steps, step, skip) in STATES.items():
            parts = schedule(text, steps) if syntax == "a1111" else [[steps, text]]
            which = next((i for i, p in enumerate(parts) if step <= p[0]), len(parts) - 1)
            key = f"{kind}.{name}"
            tensors[key] = states(model, tokenizer, syntax, [p[1] for p in parts], skip)[which]
            golden["states"].append({"model": kind, "key": key, "syntax": syntax, "text": text, "steps": steps,
                                     "step": step, "clip_skip": skip})
        if kind == "sd1":
            CHUNKERS["embedding"] = with_embedding(model, tokenizer)
            text = "a toy heart, (toy:1.3) toy"
            tensors["sd1.embedding"] = states(model, tokenizer, "embedding", [text], 0)[0]
            del CHUNKERS["embedding"]
    with open(os.path.join(GOLDEN, "prompts.json"), "w") as f:
        json.dump(golden, f, indent=None, separators=(",", ":"))
    save_file(tensors, os.path.join(GOLDEN, "prompts.safetensors"))


if __name__ == "__main__":
    main()
