#include "validation.h"

#include "data/loader/sample.h"
#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "kernels/base/random.h"
#include "captions.h"

#include <string.h>

#define NO_STEP 0xffffffffu

/* A held-out picture at one size. */
typedef struct Held {
    const Source *source;
    int picture;
    Size size;     /* in pixels */
    float *latent; /* (C,H,W), scaled */
    float *roots;  /* (C,H,W) of its mask; NULL: the run has no masks */
} Held;

/* What is asked in one run of the step: as many of `count` questions from `first` on as go into a batch. */
typedef struct Asked {
    int first, count;
} Asked;

struct Validation {
    const Config *config;
    StepShape shape; /* but for the size */
    Held *held;      /* (count), one size after the other */
    int count;
    Asked *batches;
    int batch_count;
    float *latents, *roots;
};

Step validation_step(const StepShape *shape)
{
    Step s = {.shape = *shape};
    s.shape.backward = s.shape.report = false;
    s.shape.checkpointing = CHECKPOINTING_OFF;
    return s;
}

static int64_t latent_size(const StepShape *shape, Size pixels)
{
    return shape->channels * size_area(size_divided(pixels, vae_factor(shape->model->vae)));
}

static Status encode(const Held *h, const BucketFit *fit, Pipeline *pipeline, float *mean, float *deviation)
{
    Picture picture;
    TRY(status_in(dataset_picture(h->source->dataset, h->picture, fit, &picture), "%s: %s",
                  dataset_path(h->source->dataset), dataset_name(h->source->dataset, h->picture)));
    float *pixels = mem_alloc(3 * (size_t)size_area(fit->bucket) * sizeof *pixels);
    if (pixels)
        picture_to_floats(&picture, pixels);
    picture_free(&picture);
    const Status s =
        pixels ? pipeline_encode_picture(pipeline, pixels, fit->bucket, mean, deviation) : STATUS_FAILED;
    mem_free(pixels);
    return s;
}

/* h's mask as training has it count. */
static Status take_mask(const Validation *v, const Held *h, const BucketFit *fit, float *mask)
{
    const int factor = vae_factor(v->shape.model->vae);
    Dataset *d = h->source->dataset;
    const MaskView view = {.picture = h->picture,
                           .window = {.whole = fit->scaled, .x = fit->x, .y = fit->y, .size = fit->bucket}};
    const MaskFrom from = h->source->config->mask;
    const bool there = mask_is_there(d, from, h->picture);
    if (there)
        TRY(status_in(sample_mask(NULL, d, from, &view, factor, mask), "%s: %s", dataset_path(d),
                      dataset_name(d, h->picture)));
    batch_mask(v->config, there ? mask : NULL, size_area(size_divided(fit->bucket, factor)),
               v->shape.channels, h->roots);
    return STATUS_OK;
}

/* The latents of what a source holds out at one size. */
static Status take_source(Validation *v, const Source *source, Size size, Pipeline *pipeline, float **at,
                          float *moments)
{
    const Entries *e = &source->held_entries;
    for (int i = 0; i < e->count; i++) {
        if (!size_equal(e->fits[i].bucket, size))
            continue;
        Held *h = &v->held[v->count++];
        *h = (Held){source, e->pictures[i], size, *at, v->roots ? v->roots + (*at - v->latents) : NULL};
        *at += latent_size(&v->shape, size);
        const int64_t n = latent_size(&v->shape, size);
        TRY(source->latents ? encoded_latents(source, e, i, false, moments)
                            : encode(h, &e->fits[i], pipeline, moments, moments + n));
        memcpy(h->latent, moments, (size_t)n * sizeof *moments);
        if (h->roots)
            TRY(take_mask(v, h, &e->fits[i], moments));
    }
    return STATUS_OK;
}

static Status take_latents(Validation *v, const Sources *sources, Pipeline *pipeline)
{
    const RunSizes *sizes = &sources->sizes;
    int64_t all = 0;
    for (int i = 0; i < sizes->count; i++)
        all += sizes->items[i].held * latent_size(&v->shape, sizes->items[i].size);
    v->held = mem_alloc((size_t)sources->held_count * sizeof *v->held);
    v->latents = mem_alloc((size_t)all * sizeof *v->latents);
    if (v->shape.masked && !(v->roots = mem_alloc((size_t)all * sizeof *v->roots)))
        return STATUS_FAILED;
    float *moments = mem_alloc(2 * (size_t)latent_size(&v->shape, sizes_largest(sizes)) * sizeof *moments);
    float *at = v->latents;
    Status s = v->held && v->latents && moments ? STATUS_OK : STATUS_FAILED;
    for (int k = 0; k < sizes->count && s == STATUS_OK; k++)
        for (int i = 0; i < sources->count && s == STATUS_OK; i++)
            s = take_source(v, &sources->items[i], sizes->items[k].size, pipeline, &at, moments);
    mem_free(moments);
    TRY(s);
    const float scaling = vae_config(v->shape.model->vae)->scaling_factor;
    for (int64_t i = 0; i < all; i++)
        v->latents[i] *= scaling;
    return STATUS_OK;
}

/* Questions into batches, each of one size. */
static Status make_batches(Validation *v)
{
    const int B = v->shape.batch, all = v->count * VALIDATION_QUESTIONS;
    v->batches = mem_alloc((size_t)all * sizeof *v->batches);
    if (!v->batches)
        return STATUS_FAILED;
    for (int n = 0; n < all; n++) {
        Asked *last = &v->batches[v->batch_count - (v->batch_count > 0)];
        const Size size = v->held[n / VALIDATION_QUESTIONS].size;
        if (v->batch_count && last->count < B &&
            size_equal(size, v->held[last->first / VALIDATION_QUESTIONS].size))
            last->count++;
        else
            v->batches[v->batch_count++] = (Asked){n, 1};
    }
    return STATUS_OK;
}

Status validation_new(const Config *config, const StepShape *shape, Sources *sources, Pipeline *pipeline,
                      Validation **out)
{
    Validation *v = mem_calloc(1, sizeof *v);
    if (!v)
        return STATUS_FAILED;
    *v = (Validation){.config = config, .shape = validation_step(shape).shape};
    Status s = take_latents(v, sources, pipeline);
    if (s == STATUS_OK)
        s = make_batches(v);
    if (s != STATUS_OK) {
        validation_free(v);
        return status_in(s, "held-out pictures");
    }
    *out = v;
    return STATUS_OK;
}

void validation_free(Validation *v)
{
    if (!v)
        return;
    mem_free(v->held);
    mem_free(v->latents);
    mem_free(v->roots);
    mem_free(v->batches);
    mem_free(v);
}

/* Puts question q about held-out picture number j at `place`; noise has been drawn. */
static Status put_question(const Validation *v, Batch *b, int place, int j, int q, const float *noise)
{
    const NoiseSchedule *schedule = &v->shape.model->schedule;
    const Held *h = &v->held[j];
    const int64_t n = latent_size(&v->shape, h->size);
    const int quarter = schedule->train_steps / VALIDATION_QUESTIONS;
    const RandomKey key = {
        .seed = v->config->train.seed, .step = NO_STEP, .sample = (uint32_t)j, .purpose = RANDOM_TIMESTEP};
    const int t = q * quarter + (int)random_below(key, 0, (uint32_t)quarter);
    objective_prepare(step_objective(&v->shape), schedule, t, h->latent, noise, n, b->noisy + place * n,
                      b->target + place * n);
    b->timesteps[place] = (float)t;
    b->weights[place] = 1;
    if (h->roots)
        memcpy(b->roots + place * n, h->roots, (size_t)n * sizeof *h->roots);
    const Source *source = h->source;
    const Dataset *d = source->dataset;
    batch_numbers(b, place, dataset_size(d, h->picture), h->size, false);
    const char *caption = caption_for_validation(source->config, dataset_caption(d, h->picture),
                                                 (SampleKey){key.seed, key.step, key.sample}, b->caption);
    return batch_caption(b, place, caption, source);
}

typedef struct Asking {
    const Validation *v;
    Ctx *c;
    ValidationPlan plan;
    void *plan_arg;
    Batch *b;
    double sum, weights; /* of the losses, each as much as its dataset counts */
    Progress progress;
} Asking;

/* Question number n of all goes to `place` of the batch. */
static Status ask(const Asking *a, int place, int n)
{
    const int picture = n / VALIDATION_QUESTIONS, q = n % VALIDATION_QUESTIONS;
    TorchRandom g;
    torch_seed(&g, a->v->config->train.seed + (uint64_t)picture);
    for (int i = 0; i <= q; i++) /* a picture's questions have its noise one after the other */
        torch_randn(&g, a->b->noise, (size_t)latent_size(&a->v->shape, a->v->held[picture].size));
    return put_question(a->v, a->b, place, picture, q, a->b->noise);
}

/* Losses of batch number k. Places after the last question hold what an earlier batch left: numbers like
 * others, not counted. */
static Status run_batch(int64_t k, void *losses, void *arg)
{
    const Asking *a = arg;
    Batch *b = a->b;
    const Asked *asked = &a->v->batches[k];
    const Size size = a->v->held[asked->first / VALIDATION_QUESTIONS].size;
    const Plan *plan;
    batch_take_size(b, size);
    for (int i = 0; i < asked->count; i++)
        TRY(ask(a, i, asked->first + i));
    Step step = {.shape = a->v->shape,
                 .data = {.noisy = b->noisy,
                          .target = b->target,
                          .timesteps = b->timesteps,
                          .weights = b->weights,
                          .roots = b->roots,
                          .text = b->text,
                          .ids = b->ids,
                          .per_sample = b->per_sample}};
    step.shape.size = b->shape.size;
    TRY(a->plan(a->plan_arg, size, &plan));
    TRY(ctx_run(a->c, plan, train_step, &step));
    memcpy(losses, b->per_sample, (size_t)a->v->shape.batch * sizeof(float));
    return STATUS_OK;
}

static Status add_losses(int64_t k, const void *losses, void *arg)
{
    Asking *a = arg;
    const Asked *asked = &a->v->batches[k];
    for (int i = 0; i < asked->count; i++) {
        const Held *h = &a->v->held[(asked->first + i) / VALIDATION_QUESTIONS];
        a->sum += (double)h->source->config->weight * (double)((const float *)losses)[i];
        a->weights += (double)h->source->config->weight;
    }
    progress_update(&a->progress, (asked->first + asked->count) / VALIDATION_QUESTIONS, NULL);
    return STATUS_OK;
}

Status validation_run(Validation *v, Comm *comm, Ctx *c, ValidationPlan plan, void *plan_arg, Batch *b,
                      double *loss)
{
    const int B = v->shape.batch;
    Asking a = {.v = v, .c = c, .plan = plan, .plan_arg = plan_arg, .b = b};
    float *losses = mem_alloc((size_t)B * sizeof *losses);
    memset(b->timesteps, 0, (size_t)B * sizeof(float));
    Status s = losses ? STATUS_OK : STATUS_FAILED;
    progress_begin(&a.progress, "validation", "picture", 0, v->count);
    progress_quiet(&a.progress, 1);
    if (s == STATUS_OK)
        s = comm_work(comm, &(CommWork){.count = v->batch_count,
                                        .bytes = (size_t)B * sizeof *losses,
                                        .thing = losses,
                                        .make = run_batch,
                                        .take = add_losses,
                                        .arg = &a});
    progress_clear(&a.progress);
    mem_free(losses);
    TRY(s);
    *loss = a.weights > 0 ? a.sum / a.weights : 0;
    TRY(comm_tell(comm, loss, sizeof *loss));
    return STATUS_OK;
}

int validation_batches(const RunSizes *sizes, int batch)
{
    int n = 0;
    for (int i = 0; i < sizes->count; i++)
        n += (sizes->items[i].held * VALIDATION_QUESTIONS + batch - 1) / batch;
    return n;
}
