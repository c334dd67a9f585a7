/* The invisible watermark, byte for byte as the package invisible-watermark writes it, and read again.
 * Breaks if the package no longer finds what was written here, or if a text is seen where there is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/safety/watermark.h"
#include "kernels/base/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void assert_ok(Status s)
{
    if (s != STATUS_OK)
        fail_msg("%s", status_message());
}

/* The pictures of scripts/reference/watermark.py. */
static Picture make(const char *kind, int width, int height)
{
    Picture p;
    uint32_t s = 1;
    assert_ok(picture_new((Size){width, height}, &p));
    uint8_t *to = p.rgb;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++) {
                const int smooth[] = {60 + (3 * x + y) % 131, 70 + x * y / 64 % 101,
                                      50 + (x + 5 * y) / 3 % 149};
                static const int flat[] = {90, 140, 60};
                s = 1664525u * s + 1013904223u;
                *to++ = (uint8_t)(!strcmp(kind, "smooth") ? smooth[c]
                                  : !strcmp(kind, "flat") ? flat[c]
                                                          : 64 + (int)(s >> 24) % 128);
            }
    return p;
}

static size_t from_hex(const char *hex, char *out)
{
    size_t n = 0;
    for (; hex[2 * n]; n++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * n, "%2x", &byte), 1);
        out[n] = (char)byte;
    }
    return n;
}

static void check_sum(const Picture *p, const char *wanted, const char *what)
{
    uint8_t sum[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    sha256(p->rgb, 3 * (size_t)size_area(p->size), sum);
    sha256_hex(sum, hex);
    if (strcmp(hex, wanted) != 0)
        fail_msg("%s is marked otherwise than by the package", what);
}

static void every_byte_is_the_packages(void **state)
{
    (void)state;
    FILE *f = fopen(TEST_GOLDEN "/watermark.txt", "r");
    char kind[16], text[64], sum[80];
    int width, height, right, cases = 0;
    assert_non_null(f);
    while (fscanf(f, "%15s %d %d %63s %79s %d", kind, &width, &height, text, sum, &right) == 6) {
        char bytes[64];
        const size_t count = from_hex(text, bytes);
        WatermarkBits bits;
        Picture p = make(kind, width, height);
        assert_ok(watermark_read(&p, &bits));
        assert_false(watermark_match(&bits, bytes, count).found);
        watermark_bits_free(&bits);
        assert_ok(watermark_write(&p, bytes, count));
        check_sum(&p, sum, kind);
        assert_ok(watermark_read(&p, &bits));
        const WatermarkMatch m = watermark_match(&bits, bytes, count);
        assert_int_equal(m.right, right);
        assert_int_equal(m.found, strcmp(kind, "flat") != 0); /* one colour holds none, there as here */
        watermark_bits_free(&bits);
        picture_free(&p);
        cases++;
    }
    fclose(f);
    assert_int_equal(cases, 8);
}

static void a_text_that_nobody_named_is_found_and_none_where_none_is(void **state)
{
    (void)state;
    static const char *const KINDS[] = {"smooth", "noise", "flat"};
    for (int i = 0; i < 3; i++) {
        char text[WATERMARK_LONGEST + 1];
        WatermarkBits bits;
        Picture p = make(KINDS[i], 512, 512);
        assert_ok(watermark_read(&p, &bits));
        assert_false(watermark_guess(&bits, text));
        assert_false(watermark_match(&bits, WATERMARK_TEXT, strlen(WATERMARK_TEXT)).found);
        watermark_bits_free(&bits);
        assert_ok(watermark_write(&p, "made by me", 10));
        assert_ok(watermark_read(&p, &bits));
        assert_int_equal(watermark_match(&bits, "made by me", 10).found, strcmp(KINDS[i], "flat") != 0);
        if (!strcmp(KINDS[i], "noise")) {
            assert_true(watermark_guess(&bits, text));
            assert_string_equal(text, "made by me");
        }
        watermark_bits_free(&bits);
        picture_free(&p);
    }
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    char longest[WATERMARK_LONGEST + 2];
    memset(longest, 'a', sizeof longest);
    longest[WATERMARK_LONGEST + 1] = 0;
    assert_int_equal(watermark_check((Size){256, 256}, WATERMARK_TEXT), STATUS_OK);
    assert_int_equal(watermark_check((Size){255, 256}, WATERMARK_TEXT), STATUS_REFUSED);
    assert_int_equal(watermark_check((Size){512, 512}, longest), STATUS_REFUSED);
    assert_int_equal(watermark_check((Size){512, 512}, ""), STATUS_REFUSED);
    longest[WATERMARK_LONGEST] = 0;
    assert_int_equal(watermark_check((Size){512, 512}, longest), STATUS_OK);
    assert_int_equal(watermark_check((Size){256, 256}, longest), STATUS_REFUSED);
    /* of a long and narrow picture there are no places */
    assert_int_equal(watermark_check((Size){65500, 2}, "a"), STATUS_REFUSED);
    Picture p = make("flat", 40000, 2);
    WatermarkBits bits;
    assert_ok(watermark_read(&p, &bits));
    assert_int_equal(bits.count, 0);
    assert_false(watermark_match(&bits, WATERMARK_TEXT, strlen(WATERMARK_TEXT)).found);
    watermark_bits_free(&bits);
    picture_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_the_packages),
        cmocka_unit_test(a_text_that_nobody_named_is_found_and_none_where_none_is),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
