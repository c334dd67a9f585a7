/* Pictures in memory: 8-bit RGB, (height,width,3), rows without gaps. What a file holds is told by its first
 * bytes, never by its name. */
#include "picture.h"

#include "kernels/base/mem.h"
#include "decode.h"

#include <errno.h>
#include <string.h>

Status picture_size_check(uint64_t width, uint64_t height)
{
    if (width == 0 || height == 0)
        return status_fail("picture has no pixels (%llu x %llu)", (unsigned long long)width,
                           (unsigned long long)height);
    if (width > PICTURE_MAX_SIDE || height > PICTURE_MAX_SIDE || width * height > PICTURE_MAX_PIXELS)
        return status_fail("picture is %llu x %llu, larger than %d a side or %u megapixels; scale it down",
                           (unsigned long long)width, (unsigned long long)height, PICTURE_MAX_SIDE,
                           PICTURE_MAX_PIXELS >> 20);
    return STATUS_OK;
}

Status picture_whole_check(Size size, size_t bytes, const char *what)
{
    if (bytes <= PICTURE_MAX_WHOLE)
        return STATUS_OK;
    return status_fail(
        "picture is %d x %d and %s, which takes %zu MB to decode (%u at most); scale it down, or save "
        "it as a PNG that is not interlaced",
        size.width, size.height, what, bytes >> 20, PICTURE_MAX_WHOLE >> 20);
}

Status picture_new(Size size, Picture *out)
{
    *out = (Picture){0};
    TRY(picture_size_check(size.width < 0 ? 0 : (uint64_t)size.width,
                           size.height < 0 ? 0 : (uint64_t)size.height));
    out->rgb = mem_alloc(3 * (size_t)size_area(size));
    if (!out->rgb)
        return STATUS_FAILED;
    out->size = size;
    return STATUS_OK;
}

void picture_free(Picture *p)
{
    mem_free(p->rgb);
    *p = (Picture){0};
}

/* Decoding --------------------------------------------------------------------------------------------- */

PictureFormat picture_format(const uint8_t *bytes, size_t size)
{
    if (size >= 3 && memcmp(bytes, "\xFF\xD8\xFF", 3) == 0)
        return PICTURE_JPEG;
    if (size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1A\n", 8) == 0)
        return PICTURE_PNG;
    if (size >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        return PICTURE_WEBP;
    return PICTURE_UNKNOWN;
}

/* What people take for one of the three, by name. */
static Status unknown_format(const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return status_fail("the file is empty");
    if (size >= 4 && memcmp(bytes, "GIF8", 4) == 0)
        return status_fail("is a GIF; JPEG, PNG and WebP are read");
    if (size >= 2 && memcmp(bytes, "BM", 2) == 0)
        return status_fail("is a BMP picture; JPEG, PNG and WebP are read");
    if (size >= 4 && (memcmp(bytes, "II*\0", 4) == 0 || memcmp(bytes, "MM\0*", 4) == 0))
        return status_fail("is a TIFF picture; JPEG, PNG and WebP are read");
    if (size >= 12 && memcmp(bytes + 4, "ftyp", 4) == 0)
        return status_fail("is a HEIC, AVIF or video file; JPEG, PNG and WebP are read");
    return status_fail("is not a JPEG, PNG or WebP picture");
}

/* That there was no memory a library says in a way of its own, or calls it broken data; the system says it
 * too. */
static Status or_memory(Status s)
{
    return s != STATUS_OK && errno == ENOMEM ? status_memory("out of memory for decoding") : s;
}

static Status read_header(const uint8_t *bytes, size_t size, PictureHeader *out)
{
    errno = 0;
    switch (picture_format(bytes, size)) {
    case PICTURE_JPEG:
        return or_memory(decode_jpeg_header(bytes, size, out));
    case PICTURE_PNG:
        return or_memory(decode_png_header(bytes, size, out));
    case PICTURE_WEBP:
        return or_memory(decode_webp_header(bytes, size, out));
    default:
        return unknown_format(bytes, size);
    }
}

/* On its side: the size as people see it is the other way round than in the file. */
static Size upright(Size size, int orientation)
{
    return orientation >= 5 ? size_turned(size) : size;
}

Status picture_info(const uint8_t *bytes, size_t count, Size *size, int *orientation)
{
    PictureHeader h;
    TRY(read_header(bytes, count, &h));
    *size = upright(h.size, h.orientation);
    *orientation = h.orientation;
    return STATUS_OK;
}

static Status decode_turned(const uint8_t *bytes, size_t count, Size covered, const ColourTurn *turn,
                            Picture *out)
{
    PictureHeader h;
    *out = (Picture){0};
    TRY(read_header(bytes, count, &h));
    errno = 0;
    switch (picture_format(bytes, count)) {
    case PICTURE_JPEG:
        TRY(or_memory(decode_jpeg(bytes, count, upright(covered, h.orientation), out)));
        break;
    case PICTURE_PNG:
        TRY(or_memory(decode_png(bytes, count, false, out)));
        break;
    default:
        TRY(or_memory(decode_webp(bytes, count, false, out)));
        break;
    }
    for (int y = 0; y < out->size.height && turn; y++)
        colour_turn_row(turn, out->rgb + 3 * (size_t)out->size.width * (size_t)y, out->size.width);
    const Status s = picture_orient(out, h.orientation);
    if (s != STATUS_OK)
        picture_free(out);
    return s;
}

Status picture_decode_for(const uint8_t *bytes, size_t count, Size covered, Picture *out)
{
    ColourTurn *turn;
    *out = (Picture){0};
    TRY(colour_turn_open(bytes, count, &turn));
    const Status s = decode_turned(bytes, count, covered, turn, out);
    colour_turn_free(turn);
    return s;
}

Status picture_decode(const uint8_t *bytes, size_t size, Picture *out)
{
    return picture_decode_for(bytes, size, (Size){0}, out);
}

static Status png_window(const uint8_t *bytes, size_t size, const PictureHeader *h, const PictureWindow *w,
                         const ColourTurn *turn, Picture *out, bool *done)
{
    RowReducer *r;
    TRY(row_reducer_new(h->size, w, &r));
    Status s = decode_png_rows(bytes, size, r, turn, done);
    if (s == STATUS_OK && *done)
        s = row_reducer_finish(r, out);
    row_reducer_free(r);
    return s;
}

static Status decode_window(const uint8_t *bytes, size_t count, Size covered, const PictureWindow *w,
                            const ColourTurn *turn, Picture *out)
{
    PictureHeader h;
    Picture whole;
    bool done = false;
    TRY(read_header(bytes, count, &h));
    if (picture_format(bytes, count) == PICTURE_PNG && h.orientation <= 1)
        TRY(png_window(bytes, count, &h, w, turn, out, &done));
    if (done)
        return STATUS_OK;
    TRY(decode_turned(bytes, count, covered, turn, &whole));
    const Status s = picture_resize_window(&whole, w, out);
    picture_free(&whole);
    return s;
}

Status picture_decode_window(const uint8_t *bytes, size_t count, Size covered, const PictureWindow *w,
                             Picture *out)
{
    ColourTurn *turn;
    *out = (Picture){0};
    TRY(colour_turn_open(bytes, count, &turn));
    const Status s = decode_window(bytes, count, covered, w, turn, out);
    colour_turn_free(turn);
    return s;
}

/* What the header says, which has to be enough to train on. */
static Status check_header(const uint8_t *bytes, size_t count, PictureFacts *out)
{
    PictureHeader h;
    TRY(read_header(bytes, count, &h));
    ColourTurn *turn;
    TRY(colour_turn_open(bytes, count, &turn));
    *out = (PictureFacts){upright(h.size, h.orientation), h.orientation,
                          h.odd | (turn ? (unsigned)PICTURE_HAS_PROFILE : 0)};
    colour_turn_free(turn);
    if (out->size.width < PICTURE_MIN_SIDE || out->size.height < PICTURE_MIN_SIDE)
        return status_fail("picture is %d x %d, too small to train on (%d x %d at least)", out->size.width,
                           out->size.height, PICTURE_MIN_SIDE, PICTURE_MIN_SIDE);
    return STATUS_OK;
}

Status picture_check(const uint8_t *bytes, size_t count, PictureFacts *out)
{
    bool done = false;
    TRY(check_header(bytes, count, out));
    if (picture_format(bytes, count) == PICTURE_PNG)
        TRY(decode_png_rows(bytes, count, NULL, NULL, &done));
    if (done)
        return STATUS_OK;
    Picture p; /* of a JPEG all the data, few pixels */
    TRY(picture_decode_for(bytes, count, size_square(PICTURE_MIN_SIDE), &p));
    picture_free(&p);
    return STATUS_OK;
}

Status picture_check_small(const uint8_t *bytes, size_t count, PictureFacts *out, Size small,
                           Picture *picture)
{
    *picture = (Picture){0};
    TRY(check_header(bytes, count, out));
    return picture_decode_window(bytes, count, small, &(PictureWindow){.whole = small, .size = small},
                                 picture);
}

void picture_row_over_white(const uint8_t *rgba, uint8_t *rgb, int width)
{
    for (int x = 0; x < width; x++) {
        const int a = rgba[4 * x + 3];
        for (int i = 0; i < 3; i++)
            rgb[3 * x + i] = (uint8_t)((rgba[4 * x + i] * a + 255 * (255 - a) + 127) / 255);
    }
}

void picture_row_alpha(const uint8_t *rgba, uint8_t *rgb, int width)
{
    for (int x = 0; x < width; x++)
        memset(rgb + 3 * x, rgba ? rgba[4 * x + 3] : 255, 3);
}

Status picture_decode_alpha(const uint8_t *bytes, size_t size, Picture *out)
{
    PictureHeader h;
    *out = (Picture){0};
    TRY(read_header(bytes, size, &h));
    errno = 0;
    switch (picture_format(bytes, size)) {
    case PICTURE_JPEG:
        TRY(picture_new(h.size, out));
        memset(out->rgb, 255, 3 * (size_t)size_area(h.size));
        break;
    case PICTURE_PNG:
        TRY(or_memory(decode_png(bytes, size, true, out)));
        break;
    default:
        TRY(or_memory(decode_webp(bytes, size, true, out)));
        break;
    }
    const Status s = picture_orient(out, h.orientation);
    if (s != STATUS_OK)
        picture_free(out);
    return s;
}

/* Work on pixels --------------------------------------------------------------------------------------- */

Status picture_crop(const Picture *in, int x, int y, Size size, Picture *out)
{
    TRY(picture_new(size, out));
    const int width = size.width, stored = in->size.width;
    const int left = clamp(x, 0, stored), right = clamp(x + width, left, stored);
    for (int row = 0; row < size.height; row++) {
        const uint8_t *from = in->rgb + 3 * (size_t)stored * (size_t)clamp(y + row, 0, in->size.height - 1);
        uint8_t *to = out->rgb + 3 * (size_t)width * (size_t)row;
        if (right > left)
            memcpy(to + 3 * (left - x), from + 3 * left, 3 * (size_t)(right - left));
        for (int i = 0; i < width; i++)
            if (x + i < left || x + i >= right)
                memcpy(to + 3 * i, from + 3 * clamp(x + i, 0, stored - 1), 3);
    }
    return STATUS_OK;
}

void picture_flip(Picture *p)
{
    for (int y = 0; y < p->size.height; y++) {
        uint8_t *a = p->rgb + 3 * (size_t)p->size.width * (size_t)y, *b = a + 3 * (p->size.width - 1);
        for (; a < b; a += 3, b -= 3)
            for (int i = 0; i < 3; i++) {
                const uint8_t kept = a[i];
                a[i] = b[i];
                b[i] = kept;
            }
    }
}

void picture_to_floats(const Picture *p, float *out)
{
    const size_t n = 3 * (size_t)size_area(p->size);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)p->rgb[i] / 127.5f - 1.0f;
}
