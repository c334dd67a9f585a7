#!/usr/bin/env python3
"""Sizes of pictures and their buckets as kohya's sd-scripts has them -> tests/golden/buckets.txt.

Its algorithm said again, after reading library/model_util.py (make_bucket_resolutions) and library/train_util.py
(BucketManager.select_bucket, trim_and_resize_if_required) at commit 48d368f of February 2026: which size a picture is
scaled to, which bucket is cut out of it, and where. Its own code gave the same for all 80,000. Where sd-scripts divides by zero (a picture that is not enlarged and less than a step high or
wide) the answer is six zeros.

The file has for each rule a line
    rule WIDTH HEIGHT MIN MAX STEP ENLARGE BUCKETS SHA256
with the hash over the lines of all 10,000 pictures, and after it the line of every 125th:
    WIDTH HEIGHT  BUCKET_WIDTH BUCKET_HEIGHT  SCALED_WIDTH SCALED_HEIGHT  X Y

    python scripts/reference/buckets.py        (Python alone)
"""
import hashlib
import math
import pathlib

PICTURES = 10000
RULES = [  # resolution, smallest and largest side, step, enlarge
    ((512, 512), 256, 1024, 64, True),
    ((512, 512), 256, 1024, 64, False),
    ((768, 512), 256, 1536, 64, True),
    ((1024, 1024), 512, 2048, 64, True),
    ((1024, 1024), 512, 2048, 64, False),
    ((640, 704), 320, 1408, 32, True),
    ((600, 600), 256, 1024, 64, False),
    ((64, 64), 32, 128, 8, True),
]


def sizes(resolution, smallest, largest, step):
    """Every width in steps with the height that fills the area, both ways round, and the square."""
    area = resolution[0] * resolution[1]
    side = int(math.sqrt(area) // step) * step
    found = {(side, side)}
    for width in range(smallest, largest + 1, step):
        height = min(largest, area // width // step * step)
        if height >= smallest:
            found |= {(width, height), (height, width)}
    return sorted(found)


def half_up(x):
    return int(x + 0.5)


def to_nearest(buckets, width, height):
    ratio = width / height
    bucket = (width, height)
    if bucket not in buckets:
        errors = [abs(w / h - ratio) for w, h in buckets]
        bucket = buckets[errors.index(min(errors))]
    scale = bucket[1] / height if ratio > bucket[0] / bucket[1] else bucket[0] / width
    return bucket, (half_up(width * scale), half_up(height * scale))


def to_own(resolution, step, width, height):
    def rounded(x):
        return half_up(x) // step * step

    area, ratio, scaled = resolution[0] * resolution[1], width / height, (width, height)
    if width * height > area:
        fine_width = math.sqrt(area * ratio)
        fine_height = area / fine_width
        w = rounded(fine_width)
        error_w = abs(w / rounded(w / ratio) - ratio)
        h = rounded(fine_height)
        error_h = abs(rounded(h * ratio) / h - ratio)
        scaled = (w, half_up(w / ratio)) if error_w < error_h else (half_up(h * ratio), h)
    bucket = scaled[0] // step * step, scaled[1] // step * step
    bucket[0] / bucket[1]  # sd-scripts computes the error of the ratio
    if bucket[0] == 0:
        raise ZeroDivisionError
    return bucket, scaled


def fit(rule, buckets, width, height):
    resolution, _, _, step, enlarge = rule
    try:
        bucket, scaled = to_nearest(buckets, width, height) if enlarge else to_own(resolution, step, width, height)
    except ZeroDivisionError:
        return (0,) * 6
    return *bucket, *scaled, (scaled[0] - bucket[0]) // 2, (scaled[1] - bucket[1]) // 2


def pictures():
    """Sizes of every kind, from a generator that the test has too: up to 8,000, few near each other; every 16th square,
    every 16th in steps of 64, and thin ones."""
    state = 1
    for i in range(PICTURES):
        both = []
        for _ in range(2):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            both.append(state >> 33)
        width, height = 8 + both[0] % 7993, 8 + both[1] % 7993
        if i % 16 == 1:
            height = width
        elif i % 16 == 2:
            width, height = 64 + both[0] % 32 * 64, 64 + both[1] % 32 * 64
        elif i % 16 == 3:
            width, height = 8 + both[0] % 1017, 8 + both[1] % 1017
        yield width, height


def main():
    lines = []
    for rule in RULES:
        resolution, smallest, largest, step, enlarge = rule
        buckets = sizes(resolution, smallest, largest, step)
        rows = ["%d %d  %d %d  %d %d  %d %d\n" % (w, h, *fit(rule, buckets, w, h)) for w, h in pictures()]
        digest = hashlib.sha256("".join(rows).encode()).hexdigest()
        lines.append("rule %d %d %d %d %d %d %d %s\n" % (*resolution, smallest, largest, step, enlarge, len(buckets),
                                                       digest))
        lines += rows[::125]
    root = pathlib.Path(__file__).resolve().parents[2]
    (root / "tests/golden/buckets.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
