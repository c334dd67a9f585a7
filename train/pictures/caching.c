/* Encoding a dataset once (caching.h). Entries are looked for first, so a cache that a stopped run left
 * behind is gone on with, and one that is complete costs only reading. */
#include "caching.h"

#include "data/loader/sample.h"
#include "kernels/base/mem.h"
#include "hashing.h"

#include <stdio.h>
#include <string.h>

#define DELETE_CACHE "; delete the .cache.h5 files in the run's folder and go on with --resume auto"

/* Keys ------------------------------------------------------------------------------------------------- */

Status caching_latents_key(const Model *m, DType activations, Size size, char key[CACHE_KEY_SIZE])
{
    if (!m->vae)
        return status_fail("%s: has no VAE to encode pictures with", m->name);
    const VaeConfig *v = vae_config(m->vae);
    char text[256];
    Sha256 s;
    sha256_init(&s);
    snprintf(text, sizeof text, "latents 1, %dx%d, middle, %s, groups %d, quant %d", size.width, size.height,
             dtype_name(activations), v->norm_groups, v->use_quant_conv);
    hash_text(&s, text);
    hash_layers(&s, vae_layers(m->vae));
    hash_finish(&s, key);
    return STATUS_OK;
}

Status caching_text_key(const Model *m, DType activations, int clip_skip, char key[CACHE_KEY_SIZE])
{
    if (!m->clip)
        return status_fail("%s: has no text encoder to encode captions with", m->name);
    const ClipConfig *c = clip_config(m->clip);
    char text[256];
    Sha256 s;
    sha256_init(&s);
    snprintf(text, sizeof text, "text 1, skip %d, %s, heads %d, quick %d, eps %a, tokens %d %d %d", clip_skip,
             dtype_name(activations), c->heads, c->quick_gelu, (double)c->eps, c->bos, c->eos, c->pad);
    hash_text(&s, text);
    hash_layers(&s, clip_layers(m->clip));
    hash_finish(&s, key);
    return STATUS_OK;
}

/* Latents ---------------------------------------------------------------------------------------------- */

static const char *const mean_name[2] = {"latent_mean", "latent_mean_flipped"};
static const char *const std_name[2] = {"latent_std", "latent_std_flipped"};

/* cache_read or cache_has */
typedef Status (*CacheReader)(DatasetCache *c, const char *name, int i, const uint8_t hash[32], float *out,
                              size_t n, bool *found);

static Status find_latents(CacheReader find, DatasetCache *cache, const Dataset *d, int i, bool flipped,
                           float *mean, float *std, size_t n, bool *found)
{
    const uint8_t *hash = dataset_sha256(d, i);
    TRY(find(cache, mean_name[flipped], i, hash, mean, n, found));
    if (*found)
        TRY(find(cache, std_name[flipped], i, hash, std, n, found));
    return STATUS_OK;
}

/* The picture and, if asked for, its mirror; pixels: (H,W,3), moments: mean and std. */
typedef struct LatentJob {
    Pipeline *pipeline;
    Dataset *dataset;
    DatasetCache *cache;
    Size size;
    size_t n;
    float *pixels, *mean, *std;
} LatentJob;

static Status encode_latents(LatentJob *j, int i, bool flipped)
{
    const uint8_t *hash = dataset_sha256(j->dataset, i);
    Picture picture;
    TRY(dataset_picture(j->dataset, i, j->size, &picture));
    if (flipped)
        picture_flip(&picture);
    picture_to_floats(&picture, j->pixels);
    picture_free(&picture);
    TRY(pipeline_encode_picture(j->pipeline, j->pixels, j->size, j->mean, j->std));
    TRY(cache_write(j->cache, mean_name[flipped], i, hash, j->mean, j->n));
    return cache_write(j->cache, std_name[flipped], i, hash, j->std, j->n);
}

static Status cache_picture(LatentJob *j, int i, bool flipped)
{
    bool found;
    TRY(find_latents(cache_has, j->cache, j->dataset, i, flipped, j->mean, j->std, j->n, &found));
    if (found)
        return STATUS_OK;
    const Status s = encode_latents(j, i, flipped);
    return s == STATUS_INTERRUPTED
               ? s
               : status_in(s, "%s: %s", dataset_path(j->dataset), dataset_name(j->dataset, i));
}

static Status cache_pictures(LatentJob *j, bool flip, CachingProgress progress, void *arg)
{
    const int count = dataset_count(j->dataset);
    if (progress && !progress("latents", 0, count, arg))
        return status_interrupted();
    for (int i = 0; i < count; i++) {
        TRY(cache_picture(j, i, false));
        if (flip)
            TRY(cache_picture(j, i, true));
        if (progress && !progress("latents", i + 1, count, arg))
            return status_interrupted();
    }
    return STATUS_OK;
}

Status caching_latents(Pipeline *p, Dataset *d, Size size, bool flip, DatasetCache *cache,
                       CachingProgress progress, void *arg)
{
    const Vae *vae = pipeline_model(p)->vae;
    LatentJob j = {.pipeline = p, .dataset = d, .cache = cache, .size = size};
    j.n = (size_t)vae_config(vae)->latent_channels * (size_t)size_area(size_divided(size, vae_factor(vae)));
    j.pixels = mem_alloc(3 * (size_t)size_area(size) * sizeof *j.pixels);
    j.mean = mem_alloc(j.n * sizeof *j.mean);
    j.std = mem_alloc(j.n * sizeof *j.std);
    const bool ok = j.pixels && j.mean && j.std;
    const Status s = ok ? cache_pictures(&j, flip, progress, arg) : STATUS_FAILED;
    mem_free(j.pixels);
    mem_free(j.mean);
    mem_free(j.std);
    return s;
}

Status caching_read_latents(DatasetCache *cache, const Dataset *d, int i, bool flipped, float *mean,
                            float *std, size_t n)
{
    bool found;
    TRY(status_in(find_latents(cache_read, cache, d, i, flipped, mean, std, n, &found), "the latents of %s",
                  dataset_name(d, i)));
    return found ? STATUS_OK
                 : status_fail("%s: the cached latents of %s are missing or damaged" DELETE_CACHE,
                               dataset_path(d), dataset_name(d, i));
}

/* Texts ------------------------------------------------------------------------------------------------ */

static Status cache_caption(Pipeline *p, const Dataset *d, int i, int clip_skip, DatasetCache *cache,
                            float *states, size_t n)
{
    bool found;
    uint8_t hash[SHA256_SIZE];
    dataset_caption_sha256(d, i, hash);
    TRY(cache_has(cache, "text", i, hash, states, n, &found));
    if (found)
        return STATUS_OK;
    const Status s = pipeline_encode_text(p, dataset_caption(d, i), clip_skip, states);
    if (s != STATUS_OK)
        return s == STATUS_INTERRUPTED
                   ? s
                   : status_in(s, "%s: caption of %s", dataset_path(d), dataset_name(d, i));
    return cache_write(cache, "text", i, hash, states, n);
}

Status caching_text(Pipeline *p, Dataset *d, int clip_skip, size_t n, DatasetCache *cache,
                    CachingProgress progress, void *arg)
{
    const int count = dataset_count(d);
    float *states = mem_alloc(n * sizeof *states);
    Status s = states ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && progress && !progress("text", 0, count, arg))
        s = status_interrupted();
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        s = cache_caption(p, d, i, clip_skip, cache, states, n);
        if (s == STATUS_OK && progress && !progress("text", i + 1, count, arg))
            s = status_interrupted();
    }
    mem_free(states);
    return s;
}

Status caching_read_text(DatasetCache *cache, const Dataset *d, int i, float *out, size_t n)
{
    bool found;
    uint8_t hash[SHA256_SIZE];
    dataset_caption_sha256(d, i, hash);
    TRY(status_in(cache_read(cache, "text", i, hash, out, n, &found), "the text of %s", dataset_name(d, i)));
    return found ? STATUS_OK
                 : status_fail("%s: the cached text of %s is missing or damaged" DELETE_CACHE,
                               dataset_path(d), dataset_name(d, i));
}
