/* WebP through libwebp: lossy, lossless, with transparency. A WebP file is a RIFF file: "RIFF", the size of
 * the rest, "WEBP", then chunks of four letters, a size, and data padded to even length. */
#include "decode.h"

#include "kernels/base/mem.h"

#include <string.h>

#include <webp/decode.h>

#define RIFF_HEADER 12

static size_t read_le32(const uint8_t *p)
{
    return p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
}

const uint8_t *webp_chunk(const uint8_t *bytes, size_t size, const char *name, size_t *count)
{
    for (size_t at = RIFF_HEADER; at + 8 <= size;) {
        *count = read_le32(bytes + at + 4);
        if (*count > size - at - 8)
            return NULL;
        if (memcmp(bytes + at, name, 4) == 0)
            return bytes + at + 8;
        at += 8 + *count + (*count & 1);
    }
    return NULL;
}

static void read_orientation(const uint8_t *bytes, size_t size, PictureHeader *out)
{
    size_t exif_size, xmp_size;
    const uint8_t *exif = webp_chunk(bytes, size, "EXIF", &exif_size),
                  *xmp = webp_chunk(bytes, size, "XMP ", &xmp_size);
    header_set_orientation(out, exif ? exif_orientation(exif, exif_size) : 0,
                           xmp ? xmp_orientation(xmp, xmp_size) : 0);
}

static Status failure(VP8StatusCode code, size_t size)
{
    if (code == VP8_STATUS_NOT_ENOUGH_DATA)
        return status_fail("WebP data ends early at byte %zu (file truncated?)", size);
    if (code == VP8_STATUS_OUT_OF_MEMORY)
        return status_memory("out of memory for decoding WebP");
    return status_fail("WebP data is broken (libwebp's code %d)", (int)code);
}

static Status read_features(const uint8_t *bytes, size_t size, WebPBitstreamFeatures *features)
{
    if (size < RIFF_HEADER || read_le32(bytes + 4) + 8 > size)
        return failure(VP8_STATUS_NOT_ENOUGH_DATA, size);
    const VP8StatusCode code = WebPGetFeatures(bytes, size, features);
    if (code != VP8_STATUS_OK)
        return failure(code, size);
    if (features->has_animation)
        return status_fail("is an animated WebP; save one frame of it as a picture");
    return picture_size_check((uint64_t)features->width, (uint64_t)features->height);
}

Status decode_webp_header(const uint8_t *bytes, size_t size, PictureHeader *out)
{
    WebPBitstreamFeatures features;
    TRY(read_features(bytes, size, &features));
    *out = (PictureHeader){.size = {features.width, features.height}};
    read_orientation(bytes, size, out);
    return STATUS_OK;
}

/* channels: 3 or 4; pixels (height,width,channels). */
static Status decode_into(const uint8_t *bytes, size_t size, const WebPBitstreamFeatures *f, int channels,
                          uint8_t *pixels)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return status_fail("libwebp is of another version than its headers; build Atelier again");
    const size_t stride = (size_t)channels * (size_t)f->width;
    config.output.colorspace = channels == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = pixels;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = stride * (size_t)f->height;
    const VP8StatusCode code = WebPDecode(bytes, size, &config);
    WebPFreeDecBuffer(&config.output);
    return code == VP8_STATUS_OK ? STATUS_OK : failure(code, size);
}

/* Bytes that decoding takes: the pixels, and of lossless ones libwebp's own copy. */
static size_t bytes_needed(const WebPBitstreamFeatures *f)
{
    enum { LOSSLESS = 2 };
    const size_t each = (f->has_alpha ? 4 : 3) + (f->format == LOSSLESS ? 4 : 0);
    return each * (size_t)f->width * (size_t)f->height;
}

/* Transparency is put over white in the picture's own memory, its rows moving together. */
Status decode_webp(const uint8_t *bytes, size_t size, bool alpha, Picture *out)
{
    *out = (Picture){0};
    WebPBitstreamFeatures f;
    TRY(read_features(bytes, size, &f));
    TRY(picture_whole_check((Size){f.width, f.height}, bytes_needed(&f), "a WebP"));
    const size_t channels = f.has_alpha ? 4 : 3, stride = channels * (size_t)f.width;
    Picture p = {{f.width, f.height}, mem_alloc(stride * (size_t)f.height)};
    uint8_t *row = mem_alloc(stride);
    Status s = p.rgb && row ? decode_into(bytes, size, &f, (int)channels, p.rgb) : STATUS_FAILED;
    for (int y = 0; y < f.height && s == STATUS_OK && (f.has_alpha || alpha); y++) {
        uint8_t *rgb = p.rgb + 3 * (size_t)f.width * (size_t)y;
        memcpy(row, p.rgb + stride * (size_t)y, stride);
        if (alpha)
            picture_row_alpha(f.has_alpha ? row : NULL, rgb, f.width);
        else
            picture_row_over_white(row, rgb, f.width);
    }
    mem_free(row);
    if (s != STATUS_OK)
        picture_free(&p);
    *out = p;
    return s;
}
