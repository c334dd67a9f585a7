/* A PNG's chunks, without its pixels: a chunk is its length, four letters, the data and a check sum. Those
 * that make the pixels are the decoder's matter. Of the others libpng passes over what has a wrong check sum
 * without a word, and shows nobody that there is an animation; both are noted here. */
#include "decode.h"

#include "kernels/base/mem.h"

#include <string.h>

#include <zlib.h>

#define SIGNATURE 8
#define LARGEST_TEXT ((size_t)1 << 20) /* unpacked; XMP with a long history has some 100 kB */

/* An orientation, 0: none so far. */
typedef struct Found {
    int exif, profile, xmp; /* in eXIf, in ImageMagick's text of an EXIF block, in XMP */
} Found;

static uint32_t read_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Small first letter: the picture can be drawn without it. */
static bool is_ancillary(const uint8_t *chunk)
{
    return (chunk[4] & 0x20) != 0;
}

static bool is_whole(const uint8_t *chunk, uint32_t length)
{
    return crc32(crc32(0, NULL, 0), chunk + 4, length + 4) == read_be32(chunk + 8 + length);
}

/* Texts ------------------------------------------------------------------------------------------------- */

/* What of a zlib stream fits into LARGEST_TEXT, with a 0 behind; NULL: nothing. Caller: mem_free. */
static char *unpacked(const uint8_t *bytes, size_t size)
{
    z_stream z = {.next_in = (Bytef *)bytes, .avail_in = (uInt)size};
    char *text = mem_alloc(LARGEST_TEXT + 1);
    if (!text || inflateInit(&z) != Z_OK) {
        mem_free(text);
        return NULL;
    }
    z.next_out = (Bytef *)text;
    z.avail_out = LARGEST_TEXT;
    inflate(&z, Z_FINISH);
    text[z.total_out] = 0;
    inflateEnd(&z);
    return text;
}

/* What stands behind the 0 that ends a text; *size is what is left. NULL: there is none. */
static const uint8_t *behind_zero(const uint8_t *at, size_t *size)
{
    const uint8_t *zero = memchr(at, 0, *size);
    *size = zero ? *size - (size_t)(zero + 1 - at) : 0;
    return zero ? zero + 1 : NULL;
}

/* The text of a chunk with this key: tEXt has it behind the key, zTXt packed behind a byte, iTXt behind two
 * bytes (packed or not, and how) and two texts. NULL: it is none. Caller: mem_free. */
static char *text_of(const uint8_t *chunk, uint32_t length, const char *key)
{
    size_t size = length;
    const uint8_t *at = behind_zero(chunk + 8, &size);
    if (!at || strcmp((const char *)chunk + 8, key) != 0)
        return NULL;
    const bool international = memcmp(chunk + 4, "iTXt", 4) == 0;
    bool packed = memcmp(chunk + 4, "zTXt", 4) == 0;
    const size_t before = international ? 2 : packed ? 1 : 0;
    if ((!international && !packed && memcmp(chunk + 4, "tEXt", 4) != 0) || size < before)
        return NULL;
    packed |= international && at[0] == 1;
    at += before, size -= before;
    for (int i = 0; i < 2 && international && at; i++)
        at = behind_zero(at, &size);
    return !at ? NULL : packed ? unpacked(at, size) : mem_printf("%.*s", (int)size, (const char *)at);
}

static void look_at_text(const uint8_t *chunk, uint32_t length, Found *f)
{
    static const char *const PROFILES[] = {"Raw profile type exif", "Raw profile type APP1"};
    for (int i = 0; i < 2 && !f->profile; i++) {
        char *text = text_of(chunk, length, PROFILES[i]);
        f->profile = text ? exif_text_orientation(text) : 0;
        mem_free(text);
    }
    char *xmp = f->xmp ? NULL : text_of(chunk, length, "XML:com.adobe.xmp");
    if (xmp)
        f->xmp = xmp_orientation((const uint8_t *)xmp, strlen(xmp));
    mem_free(xmp);
}

/* The chunks -------------------------------------------------------------------------------------------- */

static void look_at(const uint8_t *chunk, uint32_t length, PictureHeader *out, Found *f)
{
    if (!is_ancillary(chunk))
        return;
    if (!is_whole(chunk, length)) {
        out->odd |= PICTURE_HAS_BAD_CHUNK;
        return;
    }
    if (memcmp(chunk + 4, "acTL", 4) == 0)
        out->odd |= PICTURE_IS_ANIMATED;
    if (memcmp(chunk + 4, "eXIf", 4) == 0 && !f->exif)
        f->exif = exif_orientation(chunk + 8, length);
    look_at_text(chunk, length, f);
}

Status decode_png_header(const uint8_t *bytes, size_t size, PictureHeader *out)
{
    if (size < SIGNATURE + 25)
        return status_fail("PNG data ends early at byte %zu (file truncated?)", size);
    if (memcmp(bytes + SIGNATURE + 4, "IHDR", 4) != 0)
        return status_fail("PNG data is broken at byte %d: it does not begin with a header", SIGNATURE);
    const uint32_t width = read_be32(bytes + 16), height = read_be32(bytes + 20);
    TRY(picture_size_check(width, height));
    *out = (PictureHeader){.size = {(int)width, (int)height}};
    Found found = {0};
    for (size_t at = SIGNATURE; size - at >= 12;) {
        const uint32_t length = read_be32(bytes + at);
        if (length > size - at - 12)
            break;
        look_at(bytes + at, length, out, &found);
        at += 12 + (size_t)length;
    }
    header_set_orientation(out, found.exif, found.profile ? found.profile : found.xmp);
    return STATUS_OK;
}
