#!/usr/bin/env python3
"""Small pictures of every kind that Atelier reads, and their pixels as Pillow shows them.

Writes tests/golden/pictures/: NAME.jpg, .png or .webp, and NAME.rgb: width and height as two little-endian u32, then
RGB bytes (height,width,3), turned upright, over white where there is transparency. resize-WxH.rgb are resizes by
Image.LANCZOS of source.rgb. Ran with Pillow 13.0.0, numpy 2.4.6, libjpeg-turbo 3.2.0, libwebp 1.6.0 (it prints the versions when it runs).

usage: scripts/reference/pictures.py
"""
import io
import struct
import zlib
from pathlib import Path

import numpy
import PIL
from PIL import Image, ImageOps, features

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "pictures"
W, H = 29, 19  # odd, not multiples of a JPEG block


def scene(width=W, height=H):
    """A smooth picture, so that JPEG's losses stay small, with a bright corner that tells the orientations apart."""
    y, x = numpy.mgrid[0:height, 0:width] / max(width, height)
    rgb = numpy.stack([120 + 100 * numpy.sin(5 * x), 60 + 180 * y, 200 - 150 * x * y], -1)
    rgb[: height // 3, : width // 3] = [250, 240, 30]
    return Image.fromarray(rgb.clip(0, 255).astype(numpy.uint8))


def alpha():
    y, x = numpy.mgrid[0:H, 0:W]
    return Image.fromarray(((x * 9 + y * 5) % 256).astype(numpy.uint8))


def write_rgb(name, image):
    assert image.mode == "RGB"
    (OUT / f"{name}.rgb").write_bytes(struct.pack("<II", *image.size) + image.tobytes())


def shown(data):
    """The picture as a viewer shows it: upright, over white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode in ("I;16", "I"):  # Pillow clips 16-bit grey when converting; scale it as libpng does
        grey = numpy.asarray(image).astype(numpy.float64)
        return Image.fromarray(numpy.floor(grey * 255 / 65535 + 0.5).astype(numpy.uint8)).convert("RGB")
    if image.mode == "P" or "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        a = numpy.asarray(image).astype(numpy.int64)
        over = (a[..., :3] * a[..., 3:] + 255 * (255 - a[..., 3:]) + 127) // 255
        return Image.fromarray(over.astype(numpy.uint8))
    return image.convert("RGB")


def save(name, image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    data = buffer.getvalue()
    extension = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}[kind]
    (OUT / f"{name}.{extension}").write_bytes(data)
    write_rgb(name, shown(data))


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def save_raw_png(name, width, height, depth, colour, rows, expected, interlaced=False, chunks=b""):
    """PNG by hand: what Pillow does not write. rows: bytes of all scanlines with their filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + chunks + png_chunk(b"IDAT", zlib.compress(rows))
    (OUT / f"{name}.png").write_bytes(data + png_chunk(b"IEND", b""))
    write_rgb(name, expected)


def adam7(pixels):
    """The seven passes of pixels (H,W,C) u8 as scanlines."""
    rows = b""
    for y0, x0, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        part = pixels[y0::dy, x0::dx]
        if part.size:
            rows += b"".join(b"\0" + row.tobytes() for row in part)
    return rows


def jpegs():
    rgb = scene()
    save("jpeg-444", rgb, "JPEG", quality=90, subsampling=0)
    save("jpeg-420", rgb, "JPEG", quality=85, subsampling=2)
    save("jpeg-progressive", rgb, "JPEG", quality=85, progressive=True)
    save("jpeg-grey", rgb.convert("L"), "JPEG", quality=90)
    save("jpeg-cmyk", rgb.convert("CMYK"), "JPEG", quality=95)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"jpeg-exif{orientation}", rgb, "JPEG", quality=90, subsampling=0, exif=exif)


def pngs():
    rgb = scene()
    rgba = rgb.copy()
    rgba.putalpha(alpha())
    save("png-rgb", rgb, "PNG")
    save("png-rgba", rgba, "PNG")
    save("png-grey", rgb.convert("L"), "PNG")
    save("png-grey-alpha", rgba.convert("LA"), "PNG")
    save("png-palette", rgb.quantize(16), "PNG")
    save("png-palette-alpha", rgb.quantize(8), "PNG", transparency=bytes([0, 40, 80, 120, 160, 200, 240, 255]))
    save("png-bilevel", rgb.convert("1"), "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    save("png-exif6", rgb, "PNG", exif=exif)
    y, x = numpy.mgrid[0:H, 0:W]
    grey16 = ((x * 2111 + y * 1777) % 65536).astype(numpy.uint16)
    save("png-grey16", Image.fromarray(grey16), "PNG")
    deep = numpy.stack([grey16, 65535 - grey16, (x * 2259).astype(numpy.uint16)], -1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    save_raw_png("png-rgb16", W, H, 16, 2, rows, Image.fromarray(numpy.floor(deep * (255 / 65535) + 0.5).astype(numpy.uint8)))
    pixels = numpy.asarray(rgba)
    over = (pixels[..., :3].astype(int) * pixels[..., 3:] + 255 * (255 - pixels[..., 3:].astype(int)) + 127) // 255
    save_raw_png("png-interlaced", W, H, 8, 6, adam7(pixels), Image.fromarray(over.astype(numpy.uint8)), interlaced=True)
    key = numpy.asarray(rgb)[0, 0]  # tRNS: the bright corner becomes transparent
    keyed = numpy.asarray(rgb).copy()
    keyed[(keyed == key).all(-1)] = 255
    rows = b"".join(b"\0" + row.tobytes() for row in numpy.asarray(rgb))
    save_raw_png("png-trns", W, H, 8, 2, rows, Image.fromarray(keyed),
                 chunks=png_chunk(b"tRNS", struct.pack(">HHH", *map(int, key))))


def webps():
    rgb = scene()
    rgba = rgb.copy()
    rgba.putalpha(alpha())
    save("webp-lossy", rgb, "WEBP", quality=85)
    save("webp-lossless", rgb, "WEBP", lossless=True)
    save("webp-alpha", rgba, "WEBP", lossless=True, exact=True)
    exif = Image.Exif()
    exif[0x0112] = 8
    save("webp-exif8", rgb, "WEBP", lossless=True, exif=exif)
    frames = io.BytesIO()
    rgb.save(frames, "WEBP", save_all=True, append_images=[ImageOps.mirror(rgb)], duration=100)
    (OUT / "webp-animated.webp").write_bytes(frames.getvalue())


def resizes():
    noise = numpy.random.default_rng(1).integers(0, 256, (41, 53, 3), dtype=numpy.uint8)  # every lobe clips
    source = Image.fromarray(noise)
    write_rgb("source", source)
    for width, height in ((20, 15), (53, 7), (9, 41), (80, 99), (1, 1), (52, 40)):
        write_rgb(f"resize-{width}x{height}", source.resize((width, height), Image.LANCZOS))


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    jpegs()
    pngs()
    webps()
    resizes()
    print(f"Pillow {PIL.__version__}, numpy {numpy.__version__}, libjpeg {features.version('libjpeg_turbo')}, "
          f"libwebp {features.version('webp')}: {sum(p.stat().st_size for p in OUT.iterdir())} bytes in {OUT.name}/")
