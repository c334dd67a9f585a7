#include "validation.h"

#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "kernels/base/random.h"

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
    s.shape.backward = s.shape.checkpointing = s.shape.report = false;
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
    return batch_caption(b, place, dataset_caption(source->dataset, picture), source->texts, source->dataset,
                         picture);
}

/* Runs the first `used` places of the batch and adds their losses to *sum. The places after them hold what an
 * earlier batch left: numbers like others, not counted. */
static Status run_batch(const Validation *v, Ctx *c, const Plan *plan, Batch *b, int used, double *sum)
{
    Step step = {.shape = v->shape,
                 .data = {.noisy = b->noisy,
                          .target = b->target,
                          .timesteps = b->timesteps,
                          .weights = b->weights,
                          .text = b->text,
                          .ids = b->ids,
                          .per_sample = b->per_sample}};
    TRY(ctx_run(c, plan, train_step, &step));
    for (int i = 0; i < used; i++)
        *sum += (double)b->per_sample[i];
    return STATUS_OK;
}

Status validation_run(Validation *v, Ctx *c, const Plan *plan, Batch *b, double *loss)
{
    const int64_t n = step_latent_size(&v->shape);
    const int B = v->shape.batch;
    double sum = 0;
    int place = 0;
    float *noise = b->noise;
    Progress progress;
    progress_begin(&progress, "validation", "picture", 0, v->count);
    progress_quiet(&progress, 1);
    memset(b->timesteps, 0, (size_t)B * sizeof(float));
    for (int j = 0; j < v->count; j++) {
        TorchRandom g;
        torch_seed(&g, v->config->train.seed + (uint64_t)j);
        for (int q = 0; q < VALIDATION_QUESTIONS; q++) {
            torch_randn(&g, noise, (size_t)n);
            TRY(put_question(v, b, place++, j, q, noise));
            if (place < B && !(j == v->count - 1 && q == VALIDATION_QUESTIONS - 1))
                continue;
            TRY(run_batch(v, c, plan, b, place, &sum));
            place = 0;
            progress_update(&progress, j, NULL);
        }
    }
    progress_clear(&progress);
    *loss = sum / ((double)v->count * VALIDATION_QUESTIONS);
    return STATUS_OK;
}
