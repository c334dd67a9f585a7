/* Masks from their files to the loss and its gradient, against PyTorch (tests/golden/masks.safetensors,
 * written by scripts/reference/masks.py). Breaks if a mask were scaled, cut out or mirrored otherwise than
 * its picture, counted otherwise than in sd-scripts and OneTrainer, lost on the way into a dataset file, or
 * taken for a picture. */
#include "tests/data/pictures.h"

#include "data/dataset/dataset.h"
#include "data/loader/mask.h"
#include "infer/files/tensor_file.h"
#include "kernels/base/log.h"
#include "kernels/ctx.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "train/step/batch.h"

#include <math.h>

#define B 3
#define C 4
#define FACTOR 8
#define WIDTH 40
#define HEIGHT 48
#define AREA (WIDTH / FACTOR * (HEIGHT / FACTOR))
#define TOLERANCE 2e-6 /* of the largest value: some roundings */

static TensorFile *golden;
static char folder[64];
static Dataset *in_file, *in_folder;

static void read_golden(const char *name, float *out, int64_t n)
{
    const TensorEntry *e = tensorfile_find(golden, name);
    assert_non_null(e);
    assert_int_equal(tensor_entry_count(e), n);
    assert_ok(tensor_entry_read(e, DTYPE_F32, out));
}

static void assert_close(const char *name, const float *got, int64_t n)
{
    float want[B * C * AREA], largest = 0;
    read_golden(name, want, n);
    for (int64_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= TOLERANCE * largest))
            fail_msg("%s[%lld] is %.9g, not %.9g", name, (long long)i, got[i], want[i]);
}

static void write_grey(const char *name, const float *values, Size size)
{
    Picture p;
    assert_ok(picture_new(size, &p));
    for (int64_t i = 0; i < 3 * size_area(size); i++)
        p.rgb[i] = (uint8_t)values[i / 3];
    char *path = path_join(folder, name);
    assert_ok(picture_write_png(path, &p, NULL, 0));
    mem_free(path);
    picture_free(&p);
}

/* a, b and c have the golden masks, one as OneTrainer calls it; d has none; alone.mask.png has no picture. */
static int set_up(void **state)
{
    static float masks[B * WIDTH * HEIGHT];
    static const char *const names[] = {"a.mask.png", "b-masklabel.png", "c.mask.png"};
    (void)state;
    log_set_level(LOG_ERROR);
    assert_ok(tensorfile_open(TEST_GOLDEN "/masks.safetensors", &golden));
    read_golden("mask", masks, B * WIDTH * HEIGHT);
    temporary_folder(folder);
    write_png(folder, "a.png", WIDTH, HEIGHT, 1);
    write_png(folder, "b.png", WIDTH, HEIGHT, 2);
    write_png(folder, "c.png", WIDTH, HEIGHT, 3);
    write_png(folder, "d.png", WIDTH, HEIGHT, 4);
    write_png(folder, "alone.mask.png", WIDTH, HEIGHT, 5);
    for (int i = 0; i < B; i++)
        write_grey(names[i], masks + i * WIDTH * HEIGHT, (Size){WIDTH, HEIGHT});
    char *path = path_join(folder, "set.h5");
    DatasetSummary summary;
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = path, .caption = "x"}, &summary));
    assert_int_equal(summary.pictures, 4);
    assert_int_equal(summary.masks, B);
    assert_int_equal(summary.unused_files, 1);
    assert_ok(dataset_open(path, &in_file));
    assert_ok(dataset_view(&(DatasetBuild){.folder = folder, .caption = "x"}, &summary, &in_folder));
    mem_free(path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tensorfile_close(golden);
    dataset_close(in_file);
    dataset_close(in_folder);
    return dir_remove(folder) != STATUS_OK;
}

static MaskView whole(int picture)
{
    const Size size = {WIDTH, HEIGHT};
    return (MaskView){.picture = picture, .window = {.whole = size, .size = size}};
}

/* Masks ------------------------------------------------------------------------------------------------- */

/* Twice, as the second time it comes from the cache. */
static void test_areas(void **state)
{
    (void)state;
    MaskCache *cache = mask_cache_new();
    Dataset *const sets[] = {in_file, in_folder, in_file};
    for (int k = 0; k < 3; k++) {
        float all[B * AREA], none[AREA];
        for (int i = 0; i < B; i++) {
            const MaskView s = whole(i);
            assert_ok(sample_mask(cache, sets[k], MASK_AUTO, &s, FACTOR, all + i * AREA));
        }
        assert_close("area", all, B * AREA);
        assert_false(dataset_has_mask(sets[k], 3));
        const MaskView unmasked = whole(3);
        assert_ok(sample_mask(cache, sets[k], MASK_AUTO, &unmasked, FACTOR, none));
        for (int i = 0; i < AREA; i++)
            assert_true(none[i] == 1);
    }
    mask_cache_free(cache);
}

static void test_windows_and_mirrors(void **state)
{
    (void)state;
    float plain[AREA], cut[AREA], turned[AREA], off[AREA];
    MaskCache *cache = mask_cache_new();
    MaskView s = whole(0);
    assert_ok(sample_mask(cache, in_file, MASK_AUTO, &s, FACTOR, plain));
    s.flipped = true;
    assert_ok(sample_mask(cache, in_file, MASK_AUTO, &s, FACTOR, turned));
    const int w = WIDTH / FACTOR, h = HEIGHT / FACTOR;
    for (int i = 0; i < AREA; i++)
        assert_true(turned[i] == plain[i / w * w + w - 1 - i % w]);
    s = whole(0);
    s.window.size = (Size){WIDTH - FACTOR, HEIGHT - 2 * FACTOR};
    s.window.x = FACTOR;
    s.window.y = 2 * FACTOR;
    assert_ok(sample_mask(cache, in_file, MASK_AUTO, &s, FACTOR, cut));
    for (int y = 0; y < h - 2; y++)
        for (int x = 0; x < w - 1; x++)
            assert_true(cut[y * (w - 1) + x] == plain[(y + 2) * w + x + 1]);
    assert_ok(sample_mask(cache, in_file, MASK_NONE, &s, FACTOR, off));
    assert_true(off[0] == 1 && off[1] == 1);
    mask_cache_free(cache);
}

/* Of a file with an alpha channel; the golden pictures have some. */
static void test_alpha(void **state)
{
    (void)state;
    char apart[64];
    size_t size;
    Dataset *d;
    DatasetSummary summary;
    Picture alpha;
    static const char *const names[] = {"png-rgba.png", "webp-alpha.webp", "png-palette-alpha.png",
                                        "png-grey-alpha.png", "jpeg-444.jpg"};
    temporary_folder(apart);
    for (int i = 0; i < 5; i++) {
        uint8_t *bytes = golden_bytes(names[i], &size);
        assert_ok(picture_decode_alpha(bytes, size, &alpha));
        bool clear = false, grey = true;
        for (int64_t k = 0; k < size_area(alpha.size); k++) {
            clear |= alpha.rgb[3 * k] < 255;
            grey &= alpha.rgb[3 * k] == alpha.rgb[3 * k + 1] && alpha.rgb[3 * k] == alpha.rgb[3 * k + 2];
        }
        assert_true(grey && clear == (i < 4));
        picture_free(&alpha);
        if (i == 0)
            write_file(apart, "a.png", bytes, size);
        mem_free(bytes);
    }
    assert_ok(dataset_view(&(DatasetBuild){.folder = apart, .caption = "x"}, &summary, &d));
    MaskView s = {.window = {.whole = dataset_size(d, 0), .size = {FACTOR, FACTOR}}};
    float value, other;
    MaskCache *cache = mask_cache_new();
    assert_ok(sample_mask(cache, d, MASK_ALPHA, &s, FACTOR, &value));
    assert_ok(sample_mask(cache, d, MASK_AUTO, &s, FACTOR, &other));
    assert_true(value < 1 && other == 1);
    mask_cache_free(cache);
    dataset_close(d);
    assert_ok(dir_remove(apart));
}

static void test_other_shapes_are_refused(void **state)
{
    (void)state;
    static float white[50 * 48];
    char apart[64], kept[64];
    DatasetSummary summary;
    Dataset *d;
    temporary_folder(apart);
    write_png(apart, "a.png", WIDTH, HEIGHT, 1);
    memcpy(kept, folder, sizeof kept);
    memcpy(folder, apart, sizeof apart);
    write_grey("a.mask.png", white, (Size){50, HEIGHT});
    assert_int_equal(dataset_view(&(DatasetBuild){.folder = apart, .caption = "x"}, &summary, &d),
                     STATUS_FAILED);
    assert_message("the mask of");
    assert_message("50 x 48");
    write_grey("a.mask.png", white, (Size){WIDTH / 2, HEIGHT / 2});
    assert_ok(dataset_view(&(DatasetBuild){.folder = apart, .caption = "x"}, &summary, &d));
    dataset_close(d);
    memcpy(folder, kept, sizeof kept);
    assert_ok(dir_remove(apart));
}

/* The loss ---------------------------------------------------------------------------------------------- */

typedef struct Answer {
    Step step;
    float prediction[B * C * AREA], target[B * C * AREA], roots[B * C * AREA], weights[B];
    float loss, grad[B * C * AREA];
} Answer;

static void answer_step(Ctx *c, void *arg)
{
    Answer *a = arg;
    const int64_t shape[] = {B, C, HEIGHT / FACTOR, WIDTH / FACTOR}, samples = B;
    Tensor *asked = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, a->prediction));
    asked->requires_grad = true;
    ctx_set_recording(c, true);
    Tensor *target = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, a->target));
    Tensor *loss = mse_loss(c, step_masked(c, &a->step, asked), step_masked(c, &a->step, target),
                            ctx_input(c, DTYPE_F32, 1, &samples, a->weights), NULL);
    ctx_read(c, loss, &a->loss);
    ctx_backward(c, loss, 1);
    ctx_read(c, to_nchw(c, asked->grad), a->grad);
}

static void check_loss(const char *name, float floor, bool normalise)
{
    static Answer a;
    char text[32];
    a.step.shape =
        (StepShape){.batch = B, .channels = C, .size = {WIDTH / FACTOR, HEIGHT / FACTOR}, .masked = true};
    a.step.data.roots = a.roots;
    read_golden("prediction", a.prediction, B * C * AREA);
    read_golden("target", a.target, B * C * AREA);
    read_golden("weights", a.weights, B);
    MaskCache *cache = mask_cache_new();
    for (int i = 0; i < B; i++) {
        const MaskView s = whole(i);
        assert_ok(sample_mask(cache, in_file, MASK_AUTO, &s, FACTOR, a.roots + i * C * AREA));
        batch_mask_roots(a.roots + i * C * AREA, AREA, C, floor, normalise);
    }
    mask_cache_free(cache);
    Ctx *c = ctx_new(device_cpu(), NULL);
    assert_ok(ctx_run(c, NULL, answer_step, &a));
    ctx_free(c);
    snprintf(text, sizeof text, "%s.loss", name);
    assert_close(text, &a.loss, 1);
    snprintf(text, sizeof text, "%s.grad", name);
    assert_close(text, a.grad, B * C * AREA);
}

static void test_losses(void **state)
{
    (void)state;
    check_loss("plain", 0, false);
    check_loss("floor", 0.1f, false);
    check_loss("normalised", 0.1f, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_areas),  cmocka_unit_test(test_windows_and_mirrors),
        cmocka_unit_test(test_alpha),  cmocka_unit_test(test_other_shapes_are_refused),
        cmocka_unit_test(test_losses),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
