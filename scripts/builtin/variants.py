"""The training set of builtin:tiny: about 40 variants of each emoji with captions of their own, in one dataset file.

    variants.py FILE.h5 [SHEET.png]     SHEET.png: some of them in a grid, to look at

Most variants of a name are on white with the plain name as caption: exact, or a little moved and scaled. None is
mirrored: nothing in a caption would tell the two apart, and the model would draw either. The others name what they
change: the colour of things of one hue, the background, a small size, no colours; some captions are phrases around the
name. The colour-and-thing pairs in held_out.txt are never made. The same file comes out each
time: all that is drawn is drawn from the picture's number.
"""
import io
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from fontTools.ttLib import TTFont

import colours
import h5set
import pictures

SIDE = 64
EXACT, MOVED = 6, 22            # plain captions
PHRASES, BACKGROUNDS, RECOLOURED = 4, 4, 6
PHRASE = ['a photo of {a}', 'a picture of {a}', 'an emoji of {a}', '{a}', '{name} emoji', 'a drawing of {a}',
          'a photo of {a} on a white background', '{name} on white']
BACKGROUND = {
    'red': (214, 40, 45), 'orange': (245, 140, 30), 'yellow': (250, 214, 70), 'green': (70, 160, 70),
    'blue': (50, 110, 210), 'purple': (125, 70, 165), 'pink': (250, 160, 195), 'brown': (120, 78, 50),
    'black': (0, 0, 0), 'gray': (135, 135, 135)}
# the everyday word for a thing with a longer name; its pictures are some of the thing's
EVERYDAY = {
    'red apple': 'apple', 'red heart': 'heart', 'red circle': 'circle', 'red square': 'square',
    'automobile': 'car', 'deciduous tree': 'tree', 'closed book': 'book', 'hot beverage': 'coffee',
    'doughnut': 'donut', 'airplane': 'plane', 'mobile phone': 'phone', 'bicycle': 'bike', 't-shirt': 'shirt',
    'hamburger': 'burger', 'sailboat': 'boat', 'lady beetle': 'ladybug', 'desktop computer': 'computer',
    'television': 'tv', 'wrapped gift': 'gift', 'light bulb': 'lamp', "man's shoe": 'shoe', "woman's hat": 'hat',
    'bouquet': 'flowers', 'blossom': 'flower', 'high voltage': 'lightning', 'slightly smiling face': 'smiley',
    'baby chick': 'chick', 'soccer ball': 'football', 'musical note': 'music', 'film projector': 'movie',
    'pile of poo': 'poop', 'beer mug': 'beer', 'locomotive': 'steam train', 'kitchen knife': 'knife',
    'ear of corn': 'corn', 'T-Rex': 'dinosaur', 'globe showing Americas': 'earth',
    'wine glass': 'wine', 'french fries': 'fries'}
EVERYDAY_PLAIN = 4      # of MOVED


def article(name):
    """name with a or an before it, or as it is when it looks like a plural."""
    if re.search(r'(?<!s|u)s$', name) or name[0].isupper():
        return name
    return ('an ' if name[0] in 'aeiou' else 'a ') + name


def held_out():
    """A pattern that finds the pairs of held_out.txt inside captions."""
    lines = (Path(__file__).parent / 'held_out.txt').read_text().splitlines()
    return re.compile(r'\b(' + '|'.join(l for l in lines if l and l[0] != '#') + r')\b')


def glyphs():
    """[(name, (136,136,4) u8)] in pictures.py's order, before white is put behind."""
    font = TTFont(pictures.FONT)
    cmap, bitmaps, names = font.getBestCmap(), font['CBDT'].strikeData[0], pictures.cldr_names()
    out = []
    for points, (group, subgroup) in pictures.emoji_groups().items():
        if len(points) != 1 or points not in names or not pictures.wanted(group, subgroup):
            continue
        if cmap.get(ord(points)) in bitmaps:
            image = Image.open(io.BytesIO(bitmaps[cmap[ord(points)]].imageData)).convert('RGBA')
            square = Image.new('RGBA', (max(image.size),) * 2, (255, 255, 255, 0))
            square.paste(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))
            out.append((names[points], np.asarray(square)))
    return out


def render(rgba, background=(255, 255, 255), scale=1., shift=(0., 0.)):
    """rgba on background, shrunk to SIDE; shift in pixels of the result."""
    image = Image.fromarray(rgba)
    canvas = Image.new('RGBA', image.size, (*background, 255))
    if scale != 1 or shift != (0, 0):
        side = max(1, round(image.width * scale))
        image = image.resize((side, side), Image.LANCZOS)
        pixel = canvas.width / SIDE
        corner = [round((canvas.width - side) / 2 + s * pixel) for s in shift]
        layer = Image.new('RGBA', canvas.size, (255, 255, 255, 0))
        layer.paste(image, tuple(corner))
        image = layer
    canvas.alpha_composite(image)
    return canvas.convert('RGB').resize((SIDE, SIDE), Image.LANCZOS)


class Maker:
    """Makes the variants of one name; variants gathers (caption, Image)."""

    def __init__(self, number, name, rgba, names):
        self.draw = np.random.default_rng(number)
        self.name, self.rgba, self.names = name, rgba, names
        self.colour_in_name = next((w for w in re.split(r'[ -]', name) if w in colours.COLOURS), None)
        self.everyday = EVERYDAY.get(name, name)
        self.variants = []

    def add(self, caption, **how):
        self.variants.append((caption, render(**{'rgba': self.rgba, **how})))

    def moved(self):
        """A little elsewhere, a little smaller or larger."""
        return {'scale': self.draw.uniform(.93, 1.03), 'shift': tuple(self.draw.uniform(-2, 2, 2))}

    def plain(self, moved):
        for _ in range(EXACT):
            self.add(self.name)
        for i in range(moved):
            self.add(self.everyday if i < EVERYDAY_PLAIN else self.name, **self.moved())

    def phrases(self):
        for i in self.draw.permutation(len(PHRASE))[:PHRASES]:
            self.add(PHRASE[i].format(name=self.name, a=article(self.name)), **self.moved())
        corner = [('on the left', (-14, 0)), ('on the right', (14, 0)), ('at the top', (0, -14)),
                  ('at the bottom', (0, 14)), ('', (0, 0)), ('', (0, 0))][self.draw.integers(6)]
        self.add(f'small {self.name} {corner[0]}'.strip(), scale=self.draw.uniform(.48, .58), shift=corner[1])
        grey = self.rgba.copy()
        grey[..., :3] = np.asarray(Image.fromarray(self.rgba[..., :3]).convert('L'))[..., None]
        self.add(f'black and white {self.name}', rgba=grey, **self.moved())

    def backgrounds(self):
        """How many were made: none where the picture fills its square, no colour that the thing vanishes in."""
        opaque = self.rgba[..., 3] > 128
        if opaque.mean() > .8:
            return 0
        made = 0
        order = ['black', *self.draw.permutation([c for c in BACKGROUND if c != 'black'])]
        for colour in order:
            wanted = np.array(BACKGROUND[colour])
            if np.abs(self.rgba[opaque][:, :3].astype(int) - wanted).mean() < 45:
                continue
            shade = tuple(int(x) for x in np.clip(wanted + self.draw.integers(-10, 11), 0, 255)) \
                if colour != 'black' else (0, 0, 0)
            where = f'on {colour}' if self.draw.random() < .33 else f'on {article(colour)} background'
            self.add(f'{self.name} {where}', background=shade, **self.moved())
            made += 1
            if made == BACKGROUNDS:
                break
        return made

    def coloured_name(self, colour):
        """The name in that colour: "red apple" gives "green apple", "frog" gives "green frog"."""
        if self.colour_in_name:
            return re.sub(rf'\b{self.colour_in_name}\b', colour, self.name)
        return f'{colour} {self.name}'

    def recoloured(self, banned):
        """How many were made. Names that are pictures of their own stay theirs (green apple, blue heart)."""
        found = colours.dominant(self.rgba)
        if not found or self.name == 'leafy green':
            return 0
        own = self.own_colour(found[1])
        made = 0
        order = [*self.draw.permutation(colours.CHROMATIC), *self.draw.permutation(['black', 'white', 'gray'])]
        order = order[:6] + order[8:10] + order[6:8]
        for colour in order:
            caption = self.coloured_name(colour)
            short = f'{colour} {self.everyday}'
            if banned.search(caption) or banned.search(short) or caption in self.names:
                continue
            if colour == own and self.colour_in_name:
                continue
            rgba = self.rgba if colour == own else colours.recoloured(self.rgba, colour)
            take_short = self.everyday != self.name and short not in self.names and self.draw.random() < .5
            self.add(short if take_short else caption, rgba=rgba, **self.moved())
            made += 1
            if made == RECOLOURED:
                break
        return made

    @staticmethod
    def own_colour(hsv):
        """The colour's name that a hue has already, or None between two."""
        if hsv[1] < .45 or hsv[2] < .6:
            return None
        return next((c for c in colours.CHROMATIC[:6]
                     if colours.hue_distance(hsv[0], colours.COLOURS[c][0]) < 12), None)


def variants_of(job):
    number, name, rgba, names, banned = job
    maker = Maker(number, name, rgba, names)
    missing = RECOLOURED - maker.recoloured(banned) + BACKGROUNDS - maker.backgrounds()
    maker.phrases()
    maker.plain(MOVED + missing)
    out = []
    for i, (caption, image) in enumerate(maker.variants):
        encoded = io.BytesIO()
        image.save(encoded, 'PNG')
        path = f'{pictures.file_name(number, name)}/{i:02d}.png'
        out.append((path, encoded.getvalue(), SIDE, SIDE, caption))
    return out


def write_sheet(path, rows):
    sheet = Image.new('RGB', (SIDE * 46, SIDE * len(rows)), (255, 255, 255))
    for y, row in enumerate(rows):
        for x, item in enumerate(row):
            sheet.paste(Image.open(io.BytesIO(item[1])), (x * SIDE, y * SIDE))
    sheet.save(path)


def main():
    found, banned = glyphs(), held_out()
    names = frozenset(name for name, _ in found)
    jobs = [(number, name, rgba, names, banned) for number, (name, rgba) in enumerate(found, 1)]
    with ProcessPoolExecutor(2) as pool:
        rows = list(pool.map(variants_of, jobs, chunksize=8))
    everything = [item for row in rows for item in row]
    captions = {item[4] for item in everything}
    assert not any(banned.search(c) for c in captions)
    h5set.write(sys.argv[1], everything, 'scripts/builtin/variants.py')
    plain = sum(item[4] in names for item in everything)
    print(f'{len(everything)} pictures, {len(captions)} captions, {plain / len(everything):.0%} plain names')
    if len(sys.argv) > 2:
        write_sheet(sys.argv[2], rows[::40])
        for row in rows[::40]:
            print('; '.join(dict.fromkeys(item[4] for item in row)))


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main()
