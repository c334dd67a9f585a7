/* Colour profiles: what is not sRGB becomes it, as the formulas say; what is sRGB, or cannot be read, stays
 * as it is. */
#include "pictures.h"

#include <math.h>

#include <lcms2.h>
#include <zlib.h>

typedef struct Bytes {
    uint8_t *data;
    size_t size;
} Bytes;

static Bytes profile_bytes(cmsHPROFILE profile)
{
    cmsUInt32Number size = 0;
    assert_non_null(profile);
    assert_true(cmsSaveProfileToMem(profile, NULL, &size));
    Bytes b = {mem_alloc(size), size};
    assert_true(cmsSaveProfileToMem(profile, b.data, &size));
    cmsCloseProfile(profile);
    return b;
}

/* Adobe RGB (1998): these primaries, D65, a pure power. */
static Bytes adobe_rgb(void)
{
    const cmsCIExyY white = {0.3127, 0.3290, 1};
    const cmsCIExyYTRIPLE primaries = {{0.64, 0.33, 1}, {0.21, 0.71, 1}, {0.15, 0.06, 1}};
    cmsToneCurve *curve = cmsBuildGamma(NULL, 2.19921875);
    cmsToneCurve *curves[] = {curve, curve, curve};
    const Bytes b = profile_bytes(cmsCreateRGBProfile(&white, &primaries, curves));
    cmsFreeToneCurve(curve);
    return b;
}

static Bytes linear_grey(void)
{
    cmsToneCurve *curve = cmsBuildGamma(NULL, 1);
    const Bytes b = profile_bytes(cmsCreateGrayProfile(cmsD50_xyY(), curve));
    cmsFreeToneCurve(curve);
    return b;
}

static double encoded(double linear)
{
    const double v = fmin(fmax(linear, 0), 1);
    return 255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * pow(v, 1 / 2.4) - 0.055);
}

/* Adobe RGB's numbers as sRGB's, by the product of the two matrices. */
static void expected_rgb(const uint8_t *in, double *out)
{
    double l[3];
    for (int k = 0; k < 3; k++)
        l[k] = pow(in[k] / 255.0, 2.19921875);
    out[0] = encoded(1.39836 * l[0] - 0.39836 * l[1]);
    out[1] = encoded(l[1]);
    out[2] = encoded(-0.04293 * l[1] + 1.04293 * l[2]);
}

/* A profile put into each format ---------------------------------------------------------------------------
 */

static void put_be32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (24 - 8 * i));
}

static Bytes put_in(Bytes picture, size_t at, const void *piece, size_t size)
{
    Bytes b = {mem_alloc(picture.size + size), picture.size + size};
    memcpy(b.data, picture.data, at);
    memcpy(b.data + at, piece, size);
    memcpy(b.data + at + size, picture.data + at, picture.size - at);
    mem_free(picture.data);
    return b;
}

static Bytes png_with(Bytes png, Bytes icc)
{
    uLongf packed = compressBound(icc.size);
    uint8_t *chunk = mem_alloc(packed + 20);
    memcpy(chunk + 4, "iCCPname\0\0", 10);
    assert_int_equal(compress(chunk + 14, &packed, icc.data, icc.size), Z_OK);
    put_be32(chunk, (uint32_t)packed + 6);
    put_be32(chunk + 14 + packed, (uint32_t)crc32(0, chunk + 4, (uInt)packed + 10));
    const Bytes b = put_in(png, 33, chunk, packed + 18);
    mem_free(chunk);
    return b;
}

/* In two segments, as a large one has to be. */
static Bytes jpeg_with(Bytes jpeg, Bytes icc)
{
    const size_t half = icc.size / 2, sizes[] = {half, icc.size - half};
    for (int i = 1; i >= 0; i--) {
        uint8_t *segment = mem_alloc(sizes[i] + 18);
        memcpy(segment, "\xff\xe2", 2);
        segment[2] = (uint8_t)((sizes[i] + 16) >> 8);
        segment[3] = (uint8_t)(sizes[i] + 16);
        memcpy(segment + 4, "ICC_PROFILE\0", 12);
        segment[16] = (uint8_t)(i + 1);
        segment[17] = 2;
        memcpy(segment + 18, icc.data + (i ? half : 0), sizes[i]);
        jpeg = put_in(jpeg, 2, segment, sizes[i] + 18);
        mem_free(segment);
    }
    return jpeg;
}

static Bytes webp_with(Bytes webp, Bytes icc)
{
    uint8_t *chunk = mem_calloc(1, icc.size + 9);
    memcpy(chunk, "ICCP", 4);
    for (int i = 0; i < 4; i++)
        chunk[4 + i] = (uint8_t)(icc.size >> 8 * i);
    memcpy(chunk + 8, icc.data, icc.size);
    const Bytes b = put_in(webp, webp.size, chunk, icc.size + 8 + (icc.size & 1));
    mem_free(chunk);
    return b;
}

static Bytes golden(const char *name)
{
    Bytes b;
    b.data = golden_bytes(name, &b.size);
    return b;
}

typedef Bytes (*With)(Bytes picture, Bytes icc);

/* Each pixel becomes what the formula says, the way that training takes too. */
static void check_turned(const char *name, With with, Bytes icc, bool grey)
{
    Bytes before = golden(name), after = with(golden(name), icc);
    Picture p, q, window;
    PictureFacts facts;
    assert_ok(picture_decode(before.data, before.size, &p));
    assert_ok(picture_decode(after.data, after.size, &q));
    assert_true(size_equal(p.size, q.size));
    for (int64_t i = 0; i < size_area(p.size); i++) {
        double wanted[3];
        expected_rgb(p.rgb + 3 * i, wanted);
        for (int k = 0; k < 3; k++) {
            const double want = grey ? encoded(p.rgb[3 * i] / 255.0) : wanted[k];
            if (fabs(q.rgb[3 * i + k] - want) > 3)
                fail_msg("%s: channel %d of %d,%d,%d is %d, not %.1f", name, k, p.rgb[3 * i],
                         p.rgb[3 * i + 1], p.rgb[3 * i + 2], q.rgb[3 * i + k], want);
        }
    }
    assert_ok(picture_check(after.data, after.size, &facts));
    assert_true(facts.odd & PICTURE_HAS_PROFILE);
    const PictureWindow w = {.whole = q.size, .size = q.size};
    assert_ok(picture_decode_window(after.data, after.size, q.size, &w, &window));
    assert_memory_equal(window.rgb, q.rgb, 3 * (size_t)size_area(q.size));
    picture_free(&window);
    picture_free(&p);
    picture_free(&q);
    mem_free(before.data);
    mem_free(after.data);
}

static void adobe_rgb_becomes_srgb_in_every_format(void **state)
{
    (void)state;
    const Bytes icc = adobe_rgb();
    check_turned("png-rgb.png", png_with, icc, false);
    check_turned("png-interlaced.png", png_with, icc, false);
    check_turned("jpeg-444.jpg", jpeg_with, icc, false);
    check_turned("webp-lossless.webp", webp_with, icc, false);
    mem_free(icc.data);
}

static void grey_has_profiles_too(void **state)
{
    (void)state;
    const Bytes icc = linear_grey();
    check_turned("jpeg-grey.jpg", jpeg_with, icc, true);
    mem_free(icc.data);
}

/* Nothing is turned, and nothing is said. */
static void check_same(const char *name, With with, Bytes icc)
{
    Bytes before = golden(name), after = with(golden(name), icc);
    Picture p, q;
    PictureFacts facts;
    assert_ok(picture_decode(before.data, before.size, &p));
    assert_ok(picture_decode(after.data, after.size, &q));
    assert_memory_equal(p.rgb, q.rgb, 3 * (size_t)size_area(p.size));
    assert_ok(picture_check(after.data, after.size, &facts));
    assert_int_equal(facts.odd & PICTURE_HAS_PROFILE, 0);
    picture_free(&p);
    picture_free(&q);
    mem_free(before.data);
    mem_free(after.data);
}

static void srgb_and_what_cannot_be_read_stay_as_they_are(void **state)
{
    (void)state;
    const Bytes srgb = profile_bytes(cmsCreate_sRGBProfile()), adobe = adobe_rgb();
    check_same("png-rgb.png", png_with, srgb);
    check_same("jpeg-420.jpg", jpeg_with, srgb);
    check_same("webp-lossy.webp", webp_with, srgb);
    for (size_t n = 8; n < adobe.size; n += 37) { /* cut off */
        Bytes png = png_with(golden("png-rgb.png"), (Bytes){adobe.data, n});
        Picture p;
        assert_ok(picture_decode(png.data, png.size, &p));
        picture_free(&p);
        mem_free(png.data);
    }
    check_same("jpeg-444.jpg", jpeg_with, (Bytes){adobe.data, 100});
    mem_free(srgb.data);
    mem_free(adobe.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adobe_rgb_becomes_srgb_in_every_format),
        cmocka_unit_test(grey_has_profiles_too),
        cmocka_unit_test(srgb_and_what_cannot_be_read_stay_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
