#!/usr/bin/env python3
"""What kohya's sd-scripts tells SDXL of a picture's size -> tests/golden/size_numbers.txt.

Its algorithm said again, after reading library/train_util.py (BucketManager.get_crop_ltrb and the end of __getitem__'s
loop) at commit 48d368f of February 2026; its own code gave the same for both rules and all 10,000 pictures that it takes.
A line for each of 1,000 pictures, enlarged and not in turn:
    WIDTH HEIGHT  H_ORIGINAL W_ORIGINAL TOP LEFT H_TARGET W_TARGET  LEFT_MIRRORED

    python scripts/reference/size_numbers.py        (Python alone)
"""
import pathlib

import buckets

RULES = [((1024, 1024), 512, 2048, 64, True), ((1024, 1024), 512, 2048, 64, False)]


def corner(bucket, picture):
    """(left, top, right) of the picture as it would lie in the bucket, whole."""
    wide = bucket[0] / bucket[1] > picture[0] / picture[1]
    ratio = picture[0] / picture[1]
    width = bucket[1] * ratio if wide else bucket[0]
    height = bucket[1] if wide else bucket[0] / ratio
    left, top = (bucket[0] - width) // 2, (bucket[1] - height) // 2
    return left, top, left + width


def numbers(rule, resolutions, width, height):
    bucket = buckets.fit(rule, resolutions, width, height)[:2]
    if bucket == (0, 0):
        return None
    left, top, right = corner(bucket, (width, height))
    return height, width, int(top), int(left), bucket[1], bucket[0], int(bucket[0] - right)


def main():
    lines = []
    resolutions = [buckets.sizes(*rule[:4]) for rule in RULES]
    for i, (width, height) in enumerate(buckets.pictures()):
        found = numbers(RULES[i % 2], resolutions[i % 2], width, height)
        if found and len(lines) < 1000:
            lines.append("%d %d  %d %d %d %d %d %d  %d\n" % (width, height, *found))
    root = pathlib.Path(__file__).resolve().parents[2]
    (root / "tests/golden/size_numbers.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
