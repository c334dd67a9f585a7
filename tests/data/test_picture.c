/* Decoding, resizing and writing pictures, against Pillow (scripts/reference/pictures.py). */
#include "pictures.h"

#include "data/pictures/decode.h"

#include <math.h>

#include <jpeglib.h>
#include <png.h>

static int largest_difference(const Picture *a, const Picture *b)
{
    assert_true(size_equal(a->size, b->size));
    int largest = 0;
    for (int i = 0; i < 3 * size_area(a->size); i++)
        largest = abs(a->rgb[i] - b->rgb[i]) > largest ? abs(a->rgb[i] - b->rgb[i]) : largest;
    return largest;
}

static void every_kind_looks_as_in_pillow(void **state)
{
    (void)state;
    for (int i = 0; i < GOLDEN_PICTURES; i++) {
        const char *name = golden_pictures[i];
        size_t size;
        uint8_t *bytes = golden_bytes(name, &size);
        Picture expected = golden_pixels(name), p;
        Size seen;
        int orientation;
        assert_ok(picture_decode(bytes, size, &p));
        assert_ok(picture_info(bytes, size, &seen, &orientation));
        assert_true(size_equal(seen, p.size));
        const char *exif = strstr(name, "exif");
        assert_int_equal(orientation, exif ? exif[4] - '0' : 1);
        /* versions of libjpeg and libwebp may round differently; PNG is exact */
        const int allowed = strncmp(name, "png", 3) == 0 || strstr(name, "lossless") ? 0 : 3;
        const int difference = largest_difference(&p, &expected);
        if (difference > allowed)
            fail_msg("%s differs by %d", name, difference);
        picture_free(&p);
        picture_free(&expected);
        mem_free(bytes);
    }
}

/* A YCCK file as Adobe writes it: ink inverted, then turned into luma and chroma. */
static void ycck_is_inverted_cmyk(void **state)
{
    (void)state;
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    jpeg_mem_dest(&jpeg, &bytes, &size);
    jpeg.image_width = jpeg.image_height = 16;
    jpeg.input_components = 4;
    jpeg.in_color_space = JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    jpeg_set_colorspace(&jpeg, JCS_YCCK);
    jpeg_set_quality(&jpeg, 100, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    unsigned char row[64]; /* inverted: 200 is little cyan, 255 no magenta; the right half has black */
    for (int x = 0; x < 16; x++)
        row[4 * x] = 200, row[4 * x + 1] = 255, row[4 * x + 2] = 100, row[4 * x + 3] = x < 8 ? 255 : 128;
    JSAMPROW rows[1] = {row};
    for (int y = 0; y < 16; y++)
        jpeg_write_scanlines(&jpeg, rows, 1);
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    Picture p;
    assert_ok(picture_decode(bytes, size, &p));
    assert_in_range(p.rgb[0], 197, 203);
    assert_in_range(p.rgb[1], 252, 255);
    assert_in_range(p.rgb[2], 97, 103);
    assert_in_range(p.rgb[3 * 15], 97, 103);
    assert_in_range(p.rgb[3 * 15 + 1], 125, 131);
    assert_in_range(p.rgb[3 * 15 + 2], 47, 53);
    picture_free(&p);
    free(bytes);
}

/* Both byte orders; and what is broken is no orientation, never a read past the end. */
static void exif_is_read_with_care(void **state)
{
    (void)state;
    static const char big[] =
        "MM\0*\0\0\0\x08\0\x02\x01\x0F\0\x02\0\0\0\x01xxxx\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
    static const char little[] = "Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x05\0\0\0";
    assert_int_equal(exif_orientation((const uint8_t *)big, sizeof big - 1), 6);
    assert_int_equal(exif_orientation((const uint8_t *)little, sizeof little - 1), 5);
    for (size_t n = 0; n < sizeof little - 1; n++) {
        uint8_t *copy = malloc(n ? n : 1);
        memcpy(copy, little, n);
        assert_int_equal(exif_orientation(copy, n), 0);
        free(copy);
    }
    uint8_t broken[sizeof little - 1];
    memcpy(broken, little, sizeof broken);
    broken[24] = 9; /* the value */
    assert_int_equal(exif_orientation(broken, sizeof broken), 0);
    broken[24] = 5;
    memset(broken + 10, 0xFF, 4); /* the directory's place */
    assert_int_equal(exif_orientation(broken, sizeof broken), 0);
}

static void resize_is_pillows_lanczos(void **state)
{
    (void)state;
    static const Size sizes[] = {{20, 15}, {53, 7}, {9, 41}, {80, 99}, {1, 1}, {52, 40}};
    Picture source = golden_pixels("source");
    for (int i = 0; i < 6; i++) {
        char name[32];
        snprintf(name, sizeof name, "resize-%dx%d", sizes[i].width, sizes[i].height);
        Picture expected = golden_pixels(name), p;
        assert_ok(picture_resize(&source, sizes[i], &p));
        if (largest_difference(&p, &expected) > 1)
            fail_msg("%s differs by %d", name, largest_difference(&p, &expected));
        picture_free(&p);
        picture_free(&expected);
    }
    picture_free(&source);
}

/* A JPEG four times as large as needed is decoded smaller, and then resized to nearly what the whole gives.
 */
static void decoding_smaller_changes_little(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = golden_bytes("jpeg-exif6.jpg", &size); /* upright 19 × 29 */
    Picture small, whole, a, b;
    assert_ok(picture_decode_for(bytes, size, (Size){4, 7}, &small));
    assert_true(size_equal(small.size, (Size){10, 15}));
    assert_ok(picture_decode_for(bytes, size, (Size){5, 7}, &whole)); /* 19/2 is not twice 5 */
    assert_int_equal(whole.size.width, 19);
    assert_ok(picture_resize(&small, (Size){4, 7}, &a));
    assert_ok(picture_resize(&whole, (Size){4, 7}, &b));
    double sum = 0;
    for (int i = 0; i < 3 * 4 * 7; i++)
        sum += abs(a.rgb[i] - b.rgb[i]);
    assert_true(sum / (3 * 4 * 7) < 6);
    picture_free(&small);
    picture_free(&whole);
    picture_free(&a);
    picture_free(&b);
    mem_free(bytes);
}

/* 0: the picture's own side. */
static Size or_its(Size size, Size own)
{
    return (Size){size.width ? size.width : own.width, size.height ? size.height : own.height};
}

/* Cut out while it is decoded, a window is what the whole picture, resized and then cropped, shows there. */
static void a_window_is_that_of_the_whole_picture(void **state)
{
    (void)state;
    static const PictureWindow windows[] = {
        {{10, 9}, 0, 0, {10, 9}},     {{8, 8}, 2, 3, {4, 4}},     {{60, 50}, 20, 10, {16, 30}},
        {{12, 10}, -3, -2, {20, 16}}, {{1, 1}, 0, 0, {1, 1}},     {{0, 0}, 0, 0, {0, 0}},
        {{0, 0}, 3, 4, {5, 6}},       {{0, 0}, -5, -6, {50, 60}}, {{0, 11}, 2, -3, {9, 20}},
        {{11, 0}, -2, 3, {20, 9}},    {{40, 0}, 9, -9, {9, 60}},  {{300, 7}, 290, 2, {20, 9}},
    };
    for (int i = 0; i < GOLDEN_PICTURES; i++) {
        size_t size;
        uint8_t *bytes = golden_bytes(golden_pictures[i], &size);
        Picture whole, part, resized, cropped;
        assert_ok(picture_decode(bytes, size, &whole));
        for (size_t k = 0; k < sizeof windows / sizeof *windows; k++) {
            PictureWindow w = windows[k]; /* 0: as the picture is */
            w.whole = or_its(w.whole, whole.size);
            w.size = or_its(w.size, whole.size);
            assert_ok(picture_decode_window(bytes, size, whole.size, &w, &part));
            assert_ok(picture_resize(&whole, w.whole, &resized));
            assert_ok(picture_crop(&resized, w.x, w.y, w.size, &cropped));
            if (!size_equal(part.size, w.size) || largest_difference(&part, &cropped))
                fail_msg("%s: window %zu differs", golden_pictures[i], k);
            picture_free(&part);
            picture_free(&resized);
            picture_free(&cropped);
        }
        picture_free(&whole);
        mem_free(bytes);
    }
}

static int add_bytes(size_t bytes, void *arg)
{
    *(size_t *)arg += bytes;
    return 0;
}

/* Looked at or cut to a square, a large PNG needs a small part of its own size. */
static void a_large_png_is_never_whole_in_memory(void **state)
{
    (void)state;
    enum { SIDE = 1500 };
    char folder[64], *bytes;
    size_t size, taken = 0;
    PictureFacts facts;
    Picture large, square;
    temporary_folder(folder);
    char *path = path_join(folder, "large.png");
    assert_ok(picture_new(size_square(SIDE), &large));
    memset(large.rgb, 90, (size_t)3 * SIDE * SIDE);
    assert_ok(picture_write_png(path, &large, NULL, 0));
    assert_ok(file_read(path, 1 << 24, &bytes, &size));
    mem_set_hook(add_bytes, &taken);
    const Status checked = picture_check((uint8_t *)bytes, size, &facts);
    const size_t by_check = taken;
    const Status cut =
        picture_decode_window((uint8_t *)bytes, size, size_square(32),
                              &(PictureWindow){.whole = size_square(32), .size = size_square(32)}, &square);
    mem_set_hook(NULL, NULL);
    assert_ok(checked);
    assert_ok(cut);
    assert_true(by_check < (size_t)SIDE * SIDE / 4);
    assert_true(taken - by_check < (size_t)SIDE * SIDE / 4);
    picture_free(&large);
    picture_free(&square);
    mem_free(bytes);
    mem_free(path);
    dir_remove(folder);
}

static void cover_keeps_the_shape_and_leaves_no_gap(void **state)
{
    (void)state;
    assert_true(size_equal(picture_cover_size((Size){4000, 3000}, size_square(512)), (Size){683, 512}));
    assert_true(size_equal(picture_cover_size((Size){10, 20000}, size_square(64)), (Size){64, 128000}));
    for (int i = 1; i < 300; i++) {
        const Size s = picture_cover_size((Size){i, 301 - i}, (Size){64, 48});
        assert_true(s.width >= 64 && s.height >= 48 && (s.width == 64 || s.height == 48));
    }
}

static void crop_repeats_the_edge_outside(void **state)
{
    (void)state;
    Picture p, q;
    assert_ok(picture_new((Size){3, 2}, &p));
    for (int i = 0; i < 18; i++)
        p.rgb[i] = (uint8_t)(i / 3);
    static const uint8_t expected[3][5] = {{0, 0, 1, 2, 2}, {3, 3, 4, 5, 5}, {3, 3, 4, 5, 5}};
    assert_ok(picture_crop(&p, -1, 0, (Size){5, 3}, &q));
    for (int y = 0; y < 3; y++)
        for (int x = 0; x < 5; x++)
            assert_int_equal(q.rgb[3 * (5 * y + x) + 2], expected[y][x]);
    picture_free(&q);
    assert_ok(picture_crop(&p, 7, -9, (Size){2, 2}, &q)); /* wholly outside */
    assert_int_equal(q.rgb[0], 2);
    picture_free(&q);
    assert_ok(picture_crop(&p, -7, 5, (Size){2, 2}, &q));
    assert_int_equal(q.rgb[0], 3);
    picture_free(&q);
    picture_flip(&p);
    assert_int_equal(p.rgb[0], 2);
    assert_int_equal(p.rgb[3], 1);
    assert_int_equal(p.rgb[6], 0);
    picture_free(&p);
}

static void floats_span_minus_one_to_one(void **state)
{
    (void)state;
    Picture p;
    assert_ok(picture_new((Size){256, 1}, &p));
    for (int i = 0; i < 3 * 256; i++)
        p.rgb[i] = (uint8_t)(i / 3);
    float x[3 * 256];
    picture_to_floats(&p, x);
    for (int i = 0; i < 3 * 256; i++)
        assert_float_equal(x[i], (float)p.rgb[i] / 127.5f - 1, 0);
    picture_free(&p);
}

static void refuse(const void *bytes, size_t size, const char *message)
{
    Picture p;
    assert_int_not_equal(picture_decode(bytes, size, &p), STATUS_OK);
    assert_null(p.rgb);
    assert_message(message);
}

/* A PNG that says 65500 × 65500 in 33 bytes must not get 12 GB. */
static void sizes_are_checked_before_memory_is_taken(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = golden_bytes("png-rgb.png", &size);
    bytes[16] = bytes[20] = 0, bytes[17] = bytes[21] = 0;
    bytes[18] = bytes[22] = 0xFF, bytes[19] = bytes[23] = 0x00;
    refuse(bytes, size, "65280 x 65280, larger than");
    bytes[18] = bytes[19] = 0;
    refuse(bytes, size, "no pixels");
    mem_free(bytes);
    Picture p;
    assert_int_not_equal(picture_new(size_square(1 << 15), &p), STATUS_OK);
    assert_int_not_equal(picture_new((Size){-1, 5}, &p), STATUS_OK);
}

static void long_thin_pictures_work(void **state)
{
    (void)state;
    char folder[64];
    temporary_folder(folder);
    write_png(folder, "long.png", 20000, 3, 1);
    char *path = path_join(folder, "long.png"), *data;
    size_t size;
    assert_ok(file_read(path, 1 << 24, &data, &size));
    Picture p, q;
    assert_ok(picture_decode((uint8_t *)data, size, &p));
    assert_int_equal(p.size.width, 20000);
    assert_ok(picture_resize(&p, size_square(64), &q));
    picture_free(&p);
    picture_free(&q);
    mem_free(data);
    mem_free(path);
    assert_ok(dir_remove(folder));
}

static void what_is_no_picture_is_named(void **state)
{
    (void)state;
    refuse("", 0, "empty");
    refuse("a photo of a cat", 16, "not a JPEG, PNG or WebP");
    refuse("GIF89a......", 12, "GIF");
    refuse("\0\0\0\x18"
           "ftypheic",
           12, "HEIC");
    size_t size;
    uint8_t *bytes = golden_bytes("webp-animated.webp", &size);
    refuse(bytes, size, "animated WebP");
    mem_free(bytes);
    bytes = golden_bytes("jpeg-444.jpg", &size);
    refuse(bytes, size / 2, "JPEG data ends early at byte");
    mem_free(bytes);
    bytes = golden_bytes("png-rgb.png", &size);
    refuse(bytes, size / 2, "PNG data ends early at byte");
    bytes[size / 2] ^= 1;
    refuse(bytes, size, "PNG data is broken at byte");
    mem_free(bytes);
}

/* Text reaches the file: Latin-1 as tEXt, other letters as iTXt; the pixels are the same; equal calls, equal
 * bytes. */
static void written_png_reads_back(void **state)
{
    (void)state;
    char folder[64], *data[2];
    size_t size[2];
    temporary_folder(folder);
    Picture p = golden_pixels("png-rgb"), q;
    const PictureText text[] = {{"parameters", "caf\xC3\xA9, 20 steps"}, {"Title", "\xE7\x8C\xAB"}};
    for (int i = 0; i < 2; i++) {
        char *path = path_join(folder, i ? "b.png" : "a.png");
        assert_ok(picture_write_png(path, &p, text, 2));
        assert_ok(file_read(path, 1 << 20, &data[i], &size[i]));
        mem_free(path);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(data[0], data[1], size[0]);
    assert_non_null(memmem(data[0], size[0], "tEXtparameters\0caf\xE9, 20", 22));
    assert_non_null(memmem(data[0], size[0], "iTXtTitle\0\0\0\0\0\xE7\x8C\xAB", 17));
    const char *const keys[] = {"parameters", "Title", "Author"};
    const char *const values[] = {text[0].value, text[1].value, NULL};
    for (int i = 0; i < 3; i++) {
        char *value;
        assert_ok(picture_text((uint8_t *)data[0], size[0], keys[i], &value));
        assert_true(value ? values[i] && strcmp(value, values[i]) == 0 : !values[i]);
        mem_free(value);
    }
    char *none;
    assert_int_not_equal(picture_text((uint8_t *)data[0], 20, "Title", &none), STATUS_OK);
    assert_null(none);
    assert_ok(picture_decode((uint8_t *)data[0], size[0], &q));
    assert_int_equal(largest_difference(&p, &q), 0);
    assert_int_not_equal(picture_write_png(folder, &p, NULL, 0), STATUS_OK);
    assert_int_not_equal(picture_write_png("/tmp/x.png", &p, (PictureText[]){{"", "x"}}, 1), STATUS_OK);
    picture_free(&p);
    picture_free(&q);
    mem_free(data[0]);
    mem_free(data[1]);
    assert_ok(dir_remove(folder));
}

static void grid_has_white_gaps_and_empty_places(void **state)
{
    (void)state;
    uint8_t black[3 * 4] = {0};
    const Picture p = {{2, 2}, black};
    const Picture three[3] = {p, {.rgb = NULL}, p};
    Picture g;
    assert_ok(picture_grid(three, 3, 2, &g));
    assert_true(size_equal(g.size, size_square(6)));
    static const char *const rows[6] = {"##....", "##....", "......", "......", "##....", "##...."};
    for (int y = 0; y < 6; y++)
        for (int x = 0; x < 6; x++)
            assert_int_equal(g.rgb[3 * (6 * y + x)], rows[y][x] == '#' ? 0 : 255);
    picture_free(&g);
    const Picture unequal[2] = {p, {{1, 2}, black}};
    assert_int_not_equal(picture_grid(unequal, 2, 2, &g), STATUS_OK);
    assert_int_not_equal(picture_grid(three, 0, 2, &g), STATUS_OK);
}

static int refuse_at;
static int refuse_one(size_t bytes, void *arg)
{
    (void)bytes;
    (void)arg;
    return refuse_at-- == 0;
}

/* Each allocation in turn fails: an error, no crash, no leak. */
static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    for (int i = 0; i < GOLDEN_PICTURES; i++) {
        size_t size;
        uint8_t *bytes = golden_bytes(golden_pictures[i], &size);
        Status s = STATUS_FAILED;
        for (int n = 0; s != STATUS_OK && n < 200; n++) {
            Picture p = {0}, q = {0}, cut = {0};
            refuse_at = n;
            mem_set_hook(refuse_one, NULL);
            s = picture_decode(bytes, size, &p);
            if (s == STATUS_OK)
                s = picture_resize(&p, (Size){8, 9}, &q);
            if (s == STATUS_OK)
                s = picture_decode_window(bytes, size, size_square(8),
                                          &(PictureWindow){.whole = {8, 9}, .size = {8, 8}}, &cut);
            mem_set_hook(NULL, NULL);
            picture_free(&p);
            picture_free(&q);
            picture_free(&cut);
        }
        assert_int_equal(s, STATUS_OK);
        mem_free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_looks_as_in_pillow),
        cmocka_unit_test(ycck_is_inverted_cmyk),
        cmocka_unit_test(exif_is_read_with_care),
        cmocka_unit_test(resize_is_pillows_lanczos),
        cmocka_unit_test(a_window_is_that_of_the_whole_picture),
        cmocka_unit_test(a_large_png_is_never_whole_in_memory),
        cmocka_unit_test(decoding_smaller_changes_little),
        cmocka_unit_test(cover_keeps_the_shape_and_leaves_no_gap),
        cmocka_unit_test(crop_repeats_the_edge_outside),
        cmocka_unit_test(floats_span_minus_one_to_one),
        cmocka_unit_test(sizes_are_checked_before_memory_is_taken),
        cmocka_unit_test(long_thin_pictures_work),
        cmocka_unit_test(what_is_no_picture_is_named),
        cmocka_unit_test(written_png_reads_back),
        cmocka_unit_test(grid_has_white_gaps_and_empty_places),
        cmocka_unit_test(lack_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
