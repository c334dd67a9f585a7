/* Colour profiles through Little CMS. Whatever a profile says, what is kept of it is a way from 8-bit RGB to
 * 8-bit sRGB; one that hardly changes anything is none. The lightest colour stays white (relative intents),
 * so transparency can be laid on white before.
 *
 * Where the profile stands: in a JPEG in APP2 segments that begin with "ICC_PROFILE", a number and how many
 * there are; in a PNG in the chunk iCCP behind a name, packed; in a WebP in the chunk ICCP. */
#include "profile.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <lcms2.h>
#include <zlib.h>

#define LARGEST ((size_t)4 << 20) /* of a profile: printers' tables have some megabytes */
#define HARDLY 2                  /* of 255 */
#define NEAR 0.002                /* of a colour's coordinates */
#define STEPS 6                   /* colours a channel that are looked at */

struct ColourTurn {
    cmsContext context;      /* one's own, silent about errors */
    cmsHTRANSFORM transform; /* of RGB; NULL: of grey, */
    uint8_t grey[256][3];    /* by this table */
};

/* Finding it -------------------------------------------------------------------------------------------- */

typedef struct Icc {
    uint8_t *bytes;
    size_t size;
} Icc;

static bool append(Icc *icc, const uint8_t *bytes, size_t size)
{
    uint8_t *larger = icc->size + size <= LARGEST ? mem_realloc(icc->bytes, icc->size + size + 1) : NULL;
    if (!larger)
        return false;
    memcpy(larger + icc->size, bytes, size);
    icc->bytes = larger;
    icc->size += size;
    return true;
}

/* Segments up to the first scan: 0xFF, what it is, a length that counts itself. */
static bool find_in_jpeg(const uint8_t *bytes, size_t size, Icc *icc)
{
    static const char HEAD[] = "ICC_PROFILE"; /* and its 0, number and count */
    enum { APP2 = 0xE2, SCAN = 0xDA, BEFORE = sizeof HEAD + 2 };
    int next = 1;
    for (size_t at = 2; at + 4 <= size && bytes[at] == 0xFF && bytes[at + 1] != SCAN;) {
        const size_t length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        const uint8_t *data = bytes + at + 4;
        if (length < 2 || at + 2 + length > size)
            return false;
        const bool part =
            bytes[at + 1] == APP2 && length - 2 > BEFORE && memcmp(data, HEAD, sizeof HEAD) == 0;
        if (part && (data[sizeof HEAD] != next++ || !append(icc, data + BEFORE, length - 2 - BEFORE)))
            return false;
        at += 2 + length;
    }
    return icc->bytes != NULL;
}

static bool unpack(const uint8_t *bytes, size_t size, Icc *icc)
{
    z_stream z = {.next_in = (Bytef *)bytes, .avail_in = (uInt)size};
    icc->bytes = mem_alloc(LARGEST);
    if (!icc->bytes || inflateInit(&z) != Z_OK)
        return false;
    z.next_out = icc->bytes;
    z.avail_out = LARGEST;
    const bool whole = inflate(&z, Z_FINISH) == Z_STREAM_END;
    icc->size = z.total_out;
    inflateEnd(&z);
    return whole;
}

static bool find_in_png(const uint8_t *bytes, size_t size, Icc *icc)
{
    for (size_t at = 8; at + 12 <= size && memcmp(bytes + at + 4, "IDAT", 4) != 0;) {
        const size_t length = (size_t)bytes[at] << 24 | (size_t)bytes[at + 1] << 16 |
                              (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        const uint8_t *data = bytes + at + 8;
        if (length > size - at - 12)
            return false;
        const uint8_t *zero = memcmp(bytes + at + 4, "iCCP", 4) == 0 ? memchr(data, 0, length) : NULL;
        if (zero && zero + 2 < data + length) /* and how it is packed: there is one way */
            return unpack(zero + 2, (size_t)(data + length - zero - 2), icc);
        at += 12 + length;
    }
    return false;
}

static bool find_in_webp(const uint8_t *bytes, size_t size, Icc *icc)
{
    for (size_t at = 12; at + 8 <= size;) {
        const size_t length = bytes[at + 4] | (size_t)bytes[at + 5] << 8 | (size_t)bytes[at + 6] << 16 |
                              (size_t)bytes[at + 7] << 24;
        if (length > size - at - 8)
            return false;
        if (memcmp(bytes + at, "ICCP", 4) == 0)
            return append(icc, bytes + at + 8, length);
        at += 8 + length + (length & 1);
    }
    return false;
}

static bool find(const uint8_t *bytes, size_t size, Icc *icc)
{
    switch (picture_format(bytes, size)) {
    case PICTURE_JPEG:
        return find_in_jpeg(bytes, size, icc);
    case PICTURE_PNG:
        return find_in_png(bytes, size, icc);
    case PICTURE_WEBP:
        return find_in_webp(bytes, size, icc);
    default:
        return false;
    }
}

/* Applying it ------------------------------------------------------------------------------------------- */

/* Whether colours over the whole range stay what they are. */
static bool changes_little(const ColourTurn *t)
{
    for (int i = 0; i < STEPS * STEPS * STEPS; i++) {
        const int parts[3] = {i % STEPS, i / STEPS % STEPS, i / STEPS / STEPS};
        uint8_t before[3], after[3];
        for (int k = 0; k < 3; k++)
            after[k] = before[k] = (uint8_t)(255 * (t->transform ? parts[k] : parts[0]) / (STEPS - 1));
        colour_turn_row(t, after, 1);
        for (int k = 0; k < 3; k++)
            if (abs(after[k] - before[k]) > HARDLY)
                return false;
    }
    return true;
}

static bool make(ColourTurn *t, cmsHPROFILE from, cmsHPROFILE to)
{
    cmsContext c = t->context;
    const cmsColorSpaceSignature space = cmsGetColorSpace(from);
    const cmsUInt32Number flags = cmsFLAGS_NOCACHE; /* so that threads may share it */
    if (space == cmsSigRgbData) {
        t->transform = cmsCreateTransformTHR(c, from, TYPE_RGB_8, to, TYPE_RGB_8, INTENT_PERCEPTUAL, flags);
        return t->transform != NULL;
    }
    cmsHTRANSFORM grey = space == cmsSigGrayData ? cmsCreateTransformTHR(c, from, TYPE_GRAY_8, to, TYPE_RGB_8,
                                                                         INTENT_PERCEPTUAL, flags)
                                                 : NULL;
    for (int i = 0; i < 256 && grey; i++)
        cmsDoTransform(grey, &(uint8_t){(uint8_t)i}, t->grey[i], 1);
    if (grey)
        cmsDeleteTransform(grey);
    return grey != NULL;
}

/* Of most files, at a glance: sRGB's three colours, and its curve, as IEC 61966-2-1 has them, adapted to D50.
 */
static bool is_srgb(cmsHPROFILE from)
{
    static const cmsTagSignature COLOURS[] = {cmsSigRedColorantTag, cmsSigGreenColorantTag,
                                              cmsSigBlueColorantTag},
                                 CURVES[] = {cmsSigRedTRCTag, cmsSigGreenTRCTag, cmsSigBlueTRCTag};
    static const double SRGB[3][3] = {
        {0.43607, 0.22250, 0.01393}, {0.38506, 0.71688, 0.09710}, {0.14308, 0.06062, 0.71417}};
    if (cmsGetColorSpace(from) != cmsSigRgbData || cmsIsTag(from, cmsSigAToB0Tag))
        return false;
    for (int k = 0; k < 3; k++) {
        const cmsCIEXYZ *c = cmsReadTag(from, COLOURS[k]);
        const cmsToneCurve *curve = cmsReadTag(from, CURVES[k]);
        if (!c || !curve || fabs(c->X - SRGB[k][0]) > NEAR || fabs(c->Y - SRGB[k][1]) > NEAR ||
            fabs(c->Z - SRGB[k][2]) > NEAR)
            return false;
        for (int i = 1; i < STEPS; i++) {
            const double linear = (double)cmsEvalToneCurveFloat(curve, (float)i / STEPS);
            const double v = linear <= 0.0031308 ? 12.92 * linear : 1.055 * pow(linear, 1 / 2.4) - 0.055;
            if (fabs(255 * (v - (double)i / STEPS)) > HARDLY)
                return false;
        }
    }
    return true;
}

/* A profile that cannot be read is nobody's fault here: the colours are taken as they are. */
static void quiet(cmsContext context, cmsUInt32Number code, const char *text)
{
    (void)context;
    (void)code;
    (void)text;
}

/* False: it cannot be, or need not. */
static bool apply(ColourTurn *t, const Icc *icc)
{
    t->context = cmsCreateContext(NULL, NULL);
    if (!t->context)
        return false;
    cmsSetLogErrorHandlerTHR(t->context, quiet);
    cmsHPROFILE from = cmsOpenProfileFromMemTHR(t->context, icc->bytes, (cmsUInt32Number)icc->size),
                to = cmsCreate_sRGBProfileTHR(t->context);
    const bool made = from && to && !is_srgb(from) && make(t, from, to);
    if (from)
        cmsCloseProfile(from);
    if (to)
        cmsCloseProfile(to);
    return made;
}

Status colour_turn_open(const uint8_t *bytes, size_t size, ColourTurn **out)
{
    Icc icc = {0};
    ColourTurn *t;
    *out = NULL;
    if (!find(bytes, size, &icc)) {
        mem_free(icc.bytes);
        return STATUS_OK;
    }
    *out = t = mem_calloc(1, sizeof *t);
    if (t && (!apply(t, &icc) || changes_little(t))) {
        colour_turn_free(t);
        *out = NULL;
    }
    mem_free(icc.bytes);
    return t ? STATUS_OK : STATUS_FAILED;
}

void colour_turn_row(const ColourTurn *t, uint8_t *rgb, int width)
{
    if (!t)
        return;
    if (t->transform)
        cmsDoTransform(t->transform, rgb, rgb, (cmsUInt32Number)width);
    for (int x = 0; x < width && !t->transform; x++)
        memcpy(rgb + 3 * x, t->grey[rgb[3 * x]], 3);
}

void colour_turn_free(ColourTurn *t)
{
    if (!t)
        return;
    if (t->transform)
        cmsDeleteTransform(t->transform);
    if (t->context)
        cmsDeleteContext(t->context);
    mem_free(t);
}
