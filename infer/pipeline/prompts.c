/* The states of prompts, kept while the text encoder and its adapters stay the same: a batch asks for the
 * same two again and again. */
#include "prompts.h"

#include "kernels/base/mem.h"

#include <string.h>

#define KEPT_PROMPTS 4 /* a batch has one prompt and one negative */

typedef struct KeptPrompt {
    char *prompt;
    int clip_skip;
    uint64_t adapters;
    float *states; /* what the text became */
    uint64_t used; /* when; the oldest goes first */
} KeptPrompt;

struct Prompts {
    const Model *m;
    Stages *stages;
    KeptPrompt kept[KEPT_PROMPTS];
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

static void forget_text(KeptPrompt *k)
{
    mem_free(k->prompt);
    mem_free(k->states);
    *k = (KeptPrompt){0};
}

void prompts_free(Prompts *t)
{
    for (int i = 0; t && i < KEPT_PROMPTS; i++)
        forget_text(&t->kept[i]);
    mem_free(t);
}

/* A number that differs when other adapters are on the text encoder, or the same ones count otherwise; *fixed
 * is false if its weights may change between two calls. Where an adapter lies says nothing: another may come
 * to lie there. */
static uint64_t text_encoder_state(const Model *m, bool *fixed)
{
    const LayerSet *set = clip_layers(m->clip);
    uint64_t h = 0xcbf29ce484222325u;
    *fixed = true;
    for (int i = 0; i < set->count; i++) {
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

static Status encode_fresh(Prompts *t, const char *prompt, int clip_skip, float *out)
{
    const ConditioningShape shape = conditioning_shape(t->m);
    int32_t *ids = mem_alloc((size_t)shape.ids * sizeof *ids);
    if (!ids)
        return STATUS_FAILED;
    Status s = conditioning_ids(t->m, prompt, ids);
    if (s == STATUS_OK)
        s = stage_text(t->stages, clip_skip, ids, out);
    mem_free(ids);
    return s;
}

static KeptPrompt *find_text(Prompts *t, const char *prompt, int clip_skip, uint64_t adapters)
{
    for (int i = 0; i < KEPT_PROMPTS; i++) {
        KeptPrompt *k = &t->kept[i];
        if (k->prompt && k->clip_skip == clip_skip && k->adapters == adapters &&
            strcmp(k->prompt, prompt) == 0)
            return k;
    }
    return NULL;
}

/* Keeps states in place of those not used for longest; without memory they are simply not kept. */
static void keep_text(Prompts *t, const char *prompt, int clip_skip, uint64_t adapters, const float *states,
                      size_t bytes)
{
    KeptPrompt *oldest = &t->kept[0];
    for (int i = 1; i < KEPT_PROMPTS; i++)
        if (t->kept[i].used < oldest->used)
            oldest = &t->kept[i];
    forget_text(oldest);
    oldest->prompt = mem_strdup(prompt);
    oldest->states = mem_alloc(bytes);
    if (!oldest->prompt || !oldest->states) {
        forget_text(oldest);
        return;
    }
    memcpy(oldest->states, states, bytes);
    oldest->clip_skip = clip_skip;
    oldest->adapters = adapters;
    oldest->used = ++t->clock;
}

Status prompts_check_clip_skip(const Model *m, int clip_skip)
{
    const ClipConfig *k = clip_config(m->clip);
    if (clip_skip >= 0 && clip_skip < k->layers)
        return STATUS_OK;
    return status_refuse("clip_skip %d: the text encoder has %d layers, 0 to %d can be left out", clip_skip,
                         k->layers, k->layers - 1);
}

Status prompts_encode(Prompts *t, const char *prompt, int clip_skip, float *out)
{
    if (!t->m->clip)
        return status_fail("%s was loaded without its text encoder", t->m->name);
    const ConditioningShape shape = conditioning_shape(t->m);
    const size_t bytes = (size_t)conditioning_text_size(&shape) * sizeof(float);
    TRY(prompts_check_clip_skip(t->m, clip_skip));
    bool fixed;
    const uint64_t adapters = text_encoder_state(t->m, &fixed);
    KeptPrompt *kept = fixed ? find_text(t, prompt, clip_skip, adapters) : NULL;
    if (kept) {
        kept->used = ++t->clock;
        memcpy(out, kept->states, bytes);
        return STATUS_OK;
    }
    TRY(encode_fresh(t, prompt, clip_skip, out));
    if (fixed)
        keep_text(t, prompt, clip_skip, adapters, out, bytes);
    return STATUS_OK;
}
