/* What the tests of data/ share: golden pictures, pictures made on the spot, folders that vanish. */
#ifndef ATL_TEST_PICTURES_H
#define ATL_TEST_PICTURES_H

#include "data/pictures/picture.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define assert_ok(call)                                                                                      \
    do {                                                                                                     \
        if ((call) != STATUS_OK)                                                                             \
            fail_msg("%s", status_message());                                                                \
    } while (0)
#define assert_message(part)                                                                                 \
    do {                                                                                                     \
        if (!strstr(status_message(), part))                                                                 \
            fail_msg("message lacks \"%s\": %s", part, status_message());                                    \
    } while (0)

/* Every picture in tests/golden/pictures that has its pixels beside it. */
static const char *const golden_pictures[] = {
    "jpeg-444.jpg",    "jpeg-420.jpg",       "jpeg-progressive.jpg", "jpeg-grey.jpg",
    "jpeg-cmyk.jpg",   "jpeg-exif1.jpg",     "jpeg-exif2.jpg",       "jpeg-exif3.jpg",
    "jpeg-exif4.jpg",  "jpeg-exif5.jpg",     "jpeg-exif6.jpg",       "jpeg-exif7.jpg",
    "jpeg-exif8.jpg",  "png-rgb.png",        "png-rgba.png",         "png-grey.png",
    "png-grey16.png",  "png-grey-alpha.png", "png-palette.png",      "png-palette-alpha.png",
    "png-trns.png",    "png-rgb16.png",      "png-interlaced.png",   "png-bilevel.png",
    "png-exif6.png",   "webp-lossy.webp",    "webp-lossless.webp",   "webp-alpha.webp",
    "webp-exif8.webp",
};
#define GOLDEN_PICTURES (int)(sizeof golden_pictures / sizeof golden_pictures[0])

static inline uint8_t *golden_bytes(const char *name, size_t *size)
{
    char path[512], *data;
    snprintf(path, sizeof path, "%s/pictures/%s", TEST_GOLDEN, name);
    assert_ok(file_read(path, 1 << 20, &data, size));
    return (uint8_t *)data;
}

/* NAME.rgb: width, height, pixels. */
static inline Picture golden_pixels(const char *name)
{
    char file[128];
    snprintf(file, sizeof file, "%s", name);
    char *dot = strrchr(file, '.');
    snprintf(dot ? dot : file + strlen(file), 5, ".rgb");
    size_t size;
    uint8_t *bytes = golden_bytes(file, &size);
    Picture p;
    assert_ok(picture_new((Size){bytes[0] | bytes[1] << 8, bytes[4] | bytes[5] << 8}, &p));
    assert_int_equal(size, 8 + 3 * size_area(p.size));
    memcpy(p.rgb, bytes + 8, size - 8);
    mem_free(bytes);
    return p;
}

/* A folder under /tmp, its name in path (at least 64 bytes). */
static inline void temporary_folder(char *path)
{
    strcpy(path, "/tmp/atelier-test-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static inline void write_file(const char *folder, const char *name, const void *data, size_t size)
{
    char *path = path_join(folder, name);
    assert_ok(file_write_atomic(path, data, size));
    mem_free(path);
}

static inline void write_text(const char *folder, const char *name, const char *text)
{
    write_file(folder, name, text, strlen(text));
}

/* A PNG of one colour, different for each n, with one odd pixel so that a flip can be seen. */
static inline void write_png(const char *folder, const char *name, int width, int height, int n)
{
    Picture p;
    assert_ok(picture_new((Size){width, height}, &p));
    for (int i = 0; i < width * height; i++) {
        p.rgb[3 * i] = (uint8_t)(37 * n + 3 * i);
        p.rgb[3 * i + 1] = (uint8_t)(91 * n);
        p.rgb[3 * i + 2] = (uint8_t)(n);
    }
    char *path = path_join(folder, name);
    assert_ok(picture_write_png(path, &p, NULL, 0));
    mem_free(path);
    picture_free(&p);
}

#endif
