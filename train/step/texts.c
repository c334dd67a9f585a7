#include "texts.h"

#include "kernels/base/mem.h"

#include <string.h>

#define BUCKETS 4096

typedef struct Entry Entry;
struct Entry {
    char *caption;
    uint32_t bucket;
    Entry *next;          /* of the same bucket */
    Entry *newer, *older; /* by last use */
    float states[];
};

struct Texts {
    Pipeline *pipeline;
    int clip_skip;
    int64_t size, count, capacity;
    Entry *buckets[BUCKETS];
    Entry *newest, *oldest;
};

Status texts_new(Pipeline *pipeline, int clip_skip, int64_t size, size_t limit, Texts **out)
{
    Texts *t = mem_calloc(1, sizeof *t);
    if (!t)
        return STATUS_FAILED;
    t->pipeline = pipeline;
    t->clip_skip = clip_skip;
    t->size = size;
    t->capacity = (int64_t)(limit / ((size_t)size * sizeof(float)));
    if (t->capacity < 1)
        t->capacity = 1;
    *out = t;
    return STATUS_OK;
}

/* FNV-1a. */
static uint32_t bucket_of(const char *caption)
{
    uint32_t h = 2166136261u;
    for (const unsigned char *c = (const unsigned char *)caption; *c; c++)
        h = (h ^ *c) * 16777619u;
    return h % BUCKETS;
}

static void unlink_use(Texts *t, Entry *e)
{
    *(e->newer ? &e->newer->older : &t->newest) = e->older;
    *(e->older ? &e->older->newer : &t->oldest) = e->newer;
}

static void link_newest(Texts *t, Entry *e)
{
    e->newer = NULL;
    e->older = t->newest;
    *(t->newest ? &t->newest->newer : &t->oldest) = e;
    t->newest = e;
}

static void remove_entry(Texts *t, Entry *e)
{
    Entry **at = &t->buckets[e->bucket];
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    unlink_use(t, e);
    t->count--;
    mem_free(e->caption);
    mem_free(e);
}

void texts_free(Texts *t)
{
    if (!t)
        return;
    while (t->newest)
        remove_entry(t, t->newest);
    mem_free(t);
}

/* A new entry with room for its states, at the head of its bucket. NULL: out of memory. */
static Entry *add_entry(Texts *t, const char *caption, uint32_t bucket)
{
    if (t->count >= t->capacity)
        remove_entry(t, t->oldest);
    Entry *e = mem_alloc(sizeof *e + (size_t)t->size * sizeof(float));
    char *copy = mem_strdup(caption);
    if (!e || !copy) {
        mem_free(e);
        mem_free(copy);
        return NULL;
    }
    *e = (Entry){.caption = copy, .bucket = bucket, .next = t->buckets[bucket]};
    t->buckets[bucket] = e;
    link_newest(t, e);
    t->count++;
    return e;
}

Status texts_get(Texts *t, const char *caption, const Source *source, float *out)
{
    const uint32_t bucket = bucket_of(caption);
    const size_t bytes = (size_t)t->size * sizeof(float);
    for (Entry *e = t->buckets[bucket]; e; e = e->next)
        if (strcmp(e->caption, caption) == 0) {
            unlink_use(t, e);
            link_newest(t, e);
            memcpy(out, e->states, bytes);
            return STATUS_OK;
        }
    if (source && source->texts)
        TRY(caching_text(source->caching, source->cache, caption, out));
    else
        TRY(pipeline_encode_text(t->pipeline, caption, t->clip_skip, out));
    Entry *e = add_entry(t, caption, bucket);
    if (e) /* else it is made again the next time */
        memcpy(e->states, out, bytes);
    return STATUS_OK;
}
