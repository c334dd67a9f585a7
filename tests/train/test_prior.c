/* Prior preservation. Breaks if the loss of a batch of pictures and class pictures, or its gradient, were
 * other than diffusers' (tests/golden/prior.safetensors, written by scripts/reference/prior.py), if class
 * pictures were drawn other than `atelier sample` draws them, or taken although they are another class's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/files/safetensors.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "train/pictures/prior.h"
#include "train/step/batch.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOLERANCE 1e-6 /* of the largest value */

/* The loss --------------------------------------------------------------------------------------------- */

static TensorFile *golden;

static const TensorEntry *entry(const char *name, const char *part)
{
    char key[64];
    snprintf(key, sizeof key, "%s.%s", name, part);
    const TensorEntry *e = tensorfile_find(golden, key);
    if (!e)
        fail_msg("prior.safetensors has no %s", key);
    return e;
}

typedef struct LossCase {
    const TensorEntry *prediction, *target;
    float *weights, *grad, loss;
} LossCase;

static void loss_step(Ctx *c, void *arg)
{
    LossCase *k = arg;
    const int64_t *shape = k->prediction->shape;
    Tensor *prediction = ctx_input(c, DTYPE_F32, 4, shape, k->prediction->data);
    prediction->requires_grad = true;
    ctx_set_recording(c, true);
    Tensor *target = ctx_input(c, DTYPE_F32, 4, shape, k->target->data);
    Tensor *weights = ctx_input(c, DTYPE_F32, 1, shape, k->weights);
    Tensor *loss = mse_loss(c, prediction, target, weights, NULL);
    ctx_read(c, loss, &k->loss);
    ctx_backward(c, loss, 1);
    ctx_read(c, prediction->grad, k->grad);
}

static void check_case(Ctx *c, const char *name, const NoiseSchedule *alphas)
{
    json_t *settings = json_loads(tensorfile_metadata(golden, name), 0, NULL);
    NoiseSchedule schedule = *alphas;
    Config config = {.train = {.accumulate = 1}};
    const char *kind;
    double weight;
    assert_int_equal(json_unpack(settings, "{s:i,s:F,s:s}", "batch", &config.train.batch, "prior_loss_weight",
                                 &weight, "prediction_type", &kind),
                     0);
    config.prior.weight = (float)weight;
    config.loss.snr_gamma = (float)json_number_value(json_object_get(settings, "snr_gamma"));
    schedule.prediction = strcmp(kind, "epsilon") == 0 ? PREDICT_EPSILON : PREDICT_V;
    json_decref(settings);

    LossCase k = {.prediction = entry(name, "prediction"), .target = entry(name, "target")};
    const int64_t B = k.prediction->shape[0], n = (int64_t)(k.prediction->bytes / sizeof(float));
    assert_int_equal(B, config_samples(&config));
    int32_t *timesteps = calloc((size_t)B, sizeof *timesteps);
    float *expected = calloc((size_t)n, sizeof *expected);
    k.weights = calloc((size_t)B, sizeof *k.weights);
    k.grad = calloc((size_t)n, sizeof *k.grad);
    memcpy(timesteps, entry(name, "timesteps")->data, (size_t)B * sizeof *timesteps);
    memcpy(expected, entry(name, "grad")->data, (size_t)n * sizeof *expected);
    for (int i = 0; i < B; i++)
        k.weights[i] = batch_loss_weight(&config, &schedule, i, timesteps[i]);
    if (ctx_run(c, NULL, loss_step, &k) != STATUS_OK)
        fail_msg("%s", status_message());

    float loss, largest = 0;
    memcpy(&loss, entry(name, "loss")->data, sizeof loss);
    assert_float_equal(k.loss, loss, TOLERANCE * (double)loss);
    for (int64_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(expected[i]));
    for (int64_t i = 0; i < n; i++)
        if (fabsf(k.grad[i] - expected[i]) > TOLERANCE * (double)largest)
            fail_msg("%s: gradient %lld is %g, not %g", name, (long long)i, (double)k.grad[i],
                     (double)expected[i]);
    free(timesteps);
    free(expected);
    free(k.weights);
    free(k.grad);
}

static void the_loss_and_its_gradient_are_those_of_diffusers(void **state)
{
    (void)state;
    NoiseSchedule schedule;
    assert_int_equal(schedule_default(&schedule), STATUS_OK);
    assert_int_equal(tensorfile_open(TEST_GOLDEN "/prior.safetensors", &golden), STATUS_OK);
    Ctx *c = ctx_new(device_cpu(), NULL);
    static const char *const names[] = {"one", "weighted", "snr", "snr_v"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_case(c, names[i], &schedule);
    ctx_free(c);
    tensorfile_close(golden);
    schedule_free(&schedule);
}

/* batch 4 and batch 1 × accumulate 4: the same samples at the same places of the step. */
static void accumulating_pairs_the_same_pictures(void **state)
{
    (void)state;
    Config whole = {.train = {.batch = 4, .accumulate = 1}},
           pieces = {.train = {.batch = 1, .accumulate = 4}};
    const Batch a = {.config = &whole}, b = {.config = &pieces};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(batch_sample(&a, i), i + batch_sample(&b, 0));
        assert_int_equal(batch_sample(&a, 4 + i), i + batch_sample(&b, 1));
    }
}

/* The pictures ----------------------------------------------------------------------------------------- */

static char folder[64];
static Model *model;
static Ctx *context;
static Pipeline *pipeline;

static int open_pipeline(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    strcpy(folder, "/tmp/atelier-prior-XXXXXX");
    context = ctx_new(device_cpu(), &(CtxOptions){.threads = 1});
    return !mkdtemp(folder) || !context ||
           model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, DTYPE_F32, &model) != STATUS_OK ||
           pipeline_new(context, model, &pipeline) != STATUS_OK;
}

static int close_pipeline(void **state)
{
    (void)state;
    pipeline_free(pipeline);
    model_free(model);
    ctx_free(context);
    return dir_remove(folder);
}

/* Pictures of "a dog" in folder/class; the texts are literals. */
static Config dog(int pictures, char *path)
{
    sprintf(path, "%s/class", folder);
    return (Config){.model = {.base = "models/sd1"},
                    .prior = {.weight = 1,
                              .path = path,
                              .prompt = "a dog",
                              .pictures = pictures,
                              .negative = "",
                              .sampler = "ddim",
                              .steps = 2,
                              .resolution = 32,
                              .guidance = 7.5f,
                              .seed = 5}};
}

static char *read_file(const char *path, const char *name, size_t *size)
{
    char *bytes, *whole = path_join(path, name);
    if (file_read(whole, 1 << 20, &bytes, size) != STATUS_OK)
        fail_msg("%s", status_message());
    mem_free(whole);
    return bytes;
}

static void missing_pictures_are_drawn_and_found_again(void **state)
{
    (void)state;
    char path[96], name[160];
    size_t size[2];
    PriorNeed need;
    Config c = dog(3, path);
    assert_int_equal(prior_look(&c, model, &need), STATUS_OK);
    assert_true(need.there == 0 && need.missing == 3);
    assert_int_equal(prior_draw(&c, NULL, pipeline, comm_alone(), NULL), STATUS_OK);
    assert_int_equal(prior_look(&c, model, &need), STATUS_OK);
    assert_true(need.there == 3 && need.missing == 0);
    char *caption = read_file(path, "class-00002.txt", &size[0]);
    assert_string_equal(caption, "a dog\n");
    mem_free(caption);

    /* number 1 is what a request with seed + 1 gives; lost, it comes back as it was */
    char *before = read_file(path, "class-00001.png", &size[0]);
    SampleRequest r = {
        .prompt = "a dog", .steps = 2, .guidance = 7.5f, .sampler = "ddim", .seed = 6, .size = {32, 32}};
    SampleResult drawn;
    Picture written;
    assert_int_equal(pipeline_sample(pipeline, &r, NULL, NULL, &drawn), STATUS_OK);
    assert_int_equal(picture_decode((uint8_t *)before, size[0], &written), STATUS_OK);
    assert_memory_equal(written.rgb, drawn.picture.rgb, 3 * 32 * 32);
    sample_result_free(&drawn);
    picture_free(&written);
    snprintf(name, sizeof name, "%s/class-00001.png", path);
    remove(name);
    assert_int_equal(prior_draw(&c, NULL, pipeline, comm_alone(), NULL), STATUS_OK);
    char *after = read_file(path, "class-00001.png", &size[1]);
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(before, after, size[0]);
    mem_free(before);
    mem_free(after);

    /* more are wanted: those that are there stay; fewer: nothing is drawn */
    c.prior.pictures = 4;
    assert_int_equal(prior_look(&c, model, &need), STATUS_OK);
    assert_true(need.there == 3 && need.missing == 1);
    c.prior.pictures = 2;
    assert_int_equal(prior_look(&c, model, &need), STATUS_OK);
    assert_true(need.there == 2 && need.missing == 0);
}

static Size drawn_size(const char *path, int i)
{
    char name[32];
    size_t bytes;
    Size size;
    int orientation;
    snprintf(name, sizeof name, "class-%05d.png", i);
    char *file = read_file(path, name, &bytes);
    assert_int_equal(picture_info((uint8_t *)file, bytes, &size, &orientation), STATUS_OK);
    mem_free(file);
    return size;
}

/* Without prior.resolution: each size that is trained first, and then as often as its samples come. */
static void they_come_in_the_subjects_sizes(void **state)
{
    (void)state;
    RunSize items[] = {{.size = {24, 40}, .samples = 2},
                       {.size = {32, 32}, .held = 3},
                       {.size = {40, 24}, .samples = 9},
                       {.size = {48, 16}, .samples = 1}};
    static const int wanted[] = {2, 0, 3, 2, 2, 2, 2};
    enum { COUNT = sizeof wanted / sizeof *wanted };
    const RunSizes sizes = {items, 4};
    char path[96];
    size_t bytes, squares;
    PriorNeed need;
    Config c = dog(COUNT, path);
    c.prior.path = strcat(path, "-sizes");
    c.prior.resolution = 0;
    assert_int_equal(prior_draw(&c, &sizes, pipeline, comm_alone(), NULL), STATUS_OK);
    for (int i = 0; i < COUNT; i++)
        if (!size_equal(drawn_size(path, i), items[wanted[i]].size))
            fail_msg("class picture %d is %d x %d", i, drawn_size(path, i).width, drawn_size(path, i).height);
    assert_int_equal(prior_plan(pipeline, &c, &sizes, &need, &bytes), STATUS_OK);
    assert_true(size_equal(need.largest, items[0].size) && need.flop > 0);

    /* another subject takes what is there, and what it lacks comes in its sizes; not so a square that is
     * asked for */
    RunSize square = {.size = {32, 32}, .samples = 1};
    c.prior.pictures = COUNT + 1;
    assert_int_equal(prior_draw(&c, &(RunSizes){&square, 1}, pipeline, comm_alone(), NULL), STATUS_OK);
    assert_true(size_equal(drawn_size(path, COUNT), square.size));
    assert_true(size_equal(drawn_size(path, 0), items[2].size));
    c.prior.resolution = 32;
    assert_int_equal(prior_look(&c, model, &need), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "was drawn with"));
    assert_int_equal(prior_plan(pipeline, &c, &sizes, &need, &squares), STATUS_OK);
    assert_true(size_equal(need.largest, size_square(32)) && squares > 0);
}

static void stopping_keeps_what_is_done(void **state)
{
    (void)state;
    char path[96];
    PriorNeed need;
    volatile sig_atomic_t stop = 1;
    Config c = dog(5, path);
    assert_int_equal(prior_draw(&c, NULL, pipeline, comm_alone(), &stop), STATUS_INTERRUPTED);
    assert_int_equal(prior_look(&c, model, &need), STATUS_OK);
    assert_true(need.there == 3 && need.missing == 2);
}

static void refused(const Config *c, const char *part)
{
    PriorNeed need;
    assert_int_equal(prior_look(c, model, &need), STATUS_REFUSED);
    if (!strstr(status_message(), part))
        fail_msg("message lacks \"%s\": %s", part, status_message());
}

static void pictures_of_other_settings_are_refused(void **state)
{
    (void)state;
    char path[96], name[160];
    size_t size;
    PriorNeed need;
    Config c = dog(3, path);
    c.prior.prompt = "a cat";
    refused(&c,
            "class-00000.png: was drawn with prompt \"a dog\", and this run's class pictures are drawn with");
    c = dog(3, path);
    c.prior.steps = 3;
    refused(&c, "was drawn with steps 2");
    c = dog(3, path);
    c.prior.seed = 0;
    refused(&c, "was drawn with seed \"5\"");
    c = dog(3, path);
    c.model.base = "models/other"; /* the same weights under another name */
    assert_int_equal(prior_look(&c, model, &need), STATUS_OK);
    c = dog(3, path);
    c.prior.resolution = 33;
    refused(&c, "prior.resolution");
    c = dog(3, path);
    c.prior.path = "/nowhere/class.h5";
    PriorNeed none;
    assert_int_not_equal(prior_look(&c, model, &none), STATUS_OK);

    /* a picture of one's own under such a name is taken as it is, and counts */
    c = dog(3, path);
    c.prior.prompt = "a cat";
    char *own = read_file("data/examples", "bell.jpg", &size);
    for (int i = 0; i < 3; i++) {
        Picture p;
        snprintf(name, sizeof name, "%s/class-%05d.png", path, i);
        assert_int_equal(picture_decode((uint8_t *)own, size, &p), STATUS_OK);
        assert_int_equal(picture_write_png(name, &p, NULL, 0), STATUS_OK);
        picture_free(&p);
    }
    mem_free(own);
    assert_int_equal(prior_look(&c, model, &need), STATUS_OK);
    assert_true(need.there == 3 && need.missing == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_loss_and_its_gradient_are_those_of_diffusers),
        cmocka_unit_test(accumulating_pairs_the_same_pictures),
        cmocka_unit_test(missing_pictures_are_drawn_and_found_again),
        cmocka_unit_test(they_come_in_the_subjects_sizes),
        cmocka_unit_test(stopping_keeps_what_is_done),
        cmocka_unit_test(pictures_of_other_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, open_pipeline, close_pipeline);
}
