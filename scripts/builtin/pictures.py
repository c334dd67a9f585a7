"""The pictures that builtin:tiny learns from: Noto Color Emoji's bitmaps with their CLDR names as captions.

    pictures.py FOLDER      writes FOLDER/0001-grinning-face.png (64x64 RGB on white) and its .txt, 1,010 of each

Needs Debian 12's fonts-noto-color-emoji, unicode-cldr-core and unicode-data, and Python with fontTools and Pillow.
Picked are single code points of faces, animals, food, places, things, hearts and coloured shapes; left out are flags,
letters, arrows, clocks, zodiac signs, people and skin tones, whose pictures say little about their names. The
committed data/builtin/emoji.h5 is `atelier data build FOLDER --out data/builtin/emoji.h5`.
"""
import io
import re
import sys
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path

from fontTools.ttLib import TTFont
from PIL import Image

FONT = '/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf'
NAMES = '/usr/share/unicode/cldr/common/annotations/en.xml'
GROUPS = '/usr/share/unicode/emoji/emoji-test.txt'

LEFT_OUT_GROUPS = {'Flags', 'Component'}
LEFT_OUT_SUBGROUPS = {
    'time', 'zodiac', 'arrow', 'religion', 'alphanum', 'keycap', 'transport-sign', 'warning', 'av-symbol',
    'gender', 'math', 'punctuation', 'currency', 'other-symbol', 'hand-fingers-open'}
ONLY_SUBGROUPS = {'People & Body': {'body-parts'}, 'Symbols': {'geometric'}}


def wanted(group, subgroup):
    return (group not in LEFT_OUT_GROUPS and subgroup not in LEFT_OUT_SUBGROUPS
            and (group not in ONLY_SUBGROUPS or subgroup in ONLY_SUBGROUPS[group]))


def cldr_names():
    """{character: short name}, with the apostrophe that keyboards have."""
    return {a.get('cp').replace('\ufe0f', ''): a.text.replace('\u2019', "'")
            for a in ET.parse(NAMES).iter('annotation') if a.get('type') == 'tts'}


def emoji_groups():
    """{character: (group, subgroup)} in Unicode's order."""
    groups, group, subgroup = {}, None, None
    for line in open(GROUPS, encoding='utf8'):
        if line.startswith('# group:'):
            group = line[8:].strip()
        elif line.startswith('# subgroup:'):
            subgroup = line[11:].strip()
        elif ';' in line and not line.startswith('#'):
            points = ''.join(chr(int(x, 16)) for x in line.split(';')[0].split()).replace('\ufe0f', '')
            groups.setdefault(points, (group, subgroup))
    return groups


def on_white(bitmap, side):
    """The glyph, transparent and not quite square, on a white square, shrunk to side."""
    image = Image.open(io.BytesIO(bitmap)).convert('RGBA')
    square = Image.new('RGBA', (max(image.size),) * 2, (255, 255, 255, 255))
    square.alpha_composite(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))
    return square.convert('RGB').resize((side, side), Image.LANCZOS)


def emoji(side=64):
    """[(name, Image)] of all that are wanted."""
    font = TTFont(FONT)
    glyph, bitmaps, names = font.getBestCmap(), font['CBDT'].strikeData[0], cldr_names()
    out = []
    for points, (group, subgroup) in emoji_groups().items():
        if len(points) != 1 or points not in names or not wanted(group, subgroup):
            continue
        name = glyph.get(ord(points))
        if name in bitmaps:
            out.append((names[points], on_white(bitmaps[name].imageData, side)))
    return out


def file_name(number, name):
    plain = unicodedata.normalize('NFKD', name).encode('ascii', 'ignore').decode().lower()
    return f'{number:04d}-' + re.sub('[^a-z0-9]+', '-', plain).strip('-')


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    pictures = emoji()
    for number, (name, image) in enumerate(pictures, 1):
        path = folder / file_name(number, name)
        image.save(path.with_suffix('.png'), optimize=True)
        path.with_suffix('.txt').write_text(name + '\n', encoding='utf8')
    print(f'{len(pictures)} pictures in {folder}')


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
