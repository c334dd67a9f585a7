/* What is encoded once, and how (caching.h). */
#include "caching.h"

#include "data/loader/sample.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "hashing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Caching {
    Pipeline *pipeline;
    int clip_skip;
    CacheKey latents, texts; /* what keys begin with */
    const VaeConfig *vae;
    int factor;
    ConditioningShape text;
};

/* Keys -------------------------------------------------------------------------------------------------- */

/* What activations are stored in and multiplied as. */
static const char *arithmetic(const Caching *c, DType activations)
{
    return activations == DTYPE_F32 && pipeline_tf32(c->pipeline) ? "tf32" : dtype_name(activations);
}

static Status hash_vae(const Model *m, const char *activations, CacheKey out)
{
    const VaeConfig *v = vae_config(m->vae);
    char text[128];
    Sha256 s;
    sha256_init(&s);
    snprintf(text, sizeof text, "latents 3, %s, groups %d, quant %d", activations, v->norm_groups,
             v->use_quant_conv);
    hash_text(&s, text);
    TRY(hash_layers(&s, vae_layers(m->vae)));
    sha256_final(&s, out);
    return STATUS_OK;
}

static Status hash_text_encoder(Sha256 *s, Clip *clip, const Tokenizer *t, const char *activations,
                                int clip_skip)
{
    const ClipConfig *c = clip_config(clip);
    char text[256];
    snprintf(text, sizeof text, "text 3, skip %d, %s, heads %d, quick %d, eps %a, tokens %d %d %d", clip_skip,
             activations, c->heads, c->quick_gelu, (double)c->eps, c->bos, c->eos, c->pad);
    hash_text(s, text);
    TRY(tokenizer_hash(t, s));
    return hash_layers(s, clip_layers(clip));
}

static Status hash_text_encoders(const Model *m, const char *activations, int clip_skip, CacheKey out)
{
    Sha256 s;
    sha256_init(&s);
    TRY(hash_text_encoder(&s, m->clip, m->tokenizer, activations, clip_skip));
    if (m->clip_2)
        TRY(hash_text_encoder(&s, m->clip_2, m->tokenizer_2, activations, clip_skip));
    sha256_final(&s, out);
    return STATUS_OK;
}

static Status start(Caching *c, DType activations, int parts)
{
    const Model *m = pipeline_model(c->pipeline);
    if (parts & CACHING_LATENTS) {
        if (!m->vae)
            return status_fail("%s: has no VAE to encode pictures with", m->name);
        c->vae = vae_config(m->vae);
        c->factor = vae_factor(m->vae);
        TRY(hash_vae(m, arithmetic(c, activations), c->latents));
    }
    if (parts & CACHING_TEXTS) {
        if (!m->clip || !m->tokenizer)
            return status_fail("%s: has no text encoder to encode captions with", m->name);
        c->text = conditioning_shape(m);
        TRY(hash_text_encoders(m, arithmetic(c, activations), c->clip_skip, c->texts));
    }
    return STATUS_OK;
}

Status caching_new(Pipeline *p, DType activations, int clip_skip, int parts, Caching **out)
{
    *out = NULL;
    Caching *c = mem_calloc(1, sizeof *c);
    if (!c)
        return STATUS_FAILED;
    c->pipeline = p;
    c->clip_skip = clip_skip;
    const Status s = start(c, activations, parts);
    if (s != STATUS_OK) {
        caching_free(c);
        return s;
    }
    *out = c;
    return STATUS_OK;
}

void caching_free(Caching *c)
{
    mem_free(c);
}

void caching_latents_key(const Caching *c, const Dataset *d, int i, const BucketFit *fit, bool flipped,
                         CacheKey out)
{
    char text[160];
    uint8_t picture[SHA256_SIZE];
    Sha256 s;
    dataset_sha256(d, i, picture);
    sha256_init(&s);
    sha256_update(&s, c->latents, sizeof c->latents);
    sha256_update(&s, picture, sizeof picture);
    snprintf(text, sizeof text, "%dx%d of %dx%d at %d,%d%s", fit->bucket.width, fit->bucket.height,
             fit->scaled.width, fit->scaled.height, fit->x, fit->y, flipped ? ", mirrored" : "");
    hash_text(&s, text);
    sha256_final(&s, out);
}

void caching_text_key(const Caching *c, const char *caption, CacheKey out)
{
    Sha256 s;
    sha256_init(&s);
    sha256_update(&s, c->texts, sizeof c->texts);
    hash_text(&s, caption);
    sha256_final(&s, out);
}

/* One entry --------------------------------------------------------------------------------------------- */

size_t caching_latents_floats(const Caching *c, Size size)
{
    return 2 * (size_t)c->vae->latent_channels * (size_t)size_area(size_divided(size, c->factor));
}

size_t caching_text_floats(const Caching *c)
{
    return (size_t)conditioning_text_size(&c->text);
}

static Status make_latents(Caching *c, Dataset *d, int i, const BucketFit *fit, bool flipped, float *moments)
{
    Picture picture;
    TRY(dataset_picture(d, i, fit, &picture));
    if (flipped)
        picture_flip(&picture);
    float *pixels = mem_alloc(3 * (size_t)size_area(fit->bucket) * sizeof *pixels);
    if (pixels)
        picture_to_floats(&picture, pixels);
    picture_free(&picture);
    const Status s = pixels ? pipeline_encode_picture(c->pipeline, pixels, fit->bucket, moments,
                                                      moments + caching_latents_floats(c, fit->bucket) / 2)
                            : STATUS_FAILED;
    mem_free(pixels);
    return s;
}

Status caching_latents(Caching *c, Cache *cache, Dataset *d, int i, const BucketFit *fit, bool flipped,
                       float *moments)
{
    CacheKey key;
    bool found;
    caching_latents_key(c, d, i, fit, flipped, key);
    TRY(status_in(cache_read(cache, key, moments, caching_latents_floats(c, fit->bucket), &found),
                  "the latents of %s", dataset_name(d, i)));
    return found ? STATUS_OK : make_latents(c, d, i, fit, flipped, moments);
}

Status caching_text(Caching *c, Cache *cache, const char *caption, float *out)
{
    CacheKey key;
    bool found;
    caching_text_key(c, caption, key);
    TRY(status_in(cache_read(cache, key, out, caching_text_floats(c), &found), "the text of \"%.60s\"",
                  caption));
    return found ? STATUS_OK : pipeline_encode_text(c->pipeline, caption, c->clip_skip, out);
}

/* Filling ----------------------------------------------------------------------------------------------- */

/* One that the cache lacks. */
typedef struct Gap {
    int32_t item, flipped;
} Gap;

typedef struct Filling {
    Caching *c;
    Cache *cache;
    const Views *views; /* NULL: captions of the dataset */
    const Dataset *dataset;
    float *values;
    Gap *gaps;
    int64_t count;
    int done, total; /* entries */
    CachingProgress progress;
    void *arg;
} Filling;

static Status show(const Filling *w)
{
    const char *what = w->views ? "latents" : "text";
    return w->progress && !w->progress(what, w->done, w->total, w->arg) ? status_interrupted() : STATUS_OK;
}

/* The dataset's number of the picture or caption. */
static int number_of(const Filling *w, const Gap *g)
{
    return w->views ? w->views->pictures[g->item] : g->item;
}

static size_t key_of(const Filling *w, const Gap *g, CacheKey key)
{
    if (!w->views) {
        caching_text_key(w->c, dataset_caption(w->dataset, g->item), key);
        return caching_text_floats(w->c);
    }
    const BucketFit *fit = &w->views->fits[g->item];
    caching_latents_key(w->c, w->dataset, number_of(w, g), fit, g->flipped, key);
    return caching_latents_floats(w->c, fit->bucket);
}

static Status make_entry(int64_t k, void *thing, void *arg)
{
    (void)thing; /* is values */
    const Filling *w = arg;
    const Gap *g = &w->gaps[k];
    const int i = number_of(w, g);
    const Status s =
        w->views ? make_latents(w->c, w->views->dataset, i, &w->views->fits[g->item], g->flipped, w->values)
                 : pipeline_encode_text(w->c->pipeline, dataset_caption(w->dataset, i), w->c->clip_skip,
                                        w->values);
    if (s == STATUS_OK || s == STATUS_INTERRUPTED)
        return s;
    return status_in(s, "%s: %s%s", dataset_path(w->dataset), w->views ? "" : "caption of ",
                     dataset_name(w->dataset, i));
}

static CacheLabel label_of(const Filling *w, const Gap *g)
{
    if (!w->views)
        return (CacheLabel){
            CACHE_TEXT,
            {(uint32_t)w->c->text.tokens, (uint32_t)w->c->text.width, (uint32_t)w->c->text.pooled}};
    const Size latent = size_divided(w->views->fits[g->item].bucket, w->c->factor);
    return (CacheLabel){
        CACHE_LATENTS,
        {2, (uint32_t)w->c->vae->latent_channels, (uint32_t)latent.height, (uint32_t)latent.width}};
}

static Status take_entry(int64_t k, const void *thing, void *arg)
{
    (void)thing;
    Filling *w = arg;
    const CacheLabel label = label_of(w, &w->gaps[k]);
    CacheKey key;
    const size_t floats = key_of(w, &w->gaps[k], key);
    TRY(cache_add(w->cache, key, &label, w->values, floats));
    w->done++;
    return show(w);
}

/* The ones that are there; of equal ones each counts. */
static void find_gaps(Filling *w, int items, bool flip)
{
    for (int i = 0; i < items; i++)
        for (int f = 0; f <= flip; f++) {
            const Gap g = {i, f};
            CacheKey key;
            const size_t floats = key_of(w, &g, key);
            if (cache_has(w->cache, key, floats))
                w->done++;
            else
                w->gaps[w->count++] = g;
        }
}

/* A gap, and what of its key tells it from others. */
typedef struct Keyed {
    uint8_t key[16];
    Gap gap;
} Keyed;

static int by_item(const void *a, const void *b)
{
    const Gap *p = a, *q = b;
    return p->item != q->item ? p->item - q->item : p->flipped - q->flipped;
}

static int by_key(const void *a, const void *b)
{
    const Keyed *p = a, *q = b;
    const int order = memcmp(p->key, q->key, sizeof p->key);
    return order ? order : by_item(&p->gap, &q->gap);
}

/* Captions that are equal, and pictures that are there twice, are encoded once. */
static Status leave_out_equal(Filling *w)
{
    Keyed *keyed = mem_alloc(((size_t)w->count + 1) * sizeof *keyed);
    int64_t kept = 0;
    if (!keyed)
        return STATUS_FAILED;
    for (int64_t k = 0; k < w->count; k++) {
        CacheKey key;
        key_of(w, &w->gaps[k], key);
        memcpy(keyed[k].key, key, sizeof keyed[k].key);
        keyed[k].gap = w->gaps[k];
    }
    qsort(keyed, (size_t)w->count, sizeof *keyed, by_key);
    for (int64_t k = 0; k < w->count; k++)
        if (k == 0 || memcmp(keyed[k].key, keyed[k - 1].key, sizeof keyed->key) != 0)
            w->gaps[kept++] = keyed[k].gap;
    mem_free(keyed);
    w->total -= (int)(w->count - kept);
    w->count = kept;
    qsort(w->gaps, (size_t)kept, sizeof *w->gaps, by_item);
    return STATUS_OK;
}

/* Latents and texts that somebody else's run made are as good as one's own, and are named all the same. */
static void tell_reused(const Filling *w)
{
    if (w->done)
        log_info("%s: %s of %d of %d %s%s used again, as encoded before", dataset_path(w->dataset),
                 w->views ? "latents" : "text", w->done, w->total, w->views ? "picture" : "caption",
                 text_plural(w->total));
}

/* Process 0 looks, all encode. */
static Status fill(Filling *w, Comm *comm, int items, bool flip, size_t most)
{
    w->total = items * (flip ? 2 : 1);
    w->gaps = mem_calloc((size_t)w->total + 1, sizeof *w->gaps);
    w->values = mem_alloc(most * sizeof *w->values);
    Status s = w->gaps && w->values ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && comm->rank == 0) {
        find_gaps(w, items, flip);
        tell_reused(w);
        s = leave_out_equal(w);
    }
    TRY(comm_agree(comm, s));
    TRY(show(w));
    TRY(comm_tell(comm, &w->count, sizeof w->count));
    TRY(comm_tell(comm, w->gaps, (size_t)w->count * sizeof *w->gaps));
    TRY(comm_work(comm, &(CommWork){.count = w->count,
                                    .bytes = most * sizeof *w->values,
                                    .thing = w->values,
                                    .make = make_entry,
                                    .take = take_entry,
                                    .arg = w}));
    return comm->rank == 0 ? STATUS_OK : cache_refresh(w->cache);
}

Status caching_fill_latents(Caching *c, Comm *comm, Cache *cache, const Views *v, bool flip,
                            CachingProgress progress, void *arg)
{
    Filling w = {.c = c, .cache = cache, .views = v, .dataset = v->dataset, .progress = progress, .arg = arg};
    size_t most = 0;
    for (int i = 0; i < v->count; i++) {
        const size_t floats = caching_latents_floats(c, v->fits[i].bucket);
        most = floats > most ? floats : most;
    }
    const Status s = fill(&w, comm, v->count, flip, most);
    mem_free(w.gaps);
    mem_free(w.values);
    return s;
}

Status caching_fill_texts(Caching *c, Comm *comm, Cache *cache, const Dataset *d, CachingProgress progress,
                          void *arg)
{
    Filling w = {.c = c, .cache = cache, .dataset = d, .progress = progress, .arg = arg};
    const Status s = fill(&w, comm, dataset_count(d), false, caching_text_floats(c));
    mem_free(w.gaps);
    mem_free(w.values);
    return s;
}
