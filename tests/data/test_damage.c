/* Damaged files: pictures and datasets cut at every length and with bytes changed all over. Nothing may crash
 * (the sanitizers look on), a cut picture is always noticed, and a dataset either opens whole or is refused.
 */
#include "pictures.h"

#include "data/dataset/dataset.h"
#include "kernels/base/log.h"
#include "kernels/base/random.h"
#include "tests/sanitizers.h"

/* Pictures of different kinds; the others differ in what is done after decoding. */
static const char *const kinds[] = {"jpeg-444.jpg",       "jpeg-progressive.jpg", "jpeg-cmyk.jpg",
                                    "jpeg-exif6.jpg",     "png-rgba.png",         "png-palette-alpha.png",
                                    "png-interlaced.png", "png-exif6.png",        "webp-lossy.webp",
                                    "webp-alpha.webp",    "webp-exif8.webp",      "webp-animated.webp"};
#define KINDS (int)(sizeof kinds / sizeof kinds[0])

static bool decodes(const uint8_t *bytes, size_t size)
{
    /* a copy of its own size: reading past the end is seen */
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    Picture p;
    Size seen;
    int orientation;
    const Status info = picture_info(copy, size, &seen, &orientation);
    const Status s = picture_decode(copy, size, &p);
    if (s == STATUS_OK) {
        assert_int_equal(info, STATUS_OK);
        assert_true(size_equal(seen, p.size));
    } else {
        assert_true(status_message()[0] != 0);
    }
    picture_free(&p);
    free(copy);
    return s == STATUS_OK;
}

static void cut_pictures_are_noticed(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        size_t size;
        uint8_t *bytes = golden_bytes(kinds[i], &size);
        for (size_t n = 0; n < size; n++)
            if (decodes(bytes, n))
                fail_msg("%s decodes when cut at byte %zu of %zu", kinds[i], n, size);
        mem_free(bytes);
    }
}

static void changed_bytes_in_pictures_do_no_harm(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        size_t size;
        uint8_t *bytes = golden_bytes(kinds[i], &size);
        for (size_t at = 0; at < size; at++) {
            const RandomKey key = {.seed = 7, .step = (uint32_t)at, .sample = (uint32_t)i};
            const uint8_t kept = bytes[at];
            bytes[at] = (uint8_t)(kept ^ (1u << random_below(key, 0, 8)));
            decodes(bytes, size);
            bytes[at] = (uint8_t)random_u32(key, 1);
            decodes(bytes, size);
            bytes[at] = kept;
        }
        mem_free(bytes);
    }
}

/* Datasets --------------------------------------------------------------------------------------------- */

static char folder[64], *path, *good;
static size_t good_size;

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    temporary_folder(folder);
    write_png(folder, "a.png", 16, 16, 1);
    write_png(folder, "b.png", 16, 16, 2);
    write_png(folder, "c.png", 16, 16, 3);
    write_png(folder, "b.mask.png", 16, 16, 4);
    path = path_join(folder, "set.h5");
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = path, .caption = "caption"}, NULL));
    assert_ok(file_read(path, 1 << 24, &good, &good_size));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mem_free(good);
    mem_free(path);
    return dir_remove(folder) != STATUS_OK;
}

/* Opens what bytes say and looks at everything; false: refused with a message that names the file. */
static bool opens(const char *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
    Dataset *d;
    if (dataset_open(path, &d) != STATUS_OK) {
        assert_message("set.h5");
        assert_null(d);
        return false;
    }
    for (int i = 0; i < dataset_count(d); i++) {
        uint8_t *encoded;
        size_t n;
        assert_in_range(dataset_size(d, i).width, 1, PICTURE_MAX_SIDE);
        assert_true(strlen(dataset_name(d, i)) > 0);
        assert_true(strlen(dataset_caption(d, i)) < 1000);
        if (dataset_bytes(d, i, &encoded, &n) == STATUS_OK)
            mem_free(encoded);
        if (dataset_has_mask(d, i) && dataset_mask_bytes(d, i, &encoded, &n) == STATUS_OK)
            mem_free(encoded);
    }
    dataset_close(d);
    return true;
}

static void cut_datasets_are_refused(void **state)
{
    (void)state;
    assert_true(opens(good, good_size));
    for (size_t n = 0; n < good_size; n += n < 512 ? 1 : 61)
        if (opens(good, n))
            fail_msg("opens when cut at byte %zu of %zu", n, good_size);
}

/* Where a number of the format lies: each is changed to what must be refused. */
static void impossible_numbers_are_refused(void **state)
{
    (void)state;
    Dataset *d;
    assert_true(opens(good, good_size));
    assert_ok(dataset_open(path, &d));
    const uint64_t first = dataset_encoded_size(d, 0);
    dataset_close(d);
    char *bad = mem_alloc(good_size);
    const uint64_t image_offset[2] = {0, first}, caption_offset[4] = {0, 7, 14, 21};
    const uint32_t width[3] = {16, 16, 16};
    struct {
        const void *find;
        size_t size, at;
        uint8_t value;
        const char *message;
    } const faults[] = {
        {image_offset, 16, 15, 0x80, "damaged"},         {image_offset, 16, 2, 0xFF, "damaged"},
        {caption_offset, 32, 8, 20, "backwards"},        {caption_offset, 32, 16, 200, "backwards"},
        {caption_offset, 32, 0, 1, "does not span"},     {caption_offset, 32, 24, 13, "does not span"},
        {"captioncaption", 14, 3, 0xFF, "is not UTF-8"}, {"captioncaption", 14, 9, 0, "is not UTF-8"},
        {width, 12, 3, 0xFF, "impossible size"},         {width, 12, 0, 0, "impossible size"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        memcpy(bad, good, good_size);
        char *at = memmem(bad, good_size, faults[i].find, faults[i].size);
        assert_non_null(at);
        at[faults[i].at] = (char)faults[i].value;
        if (opens(bad, good_size))
            fail_msg("fault %zu is not noticed", i);
        assert_message(faults[i].message);
    }
    mem_free(bad);
}

/* HDF5's own structures are its library's matter: a version of it may answer with an error or not notice, and
 * what is opened must be sound all the same. */
static void changed_bytes_in_datasets_do_no_harm(void **state)
{
    (void)state;
    char *bad = mem_alloc(good_size);
    for (int i = 0; i < 3000; i++) {
        const RandomKey key = {.seed = 9, .step = (uint32_t)i};
        memcpy(bad, good, good_size);
        for (uint32_t k = 0; k < 1 + random_below(key, 0, 3); k++)
            bad[random_below(key, 1 + 2 * k, (uint32_t)good_size)] ^=
                (char)(1u << random_below(key, 2 + 2 * k, 8));
        opens(bad, good_size);
    }
    mem_free(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_pictures_are_noticed),
        cmocka_unit_test(changed_bytes_in_pictures_do_no_harm),
        cmocka_unit_test_setup_teardown(cut_datasets_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(impossible_numbers_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(changed_bytes_in_datasets_do_no_harm, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
