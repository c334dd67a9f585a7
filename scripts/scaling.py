#!/usr/bin/env python3
"""What several processes send each other in a training step of Stable Diffusion 1.5, and what that costs: the tables of
docs/several-processes.md.

    scripts/scaling.py

Computed, not measured. A step's gradients are f32. Exact sums send every process its part of every other's block, then
every part to all; fast sums are a reduce-scatter and an all-gather, by which as many bytes leave each process, but where
NCCL passes them from GPU to GPU in a ring, each byte crosses the wire between two machines once. What is computed and what
is sent do not overlap. The time of a micro-batch of four pictures (512², 16 bits, no checkpointing) is what
scripts/roofline.py computes for the card, at three quarters of its peak: real ones are longer, and then the share that
sending takes is smaller."""

GRADIENT = 4  # bytes
# Trained numbers: a LoRA of rank r on attention and MLP, r (28 c + 2 * 768) for each transformer block of c channels
BLOCKS = {320: 5, 640: 5, 1280: 6}
LORA = sum(n * (28 * c + 2 * 768) for c, n in BLOCKS.items())
MODELS = (("LoRA, rank 4", 4 * LORA), ("LoRA, rank 16", 16 * LORA), ("whole UNet", 859520964))
# Seconds for a micro-batch of four: a LoRA's; a whole model's computes the weights' gradients too, half as much again
CARDS = {"RTX 4090": 1 / 16.07, "A100": 1 / 29.06, "H100": 1 / 58.02}
WHOLE = 1.5
# GB/s that reach a GPU and leave it at the same time: inside a machine, and of a machine's network card
SHARE = 0.8  # of what is printed on the box
NVLINK_A100, NVLINK_H100, PCIE4 = 300 * SHARE, 450 * SHARE, 32 * SHARE
HOST = PCIE4 / 2  # GPUs that may not reach each other (RTX 4090): into the host's memory and out again
NETWORKS = {"25 Gbit": 25 / 8 * SHARE, "100 Gbit": 100 / 8 * SHARE}
INSIDE = 8  # GPUs of a machine
MESSAGE = 30e-6  # seconds for an exchange, however small


def sent(numbers, n):
    """Bytes that leave each of n processes in a step, exact or fast."""
    return 2 * (n - 1) / n * GRADIENT * numbers


def inside(numbers, n, rate):
    return 2 * MESSAGE + sent(numbers, n) / (rate * 1e9)


def between(numbers, n, rate, exact):
    """n GPUs, INSIDE a machine: what all of a machine's have for other machines goes through one card, or, in a ring,
    what one of them has."""
    outside = 2 * INSIDE * (n - INSIDE) / n * GRADIENT * numbers if exact else sent(numbers, n)
    return 2 * MESSAGE + outside / (rate * 1e9)


def size(count):
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def share(work, wait):
    return f"{100 * work / (work + wait):.0f} %"


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def bytes_a_step():
    table(["each process sends, a step", "numbers trained", "2 processes", "8", "64"],
          [[name, f"{n / 1e6:.1f} million", *(size(sent(n, k)) for k in (2, 8, 64))] for name, n in MODELS])


def eight():
    ways = (("RTX 4090, through the host (PCIe 4)", "RTX 4090", HOST), ("A100, PCIe 4", "A100", PCIE4),
            ("A100, NVLink", "A100", NVLINK_A100), ("H100, NVLink", "H100", NVLINK_H100))
    rows = []
    for name, card, rate in ways:
        row = [name]
        for model, factor in (("LoRA, rank 16", 1), ("whole UNet", WHOLE)):
            for micro in (1, 4):
                row.append(share(micro * factor * CARDS[card], inside(dict(MODELS)[model], INSIDE, rate)))
        rows.append(row)
    table(["8 GPUs in one machine", "LoRA, 1 micro-batch each", "4", "whole UNet, 1", "4"], rows)


def sixty_four():
    rows = []
    for network, rate in NETWORKS.items():
        for kind in ("exact", "fast"):
            row = [f"{network}, {kind}"]
            for model, factor in (("LoRA, rank 16", 1), ("whole UNet", WHOLE)):
                for micro in (1, 4):
                    row.append(share(micro * factor * CARDS["A100"],
                                     between(dict(MODELS)[model], 64, rate, kind == "exact")))
            rows.append(row)
    table(["64 GPUs (A100), 8 a machine", "LoRA, 1 micro-batch each", "4", "whole UNet, 1", "4"], rows)


bytes_a_step()
eight()
sixty_four()
