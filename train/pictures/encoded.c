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
#include <strings.h>

#define CUT_SHOWN 10      /* captions that are too long are named up to this many */
#define CUT_LOOKED 100000 /* long captions whose tokens are counted: a second of them */
#define SHOWN_AFTER 1.0   /* seconds: what takes less is not shown */

/* Progress ---------------------------------------------------------------------------------------------- */

typedef struct Showing {
    Progress progress;
    double began;
    const volatile sig_atomic_t *stop;
} Showing;

static bool show_cached(const char *what, int done, int total, void *arg)
{
    Showing *s = arg;
    const double now = seconds_now();
    if (s->began == 0)
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

/* Opening ----------------------------------------------------------------------------------------------- */

char *encoded_path(const char *dataset)
{
    const size_t n = strlen(dataset);
    const bool file = n > 3 && strcasecmp(dataset + n - 3, ".h5") == 0;
    return mem_printf("%.*s.cache", (int)(file ? n - 3 : n), dataset);
}

/* Beside the dataset, and where nothing can be written there in the run's folder. */
static Status open_cache(Source *source, const char *folder, const char *name, Comm *comm)
{
    char *beside = encoded_path(source->config->path), *file = mem_printf("%s.cache", name);
    char *own = file ? path_join(folder, file) : NULL;
    Status s = beside && own ? cache_open(beside, NULL, &source->cache) : STATUS_FAILED;
    if (s == STATUS_OK && !cache_path(source->cache)) {
        cache_close(source->cache);
        source->cache = NULL;
        s = comm->rank == 0 ? owned_take(folder, file) : STATUS_OK;
        s = s == STATUS_OK ? cache_open(beside, own, &source->cache) : s;
    }
    mem_free(beside);
    mem_free(file);
    mem_free(own);
    return s;
}

/* Pictures ---------------------------------------------------------------------------------------------- */

/* Those that are trained and those that are held out, each once. */
typedef struct Placed {
    int picture;
    BucketFit fit;
} Placed;

static int by_picture(const void *a, const void *b)
{
    const Placed *p = a, *q = b;
    return p->picture != q->picture ? p->picture - q->picture : memcmp(&p->fit, &q->fit, sizeof p->fit);
}

static Status collect(const Source *source, Entries *out)
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

static Status fill_latents(const Source *source, Caching *caching, Comm *comm, Showing *showing)
{
    Entries e = {0};
    Status s = collect(source, &e);
    const Views views = {
        .dataset = source->dataset, .pictures = e.pictures, .fits = e.fits, .count = e.count};
    if (s == STATUS_OK)
        s = caching_fill_latents(caching, comm, source->cache, &views, source->config->augment.flip,
                                 show_cached, showing);
    entries_free(&e);
    return s;
}

/* Several captions of a picture are encoded as they come up. */
static bool caches_texts(const Source *source, const Config *config)
{
    if (!config->train.cache_text || config->method.text_encoder || source->caption)
        return false;
    if (dataset_has_several_captions(source->dataset))
        log_info("%s: has several captions of a picture, which are encoded as they come up, and not "
                 "beforehand (train.cache_text)",
                 source->config->path);
    return !dataset_has_several_captions(source->dataset);
}

static Status cache_source(Sources *all, Source *source, const Config *config, const char *folder,
                           const char *name, Comm *comm, Showing *showing)
{
    source->latents = config->train.cache_latents;
    source->texts = caches_texts(source, config);
    source->caching = all->caching;
    if (!source->latents && !source->texts)
        return STATUS_OK;
    TRY(comm_agree(comm, open_cache(source, folder, name, comm)));
    if (source->latents)
        TRY(fill_latents(source, all->caching, comm, showing));
    if (source->texts)
        TRY(caching_fill_texts(all->caching, comm, source->cache, source->dataset, show_cached, showing));
    return STATUS_OK;
}

/* The whole --------------------------------------------------------------------------------------------- */

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
    Showing showing = {.stop = stop};
    const int parts = (config->train.cache_latents ? CACHING_LATENTS : 0) |
                      (config->train.cache_text && !config->method.text_encoder ? CACHING_TEXTS : 0);
    TRY(caching_new(pipeline, activations, config->method.clip_skip, parts, &s->caching));
    for (int i = 0; i < s->count; i++)
        TRY(tell_cut(&s->items[i], m));
    for (int i = 0; i < s->count + (s->prior != NULL); i++) {
        char *name = source_label(config, i);
        Status status = name ? STATUS_OK : STATUS_FAILED;
        if (status == STATUS_OK)
            status = cache_source(s, &s->items[i], config, folder, name, comm, &showing);
        mem_free(name);
        if (showing.progress.total)
            progress_clear(&showing.progress);
        showing = (Showing){.stop = stop};
        TRY(status);
    }
    return STATUS_OK;
}

Status encoded_latents(const Source *source, const Entries *e, int entry, bool flipped, float *moments)
{
    return caching_latents(source->caching, source->cache, source->dataset, e->pictures[entry],
                           &e->fits[entry], flipped, moments);
}
