/* The loader: what a sample is depends on seed and step alone; every picture comes equally often; faults name
 * the picture. */
#include "pictures.h"

#include "data/loader/loader.h"
#include "data/loader/sample.h"
#include "kernels/base/log.h"

#include <hdf5.h>

#define R 24 /* side of the samples */
#define PICTURES 7

static char folder[64];
static Dataset *dataset;
static int all[PICTURES];

/* Seven pictures of different shapes, one a photograph that is much larger than R. */
static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    temporary_folder(folder);
    for (int i = 0; i < PICTURES - 1; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d.png", i);
        write_png(folder, name, 20 + 9 * i, 60 - 7 * i, i);
        all[i] = i;
    }
    all[PICTURES - 1] = PICTURES - 1;
    size_t size;
    uint8_t *jpeg = golden_bytes("jpeg-exif6.jpg", &size);
    write_file(folder, "photo.jpg", jpeg, size);
    mem_free(jpeg);
    char *path = path_join(folder, "set.h5");
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = path, .caption = "x"}, NULL));
    assert_ok(dataset_open(path, &dataset));
    mem_free(path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dataset_close(dataset);
    return dir_remove(folder) != STATUS_OK;
}

static LoaderSource plain_source(void)
{
    return (LoaderSource){.dataset = dataset, .pictures = all, .count = PICTURES, .repeats = 1};
}

/* A picture as the loader shows it. */
static Status square_picture(Dataset *d, int i, Picture *out)
{
    const BucketFit fit = bucket_fit_size(dataset_size(d, i), size_square(R));
    return dataset_picture(d, i, &fit, out);
}

static Loader *open_loader(const LoaderSource *source, int batch, int threads, int ahead, int64_t first,
                           bool pixels)
{
    Loader *l;
    assert_ok(loader_new(&(LoaderOptions){.sources = source,
                                          .source_count = 1,
                                          .size = {R, R},
                                          .batch = batch,
                                          .seed = 42,
                                          .threads = threads,
                                          .ahead = ahead,
                                          .first_step = first,
                                          .pixels = pixels},
                         &l));
    return l;
}

static void assert_same(const LoaderSample *a, const LoaderSample *b)
{
    assert_int_equal(a->source, b->source);
    assert_int_equal(a->picture, b->picture);
    assert_int_equal(a->flipped, b->flipped);
    assert_int_equal(a->window.x, b->window.x);
    assert_int_equal(a->window.y, b->window.y);
}

static void threads_change_no_byte(void **state)
{
    (void)state;
    enum { STEPS = 12, BATCH = 3 };
    LoaderSource source = plain_source();
    source.random_crop = source.flip = true;
    source.shift = 0.1f;
    source.scale = 0.3f;
    float *first = mem_alloc(sizeof(float) * STEPS * BATCH * R * R * 3);
    LoaderSample chosen[STEPS * BATCH];
    static const int threads[] = {1, 2, 4, 7}, ahead[] = {1, 2, 5, 3};
    for (int run = 0; run < 4; run++) {
        Loader *l = open_loader(&source, BATCH, threads[run], ahead[run], 1, true);
        for (int i = 0; i < STEPS; i++) {
            const LoaderSample *samples;
            assert_ok(loader_next(l, &samples));
            for (int k = 0; k < BATCH; k++) {
                float *at = first + (size_t)(i * BATCH + k) * R * R * 3;
                if (run == 0) {
                    chosen[i * BATCH + k] = samples[k];
                    memcpy(at, samples[k].pixels, sizeof(float) * R * R * 3);
                } else {
                    assert_same(&samples[k], &chosen[i * BATCH + k]);
                    assert_memory_equal(at, samples[k].pixels, sizeof(float) * R * R * 3);
                }
            }
        }
        loader_free(l);
    }
    mem_free(first);
}

/* Starting at step 5 gives what step 5 was; so does a loader that makes no pixels. */
static void a_step_is_the_same_from_wherever_one_starts(void **state)
{
    (void)state;
    LoaderSource source = plain_source();
    source.random_crop = source.flip = true;
    Loader *from_1 = open_loader(&source, 4, 2, 2, 1, true), *from_5 = open_loader(&source, 4, 2, 2, 5, true);
    Loader *blind = open_loader(&source, 4, 0, 0, 5, false);
    const LoaderSample *a, *b, *c;
    for (int step = 1; step <= 9; step++) {
        assert_ok(loader_next(from_1, &a));
        if (step < 5)
            continue;
        assert_ok(loader_next(from_5, &b));
        assert_ok(loader_next(blind, &c));
        for (int k = 0; k < 4; k++) {
            assert_same(&a[k], &b[k]);
            assert_same(&a[k], &c[k]);
            assert_memory_equal(a[k].pixels, b[k].pixels, sizeof(float) * R * R * 3);
            assert_null(c[k].pixels);
        }
    }
    loader_free(from_1);
    loader_free(from_5);
    loader_free(blind);
}

/* Batches of 4 from 7 pictures of which one source is repeated twice: after any number of samples the counts
 * differ by at most the repeats' share, and after whole epochs by nothing. */
static void every_picture_comes_equally_often(void **state)
{
    (void)state;
    static const int some[] = {1, 3, 4}, one[] = {6};
    const LoaderSource sources[2] = {{.dataset = dataset, .pictures = some, .count = 3, .repeats = 1},
                                     {.dataset = dataset, .pictures = one, .count = 1, .repeats = 4}};
    Loader *l;
    assert_ok(loader_new(
        &(LoaderOptions){
            .sources = sources, .source_count = 2, .size = {R, R}, .batch = 4, .seed = 1, .first_step = 1},
        &l));
    assert_int_equal(loader_epoch_samples(l), 7);
    int counts[PICTURES] = {0}, orders[2][7], n = 0;
    for (int step = 0; step < 7; step++) { /* 28 samples: 4 epochs */
        const LoaderSample *s;
        assert_ok(loader_next(l, &s));
        for (int k = 0; k < 4; k++, n++) {
            assert_int_equal(s[k].source, s[k].picture == 6);
            counts[s[k].picture]++;
            if (n < 14)
                orders[n / 7][n % 7] = s[k].picture;
            const int epochs = (n + 1) / 7;
            assert_in_range(counts[1], epochs, epochs + 1);
            assert_in_range(counts[6], 4 * epochs, 4 * epochs + 4);
        }
    }
    static const int expected[PICTURES] = {0, 4, 0, 4, 4, 0, 16};
    assert_memory_equal(counts, expected, sizeof counts);
    assert_memory_not_equal(orders[0], orders[1], sizeof orders[0]); /* epochs are shuffled anew */
    loader_free(l);
}

/* Without augmentation a sample is the picture scaled to cover and cut in the middle, as caches encode it. */
static void plain_samples_are_the_middle(void **state)
{
    (void)state;
    const LoaderSource source = plain_source();
    Loader *l = open_loader(&source, PICTURES, 2, 1, 1, true);
    float expected[R * R * 3];
    for (int epoch = 0; epoch < 2; epoch++) { /* the second comes out of the memory cache */
        const LoaderSample *s;
        assert_ok(loader_next(l, &s));
        for (int k = 0; k < PICTURES; k++) {
            Picture p;
            assert_ok(square_picture(dataset, s[k].picture, &p));
            picture_to_floats(&p, expected);
            assert_memory_equal(s[k].pixels, expected, sizeof expected);
            assert_false(s[k].flipped);
            picture_free(&p);
        }
    }
    loader_free(l);
}

static void flipped_samples_are_mirrored(void **state)
{
    (void)state;
    LoaderSource source = plain_source();
    source.flip = true;
    Loader *l = open_loader(&source, 64, 2, 1, 1, true);
    const LoaderSample *s;
    float expected[R * R * 3];
    int flips = 0;
    assert_ok(loader_next(l, &s));
    for (int k = 0; k < 64; k++) {
        Picture p;
        assert_ok(square_picture(dataset, s[k].picture, &p));
        if (s[k].flipped)
            picture_flip(&p);
        picture_to_floats(&p, expected);
        assert_memory_equal(s[k].pixels, expected, sizeof expected);
        flips += s[k].flipped;
        picture_free(&p);
    }
    assert_in_range(flips, 16, 48);
    loader_free(l);
}

/* The window tells the truth: the sample is that window of the resized picture, and all of the picture
 * is seen. */
static void random_crops_lie_inside(void **state)
{
    (void)state;
    static const int wide[] = {5}; /* 65 × 25 */
    LoaderSource source = {
        .dataset = dataset, .pictures = wide, .count = 1, .repeats = 1, .random_crop = true};
    Loader *l = open_loader(&source, 200, 2, 1, 1, true);
    const LoaderSample *s;
    int least = 1000, most = -1000;
    uint8_t *bytes;
    size_t size;
    Picture whole, resized;
    assert_ok(dataset_bytes(dataset, 5, &bytes, &size));
    assert_ok(picture_decode(bytes, size, &whole));
    const Size covering = picture_cover_size(whole.size, size_square(R));
    const int w = covering.width;
    assert_ok(picture_resize(&whole, covering, &resized));
    assert_ok(loader_next(l, &s));
    for (int k = 0; k < 200; k++) {
        Picture p;
        float expected[R * R * 3];
        assert_in_range(s[k].window.x, 0, w - R);
        assert_ok(picture_crop(&resized, s[k].window.x, s[k].window.y, size_square(R), &p));
        picture_to_floats(&p, expected);
        assert_memory_equal(s[k].pixels, expected, sizeof expected);
        least = s[k].window.x < least ? s[k].window.x : least;
        most = s[k].window.x > most ? s[k].window.x : most;
        picture_free(&p);
    }
    assert_int_equal(least, 0);
    assert_int_equal(most, w - R);
    picture_free(&whole);
    picture_free(&resized);
    mem_free(bytes);
    loader_free(l);
}

/* A picture damaged in the dataset: an error with its name at its own step, and the loader can still be
 * closed. */
static void a_bad_picture_is_named(void **state)
{
    (void)state;
    char *path = path_join(folder, "set.h5"), *data;
    size_t size;
    assert_ok(file_read(path, 1 << 24, &data, &size));
    char *jpeg = memmem(data, size, "\xFF\xD8\xFF", 3);
    memset(jpeg, 0, 100);
    write_file(folder, "damaged.h5", data, size);
    mem_free(path);
    mem_free(data);
    path = path_join(folder, "damaged.h5");
    Dataset *damaged;
    assert_ok(dataset_open(path, &damaged));
    mem_free(path);
    const LoaderSource source = {.dataset = damaged, .pictures = all, .count = PICTURES, .repeats = 1};
    Loader *l = open_loader(&source, 1, 3, 3, 1, true);
    int failures = 0;
    for (int step = 0; step < 2 * PICTURES; step++) {
        const LoaderSample *s;
        if (loader_next(l, &s) != STATUS_OK) {
            failures++;
            assert_message("damaged.h5: photo.jpg: is damaged: its SHA-256 is not the one");
        }
    }
    assert_int_equal(failures, 2);
    loader_free(l);
    l = open_loader(&source, 5, 3, 3, 1, true); /* closed while the threads are at work */
    loader_free(l);
    dataset_close(damaged);
}

/* A source beside: as many of its samples after the step's own, equally often and in an order of their own;
 * the samples before them are those that come without it. */
/* A size that is not the picture's would cut another part out of it. */
static void another_size_than_the_pictures_is_refused(void **state)
{
    (void)state;
    char *path = path_join(folder, "set.h5"), *other = path_join(folder, "size.h5");
    char *data;
    size_t size;
    assert_ok(file_read(path, 1 << 24, &data, &size));
    write_file(folder, "size.h5", data, size);
    const hid_t file = H5Fopen(other, H5F_ACC_RDWR, H5P_DEFAULT);
    const hid_t widths = H5Dopen2(file, "/images/width", H5P_DEFAULT);
    uint32_t width[PICTURES];
    assert_true(H5Dread(widths, H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, width) >= 0);
    width[2] += 1;
    assert_true(H5Dwrite(widths, H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, width) >= 0);
    H5Dclose(widths);
    H5Fclose(file);
    Dataset *wrong;
    Picture p;
    assert_ok(dataset_open(other, &wrong));
    assert_ok(square_picture(wrong, 1, &p));
    picture_free(&p);
    assert_int_not_equal(square_picture(wrong, 2, &p), STATUS_OK);
    assert_message("is 38 x 46, but 39 x 46 is written down");
    dataset_close(wrong);
    mem_free(data);
    mem_free(path);
    mem_free(other);
}

static void a_source_beside_changes_nothing_before_it(void **state)
{
    (void)state;
    enum { BATCH = 3, BESIDE = 4, STEPS = 20 };
    const LoaderSource source = plain_source();
    const LoaderSource beside = {
        .dataset = dataset, .pictures = all, .count = BESIDE, .repeats = 1, .flip = true};
    LoaderOptions o = {.sources = &source,
                       .source_count = 1,
                       .size = {R, R},
                       .batch = BATCH,
                       .seed = 42,
                       .threads = 3,
                       .first_step = 1,
                       .pixels = true};
    Loader *alone, *both, *chosen;
    int seen[BESIDE] = {0}, in_order = 0, flipped = 0;
    assert_ok(loader_new(&o, &alone));
    o.beside = &beside;
    assert_ok(loader_new(&o, &both));
    o.pixels = false;
    assert_ok(loader_new(&o, &chosen));
    assert_int_equal(loader_epoch_samples(both), PICTURES);
    for (int i = 0; i < STEPS; i++) {
        const LoaderSample *a, *b, *c;
        assert_ok(loader_next(alone, &a));
        assert_ok(loader_next(both, &b));
        assert_ok(loader_next(chosen, &c));
        for (int k = 0; k < BATCH; k++) {
            assert_same(&a[k], &b[k]);
            assert_memory_equal(a[k].pixels, b[k].pixels, 3 * R * R * sizeof(float));
        }
        for (int k = BATCH; k < 2 * BATCH; k++) {
            assert_same(&b[k], &c[k]);
            assert_int_equal(b[k].source, 1);
            assert_in_range(b[k].picture, 0, BESIDE - 1);
            assert_non_null(b[k].pixels);
            seen[b[k].picture]++;
            in_order += b[k].picture == a[k - BATCH].picture;
            flipped += b[k].flipped;
        }
    }
    for (int k = 0; k < BESIDE; k++)
        assert_int_equal(seen[k], BATCH * STEPS / BESIDE);
    assert_true(in_order < BATCH * STEPS / 2);
    assert_in_range(flipped, 15, 45);
    loader_free(alone);
    loader_free(both);
    loader_free(chosen);
}

/* Three pictures, of which two have masks. */
static Dataset *masked_set(const char *apart)
{
    DatasetSummary summary;
    Dataset *d;
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d.png", i);
        write_png(apart, name, 40 + 8 * i, 48, i);
        snprintf(name, sizeof name, "%d.mask.png", i);
        if (i < 2)
            write_png(apart, name, 40 + 8 * i, 48, i + 3);
    }
    assert_ok(dataset_view(&(DatasetBuild){.folder = apart, .caption = "x"}, &summary, &d));
    assert_int_equal(summary.masks, 2);
    return d;
}

/* Made by its threads, with pixels and without; mirrored and cut as the sample is. */
static void masks_come_with_their_samples(void **state)
{
    (void)state;
    static const int pictures[] = {0, 1, 2};
    enum { FACTOR = 8, SIDE = 4 * FACTOR, AREA = 16, BATCH = 6, STEPS = 5 };
    char apart[64];
    temporary_folder(apart);
    Dataset *d = masked_set(apart);
    LoaderSource source = {
        .dataset = d, .pictures = pictures, .count = 3, .repeats = 1, .flip = true, .random_crop = true};
    for (int run = 0; run < 6; run++) {
        Loader *l;
        int masked = 0;
        source.mask = run == 5 ? MASK_NONE : MASK_AUTO;
        assert_ok(loader_new(&(LoaderOptions){.sources = &source,
                                              .source_count = 1,
                                              .size = {SIDE, SIDE},
                                              .batch = BATCH,
                                              .seed = 7,
                                              .threads = 1 + run,
                                              .first_step = 1,
                                              .pixels = run % 2,
                                              .mask_factor = FACTOR},
                             &l));
        for (int step = 0; step < STEPS; step++) {
            const LoaderSample *s;
            assert_ok(loader_next(l, &s));
            for (int i = 0; i < BATCH; i++) {
                float wanted[AREA];
                const MaskView view = {s[i].picture, s[i].window, s[i].flipped};
                assert_true((s[i].pixels != NULL) == run % 2);
                masked += s[i].mask != NULL;
                if (!s[i].mask)
                    continue;
                assert_ok(sample_mask(NULL, d, MASK_AUTO, &view, FACTOR, wanted));
                assert_memory_equal(s[i].mask, wanted, sizeof wanted);
            }
        }
        assert_int_equal(masked, run == 5 ? 0 : BATCH * STEPS * 2 / 3);
        loader_free(l);
    }
    dataset_close(d);
    assert_ok(dir_remove(apart));
}

static void senseless_options_are_refused(void **state)
{
    (void)state;
    const LoaderSource source = plain_source(), empty = {.dataset = dataset, .repeats = 1};
    const LoaderOptions good = {
        .sources = &source, .source_count = 1, .size = {R, R}, .batch = 1, .first_step = 1};
    LoaderOptions bad[] = {good, good, good, good, good, good};
    bad[0].batch = 0;
    bad[1].first_step = 0;
    bad[2].size.height = 0;
    bad[3].sources = &empty;
    bad[4].source_count = 0;
    bad[5].beside = &empty;
    for (int i = 0; i < 6; i++) {
        Loader *l;
        assert_int_not_equal(loader_new(&bad[i], &l), STATUS_OK);
        assert_null(l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_change_no_byte),
        cmocka_unit_test(a_step_is_the_same_from_wherever_one_starts),
        cmocka_unit_test(every_picture_comes_equally_often),
        cmocka_unit_test(plain_samples_are_the_middle),
        cmocka_unit_test(flipped_samples_are_mirrored),
        cmocka_unit_test(random_crops_lie_inside),
        cmocka_unit_test(a_bad_picture_is_named),
        cmocka_unit_test(another_size_than_the_pictures_is_refused),
        cmocka_unit_test(a_source_beside_changes_nothing_before_it),
        cmocka_unit_test(masks_come_with_their_samples),
        cmocka_unit_test(senseless_options_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
