#include "validation.h"

#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "kernels/base/random.h"
#include "captions.h"

#include <string.h>

#define NO_STEP 0xffffffffu

struct Validation {
    const Config *config;
    Sources *sources;
    StepShape shape;
    float *latents; /* (held,C,H,W), scaled */
    int count;
};

Step validation_step(const StepShape *shape)
{
    Step s = {.shape = *shape};
    s.shape.backward = s.shape.checkpointing = s.shape.report = s.shape.masked = false;
    return s;
}

/* Latents of a source's held-out pictures where there is no cache: the loader goes once through them. */
static Status encode_held(Validation *v, const Source *source, Pipeline *pipeline, float *latents)
{
    const Size pixels = size_multiplied(v->shape.size, vae_factor(v->shape.model->vae));
    const int64_t n = step_latent_size(&v->shape);
    const LoaderSource held = {
        .dataset = source->dataset, .pictures = source->held, .count = source->held_count, .repeats = 1};
    const LoaderOptions o = {.sources = &held,
                             .source_count = 1,
                             .size = pixels,
                             .batch = 1,
                             .seed = v->config->train.seed,
                             .threads = v->config->train.loader_threads,
                             .first_step = 1,
                             .pixels = true};
    Loader *loader = NULL;
    float *deviation = mem_alloc((size_t)n * sizeof *deviation);
    Status s = deviation ? loader_new(&o, &loader) : STATUS_FAILED;
    for (int i = 0; i < source->held_count && s == STATUS_OK; i++) {
        const LoaderSample *sample;
        s = loader_next(loader, &sample);
        int place = 0;
        while (s == STATUS_OK && source->held[place] != sample->picture)
            place++;
        if (s == STATUS_OK)
            s = pipeline_encode_picture(pipeline, sample->pixels, pixels, latents + place * n, deviation);
    }
    loader_free(loader);
    mem_free(deviation);
    return s;
}

static Status read_held(Validation *v, const Source *source, float *latents)
{
    const int64_t n = step_latent_size(&v->shape);
    float *deviation = mem_alloc((size_t)n * sizeof *deviation);
    Status s = deviation ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < source->held_count && s == STATUS_OK; i++)
        s = caching_read_latents(source->latents, source->dataset, source->held[i], false, latents + i * n,
                                 deviation);
    mem_free(deviation);
    return s;
}

Status validation_new(const Config *config, const StepShape *shape, Sources *sources, Pipeline *pipeline,
                      Validation **out)
{
    Validation *v = mem_calloc(1, sizeof *v);
    const int64_t n = step_latent_size(shape);
    if (!v)
        return STATUS_FAILED;
    *v = (Validation){.config = config, .sources = sources, .shape = validation_step(shape).shape};
    v->count = sources->held_count;
    v->latents = mem_alloc((size_t)(v->count * n) * sizeof *v->latents);
    Status s = v->latents ? STATUS_OK : STATUS_FAILED;
    float *at = v->latents;
    for (int i = 0; i < sources->count && s == STATUS_OK; i++) {
        const Source *source = &sources->items[i];
        s = source->latents ? read_held(v, source, at) : encode_held(v, source, pipeline, at);
        at += source->held_count * n;
    }
    if (s != STATUS_OK) {
        validation_free(v);
        return status_in(s, "held-out pictures");
    }
    const float scaling = vae_config(shape->model->vae)->scaling_factor;
    for (int64_t i = 0; i < v->count * n; i++)
        v->latents[i] *= scaling;
    *out = v;
    return STATUS_OK;
}

void validation_free(Validation *v)
{
    if (!v)
        return;
    mem_free(v->latents);
    mem_free(v);
}

/* Held-out picture number `number` over all sources. */
static const Source *held_picture(const Validation *v, int number, int *picture)
{
    const Source *source = v->sources->items;
    while (number >= source->held_count)
        number -= source++->held_count;
    *picture = source->held[number];
    return source;
}

/* Puts question q about held-out picture number j at `place`; noise has been drawn. */
static Status put_question(const Validation *v, Batch *b, int place, int j, int q, const float *noise)
{
    const NoiseSchedule *schedule = &v->shape.model->schedule;
    const int64_t n = step_latent_size(&v->shape);
    const int quarter = schedule->train_steps / VALIDATION_QUESTIONS;
    const RandomKey key = {
        .seed = v->config->train.seed, .step = NO_STEP, .sample = (uint32_t)j, .purpose = RANDOM_TIMESTEP};
    const int t = q * quarter + (int)random_below(key, 0, (uint32_t)quarter);
    objective_prepare(step_objective(&v->shape), schedule, t, v->latents + j * n, noise, n,
                      b->noisy + place * n, b->target + place * n);
    b->timesteps[place] = (float)t;
    b->weights[place] = 1;
    int picture;
    const Source *source = held_picture(v, j, &picture);
    const char *caption = caption_for_validation(source->config, dataset_caption(source->dataset, picture),
                                                 (SampleKey){key.seed, key.step, key.sample}, b->caption);
    return batch_caption(b, place, caption, source->texts, source->dataset, picture);
}

typedef struct Asking {
    const Validation *v;
    Ctx *c;
    const Plan *plan;
    Batch *b;
    int questions; /* of all */
    double sum;
    Progress progress;
} Asking;

/* Question number n of all goes to `place` of the batch. */
static Status ask(const Asking *a, int place, int n)
{
    const int64_t size = step_latent_size(&a->v->shape);
    const int picture = n / VALIDATION_QUESTIONS, q = n % VALIDATION_QUESTIONS;
    TorchRandom g;
    torch_seed(&g, a->v->config->train.seed + (uint64_t)picture);
    for (int i = 0; i <= q; i++) /* a picture's questions have its noise one after the other */
        torch_randn(&g, a->b->noise, (size_t)size);
    return put_question(a->v, a->b, place, picture, q, a->b->noise);
}

static int used_places(const Asking *a, int64_t k)
{
    const int B = a->v->shape.batch, left = a->questions - (int)k * B;
    return left < B ? left : B;
}

/* Losses of batch number k. Places after the last question hold what an earlier batch left: numbers like
 * others, not counted. */
static Status run_batch(int64_t k, void *losses, void *arg)
{
    const Asking *a = arg;
    Batch *b = a->b;
    const int B = a->v->shape.batch, used = used_places(a, k);
    for (int i = 0; i < used; i++)
        TRY(ask(a, i, (int)k * B + i));
    Step step = {.shape = a->v->shape,
                 .data = {.noisy = b->noisy,
                          .target = b->target,
                          .timesteps = b->timesteps,
                          .weights = b->weights,
                          .text = b->text,
                          .ids = b->ids,
                          .per_sample = b->per_sample}};
    TRY(ctx_run(a->c, a->plan, train_step, &step));
    memcpy(losses, b->per_sample, (size_t)B * sizeof(float));
    return STATUS_OK;
}

static Status add_losses(int64_t k, const void *losses, void *arg)
{
    Asking *a = arg;
    for (int i = 0; i < used_places(a, k); i++)
        a->sum += (double)((const float *)losses)[i];
    progress_update(&a->progress, ((int)k + 1) * a->v->shape.batch / VALIDATION_QUESTIONS, NULL);
    return STATUS_OK;
}

Status validation_run(Validation *v, Comm *comm, Ctx *c, const Plan *plan, Batch *b, double *loss)
{
    const int B = v->shape.batch;
    Asking a = {.v = v, .c = c, .plan = plan, .b = b, .questions = v->count * VALIDATION_QUESTIONS};
    float *losses = mem_alloc((size_t)B * sizeof *losses);
    memset(b->timesteps, 0, (size_t)B * sizeof(float));
    Status s = losses ? STATUS_OK : STATUS_FAILED;
    progress_begin(&a.progress, "validation", "picture", 0, v->count);
    progress_quiet(&a.progress, 1);
    if (s == STATUS_OK)
        s = comm_work(comm, &(CommWork){.count = (a.questions + B - 1) / B,
                                        .bytes = (size_t)B * sizeof *losses,
                                        .thing = losses,
                                        .make = run_batch,
                                        .take = add_losses,
                                        .arg = &a});
    progress_clear(&a.progress);
    mem_free(losses);
    TRY(s);
    TRY(comm_tell(comm, &a.sum, sizeof a.sum));
    *loss = a.sum / a.questions;
    return STATUS_OK;
}
