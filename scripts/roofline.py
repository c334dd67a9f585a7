#!/usr/bin/env python3
"""What Stable Diffusion 1.5's UNet takes of a GPU at least: arithmetic and bytes of every operation, as Atelier computes
them, and the time that a card's tensor cores and memory need for each, whichever is longer.

    scripts/roofline.py [--size 512] [--batch 2]

Computed, not measured. An operation's bytes are its inputs, weights and results, each once, in 16 bits; its time is
the larger of arithmetic / (SHARE of the peak of 16-bit products with f32 sums) and bytes / (SHARE of the memory's
rate): shares that good kernels reach, not what these were seen to reach. In 8 bits (--quantise int8-dynamic) inputs are
read twice, for their range and to be rounded, what was rounded is written and read, and weights are bytes, a
convolution's turned into another order on the way. With checkpointing all but convolutions, attention over large maps and
what takes as much arithmetic for its size (kernels/tape.c) is computed a second time."""
import argparse

SHARE_PRODUCTS, SHARE_MEMORY = 0.75, 0.85
LAUNCH = 1.5e-6  # seconds between two kernels of a graph
# 16-bit products with f32 sums, TFLOP/s dense (by mma.sync on Hopper: 65 % of what wgmma reaches); GB/s
CARDS = {"RTX 3060": (25.6, 360), "RTX 4090": (165, 1008), "A100 40 GB": (312, 1555), "H100 SXM": (643, 3350),
         "H200": (643, 4800)}
BYTES = {"RTX 3060": 102, "RTX 4090": 660, "A100 40 GB": 624, "H100 SXM": 1286, "H200": 1286}  # products of 8 bits, dense
# products of f32, dense: in TF32 (half of 16 bits), and as they are
F32 = {"RTX 3060": (12.7, 12.7), "RTX 4090": (82.6, 82.6), "A100 40 GB": (156, 19.5), "H100 SXM": (321, 66.9),
       "H200": (321, 66.9)}
CHANNELS = (320, 640, 1280, 1280)
HEADS, TEXT, TOKENS = 8, 768, 77
SET, WHOLE = 64, 40960  # kernels/cuda/norm.cu
DEAR = 4096  # FLOP an element of the result, from which checkpointing keeps it


class Operations:
    """Each a family, FLOP, and numbers that are read or written; bytes is what it moves in 8 bits, 0: it is not; again
    whether checkpointing computes it twice."""

    def __init__(self):
        self.all, self.bytes, self.again = [], [], []

    def add(self, family, flop, numbers, in_bytes=0, again=True):
        self.all.append((family, flop, numbers))
        self.bytes.append(in_bytes)
        self.again.append(again)

    def conv(self, b, side, c, k, window=3, out=None, taps=None):
        out = out or side
        taps = taps or window * window
        x, y, w = b * side * side * c, b * out * out * k, window * window * c * k
        narrow = taps == 9 and c % 16 == 0 and k > 4
        self.add("convolution", 2 * b * out * out * k * c * taps, x + y + w, narrow * (6 * x + 2 * y + 3 * w),
                 False)

    def linear(self, rows, c, k, extra=0, again=True):
        x, y, w = rows * c, rows * k, c * k
        self.add("linear", 2 * rows * c * k, x + w + y + extra, (rows >= 16) * (6 * x + 2 * y + 2 * w + 2 * abs(extra)),
                 again and 2 * c < DEAR)

    def group_norm(self, b, side, c):
        reads = 1 if side * side * SET <= WHOLE else 2  # what one block has it finds in the caches again
        self.add("norm", 8 * b * side * side * c, (reads + 1) * b * side * side * c)

    def layer_norm(self, numbers):
        self.add("norm", 8 * numbers, 2 * numbers)  # a row stays in registers

    def attention(self, b, n, m, width):
        self.add("attention", 4 * b * n * m * width, 2 * b * n * width + 2 * b * m * width, again=4 * m < DEAR)


def resnet(o, b, side, c, k):
    n = b * side * side
    o.group_norm(b, side, c), o.conv(b, side, c, k), o.linear(b, 1280, k), o.group_norm(b, side, k), o.conv(b, side, k, k)
    if c != k:
        o.linear(n, c, k)


def transformer(o, b, side, c):
    rows = b * side * side
    o.group_norm(b, side, c), o.linear(rows, c, c)
    for kv_rows, kv in ((rows, c), (b * TOKENS, TEXT)):
        o.layer_norm(rows * c)
        o.linear(rows, c, c), o.linear(kv_rows, kv, c), o.linear(kv_rows, kv, c)
        o.attention(b, side * side, kv_rows // b, c)
        o.linear(rows, c, c, rows * c)  # with the residual
    o.layer_norm(rows * c)
    o.linear(rows, c, 8 * c, -4 * rows * c)  # under a GEGLU, which writes half of it
    o.linear(rows, 4 * c, c, rows * c)
    o.linear(rows, c, c, rows * c, again=False)  # the block's own result


def unet(b, side):
    o = Operations()
    o.conv(b, side, 4, CHANNELS[0])
    skips, c = [CHANNELS[0]], CHANNELS[0]
    for level, k in enumerate(CHANNELS):
        for _ in range(2):
            resnet(o, b, side, c, k)
            c = k
            if level < 3:
                transformer(o, b, side, c)
            skips.append(c)
        if level < 3:
            o.conv(b, side, c, c, out=side // 2)
            side //= 2
            skips.append(c)
    resnet(o, b, side, c, c), transformer(o, b, side, c), resnet(o, b, side, c, c)
    for level, k in reversed(list(enumerate(CHANNELS))):
        for _ in range(3):
            resnet(o, b, side, c + skips.pop(), k)
            c = k
            if level < 3:
                transformer(o, b, side, c)
        if level > 0:
            o.conv(b, side, c, c, out=2 * side, taps=4)  # of the 9 pixels that a window sees in a doubled map 4 differ
            side *= 2
    o.group_norm(b, side, c), o.conv(b, side, c, 4)
    return o


def seconds(card, flop, numbers):
    products, memory = CARDS[card]
    return max(flop / (products * 1e12 * SHARE_PRODUCTS), 2 * numbers / (memory * 1e9 * SHARE_MEMORY)) + LAUNCH


def step_in_bytes(card, o):
    """One forward with products of 8 bits where they are the faster ones, as the program chooses them."""
    total = 0
    for (family, flop, numbers), moved in zip(o.all, o.bytes):
        wide = seconds(card, flop, numbers)
        narrow = max(flop / (BYTES[card] * 1e12 * SHARE_PRODUCTS), moved / (CARDS[card][1] * 1e9 * SHARE_MEMORY))
        total += min(wide, narrow + 3 * LAUNCH) if moved else wide
    return total


def step_in_f32(card, o, exact):
    return sum(max(flop / (F32[card][exact] * 1e12 * SHARE_PRODUCTS), 4 * numbers / (CARDS[card][1] * 1e9 * SHARE_MEMORY))
               + LAUNCH for family, flop, numbers in o.all)


def step(card, o, trained=False, checkpointing=False):
    """The gradient of the input is as much arithmetic as the forward; attention's is two and a half times."""
    total = 0
    for (family, flop, numbers), again in zip(o.all, o.again):
        back = 2.5 if family == "attention" else 1
        total += (2 if checkpointing and again else 1) * seconds(card, flop, numbers)
        total += seconds(card, back * flop, back * numbers) if trained else 0
    return total


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--batch", type=int, default=2)
    a = p.parse_args()
    o = unet(a.batch, a.size // 8)
    families = {}
    for family, flop, numbers in o.all:
        f = families.setdefault(family, [0, 0, 0])
        f[0] += 1
        f[1] += flop
        f[2] += 2 * numbers
    print(f"| UNet, batch {a.batch}, {a.size}² | operations | TFLOP | GB |", "\n|---|---|---|---|", sep="")
    for family, (count, flop, size) in families.items():
        print(f"| {family} | {count} | {flop / 1e12:.3f} | {size / 1e9:.2f} |")
    print(f"| all | {len(o.all)} | {sum(f[1] for f in families.values()) / 1e12:.3f} "
          f"| {sum(f[2] for f in families.values()) / 1e9:.2f} |\n")
    print("| computed | " + " | ".join(CARDS) + " |\n|---|" + "---|" * len(CARDS))
    for family in families:
        times = [sum(seconds(card, f, n) for kind, f, n in o.all if kind == family) for card in CARDS]
        print(f"| {family}, ms | " + " | ".join(f"{1e3 * t:.2f}" for t in times) + " |")
    print("| guided sampling steps a second | " +
          " | ".join(f"{1 / step(card, o):.1f}" for card in CARDS) + " |")
    print("| the same with products of 8 bits | " +
          " | ".join(f"{1 / step_in_bytes(card, o):.1f}" for card in CARDS) + " |")
    for what, exact in (("the same in f32, by TF32", False), ("the same in f32 as it is", True)):
        print(f"| {what} | " + " | ".join(f"{1 / step_in_f32(card, o, exact):.1f}" for card in CARDS) + " |")
    four = unet(4, a.size // 8)
    for what, twice in (("LoRA steps a second, batch 4, checkpointing", True), ("the same without checkpointing", False)):
        print(f"| {what} | " + " | ".join(f"{1 / step(card, four, True, twice):.2f}" for card in CARDS) + " |")


if __name__ == "__main__":
    main()
