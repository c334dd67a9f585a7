/* EXIF, and the one thing in it that changes what a picture shows: orientation. EXIF is a TIFF file in small:
 * byte order ("II" or "MM"), 42, the offset of a directory; a directory is a count and entries of 12 bytes
 * (tag, type, count, value). Every offset is checked: EXIF is written by cameras and by nobody in particular.
 * Programs that lost the EXIF may still have the orientation in XMP or, in PNGs, in a text; both are taken,
 * as Pillow does. */
#include "decode.h"

#include "kernels/base/mem.h"

#include <string.h>

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT 3

bool exif_open(const uint8_t *bytes, size_t size, Exif *out)
{
    if (size >= 6 && memcmp(bytes, "Exif\0\0", 6) == 0)
        bytes += 6, size -= 6;
    if (size < 8 || (memcmp(bytes, "II*\0", 4) != 0 && memcmp(bytes, "MM\0*", 4) != 0))
        return false;
    *out = (Exif){bytes, size, bytes[0] == 'M'};
    return true;
}

uint32_t exif_number(const Exif *e, const uint8_t *at, int bytes)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++)
        v = v << 8 | at[e->big ? i : bytes - 1 - i];
    return v;
}

const uint8_t *exif_entry(const Exif *e, size_t directory, unsigned tag)
{
    if (directory > e->size - 2)
        return NULL;
    const size_t count = exif_number(e, e->bytes + directory, 2);
    for (size_t i = 0; i < count && directory + 2 + 12 * (i + 1) <= e->size; i++) {
        const uint8_t *entry = e->bytes + directory + 2 + 12 * i;
        if (exif_number(e, entry, 2) == tag)
            return entry;
    }
    return NULL;
}

int exif_orientation(const uint8_t *bytes, size_t size)
{
    Exif e;
    const uint8_t *entry =
        exif_open(bytes, size, &e) ? exif_entry(&e, exif_number(&e, e.bytes + 4, 4), TAG_ORIENTATION) : NULL;
    if (!entry || exif_number(&e, entry + 2, 2) != TYPE_SHORT)
        return 0;
    const uint32_t value = exif_number(&e, entry + 8, 2);
    return value >= 1 && value <= 8 ? (int)value : 0;
}

int xmp_orientation(const uint8_t *text, size_t size)
{
    static const char NAME[] = "tiff:Orientation";
    const uint8_t *end = text + size;
    for (const uint8_t *at = text; (at = memmem(at, (size_t)(end - at), NAME, sizeof NAME - 1));) {
        at += sizeof NAME - 1;
        while (at < end && strchr(" =\"'>\t\r\n", *at) && *at)
            at++;
        if (at < end && *at >= '1' && *at <= '8')
            return *at - '0';
    }
    return 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* "\nexif\n      78\n45786966…": a name, the number of bytes, and they in lines of hex digits. */
int exif_text_orientation(const char *text)
{
    for (int words = 0; words < 2; words++) {
        text += strspn(text, " \n");
        text += strcspn(text, " \n");
    }
    uint8_t *bytes = mem_alloc(strlen(text) / 2 + 1);
    size_t count = 0;
    if (!bytes)
        return 0;
    for (;; count++) {
        text += strspn(text, " \n");
        const int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0)
            break;
        bytes[count] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    const int orientation = exif_orientation(bytes, count);
    mem_free(bytes);
    return orientation;
}

void header_set_orientation(PictureHeader *h, int exif, int other)
{
    h->orientation = exif ? exif : other ? other : 1;
    if (!exif && other > 1)
        h->odd |= PICTURE_IS_TURNED;
}

/* Where the stored picture (w,h) has the pixel that belongs to the upright picture's (x,y): start + x·dx +
 * y·dy. */
typedef struct Turn {
    ptrdiff_t start, dx, dy;
} Turn;

static Turn turn_of(int orientation, Size stored)
{
    const ptrdiff_t w = stored.width, h = stored.height;
    switch (orientation) {
    case 2: /* mirrored */
        return (Turn){w - 1, -1, w};
    case 3: /* upside down */
        return (Turn){w * h - 1, -1, -w};
    case 4: /* upside down and mirrored */
        return (Turn){w * (h - 1), 1, -w};
    case 5: /* rows are columns */
        return (Turn){0, w, 1};
    case 6: /* to be turned right */
        return (Turn){w * (h - 1), -w, 1};
    case 7: /* rows are columns, from the far corner */
        return (Turn){w * h - 1, -w, -1};
    case 8: /* to be turned left */
        return (Turn){w - 1, w, -1};
    default:
        return (Turn){0, 1, w};
    }
}

Status picture_orient(Picture *p, int orientation)
{
    if (orientation <= 1 || orientation > 8)
        return STATUS_OK;
    const bool swapped = orientation >= 5;
    Picture upright;
    TRY(picture_new(swapped ? size_turned(p->size) : p->size, &upright));
    const Turn t = turn_of(orientation, p->size);
    uint8_t *out = upright.rgb;
    for (int y = 0; y < upright.size.height; y++) {
        const uint8_t *in = p->rgb + 3 * (t.start + y * t.dy);
        for (int x = 0; x < upright.size.width; x++, in += 3 * t.dx, out += 3) {
            out[0] = in[0];
            out[1] = in[1];
            out[2] = in[2];
        }
    }
    picture_free(p);
    *p = upright;
    return STATUS_OK;
}
