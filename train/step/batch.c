#include "batch.h"

#include "infer/models/size_numbers.h"
#include "kernels/base/mem.h"
#include "captions.h"

#include <math.h>
#include <string.h>

/* The class pictures' included: they come after the datasets. */
static size_t longest_caption(const Sources *sources)
{
    size_t most = 1;
    for (int i = 0; i < sources->count + (sources->prior != NULL); i++) {
        const Source *source = &sources->items[i];
        for (int k = 0; k < dataset_count(source->dataset); k++) {
            const size_t room =
                caption_room(source->caption ? source->caption : dataset_caption(source->dataset, k));
            most = room > most ? room : most;
        }
    }
    return most;
}

/* The caption of a sample whose own is dropped, which no cache has: encoded now, not when it first comes up.
 */
static Status encode_empty(Batch *b)
{
    for (int i = 0; b->texts && i < b->sources->count; i++)
        if (b->sources->items[i].config->caption.dropout > 0)
            return texts_get(b->texts, "", NULL, b->one_text);
    return STATUS_OK;
}

void batch_take_size(Batch *b, Size size)
{
    b->shape.size = size_divided(size, vae_factor(b->shape.model->vae));
}

Status batch_new(const Config *config, const StepShape *shape, Sources *sources, Pipeline *pipeline,
                 Texts *texts, Batch **out)
{
    Batch *b = mem_calloc(1, sizeof *b);
    if (!b)
        return STATUS_FAILED;
    *b = (Batch){.config = config, .shape = *shape, .sources = sources, .pipeline = pipeline, .texts = texts};
    batch_take_size(b, sizes_largest(&sources->sizes));
    const size_t B = (size_t)shape->batch, n = (size_t)step_latent_size(&b->shape);
    float **const latents[] = {&b->latents, &b->noise, &b->noisy, &b->target};
    float **const scalars[] = {&b->timesteps, &b->weights, &b->per_sample};
    bool ok = true;
    for (size_t i = 0; i < sizeof latents / sizeof *latents; i++)
        ok &= (*latents[i] = mem_calloc(B * n, sizeof(float))) != NULL;
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++)
        ok &= (*scalars[i] = mem_calloc(B, sizeof(float))) != NULL;
    if (shape->masked)
        ok &= (b->roots = mem_calloc(B * n, sizeof(float))) != NULL;
    ok &= (b->moments = mem_calloc(2 * n, sizeof(float))) != NULL;
    ok &= (b->caption = mem_alloc(longest_caption(sources))) != NULL;
    const ConditioningShape given = step_given(shape);
    const size_t floats = (size_t)conditioning_size(&given, shape->batch);
    if (floats)
        ok &= (b->text = mem_calloc(floats, sizeof(float))) != NULL;
    if (shape->text_on_tape)
        ok &= (b->ids = mem_calloc(B * (size_t)shape->text.ids, sizeof(int32_t))) != NULL;
    else
        ok &= (b->one_text = mem_calloc((size_t)step_text_size(shape), sizeof(float))) != NULL;
    if (!ok) {
        batch_free(b);
        return STATUS_FAILED;
    }
    const Status s = encode_empty(b);
    if (s != STATUS_OK) {
        batch_free(b);
        return s;
    }
    *out = b;
    return STATUS_OK;
}

void batch_free(Batch *b)
{
    if (!b)
        return;
    float *const all[] = {b->latents,    b->noise,   b->noisy, b->target,   b->timesteps, b->weights,
                          b->per_sample, b->moments, b->text,  b->one_text, b->roots};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mem_free(all[i]);
    mem_free(b->ids);
    mem_free(b->caption);
    mem_free(b);
}

/* Captions --------------------------------------------------------------------------------------------- */

Status batch_caption(Batch *b, int place, const char *caption, const Source *source)
{
    const StepShape *s = &b->shape;
    if (s->text_on_tape)
        return conditioning_ids(s->model, caption, b->ids + (int64_t)place * s->text.ids);
    TRY(texts_get(b->texts, caption, source, b->one_text));
    conditioning_place(&s->text, s->batch, place, b->one_text, b->text);
    return STATUS_OK;
}

void batch_numbers(Batch *b, int place, Size picture, Size target, bool mirrored)
{
    const ConditioningShape given = step_given(&b->shape);
    const BucketCorner corner = bucket_corner(picture, target, mirrored);
    const SizeNumbers numbers = {picture, corner.top, corner.left, target};
    int64_t count;
    const int64_t at = conditioning_part(&given, b->shape.batch, place, CONDITIONING_EXTRA, &count);
    if (count)
        size_numbers_write(&numbers, b->text + at);
}

/* Samples ---------------------------------------------------------------------------------------------- */

static Status fill_latent(Batch *b, const Source *source, const LoaderSample *sample, SampleKey key,
                          float *latent)
{
    const StepShape *s = &b->shape;
    const int64_t n = step_latent_size(s);
    float *mean = b->moments, *deviation = b->moments + n;
    if (source->latents)
        TRY(encoded_latents(source, &source->entries, sample->entry, sample->flipped, b->moments));
    else
        TRY(pipeline_encode_picture(b->pipeline, sample->pixels, sample->size, mean, deviation));
    objective_latent(key, mean, deviation, vae_config(s->model->vae)->scaling_factor, n, latent);
    return STATUS_OK;
}

void batch_mask_roots(float *mask, int64_t area, int channels, float floor, bool normalise)
{
    double sum = 0;
    for (int64_t i = 0; i < area; i++) {
        mask[i] = fmaxf(mask[i], floor);
        sum += (double)mask[i];
    }
    const double by = normalise && sum > 0 ? (double)area / sum : 1;
    for (int64_t i = 0; i < area; i++)
        mask[i] = (float)sqrt((double)mask[i] * by);
    for (int k = 1; k < channels; k++)
        memcpy(mask + k * area, mask, (size_t)area * sizeof *mask);
}

void batch_mask(const Config *config, const float *mask, int64_t area, int channels, float *roots)
{
    for (int64_t i = 0; i < area; i++)
        roots[i] = mask ? mask[i] : 1;
    batch_mask_roots(roots, area, channels, config->loss.mask_floor, mask && config->loss.mask_normalise);
}

int batch_sample(const Batch *b, int place)
{
    const int B = b->config->train.batch;
    return place < B ? place : B * b->config->train.accumulate + place - B;
}

float batch_loss_weight(const Config *c, const NoiseSchedule *schedule, int place, int t)
{
    const float weight = objective_weight(objective_for(schedule->prediction), schedule, t, c->loss.snr_gamma,
                                          c->loss.debiased);
    if (!config_has_prior(c))
        return weight;
    return OBJECTIVE_PRIOR_SHARE * (place < c->train.batch ? weight : c->prior.weight * weight);
}

static Status fill_sample(Batch *b, int place, SampleKey key, const LoaderSample *sample)
{
    const StepShape *s = &b->shape;
    const Source *source = &b->sources->items[sample->source];
    const NoiseSchedule *schedule = &s->model->schedule;
    const int64_t n = step_latent_size(s), area = size_area(s->size);
    float *latent = b->latents + place * n, *noise = b->noise + place * n;
    TRY(status_in(fill_latent(b, source, sample, key, latent), "%s: %s", dataset_path(source->dataset),
                  dataset_name(source->dataset, sample->picture)));
    const Objective *objective = step_objective(s);
    const int t = objective->timestep(key, schedule);
    objective_noise(key, b->config->loss.noise_offset, s->channels, area, noise);
    objective_prepare(objective, schedule, t, latent, noise, n, b->noisy + place * n, b->target + place * n);
    b->timesteps[place] = (float)t;
    b->weights[place] = batch_loss_weight(b->config, schedule, place, t) * source->config->weight;
    if (s->masked)
        batch_mask(b->config, sample->mask, area, s->channels, b->roots + place * n);
    batch_numbers(b, place, dataset_size(source->dataset, sample->picture), sample->size, sample->flipped);

    const char *whole = source->caption ? source->caption : dataset_caption(source->dataset, sample->picture);
    const char *caption = caption_for(source->config, whole, key, b->caption);
    return status_in(batch_caption(b, place, caption, source), "caption of %s",
                     dataset_name(source->dataset, sample->picture));
}

Status batch_fill(Batch *b, int64_t step, int first, const LoaderSample *samples, StepData *data)
{
    batch_take_size(b, samples[0].size);
    for (int i = 0; i < b->shape.batch; i++) {
        const int k = batch_sample(b, i);
        const SampleKey key = {
            .seed = b->config->train.seed, .step = (uint32_t)step, .sample = (uint32_t)(first + k)};
        TRY(fill_sample(b, i, key, &samples[k]));
    }
    data->noisy = b->noisy;
    data->target = b->target;
    data->timesteps = b->timesteps;
    data->weights = b->weights;
    data->roots = b->roots;
    data->text = b->text;
    data->ids = b->ids;
    data->per_sample = b->per_sample;
    return STATUS_OK;
}
