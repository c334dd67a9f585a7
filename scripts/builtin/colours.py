"""Recolouring a picture of one hue: "red apple" becomes "green apple", its leaf stays as it is.

Colours are in HSV: hue in degrees, saturation and value from 0 to 1. Only pixels near the picture's dominant hue turn;
their saturation and value move so that the middle ones meet the new colour's, and shading is kept.
"""
import numpy as np
from PIL import Image

# name: hue, saturation, value of the middle of a recoloured thing
COLOURS = {
    'red': (357, .82, .87), 'orange': (27, .90, .96), 'yellow': (49, .82, .98), 'green': (112, .65, .70),
    'blue': (212, .78, .88), 'purple': (278, .58, .74), 'pink': (334, .42, .97), 'brown': (22, .55, .50),
    'black': (0, .05, .22), 'white': (0, .02, .91), 'gray': (0, .04, .60)}
CHROMATIC = ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'brown']

NEAR_DEGREES = 28       # pixels that belong to a hue
MIN_CHROMA = .2
STEEPEST = 2
MIN_SHARE = .75         # of all chroma, that the dominant hue must have
MIN_AREA = .5           # of the thing, that it must cover


def hsv_of(rgb):
    return np.asarray(Image.fromarray(rgb).convert('HSV')) / 255. * [360, 1, 1]


def hue_distance(a, b):
    return np.abs((a - b + 180) % 360 - 180)


def dominant(rgba):
    """(mask of the pixels near the dominant hue, their middle hsv), or None where no hue dominates."""
    hsv, opaque = hsv_of(rgba[..., :3]), rgba[..., 3] > 128
    chroma = hsv[..., 1] * hsv[..., 2]
    weight = np.where(opaque & (chroma > MIN_CHROMA), chroma, 0)
    total = weight.sum()
    if total == 0:
        return None
    mass = [weight[hue_distance(hsv[..., 0], h) < NEAR_DEGREES].sum() for h in range(0, 360, 5)]
    hue = 5 * int(np.argmax(mass))
    near = (weight > 0) & (hue_distance(hsv[..., 0], hue) < NEAR_DEGREES)
    if max(mass) < MIN_SHARE * total or near.sum() < MIN_AREA * opaque.sum():
        return None
    offset = np.median((hsv[..., 0][near] - hue + 180) % 360 - 180)
    return near, ((hue + offset) % 360, np.median(hsv[..., 1][near]), np.median(hsv[..., 2][near]))


def moved(x, middle, target):
    """x in [0,1] so that middle goes to target and 0 stays; above the middle no steeper than STEEPEST."""
    low = x * (target / max(middle, 1e-3))
    high = target + (x - middle) * min((1 - target) / max(1 - middle, 1e-3), STEEPEST)
    return np.clip(np.where(x <= middle, low, high), 0, 1)


def recoloured(rgba, colour):
    """rgba (H,W,4) u8 with its dominant hue turned into colour. The soft edge of the hue's pixels is kept soft."""
    near, (hue, saturation, value) = dominant(rgba)
    target = COLOURS[colour]
    hsv = hsv_of(rgba[..., :3])
    hsv[..., 0] = (hsv[..., 0] - hue + target[0]) % 360 if colour in CHROMATIC else 0
    hsv[..., 1] = moved(hsv[..., 1], saturation, target[1]) if colour in CHROMATIC else target[1]
    hsv[..., 2] = moved(hsv[..., 2], value, target[2])
    turned = np.asarray(Image.fromarray(np.uint8(np.round(hsv / [360, 1, 1] * 255)), 'HSV').convert('RGB'))
    source = hsv_of(rgba[..., :3])
    # how much a pixel belongs to the hue: full to NEAR_DEGREES, none from 12 degrees further on and in greys
    share = np.clip((NEAR_DEGREES + 12 - hue_distance(source[..., 0], hue)) / 12, 0, 1)
    share = (share * np.clip((source[..., 1] * source[..., 2] - .08) / .12, 0, 1))[..., None]
    out = rgba.copy()
    out[..., :3] = np.round(share * turned + (1 - share) * rgba[..., :3])
    return out
