/* A size that is no square goes through everything that a run is made of: pictures, cached latents, batches,
 * the step, validation, samples. Breaks if anything takes the width for the height, or a plan, a cache or a
 * kept buffer for that of another size. */
#include "runs.h"

#include "data/loader/sample.h"
#include "kernels/ctx.h"
#include "kernels/device.h"
#include "kernels/tensor.h"
#include "train/pictures/encoded.h"
#include "train/step/batch.h"
#include "train/step/parameters.h"
#include "train/step/validation.h"

#define TALL ((Size){32, 48})
#define TOLERANCE 2e-5 /* of the largest: sums in another order */

/* A model whose every weight is trained, and what a run has around it. */
typedef struct Parts {
    Config *config;
    Model *m;
    Ctx *c;
    Pipeline *p;
    Parameters *parameters;
    Sources *sources;
    Texts *texts;
    Batch *batch;
    StepShape shape;
} Parts;

static void ok(Status s)
{
    if (s != STATUS_OK)
        fail_msg("%s", status_message());
}

/* All pictures come in that size. */
static void take_size(Sources *sources, Size size)
{
    sizes_free(&sources->sizes);
    for (int i = 0; i < sources->count; i++) {
        Source *s = &sources->items[i];
        Entries *const lists[] = {&s->entries, &s->held_entries};
        for (int k = 0; k < 2; k++) {
            for (int n = 0; n < lists[k]->count; n++)
                lists[k]->fits[n] = bucket_fit_size(dataset_size(s->dataset, lists[k]->pictures[n]), size);
            ok(sizes_add(&sources->sizes, lists[k], 1 - k));
        }
    }
}

static void parts_open(Parts *f, const char *name, Size size)
{
    *f = (Parts){.config = config_for(name, SD1, "method.kind=full", "dataset.caption.dropout=0",
                                      "dataset.augment.flip=true", "validation.share=0.3", (char *)NULL)};
    ok(model_load(SD1, MODEL_ALL, DTYPE_F32, &f->m));
    f->c = ctx_new(device_cpu(), &(CtxOptions){.dtype = DTYPE_F32, .threads = 1});
    ok(pipeline_new(f->c, f->m, &f->p));
    ok(parameters_new(f->config, f->c->dev, comm_alone(), f->m, &f->parameters));
    char *folder = path_join(work, name);
    ok(dir_make(folder));
    f->config->train.resolution = (Resolutions){{32}, 1};
    ok(sources_open(f->config, &(SizeModel){8, 32}, folder, false, NULL, &f->sources));
    take_size(f->sources, size);
    mem_free(folder);
    f->shape = (StepShape){.model = f->m,
                           .batch = f->config->train.batch,
                           .channels = vae_config(f->m->vae)->latent_channels,
                           .size = size_divided(size, vae_factor(f->m->vae)),
                           .text = conditioning_shape(f->m),
                           .backward = true};
    ok(texts_new(f->p, 0, step_text_size(&f->shape), 1 << 20, &f->texts));
    ok(batch_new(f->config, &f->shape, f->sources, f->p, f->texts, &f->batch));
}

static void parts_close(Parts *f)
{
    batch_free(f->batch);
    texts_free(f->texts);
    sources_close(f->sources);
    parameters_free(f->parameters);
    pipeline_free(f->p);
    ctx_free(f->c);
    model_free(f->m);
    config_free(f->config);
}

static Loader *loader_of(const Parts *f, Size size)
{
    const Source *s = &f->sources->items[0];
    const LoaderSource source = {
        .dataset = s->dataset, .pictures = s->trained, .count = s->trained_count, .repeats = 1, .flip = true};
    Loader *l;
    ok(loader_new(&(LoaderOptions){.sources = &source,
                                   .source_count = 1,
                                   .size = size,
                                   .batch = f->config->train.batch,
                                   .seed = f->config->train.seed,
                                   .first_step = 1,
                                   .pixels = true},
                  &l));
    return l;
}

/* Fills the batch as the first step of a run does. The loader lives until then. */
static Step first_step(Parts *f, Size size)
{
    Step step = {.shape = f->shape, .data = {.grad_scale = 1}};
    const LoaderSample *samples;
    Loader *l = loader_of(f, size);
    ok(loader_next(l, &samples));
    ok(batch_fill(f->batch, 1, 0, samples, &step.data));
    loader_free(l);
    return step;
}

static float *copy_of(const float *x, int64_t n)
{
    float *copy = mem_alloc((size_t)n * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, x, (size_t)n * sizeof *copy);
    return copy;
}

/* With cached latents and with pixels a batch is the same; with a plan and without, so is the step. */
static void caches_and_plans_of_a_tall_step_change_no_byte(void **state)
{
    (void)state;
    Parts f;
    parts_open(&f, "tall", TALL);
    Step step = first_step(&f, TALL);
    const int64_t n = f.shape.batch * step_latent_size(&f.shape);
    float *noisy = copy_of(f.batch->noisy, n);

    char *folder = path_join(work, "tall");
    ok(sources_cache(f.sources, f.config, folder, f.p, comm_alone(), f.m, DTYPE_F32, NULL));
    assert_true(f.sources->items[0].latents);
    mem_free(folder);
    memset(f.batch->noisy, 0, (size_t)n * sizeof(float));
    step = first_step(&f, TALL);
    assert_memory_equal(f.batch->noisy, noisy, (size_t)n * sizeof(float));

    parameters_zero_gradients(f.parameters);
    ok(ctx_run(f.c, NULL, train_step, &step));
    const float loss = step.data.loss;
    assert_true(loss > 0);
    const Tensor *last = f.parameters->items[0].weight->grad;
    float *grad = copy_of(last->data, tensor_count(last));
    Plan *plan;
    ok(ctx_rehearse(f.c, train_step, &step, &plan));
    parameters_zero_gradients(f.parameters);
    ok(ctx_run(f.c, plan, train_step, &step));
    assert_true(step.data.loss == loss);
    assert_memory_equal(last->data, grad, tensor_bytes(last));
    plan_free(plan);
    mem_free(grad);
    mem_free(noisy);
    parts_close(&f);
}

/* (…,H,W) -> (…,W,H), in place. */
static void turn(float *x, int64_t planes, Size size)
{
    const int64_t area = size_area(size);
    float *plane = mem_alloc((size_t)area * sizeof *plane);
    for (int64_t p = 0; p < planes; p++, x += area) {
        memcpy(plane, x, (size_t)area * sizeof *plane);
        for (int i = 0; i < size.height; i++)
            for (int k = 0; k < size.width; k++)
                x[k * size.height + i] = plane[i * size.width + k];
    }
    mem_free(plane);
}

/* The model that sees turned pictures as this one sees upright ones: every convolution's kernel is turned. */
static void turn_kernels(Model *m)
{
    const LayerSet *set = unet_layers(m->unet);
    for (int i = 0; i < set->count; i++) {
        Tensor *w = set->items[i]->weight;
        if (w && w->ndim == 4)
            turn(w->data, w->shape[0] * w->shape[1], (Size){(int)w->shape[3], (int)w->shape[2]});
    }
}

static void assert_near(const float *a, const float *b, int64_t n)
{
    double largest = 0, difference = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)b[i]));
        difference = fmax(difference, fabs((double)a[i] - (double)b[i]));
    }
    assert_true(largest > 0);
    if (!(difference < TOLERANCE * largest))
        fail_msg("differs by %g of %g", difference, largest);
}

static const Tensor *gradient(const Parts *f, const char *name)
{
    for (int i = 0; i < f->parameters->count; i++)
        if (strcmp(f->parameters->items[i].name, name) == 0)
            return f->parameters->items[i].weight->grad;
    fail_msg("no %s", name);
    return NULL;
}

/* A wide step is a tall one on its side: the same loss, prediction and gradients, turned. */
static void a_wide_step_is_a_tall_one_turned(void **state)
{
    (void)state;
    Parts tall, wide;
    parts_open(&tall, "turned", TALL);
    parts_open(&wide, "wide", size_turned(TALL));
    const int64_t n = tall.shape.batch * step_latent_size(&tall.shape);
    const int64_t planes = tall.shape.batch * tall.shape.channels;
    Step step = first_step(&tall, TALL);
    Step turned = {.shape = wide.shape, .data = step.data};
    float *memory = mem_alloc((size_t)n * 4 * sizeof *memory);
    turned.data.noisy = memcpy(memory, step.data.noisy, (size_t)n * sizeof *memory);
    turned.data.target = memcpy(memory + n, step.data.target, (size_t)n * sizeof *memory);
    turn(memory, planes, tall.shape.size);
    turn(memory + n, planes, tall.shape.size);
    turned.data.per_sample = wide.batch->per_sample;
    step.data.prediction = memory + 2 * n;
    turned.data.prediction = memory + 3 * n;
    const int64_t text = tall.shape.batch * step_text_size(&tall.shape);
    float *states = mem_alloc((size_t)text * sizeof *states);
    step.data.conditioning = turned.data.conditioning = states;
    step.shape.report = turned.shape.report = true;
    turn_kernels(wide.m);

    parameters_zero_gradients(tall.parameters);
    parameters_zero_gradients(wide.parameters);
    ok(ctx_run(tall.c, NULL, train_step, &step));
    ok(ctx_run(wide.c, NULL, train_step, &turned));
    assert_float_equal(turned.data.loss, step.data.loss, TOLERANCE * (double)step.data.loss);
    turn(step.data.prediction, planes, tall.shape.size);
    assert_near(turned.data.prediction, step.data.prediction, n);
    const Tensor *a = gradient(&wide, "unet.conv_in.weight"), *b = gradient(&tall, "unet.conv_in.weight");
    turn(b->data, b->shape[0] * b->shape[1], (Size){3, 3});
    assert_near(a->data, b->data, tensor_count(b));
    mem_free(states);
    mem_free(memory);
    parts_close(&tall);
    parts_close(&wide);
}

static Status plan_of(void *plan, Size size, const Plan **out)
{
    assert_true(size_equal(size, TALL));
    *out = plan;
    return STATUS_OK;
}

/* Held-out pictures of another size than those before them, on the same context and pipeline. */
static void validation_takes_the_steps_size(void **state)
{
    (void)state;
    double loss[2];
    Parts f;
    parts_open(&f, "held", TALL);
    for (int i = 0; i < 2; i++) {
        Validation *v;
        ok(validation_new(f.config, &f.shape, f.sources, f.p, &v));
        Step step = validation_step(&f.shape);
        Plan *plan = NULL;
        if (i)
            ok(ctx_rehearse(f.c, train_step, &step, &plan));
        ok(validation_run(v, comm_alone(), f.c, plan_of, plan, f.batch, &loss[i]));
        plan_free(plan);
        validation_free(v);
    }
    assert_true(loss[0] > 0 && loss[0] == loss[1]);
    parts_close(&f);
}

static void samples_of_any_size_leave_each_other_alone(void **state)
{
    (void)state;
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    SampleResult first, wide, again;
    Parts f;
    parts_open(&f, "samples", TALL);
    r.prompt = "a cat";
    r.steps = 2;
    r.size = TALL;
    ok(pipeline_sample(f.p, &r, NULL, NULL, &first));
    r.size = size_turned(TALL);
    ok(pipeline_sample(f.p, &r, NULL, NULL, &wide));
    r.size = TALL;
    ok(pipeline_sample(f.p, &r, NULL, NULL, &again));
    assert_true(size_equal(first.picture.size, TALL));
    assert_true(size_equal(wide.picture.size, size_turned(TALL)));
    const int64_t expected[] = {1, 4, TALL.height / vae_factor(f.m->vae), TALL.width / vae_factor(f.m->vae)};
    assert_memory_equal(first.latents->shape, expected, sizeof expected);
    assert_memory_equal(first.picture.rgb, again.picture.rgb, 3 * (size_t)size_area(TALL));
    assert_memory_not_equal(first.picture.rgb, wide.picture.rgb, 3 * (size_t)size_area(TALL));
    sample_result_free(&first);
    sample_result_free(&wide);
    sample_result_free(&again);
    parts_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(caches_and_plans_of_a_tall_step_change_no_byte),
        cmocka_unit_test(a_wide_step_is_a_tall_one_turned),
        cmocka_unit_test(validation_takes_the_steps_size),
        cmocka_unit_test(samples_of_any_size_leave_each_other_alone),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
