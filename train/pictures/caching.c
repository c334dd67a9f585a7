/* What is encoded once, and how (caching.h). */
#include "caching.h"

#include "data/loader/sample.h"
#include "kernels/base/mem.h"
#include "hashing.h"

#include <stdio.h>
#include <string.h>

#define DELETE_CACHE "; delete the .cache.h5 files in the run's folder and go on with --resume auto"

/* Latents ---------------------------------------------------------------------------------------------- */

enum { PLAIN, FLIPPED }; /* groups */

static int number_of(const Views *v, int i)
{
    return v->pictures ? v->pictures[i] : i;
}

/* How the pictures are cut: "middle" where each covers the size, as most do, else a hash of what is done. */
static void describe_cut(const Views *v, char out[CACHE_KEY_SIZE])
{
    bool middle = true;
    Sha256 s;
    sha256_init(&s);
    for (int i = 0; i < v->count; i++) {
        const BucketFit *fit = &v->fits[i],
                        covered = bucket_fit_size(dataset_size(v->dataset, number_of(v, i)), fit->bucket);
        const int32_t numbers[] = {fit->scaled.width, fit->scaled.height, fit->x, fit->y};
        middle &= size_equal(covered.scaled, fit->scaled) && covered.x == fit->x && covered.y == fit->y;
        sha256_update(&s, numbers, sizeof numbers);
    }
    hash_finish(&s, out);
    if (middle)
        strcpy(out, "middle");
}

Status caching_latents_kind(const Model *m, DType activations, const Views *views, CacheKind *out)
{
    static const char *const names[] = {"latent_mean", "latent_std", "latent_mean_flipped",
                                        "latent_std_flipped"};
    if (!m->vae)
        return status_fail("%s: has no VAE to encode pictures with", m->name);
    const VaeConfig *v = vae_config(m->vae);
    const Size size = views->fits[0].bucket, latent = size_divided(size, vae_factor(m->vae));
    *out = (CacheKind){.what = "latents", .of = CACHE_OF_PICTURES, .count = 4, .together = 2};
    for (int i = 0; i < out->count; i++)
        out->arrays[i] = (CacheArray){names[i], 3, {v->latent_channels, latent.height, latent.width}};
    char text[256], cut[CACHE_KEY_SIZE];
    Sha256 s;
    describe_cut(views, cut);
    sha256_init(&s);
    snprintf(text, sizeof text, "latents 2, %dx%d, %s, %s, groups %d, quant %d", size.width, size.height, cut,
             dtype_name(activations), v->norm_groups, v->use_quant_conv);
    hash_text(&s, text);
    TRY(hash_layers(&s, vae_layers(m->vae)));
    hash_finish(&s, out->key);
    return STATUS_OK;
}

typedef struct LatentJob {
    Pipeline *pipeline;
    const Views *views;
    float *pixels; /* (H,W,3) */
} LatentJob;

static Status encode_latents(int i, int group, float *const moments[], void *arg)
{
    const LatentJob *j = arg;
    const BucketFit *fit = &j->views->fits[i];
    Picture picture;
    TRY(dataset_picture(j->views->dataset, number_of(j->views, i), fit, &picture));
    if (group == FLIPPED)
        picture_flip(&picture);
    picture_to_floats(&picture, j->pixels);
    picture_free(&picture);
    return pipeline_encode_picture(j->pipeline, j->pixels, fit->bucket, moments[0], moments[1]);
}

Status caching_latents(Pipeline *p, Comm *comm, const Views *v, bool flip, DatasetCache *cache,
                       CacheProgress progress, void *arg)
{
    LatentJob j = {.pipeline = p, .views = v};
    j.pixels = mem_alloc(3 * (size_t)size_area(v->fits[0].bucket) * sizeof *j.pixels);
    if (!j.pixels)
        return STATUS_FAILED;
    const CacheFill f = {.comm = comm,
                         .groups = flip ? 2 : 1,
                         .numbers = v->pictures,
                         .encode = encode_latents,
                         .arg = &j,
                         .progress = progress,
                         .progress_arg = arg};
    const Status s = cache_fill(cache, v->dataset, &f);
    mem_free(j.pixels);
    return s;
}

Status caching_read_latents(DatasetCache *cache, const Views *v, int i, bool flipped, float *mean, float *std)
{
    bool found;
    const int number = number_of(v, i);
    TRY(status_in(
        cache_get(cache, v->dataset, i, number, flipped ? FLIPPED : PLAIN, (float *[]){mean, std}, &found),
        "the latents of %s", dataset_name(v->dataset, number)));
    return found ? STATUS_OK
                 : status_fail("%s: the cached latents of %s are missing or damaged" DELETE_CACHE,
                               dataset_path(v->dataset), dataset_name(v->dataset, number));
}

/* Texts ------------------------------------------------------------------------------------------------ */

Status caching_text_kind(const Model *m, DType activations, int clip_skip, CacheKind *out)
{
    if (!m->clip || !m->tokenizer)
        return status_fail("%s: has no text encoder to encode captions with", m->name);
    const ClipConfig *c = clip_config(m->clip);
    const ConditioningShape shape = conditioning_shape(m);
    *out = (CacheKind){.what = "text", .of = CACHE_OF_CAPTIONS};
    out->arrays[out->count++] = (CacheArray){"text", 2, {shape.tokens, shape.width}};
    if (shape.pooled)
        out->arrays[out->count++] = (CacheArray){"pooled", 1, {shape.pooled}};
    out->together = out->count;
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
    const CacheKind *kind;
    int clip_skip;
    float *text; /* what one becomes: the kind's arrays, one after the other */
} TextJob;

static Status encode_text(int i, int group, float *const values[], void *arg)
{
    (void)group;
    const TextJob *j = arg;
    TRY(pipeline_encode_text(j->pipeline, dataset_caption(j->dataset, i), j->clip_skip, j->text));
    const float *from = j->text;
    for (int k = 0; k < j->kind->count; k++) {
        const size_t n = cache_floats(&j->kind->arrays[k]);
        memcpy(values[k], from, n * sizeof *from);
        from += n;
    }
    return STATUS_OK;
}

Status caching_text(Pipeline *p, Comm *comm, const Dataset *d, int clip_skip, DatasetCache *cache,
                    CacheProgress progress, void *arg)
{
    const ConditioningShape shape = conditioning_shape(pipeline_model(p));
    TextJob j = {.pipeline = p, .dataset = d, .kind = cache_kind(cache), .clip_skip = clip_skip};
    j.text = mem_alloc((size_t)conditioning_text_size(&shape) * sizeof *j.text);
    if (!j.text)
        return STATUS_FAILED;
    const CacheFill f = {.comm = comm,
                         .groups = 1,
                         .encode = encode_text,
                         .arg = &j,
                         .progress = progress,
                         .progress_arg = arg};
    const Status s = cache_fill(cache, d, &f);
    mem_free(j.text);
    return s;
}

Status caching_read_text(DatasetCache *cache, const Dataset *d, int i, float *out)
{
    bool found;
    const CacheKind *kind = cache_kind(cache);
    float *values[CACHE_MAX_ARRAYS] = {out};
    for (int k = 1; k < kind->count; k++)
        values[k] = values[k - 1] + cache_floats(&kind->arrays[k - 1]);
    TRY(status_in(cache_get(cache, d, i, i, 0, values, &found), "the text of %s", dataset_name(d, i)));
    return found ? STATUS_OK
                 : status_fail("%s: the cached text of %s is missing or damaged" DELETE_CACHE,
                               dataset_path(d), dataset_name(d, i));
}
