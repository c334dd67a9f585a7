/* What is encoded once, and how (caching.h). */
#include "caching.h"

#include "data/loader/sample.h"
#include "kernels/base/mem.h"
#include "hashing.h"

#include <stdio.h>

#define DELETE_CACHE "; delete the .cache.h5 files in the run's folder and go on with --resume auto"

/* Latents ---------------------------------------------------------------------------------------------- */

enum { PLAIN, FLIPPED }; /* groups */

Status caching_latents_kind(const Model *m, DType activations, Size size, CacheKind *out)
{
    static const char *const names[] = {"latent_mean", "latent_std", "latent_mean_flipped",
                                        "latent_std_flipped"};
    if (!m->vae)
        return status_fail("%s: has no VAE to encode pictures with", m->name);
    const VaeConfig *v = vae_config(m->vae);
    const Size latent = size_divided(size, vae_factor(m->vae));
    *out = (CacheKind){.what = "latents", .of = CACHE_OF_PICTURES, .count = 4, .together = 2};
    for (int i = 0; i < out->count; i++)
        out->arrays[i] = (CacheArray){names[i], 3, {v->latent_channels, latent.height, latent.width}};
    char text[256];
    Sha256 s;
    sha256_init(&s);
    snprintf(text, sizeof text, "latents 1, %dx%d, middle, %s, groups %d, quant %d", size.width, size.height,
             dtype_name(activations), v->norm_groups, v->use_quant_conv);
    hash_text(&s, text);
    TRY(hash_layers(&s, vae_layers(m->vae)));
    hash_finish(&s, out->key);
    return STATUS_OK;
}

typedef struct LatentJob {
    Pipeline *pipeline;
    Dataset *dataset;
    Size size;
    float *pixels; /* (H,W,3) */
} LatentJob;

static Status encode_latents(int i, int group, float *const moments[], void *arg)
{
    const LatentJob *j = arg;
    Picture picture;
    TRY(dataset_picture(j->dataset, i, j->size, &picture));
    if (group == FLIPPED)
        picture_flip(&picture);
    picture_to_floats(&picture, j->pixels);
    picture_free(&picture);
    return pipeline_encode_picture(j->pipeline, j->pixels, j->size, moments[0], moments[1]);
}

Status caching_latents(Pipeline *p, Dataset *d, Size size, bool flip, DatasetCache *cache,
                       CacheProgress progress, void *arg)
{
    LatentJob j = {.pipeline = p, .dataset = d, .size = size};
    j.pixels = mem_alloc(3 * (size_t)size_area(size) * sizeof *j.pixels);
    if (!j.pixels)
        return STATUS_FAILED;
    const CacheFill f = {.groups = flip ? 2 : 1,
                         .encode = encode_latents,
                         .arg = &j,
                         .progress = progress,
                         .progress_arg = arg};
    const Status s = cache_fill(cache, d, &f);
    mem_free(j.pixels);
    return s;
}

Status caching_read_latents(DatasetCache *cache, const Dataset *d, int i, bool flipped, float *mean,
                            float *std)
{
    bool found;
    TRY(status_in(cache_get(cache, d, i, flipped ? FLIPPED : PLAIN, (float *[]){mean, std}, &found),
                  "the latents of %s", dataset_name(d, i)));
    return found ? STATUS_OK
                 : status_fail("%s: the cached latents of %s are missing or damaged" DELETE_CACHE,
                               dataset_path(d), dataset_name(d, i));
}

/* Texts ------------------------------------------------------------------------------------------------ */

Status caching_text_kind(const Model *m, DType activations, int clip_skip, CacheKind *out)
{
    if (!m->clip || !m->tokenizer)
        return status_fail("%s: has no text encoder to encode captions with", m->name);
    const ClipConfig *c = clip_config(m->clip);
    *out = (CacheKind){.what = "text", .of = CACHE_OF_CAPTIONS, .count = 1, .together = 1};
    out->arrays[0] = (CacheArray){"text", 2, {c->positions, c->hidden}};
    char text[256];
    Sha256 s;
    sha256_init(&s);
    snprintf(text, sizeof text, "text 2, skip %d, %s, heads %d, quick %d, eps %a, tokens %d %d %d", clip_skip,
             dtype_name(activations), c->heads, c->quick_gelu, (double)c->eps, c->bos, c->eos, c->pad);
    hash_text(&s, text);
    TRY(tokenizer_hash(m->tokenizer, &s));
    TRY(hash_layers(&s, clip_layers(m->clip)));
    hash_finish(&s, out->key);
    return STATUS_OK;
}

typedef struct TextJob {
    Pipeline *pipeline;
    const Dataset *dataset;
    int clip_skip;
} TextJob;

static Status encode_text(int i, int group, float *const states[], void *arg)
{
    (void)group;
    const TextJob *j = arg;
    return pipeline_encode_text(j->pipeline, dataset_caption(j->dataset, i), j->clip_skip, states[0]);
}

Status caching_text(Pipeline *p, const Dataset *d, int clip_skip, DatasetCache *cache, CacheProgress progress,
                    void *arg)
{
    TextJob j = {.pipeline = p, .dataset = d, .clip_skip = clip_skip};
    const CacheFill f = {
        .groups = 1, .encode = encode_text, .arg = &j, .progress = progress, .progress_arg = arg};
    return cache_fill(cache, d, &f);
}

Status caching_read_text(DatasetCache *cache, const Dataset *d, int i, float *out)
{
    bool found;
    TRY(status_in(cache_get(cache, d, i, 0, (float *[]){out}, &found), "the text of %s", dataset_name(d, i)));
    return found ? STATUS_OK
                 : status_fail("%s: the cached text of %s is missing or damaged" DELETE_CACHE,
                               dataset_path(d), dataset_name(d, i));
}
