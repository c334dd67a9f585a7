/* From prompts to what the UNet is told (told.h):
 *
 *     schedule   texts, each up to a step                        (infer/text/schedule.h)
 *     chunks     of each text, 75 tokens with their weights      (infer/text/chunks.h)
 *     states     of each chunk, as the text encoder gives them   (prompts.h)
 *     weights    applied to states, as A1111 or ComfyUI do it
 *     joined     along the tokens
 *
 * A1111 multiplies states by their tokens' weights and then brings the mean of all numbers back to what it
 * was: of one chunk of all texts of a schedule together, each counted as often as it stands there. ComfyUI
 * moves a state away from that of the empty prompt at the same place: (z - empty) w + empty.
 *
 * Softmax over keys that are all there k times gives what it gives over them once. So a prompt of c chunks is
 * repeated to the least common multiple of both prompts' chunks, and both go through the UNet as one batch.
 */
#include "told.h"

#include "infer/text/chunks.h"
#include "infer/text/schedule.h"
#include "kernels/base/mem.h"

#include <string.h>

#define GUIDANCE_UNIT 1000 /* what a guidance scale less 1 is multiplied by, like a timestep's share */

/* A text of a schedule. */
typedef struct ToldText {
    const char *text;
    PromptChunks chunks;
    float *states; /* (chunks,positions,width), then what the first chunk has besides */
    int times;     /* how often the schedule has it */
} ToldText;

/* A prompt: texts, and which of them each part of its schedule is. */
typedef struct ToldPrompt {
    PromptSchedule schedule;
    ToldText *texts;
    int count, chunks;
    int *part_text;
    int last; /* the text that was told last; -1: none */
} ToldPrompt;

struct Told {
    Prompts *p;
    const SampleRequest *r;
    ConditioningShape one, shape; /* of a chunk; of a prompt */
    int batch;
    ToldPrompt prompts[2]; /* in the batch's order: the negative one, the prompt */
    float *text;           /* one of a batch */
};

/* Reading ------------------------------------------------------------------------------------------------ */

static Status read_schedule(const SampleRequest *r, const char *text, bool positive, int steps,
                            PromptSchedule *out)
{
    if (r->reading.syntax != PROMPT_A1111) {
        *out = (PromptSchedule){.items = mem_calloc(1, sizeof *out->items), .capacity = 1};
        if (!out->items || !(out->items[0].text = mem_strdup(text)))
            return STATUS_FAILED;
        out->items[0].end = steps;
        out->count = 1;
        return STATUS_OK;
    }
    if (positive && prompt_find_and(text))
        return status_refuse("the prompt has `AND`, with which AUTOMATIC1111 joins prompts (composable "
                             "diffusion); that is not supported: write `and` for the word");
    return prompt_schedule(text, steps, r->steps_before, out);
}

static int find_text(const ToldPrompt *p, const char *text)
{
    for (int i = 0; i < p->count; i++)
        if (!strcmp(p->texts[i].text, text))
            return i;
    return -1;
}

static Status read_texts(Told *t, ToldPrompt *p)
{
    const Model *m = prompts_model(t->p);
    const int parts = p->schedule.count;
    p->last = -1;
    p->texts = mem_calloc((size_t)parts, sizeof *p->texts);
    p->part_text = mem_calloc((size_t)parts, sizeof *p->part_text);
    if (!p->texts || !p->part_text)
        return STATUS_FAILED;
    for (int i = 0; i < parts; i++) {
        const char *text = p->schedule.items[i].text;
        int k = find_text(p, text);
        if (k < 0) {
            k = p->count++;
            p->texts[k].text = text;
            TRY(prompt_chunks(m->tokenizer, t->r->embeddings, t->r->reading, text, t->one.tokens,
                              &p->texts[k].chunks));
        }
        p->texts[k].times++;
        p->part_text[i] = k;
        p->chunks = p->texts[k].chunks.count > p->chunks ? p->texts[k].chunks.count : p->chunks;
    }
    for (int i = 0; i < p->count; i++)
        TRY(prompt_chunks_pad(m->tokenizer, p->chunks, &p->texts[i].chunks));
    return STATUS_OK;
}

static int least_common_multiple(int a, int b)
{
    int x = a, y = b;
    while (y) {
        const int rest = x % y;
        x = y;
        y = rest;
    }
    return a / x * b;
}

static bool takes_guidance(const Told *t)
{
    const Model *m = prompts_model(t->p);
    return m->unet && unet_config(m->unet)->guidance_channels > 0;
}

static Status read_both(Told *t, int steps)
{
    const SampleRequest *r = t->r;
    int chunks = 1;
    for (int i = 0; i < t->batch; i++) {
        const bool positive = i == t->batch - 1;
        const char *text = positive ? r->prompt : r->negative ? r->negative : "";
        Status s = read_schedule(r, text, positive, steps, &t->prompts[i].schedule);
        if (s == STATUS_OK)
            s = read_texts(t, &t->prompts[i]);
        TRY(status_in(s, "%s", positive ? "prompt" : "negative prompt"));
        chunks = least_common_multiple(chunks, t->prompts[i].chunks);
    }
    t->shape = t->one;
    t->shape.tokens = t->one.tokens * chunks;
    t->shape.extra = takes_guidance(t) ? 1 : 0;
    t->text = mem_alloc((size_t)conditioning_text_size(&t->shape) * sizeof *t->text);
    return t->text ? STATUS_OK : STATUS_FAILED;
}

Status told_read(Prompts *p, const SampleRequest *r, int steps, Told **out)
{
    *out = NULL;
    Told *t = mem_calloc(1, sizeof *t);
    if (!t)
        return STATUS_FAILED;
    t->p = p;
    t->r = r;
    t->one = conditioning_shape(prompts_model(p));
    t->batch = r->guidance > 1 && !takes_guidance(t) ? 2 : 1;
    const Status s = read_both(t, steps);
    if (s != STATUS_OK)
        told_free(t);
    else
        *out = t;
    return s;
}

void told_free(Told *t)
{
    for (int i = 0; t && i < 2; i++) {
        ToldPrompt *p = &t->prompts[i];
        for (int k = 0; k < p->count; k++) {
            prompt_chunks_free(&p->texts[k].chunks);
            mem_free(p->texts[k].states);
        }
        mem_free(p->texts);
        mem_free(p->part_text);
        prompt_schedule_free(&p->schedule);
    }
    if (t)
        mem_free(t->text);
    mem_free(t);
}

ConditioningShape told_shape(const Told *t)
{
    return t->shape;
}

int told_batch(const Told *t)
{
    return t->batch;
}

/* Weights ------------------------------------------------------------------------------------------------ */

/* Numbers of one chunk's states. */
static size_t chunk_size(const Told *t)
{
    return (size_t)t->one.tokens * (size_t)t->one.width;
}

static double sum_of(const float *z, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += z[i];
    return sum;
}

/* z w of chunk k of all texts, their mean kept. */
static void weigh_a1111(const Told *t, ToldPrompt *p, int k)
{
    const size_t n = chunk_size(t), D = (size_t)t->one.width;
    double before = 0, after = 0;
    for (int i = 0; i < p->count; i++) {
        ToldText *text = &p->texts[i];
        float *z = text->states + (size_t)k * n;
        const float *w = text->chunks.weights + (size_t)k * (size_t)t->one.tokens;
        before += text->times * sum_of(z, n);
        for (size_t j = 0; j < n; j++)
            z[j] *= w[j / D];
        after += text->times * sum_of(z, n);
    }
    const float factor = (float)(before / after);
    for (int i = 0; i < p->count && before != after && after != 0; i++)
        for (size_t j = 0; j < n; j++)
            p->texts[i].states[(size_t)k * n + j] *= factor;
}

/* (z - empty) w + empty */
static void weigh_comfy(const Told *t, ToldText *text, const float *empty)
{
    const size_t n = chunk_size(t), D = (size_t)t->one.width;
    for (size_t j = 0; j < n * (size_t)text->chunks.count; j++) {
        const float w = text->chunks.weights[j / D];
        if (w != 1)
            text->states[j] = (text->states[j] - empty[j % n]) * w + empty[j % n];
    }
}

static Status weigh_from_empty(Told *t, ToldPrompt *p)
{
    int32_t *ids = mem_alloc((size_t)t->one.ids * sizeof *ids);
    float *empty = mem_alloc((size_t)conditioning_text_size(&t->one) * sizeof *empty);
    Status s = ids && empty ? conditioning_ids(prompts_model(t->p), "", ids) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = prompts_chunk(t->p, ids, NULL, t->r->clip_skip, empty);
    for (int i = 0; s == STATUS_OK && i < p->count; i++)
        weigh_comfy(t, &p->texts[i], empty);
    mem_free(ids);
    mem_free(empty);
    return s;
}

static Status weigh(Told *t, ToldPrompt *p)
{
    bool weighted = false;
    for (int i = 0; i < p->count; i++)
        weighted |= p->texts[i].chunks.weighted;
    if (!weighted)
        return STATUS_OK;
    if (t->r->reading.syntax == PROMPT_COMFY)
        return weigh_from_empty(t, p);
    for (int k = 0; k < p->chunks; k++)
        weigh_a1111(t, p, k);
    return STATUS_OK;
}

/* Encoding ----------------------------------------------------------------------------------------------- */

static Status encode_text(Told *t, ToldText *text)
{
    const PromptChunks *c = &text->chunks;
    const size_t n = chunk_size(t), besides = (size_t)t->one.pooled;
    text->states = mem_alloc((n * (size_t)c->count + besides) * sizeof *text->states);
    float *one = mem_alloc((n + besides) * sizeof *one);
    Status s = text->states && one ? STATUS_OK : STATUS_FAILED;
    for (int k = 0; s == STATUS_OK && k < c->count; k++) {
        const size_t at = (size_t)k * (size_t)c->length;
        s = prompts_chunk(t->p, c->ids + at, c->vectors + at, t->r->clip_skip, one);
        if (s != STATUS_OK)
            break;
        memcpy(text->states + (size_t)k * n, one, n * sizeof *one);
        if (k == 0)
            memcpy(text->states + n * (size_t)c->count, one + n, besides * sizeof *one);
    }
    mem_free(one);
    return s;
}

Status told_encode(Told *t)
{
    for (int i = 0; i < t->batch; i++) {
        for (int k = 0; k < t->prompts[i].count; k++)
            TRY(encode_text(t, &t->prompts[i].texts[k]));
        TRY(weigh(t, &t->prompts[i]));
    }
    return STATUS_OK;
}

/* Telling ------------------------------------------------------------------------------------------------ */

/* A1111 changes at a step counted from 0 that is past a part's end, so the first part is for one step more.
 */
static int text_at(const ToldPrompt *p, int i)
{
    int part = 0;
    while (part + 1 < p->schedule.count && i > p->schedule.items[part].end)
        part++;
    return p->part_text[part];
}

void told_at(Told *t, int i, float *text)
{
    for (int place = 0; place < t->batch; place++) {
        ToldPrompt *p = &t->prompts[place];
        const int k = text_at(p, i);
        if (k == p->last)
            continue;
        p->last = k;
        const size_t n = chunk_size(t) * (size_t)p->chunks,
                     all = (size_t)t->shape.tokens * (size_t)t->shape.width;
        for (size_t at = 0; at < all; at += n)
            memcpy(t->text + at, p->texts[k].states, n * sizeof *t->text);
        memcpy(t->text + all, p->texts[k].states + n, (size_t)t->one.pooled * sizeof *t->text);
        conditioning_place(&t->shape, t->batch, place, t->text, text);
        int64_t numbers;
        float *extra = text + conditioning_part(&t->shape, t->batch, place, 2, &numbers);
        if (numbers)
            *extra = GUIDANCE_UNIT * (t->r->guidance - 1);
    }
}
