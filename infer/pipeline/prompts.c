/* The states of chunks, kept while the text encoder and its adapters stay the same: a batch asks for the same
 * two again and again, a schedule for as many as it has texts. */
#include "prompts.h"

#include "infer/models/parts.h"
#include "kernels/base/mem.h"

#include <string.h>

#define KEPT_CHUNKS 64

typedef struct KeptChunk {
    int32_t *ids;
    uint64_t vectors; /* a number for what stands in place of tokens' own */
    int clip_skip;
    uint64_t adapters;
    float *states; /* what the chunk became */
    uint64_t used; /* when; the oldest goes first */
} KeptChunk;

struct Prompts {
    const Model *m;
    Stages *stages;
    KeptChunk kept[KEPT_CHUNKS];
    uint64_t clock;
};

Status prompts_new(const Model *m, Stages *stages, Prompts **out)
{
    *out = mem_calloc(1, sizeof **out);
    if (!*out)
        return STATUS_FAILED;
    (*out)->m = m;
    (*out)->stages = stages;
    return STATUS_OK;
}

const Model *prompts_model(const Prompts *t)
{
    return t->m;
}

static void forget_chunk(KeptChunk *k)
{
    mem_free(k->ids);
    mem_free(k->states);
    *k = (KeptChunk){0};
}

void prompts_free(Prompts *t)
{
    for (int i = 0; t && i < KEPT_CHUNKS; i++)
        forget_chunk(&t->kept[i]);
    mem_free(t);
}

/* A number that differs when other adapters are on the text encoders, or the same ones count otherwise;
 * *fixed is false if their weights may change between two calls. Where an adapter lies says nothing: another
 * may come to lie there. */
static uint64_t encoder_state(uint64_t h, const LayerSet *set, bool *fixed)
{
    for (int i = 0; set && i < set->count; i++) {
        const Layer *l = set->items[i];
        *fixed = *fixed && !layer_trained(l);
        h = (h ^ l->changes) * 0x100000001b3u;
        for (const Adapter *a = l->adapters; a; a = a->next) {
            uint32_t scale;
            memcpy(&scale, &a->scale, sizeof scale);
            h = (h ^ scale) * 0x100000001b3u;
        }
    }
    return h;
}

static uint64_t text_encoder_state(const Model *m, bool *fixed)
{
    *fixed = true;
    return encoder_state(encoder_state(0xcbf29ce484222325u, part_layers(PART_TEXT, m), fixed),
                         part_layers(PART_TEXT_2, m), fixed);
}

static uint64_t hash_vectors(const ConditioningShape *s, const float *const *vectors)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; vectors && i < s->ids; i++)
        for (int k = 0; vectors[i] && k < conditioning_vector_width(s, i); k++) {
            uint32_t bits;
            memcpy(&bits, &vectors[i][k], sizeof bits);
            h = (h ^ bits ^ ((uint64_t)i << 32)) * 0x100000001b3u;
        }
    return h;
}

/* The vectors as tensors have them: 1 where a token's own stays, and the others' numbers. */
static Status encode_with(Prompts *t, const int32_t *ids, const float *const *vectors, int clip_skip,
                          float *out)
{
    const ConditioningShape shape = conditioning_shape(t->m);
    const size_t n = (size_t)shape.tokens * (size_t)shape.width;
    float *keep = mem_calloc(2 * n, sizeof *keep), *other = keep + n;
    if (!keep)
        return STATUS_FAILED;
    conditioning_vectors(&shape, vectors, keep, other);
    const Status s = stage_text(t->stages, clip_skip, ids, &(TokenVectors){keep, other}, out);
    mem_free(keep);
    return s;
}

static Status encode_fresh(Prompts *t, const int32_t *ids, const float *const *vectors, int clip_skip,
                           float *out)
{
    const int count = conditioning_shape(t->m).ids;
    bool any = false;
    for (int i = 0; vectors && i < count; i++)
        any |= vectors[i] != NULL;
    return any ? encode_with(t, ids, vectors, clip_skip, out)
               : stage_text(t->stages, clip_skip, ids, NULL, out);
}

static KeptChunk *find_chunk(Prompts *t, const KeptChunk *key, size_t ids)
{
    for (int i = 0; i < KEPT_CHUNKS; i++) {
        KeptChunk *k = &t->kept[i];
        if (k->ids && k->clip_skip == key->clip_skip && k->adapters == key->adapters &&
            k->vectors == key->vectors && !memcmp(k->ids, key->ids, ids))
            return k;
    }
    return NULL;
}

/* Keeps states in place of those not used for longest; without memory they are simply not kept. */
static void keep_chunk(Prompts *t, const KeptChunk *key, size_t ids, const float *states, size_t bytes)
{
    KeptChunk *oldest = &t->kept[0];
    for (int i = 1; i < KEPT_CHUNKS; i++)
        if (t->kept[i].used < oldest->used)
            oldest = &t->kept[i];
    forget_chunk(oldest);
    KeptChunk k = *key;
    k.ids = mem_alloc(ids);
    k.states = mem_alloc(bytes);
    if (!k.ids || !k.states) {
        forget_chunk(&k);
        return;
    }
    memcpy(k.ids, key->ids, ids);
    memcpy(k.states, states, bytes);
    k.used = ++t->clock;
    *oldest = k;
}

Status prompts_check_clip_skip(const Model *m, int clip_skip)
{
    int layers = clip_config(m->clip)->layers;
    if (m->clip_2 && clip_config(m->clip_2)->layers < layers)
        layers = clip_config(m->clip_2)->layers;
    if (clip_skip >= 0 && clip_skip < layers)
        return STATUS_OK;
    return status_refuse("clip_skip %d: the text encoder has %d layers, 0 to %d can be left out", clip_skip,
                         layers, layers - 1);
}

Status prompts_chunk(Prompts *t, const int32_t *ids, const float *const *vectors, int clip_skip, float *out)
{
    if (!t->m->clip)
        return status_fail("%s was loaded without its text encoder", t->m->name);
    TRY(prompts_check_clip_skip(t->m, clip_skip));
    const ConditioningShape shape = conditioning_shape(t->m);
    const size_t bytes = (size_t)conditioning_text_size(&shape) * sizeof(float);
    const size_t id_bytes = (size_t)shape.ids * sizeof *ids;
    bool fixed;
    const KeptChunk key = {.ids = (int32_t *)ids,
                           .vectors = hash_vectors(&shape, vectors),
                           .clip_skip = clip_skip,
                           .adapters = text_encoder_state(t->m, &fixed)};
    KeptChunk *kept = fixed ? find_chunk(t, &key, id_bytes) : NULL;
    if (kept) {
        kept->used = ++t->clock;
        memcpy(out, kept->states, bytes);
        return STATUS_OK;
    }
    TRY(encode_fresh(t, ids, vectors, clip_skip, out));
    if (fixed)
        keep_chunk(t, &key, id_bytes, out, bytes);
    return STATUS_OK;
}

Status prompts_encode(Prompts *t, const char *prompt, int clip_skip, float *out)
{
    if (!t->m->clip)
        return status_fail("%s was loaded without its text encoder", t->m->name);
    const ConditioningShape shape = conditioning_shape(t->m);
    int32_t *ids = mem_alloc((size_t)shape.ids * sizeof *ids);
    if (!ids)
        return STATUS_FAILED;
    Status s = conditioning_ids(t->m, prompt, ids);
    if (s == STATUS_OK)
        s = prompts_chunk(t, ids, NULL, clip_skip, out);
    mem_free(ids);
    return s;
}
