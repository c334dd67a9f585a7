"""The example pictures that configs/quickstart.yaml fine-tunes on: emoji as neon signs, bright lines on black.

    example.py FOLDER [VAE SHEET.png]   FOLDER: data/examples; with a VAE folder (needs diffusers), SHEET.png shows how
                                        much of the style passes through it: pictures above, reconstructions below

The captions follow one pattern, "frog, neon sign", so that the style can be asked for with other names too; those
in HELD_OUT are the quickstart's test and never here.
"""
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import pictures
import variants

SIDE, QUALITY = 128, 87
TRAINED = '''cat face|frog|rabbit face|fox|owl|penguin|octopus|snail|fish|butterfly|turtle|unicorn|tulip|cactus|mushroom|
red apple|banana|strawberry|carrot|cherries|hamburger|pizza|doughnut|cupcake|hot beverage|wine glass|red heart|star|
crescent moon|fire|snowflake|rocket|sailboat|bicycle|house|crown|key|bell|guitar|light bulb'''
HELD_OUT = 'dog face|panda|dolphin|rose|pineapple|ice cream|sun|airplane|trumpet|umbrella'


def names(listed):
    return [name.strip() for name in listed.replace('\n', '').split('|')]


def neon(rgba):
    """Bright lines in the things' own hues where colour or outline changes, with a glow, on black."""
    image = Image.new('RGBA', (rgba.shape[1],) * 2, (0, 0, 0, 255))
    image.alpha_composite(Image.fromarray(rgba))
    pixels = np.asarray(image.convert('RGB').filter(ImageFilter.GaussianBlur(1.2)), 'f4') / 255
    alpha = np.asarray(Image.fromarray(rgba[..., 3]).filter(ImageFilter.GaussianBlur(1.2)), 'f4')[..., None] / 255
    planes = np.concatenate([pixels, alpha], 2)
    dy, dx = np.gradient(planes, axis=(0, 1))
    edge = np.sqrt((dx ** 2 + dy ** 2).sum(2))
    line = np.clip((edge - .07) / .14, 0, 1)
    # the colour around a line: saturated, at full brightness; greys become white-blue
    around = np.asarray(image.convert('RGB').filter(ImageFilter.MaxFilter(5)), 'f4') / 255
    top, low = around.max(2, keepdims=True), around.min(2, keepdims=True)
    vivid = np.where(top - low > .12, (around - low) / np.maximum(top - low, 1e-3), [.55, .8, 1.])
    lines = Image.fromarray(np.uint8(255 * line[..., None] * (.18 + .82 * vivid)))
    wide = np.asarray(lines.filter(ImageFilter.GaussianBlur(4.5)), 'f4')
    close = np.asarray(lines.filter(ImageFilter.GaussianBlur(1.3)), 'f4')
    glowing = np.clip(np.asarray(lines, 'f4') + .9 * close + .8 * wide, 0, 255)
    return Image.fromarray(np.uint8(glowing)).resize((SIDE, SIDE), Image.LANCZOS)


def through_vae(folder, images):
    import torch
    from diffusers import AutoencoderKL
    vae = AutoencoderKL.from_pretrained(folder).float()
    x = np.stack([np.asarray(i.resize((64, 64), Image.LANCZOS)) for i in images]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        out = vae.decode(vae.encode(torch.tensor(x / 127.5 - 1).float()).latent_dist.mean).sample
    error = ((out - torch.tensor(x / 127.5 - 1)) / 2).square().mean()
    print(f'through the VAE: {-10 * np.log10(float(error)):.1f} dB')
    return np.uint8(np.clip((out.numpy() + 1) * 127.5 + .5, 0, 255)).transpose(0, 2, 3, 1), x.transpose(0, 2, 3, 1)


def main():
    folder, found = Path(sys.argv[1]), dict(variants.glyphs())
    assert not set(names(TRAINED)) & set(names(HELD_OUT)) and all(n in found for n in names(TRAINED + '|' + HELD_OUT))
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for name in names(TRAINED):
        images.append(neon(found[name]))
        path = folder / pictures.file_name(0, name)[5:]
        images[-1].save(path.with_suffix('.jpg'), quality=QUALITY, subsampling=0, optimize=True)
        path.with_suffix('.txt').write_text(f'{name}, neon sign\n')
    print(f'{len(images)} pictures, {sum(f.stat().st_size for f in folder.glob("*.jpg"))} bytes')
    if len(sys.argv) > 3:
        back, before = through_vae(sys.argv[2], images)
        rows = [np.concatenate(list(part[i:i + 10]), 1) for i in range(0, len(images), 10) for part in (before, back)]
        Image.fromarray(np.concatenate(rows)).save(sys.argv[3])


if __name__ == '__main__':
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    main()
