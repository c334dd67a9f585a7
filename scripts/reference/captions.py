#!/usr/bin/env python3
"""What a caption may become in kohya's sd-scripts, and how often each -> tests/golden/captions.json.

Its process_caption (library/train_util.py, read in 2026) said again: prefix and suffix; the whole dropped; one of the lines,
or the first; one of each wildcard's words; kept and other parts apart; the others shuffled, then some left out; joined with
", ". What it draws at random is asked of Fate here, which goes through every answer that there is: so each outcome's share
is exact, whatever generator draws.

Left out is what Atelier means to do otherwise: empty parts ("a,,b") are no parts, a keep_separator is taken out of the
caption also where nothing is shuffled or left out, and a prefix belongs to each line that may be taken.

    python scripts/reference/captions.py        (Python alone)
"""
import json
import pathlib
import re
from fractions import Fraction


class Fate:
    """Answers from a script; past its end the first answer of each question, which is written down to be varied."""

    def __init__(self, script):
        self.script, self.asked, self.share = script, [], Fraction(1)

    def answer(self, shares):
        i = self.script[len(self.asked)] if len(self.asked) < len(self.script) else 0
        self.asked.append((i, len(shares)))
        self.share *= shares[i]
        return i

    def below(self, n):
        return self.answer([Fraction(1, n)] * n)

    def happens(self, rate):
        return rate > 0 and self.answer([1 - Fraction(rate), Fraction(rate)]) == 1


def outcomes(make):
    """The share of each result of make(fate), over all that fate may answer."""
    found, script = {}, []
    while True:
        fate = Fate(script)
        result = make(fate)
        found[result] = found.get(result, 0) + fate.share
        asked = fate.asked
        while asked and asked[-1][0] == asked[-1][1] - 1:
            asked.pop()
        if not asked:
            return found
        script = [i for i, _ in asked[:-1]] + [asked[-1][0] + 1]


def shuffled(parts, fate):
    rest, out = list(parts), []
    while rest:
        out.append(rest.pop(fate.below(len(rest)) if len(rest) > 1 else 0))
    return out


def with_wildcards(text, fate):
    lines = text.split("\n")
    if len(lines) > 1:
        text = lines[fate.below(len(lines))]
    text = text.replace("{{", "\0").replace("}}", "\1")

    def choose(match):
        words = match.group(1).split("|")
        return words[fate.below(len(words))] if len(words) > 1 else words[0]

    return re.sub(r"\{([^}]+)\}", choose, text).replace("\0", "{").replace("\1", "}")


def parts_of(text, separator):
    return [part.strip() for part in text.split(separator) if part.strip()]


def process(text, s, fate):
    if s.get("prefix"):
        text = s["prefix"] + " " + text
    if s.get("suffix"):
        text = text + " " + s["suffix"]
    if fate.happens(s.get("dropout", 0)):
        return ""
    text = with_wildcards(text, fate) if s.get("wildcards") else text.split("\n")[0]
    rate = s.get("tag_dropout", 0)
    if not s.get("shuffle") and not rate:
        return text
    separator, mark = s.get("separator", ","), s.get("keep_separator")
    last = []
    if mark and mark in text:
        first, rest = text.split(mark, 1)
        if mark in rest:
            rest, end = rest.split(mark, 1)
            last = parts_of(end, separator)
        first, rest = parts_of(first, separator), parts_of(rest, separator)
    else:
        rest = parts_of(text, separator)
        first, rest = rest[: s.get("keep_tokens", 0)], rest[s.get("keep_tokens", 0) :]
    if s.get("shuffle"):
        rest = shuffled(rest, fate)
    rest = [part for part in rest if not fate.happens(rate)]
    return ", ".join(first + rest + last)


QUARTER, HALF = 0.25, 0.5
CASES = [
    ("a photo of a cat", {"prefix": "sks", "suffix": "in the snow"}),
    ("a, b, c", {"shuffle": True}),
    ("a, b, c, d", {"shuffle": True, "keep_tokens": 1}),
    ("a, b, c", {"shuffle": True, "keep_tokens": 1, "prefix": "sks,"}),
    ("a, b", {"shuffle": True, "keep_tokens": 2, "prefix": "sks"}),
    ("a, b", {"shuffle": True, "suffix": ", end"}),
    ("a, b", {"shuffle": True, "suffix": "end"}),
    ("a, b", {"shuffle": True, "keep_tokens": 9}),
    ("sks dog, good ||| a, b, c", {"shuffle": True, "keep_separator": "|||"}),
    ("sks dog ||| a, b ||| photo, x", {"shuffle": True, "keep_separator": "|||", "keep_tokens": 3}),
    ("sks, a, b", {"shuffle": True, "keep_separator": "|||", "keep_tokens": 1}),
    ("||| a, b, c", {"shuffle": True, "keep_separator": "|||"}),
    ("a, b ||| c ||| d ||| e", {"shuffle": True, "keep_separator": "|||"}),
    ("a; b, c; d", {"shuffle": True, "separator": ";"}),
    ("a, b, c", {"tag_dropout": QUARTER}),
    ("a, b, c", {"tag_dropout": HALF, "shuffle": True, "keep_tokens": 1}),
    ("k ||| a, b ||| z", {"tag_dropout": HALF, "keep_separator": "|||"}),
    ("a cat", {"dropout": QUARTER, "prefix": "sks"}),
    ("a, b", {"dropout": HALF, "shuffle": True}),
    ("a {red|green|blue} cat", {"wildcards": True}),
    ("{a|b}{c|}, {d}", {"wildcards": True}),
    ("{a, b|c}, x", {"wildcards": True, "shuffle": True}),
    ("{{a|b}} {c|d", {"wildcards": True}),
    ("{a{b|c}} {} }", {"wildcards": True}),
    ("{a|a|b}", {"wildcards": True, "tag_dropout": HALF}),
    ("one, x\ntwo\n{three|four}", {"wildcards": True, "lines": "pick"}),
    ("one, x\ntwo\n{three|four}", {"lines": "first"}),
    ("x {y|z}, b, c", {"wildcards": True, "shuffle": True, "keep_tokens": 1, "prefix": "{p|q}", "suffix": ", s"}),
]


def main():
    cases = []
    for text, settings in CASES:
        found = outcomes(lambda fate: process(text, settings, fate))
        assert sum(found.values()) == 1
        cases.append({"caption": text, "settings": settings, "outcomes": {k: float(v) for k, v in sorted(found.items())}})
    root = pathlib.Path(__file__).resolve().parents[2]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (root / "tests/golden/captions.json").write_text("[\n" + lines + "\n]\n")


main()
