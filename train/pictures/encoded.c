#include "encoded.h"

#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "owned.h"

#include <stdlib.h>
#include <string.h>

#define CUT_SHOWN 10      /* captions that are too long are named up to this many */
#define CUT_LOOKED 100000 /* long captions whose tokens are counted: a second of them */
#define SHOWN_AFTER 1.0   /* seconds: a cache that is complete is read in less, and nothing is shown */

typedef struct Showing {
    Progress progress;
    double began;
    const volatile sig_atomic_t *stop;
} Showing;

static bool show_cached(const char *what, int done, int total, void *arg)
{
    Showing *s = arg;
    const double now = seconds_now();
    if (done == 0)
        s->began = now;
    if (!s->progress.total && now - s->began > SHOWN_AFTER)
        progress_begin(&s->progress, what, strcmp(what, "text") == 0 ? "caption" : "picture", done, total);
    if (s->progress.total)
        progress_update(&s->progress, done, NULL);
    if (s->progress.total && done == total) {
        progress_end(&s->progress);
        s->progress = (Progress){0};
    }
    return !stop_asked(s->stop);
}

static Status open_cache(Source *source, const char *folder, const char *name, const CacheKind *kind,
                         int count, bool write, DatasetCache **out)
{
    char *file = folder ? mem_printf("%s-%s.cache.h5", name, kind->what) : NULL;
    char *path = file ? path_join(folder, file) : NULL;
    Status s = path || !folder ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && folder && write)
        s = owned_take(folder, file);
    if (s == STATUS_OK)
        s = cache_open_for(source->dataset, path, kind, count, out);
    mem_free(file);
    mem_free(path);
    return s;
}

/* What `data build --cache` put into the dataset of one kind. */
typedef struct BuiltIn {
    const CacheKind *kind;
    bool fits, others;
} BuiltIn;

static void see_built_in(const char *key, const CacheArray *a, size_t count, void *arg)
{
    (void)count;
    BuiltIn *b = arg;
    if (strcmp(a->name, b->kind->arrays[0].name) == 0)
        *(strcmp(key, b->kind->key) == 0 ? &b->fits : &b->others) = true;
}

/* Somebody took the time to make them. */
static void tell_built_in(const Source *source, const CacheKind *kind)
{
    BuiltIn b = {.kind = kind};
    if (cache_list(dataset_path(source->dataset), see_built_in, &b) == STATUS_OK && b.others && !b.fits)
        log_warn("%s: what --cache put into it (%s) is not used: it was made with another model, dtype, "
                 "resolution or "
                 "clip skip, or by another version; this run encodes again",
                 source->config->path, kind->what);
}

/* A picture, scaled and cut. */
typedef struct Placed {
    int picture;
    BucketFit fit;
} Placed;

/* What all caches of a run have in common. */
typedef struct Caching {
    const Config *config;
    const char *folder;
    Pipeline *pipeline;
    Comm *comm;
    const Model *m;
    DType activations;
    Showing showing;
} Caching;

/* One cache: its kind, for how many pictures or captions, and of which size they are (NULL: captions). */
typedef struct Wanted {
    Source *source;
    const char *name;
    CacheKind kind;
    const SizedLatents *sized;
    int count;
} Wanted;

static Views views_of(const Source *source, const Entries *e)
{
    return (Views){.dataset = source->dataset, .pictures = e->pictures, .fits = e->fits, .count = e->count};
}

static Status fill(Caching *c, const Wanted *w, DatasetCache *cache)
{
    if (!w->sized)
        return caching_text(c->pipeline, c->comm, w->source->dataset, c->config->method.clip_skip, cache,
                            show_cached, &c->showing);
    const Views views = views_of(w->source, &w->sized->entries);
    return caching_latents(c->pipeline, c->comm, &views, w->source->config->augment.flip, cache, show_cached,
                           &c->showing);
}

static Status open_wanted(Caching *c, const Wanted *w, bool write, DatasetCache **cache)
{
    return open_cache(w->source, c->comm->rank > 0 && write ? NULL : c->folder, w->name, &w->kind, w->count,
                      c->comm->rank == 0, cache);
}

/* The other processes help with nothing but the dataset open. */
static Status fill_one(Caching *c, const Wanted *w, DatasetCache **cache)
{
    const bool first = c->comm->rank == 0;
    TRY(open_wanted(c, w, true, cache));
    if (first)
        tell_built_in(w->source, &w->kind);
    TRY(fill(c, w, *cache));
    return comm_agree(c->comm, first ? cache_settle(*cache) : STATUS_OK);
}

/* They read the file once nothing more is written to it. */
static Status open_filled(Caching *c, const Wanted *w, DatasetCache **cache)
{
    if (c->comm->rank == 0)
        return STATUS_OK;
    cache_close(*cache);
    *cache = NULL;
    return open_wanted(c, w, false, cache);
}

/* By picture; the same picture in the same size by how it is cut. */
static int by_picture(const void *a, const void *b)
{
    const Placed *p = a, *q = b;
    return p->picture != q->picture ? p->picture - q->picture : memcmp(&p->fit, &q->fit, sizeof p->fit);
}

/* Those of the entries, trained or held out, that have the size; each once. */
static Status collect(const Source *source, Size size, Entries *out)
{
    const Entries *const lists[] = {&source->entries, &source->held_entries};
    const size_t most = (size_t)lists[0]->count + (size_t)lists[1]->count;
    Placed *all = mem_alloc(most * sizeof *all);
    size_t n = 0;
    out->pictures = mem_alloc(most * sizeof *out->pictures);
    out->fits = mem_alloc(most * sizeof *out->fits);
    const bool made = all && out->pictures && out->fits;
    for (int k = 0; k < 2 && made; k++)
        for (int i = 0; i < lists[k]->count; i++)
            if (size_equal(lists[k]->fits[i].bucket, size))
                all[n++] = (Placed){lists[k]->pictures[i], lists[k]->fits[i]};
    if (made)
        qsort(all, n, sizeof *all, by_picture);
    for (size_t i = 0; i < n; i++) {
        if (i && by_picture(&all[i], &all[i - 1]) == 0)
            continue;
        out->pictures[out->count] = all[i].picture;
        out->fits[out->count++] = all[i].fit;
    }
    mem_free(all);
    return made ? STATUS_OK : STATUS_FAILED;
}

/* The cache of those of one size. */
static Status want_latents(Caching *c, Source *source, SizedLatents *sized, const char *name, Wanted *w)
{
    const Views views = views_of(source, &sized->entries);
    *w = (Wanted){.source = source, .name = name, .sized = sized, .count = sized->entries.count};
    return caching_latents_kind(c->m, c->activations, &views, &w->kind);
}

/* One for each size that the source's pictures come in. */
static Status cache_latents(Caching *c, const RunSizes *sizes, Source *source, const char *name)
{
    Wanted w;
    source->latents = mem_calloc((size_t)sizes->count, sizeof *source->latents);
    if (!source->latents)
        return STATUS_FAILED;
    for (int i = 0; i < sizes->count; i++) {
        SizedLatents *sized = &source->latents[source->latents_count++];
        TRY(collect(source, sizes->items[i].size, &sized->entries));
        if (sized->entries.count == 0) {
            entries_free(&sized->entries);
            source->latents_count--;
            continue;
        }
        TRY(want_latents(c, source, sized, name, &w));
        TRY(fill_one(c, &w, &sized->cache));
    }
    for (int k = 0; k < source->latents_count; k++) {
        TRY(want_latents(c, source, &source->latents[k], name, &w));
        TRY(open_filled(c, &w, &source->latents[k].cache));
    }
    return STATUS_OK;
}

static Status cache_source(Caching *c, const RunSizes *sizes, Source *source, const char *name)
{
    const Config *config = c->config;
    if (config->train.cache_latents)
        TRY(cache_latents(c, sizes, source, name));
    if (!config->train.cache_text || config->method.text_encoder || source->caption)
        return STATUS_OK;
    if (dataset_has_several_captions(source->dataset)) {
        log_info("%s: has several captions of a picture, which are encoded as they come up, and not "
                 "beforehand (train.cache_text)",
                 source->config->path);
        return STATUS_OK;
    }
    {
        Wanted w = {.source = source, .name = name, .count = dataset_count(source->dataset)};
        TRY(caching_text_kind(c->m, c->activations, config->method.clip_skip, &w.kind));
        TRY(fill_one(c, &w, &source->texts));
        TRY(open_filled(c, &w, &source->texts));
    }
    return STATUS_OK;
}

Status encoded_latents(const Source *source, int picture, const BucketFit *fit, bool flipped, float *mean,
                       float *std)
{
    for (int k = 0; k < source->latents_count; k++) {
        const SizedLatents *sized = &source->latents[k];
        const Placed wanted = {picture, *fit};
        int low = 0, high = sized->entries.count;
        while (low < high) {
            const int middle = (low + high) / 2;
            const Placed there = {sized->entries.pictures[middle], sized->entries.fits[middle]};
            const int order = by_picture(&there, &wanted);
            if (order == 0) {
                const Views views = views_of(source, &sized->entries);
                return caching_read_latents(sized->cache, &views, middle, flipped, mean, std);
            }
            low = order < 0 ? middle + 1 : low;
            high = order < 0 ? high : middle;
        }
    }
    return status_fail("%s: the latents of %s were not encoded", dataset_path(source->dataset),
                       dataset_name(source->dataset, picture));
}

/* Of the longest of several captions. */
static Status count_tokens(const Model *m, const char *captions, int *most)
{
    size_t length;
    for (int k = 0; caption_part(captions, k, &length); k++) {
        int32_t *ids;
        int tokens = 0;
        char *one = mem_printf("%.*s", (int)length, caption_part(captions, k, &length));
        const Status s = one ? tokenizer_encode(m->tokenizer, one, &ids, &tokens) : STATUS_FAILED;
        mem_free(one);
        TRY(s);
        mem_free(ids);
        *most = tokens > *most ? tokens : *most;
    }
    return STATUS_OK;
}

/* Names the captions of which the text encoder sees only the beginning. */
static Status tell_cut(const Source *s, const Model *m)
{
    const int seen = clip_config(m->clip)->positions - 2;
    int cut = 0, looked = 0;
    for (int i = 0; i < dataset_count(s->dataset) && looked < CUT_LOOKED; i++) {
        int tokens = 0;
        if (strlen(dataset_caption(s->dataset, i)) <= (size_t)seen) /* a token has a byte or more */
            continue;
        looked++;
        TRY(status_in(count_tokens(m, dataset_caption(s->dataset, i), &tokens), "caption of %s",
                      dataset_name(s->dataset, i)));
        if (tokens > seen && cut++ < CUT_SHOWN)
            log_warn("%s: the caption of %s has %d tokens; the text encoder sees the first %d",
                     s->config->path, dataset_name(s->dataset, i), tokens, seen);
    }
    if (cut > CUT_SHOWN)
        log_warn("%s: %d more caption%s too long%s", s->config->path, cut - CUT_SHOWN,
                 cut - CUT_SHOWN == 1 ? " is" : "s are",
                 looked == CUT_LOOKED ? ", of those that were looked at" : "");
    return STATUS_OK;
}

Status sources_cache(Sources *s, const Config *config, const char *folder, Pipeline *pipeline, Comm *comm,
                     const Model *m, DType activations, const volatile sig_atomic_t *stop)
{
    Caching c = {config, folder, pipeline, comm, m, activations, {.stop = stop}};
    for (int i = 0; i < s->count; i++)
        TRY(tell_cut(&s->items[i], m));
    for (int i = 0; i < s->count + (s->prior != NULL); i++) {
        char *name = source_label(config, i);
        Status status = name ? STATUS_OK : STATUS_FAILED;
        if (status == STATUS_OK)
            status = cache_source(&c, &s->sizes, &s->items[i], name);
        mem_free(name);
        if (c.showing.progress.total)
            progress_clear(&c.showing.progress);
        c.showing.progress = (Progress){0};
        TRY(status);
    }
    return STATUS_OK;
}
