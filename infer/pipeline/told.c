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

/* A text of a schedule, as each encoder is told it. */
typedef struct ToldText {
    const char *texts[ENCODERS_MAX];
    PromptChunks chunks[ENCODERS_MAX]; /* where the texts are the same, of the same tokens, but padded in its
                                          own way */
    float *states;                     /* (chunks,positions,width), then what the first chunk has besides */
    int times;                         /* how often the schedule has it */
} ToldText;

/* A part of a prompt's schedule: up to which step it is told, and which text. */
typedef struct ToldPart {
    int end, text;
} ToldPart;

/* A prompt: texts, and the parts of its schedule. */
typedef struct ToldPrompt {
    PromptSchedule schedules[ENCODERS_MAX]; /* as each encoder is told it; the second empty: as the first */
    ToldText *texts;
    ToldPart *parts;
    int count, part_count, chunks;
    int last;   /* the text that was told last; -1: none */
    bool zeros; /* in place of what a text becomes */
    int clip_skip;
    SizeNumbers sizes;
} ToldPrompt;

struct Told {
    Prompts *p;
    const SampleRequest *r;
    ConditioningShape one, shape; /* of a chunk; of a prompt */
    int encoders, batch;
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

/* What the encoder is told up to this step. */
static const char *text_until(const ToldPrompt *p, int encoder, int end)
{
    const PromptSchedule *s = &p->schedules[encoder && p->schedules[1].count ? 1 : 0];
    int i = 0;
    while (i + 1 < s->count && s->items[i].end < end)
        i++;
    return s->items[i].text;
}

/* The first end after that one in any of the schedules; -1: there is none. */
static int next_end(const ToldPrompt *p, int after)
{
    int next = -1;
    for (int e = 0; e < ENCODERS_MAX; e++)
        for (int i = 0; i < p->schedules[e].count; i++) {
            const int end = p->schedules[e].items[i].end;
            if (end > after && (next < 0 || end < next))
                next = end;
        }
    return next;
}

static int find_text(const ToldPrompt *p, const ToldText *text)
{
    for (int i = 0; i < p->count; i++)
        if (!strcmp(p->texts[i].texts[0], text->texts[0]) && !strcmp(p->texts[i].texts[1], text->texts[1]))
            return i;
    return -1;
}

static const Tokenizer *tokenizer_of(const Told *t, int encoder)
{
    const Model *m = prompts_model(t->p);
    return encoder ? m->tokenizer_2 : m->tokenizer;
}

static Status read_chunks(Told *t, ToldPrompt *p, ToldText *text)
{
    const EmbeddingSet *set = t->r->embeddings;
    EmbeddingSet own = set ? *set : (EmbeddingSet){0}; /* borrowed, but for whose vectors are taken */
    for (int e = 0; e < t->encoders; e++) {
        PromptChunks *c = &text->chunks[e];
        own.second = e > 0;
        TRY(prompt_chunks(tokenizer_of(t, e), set ? &own : NULL, t->r->reading, text->texts[e], t->one.tokens,
                          c));
        p->chunks = c->count > p->chunks ? c->count : p->chunks;
    }
    return STATUS_OK;
}

static Status read_texts(Told *t, ToldPrompt *p)
{
    const int most = p->schedules[0].count + p->schedules[1].count;
    p->last = -1;
    p->texts = mem_calloc((size_t)most, sizeof *p->texts);
    p->parts = mem_calloc((size_t)most, sizeof *p->parts);
    if (!p->texts || !p->parts)
        return STATUS_FAILED;
    for (int end = next_end(p, -1); end >= 0; end = next_end(p, end)) {
        const ToldText text = {.texts = {text_until(p, 0, end), text_until(p, 1, end)}};
        int k = find_text(p, &text);
        if (k < 0) {
            k = p->count++;
            p->texts[k] = text;
            TRY(read_chunks(t, p, &p->texts[k]));
        }
        p->texts[k].times++;
        p->parts[p->part_count++] = (ToldPart){end, k};
    }
    for (int i = 0; i < p->count; i++)
        for (int e = 0; e < t->encoders; e++)
            TRY(prompt_chunks_pad(tokenizer_of(t, e), p->chunks, &p->texts[i].chunks[e]));
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

/* Other models are not told sizes. */
static Status check_sizes(const Model *m, const SampleRequest *r)
{
    const SizeNumbers *const all[] = {&r->sizes, &r->negative_sizes};
    bool any = false;
    for (int i = 0; i < 2; i++)
        any |= all[i]->original.width || all[i]->target.width || all[i]->top || all[i]->left;
    if (!any || m->family == FAMILY_SDXL)
        return STATUS_OK;
    return status_refuse("original and target sizes and crops are told to SDXL models alone; %s is one of %s",
                         m->name, family_name(m->family));
}

/* Of the prompt what is not said of sizes is the picture's, of the negative prompt the prompt's. */
static SizeNumbers sizes_told(const SampleRequest *r, Size picture, bool positive)
{
    SizeNumbers n = r->sizes;
    const SizeNumbers *other = &r->negative_sizes;
    n.original = n.original.width ? n.original : picture;
    n.target = n.target.width ? n.target : picture;
    if (positive || (!other->original.width && !other->target.width))
        return n;
    return (SizeNumbers){.original = other->original.width ? other->original : n.original,
                         .top = other->top,
                         .left = other->left,
                         .target = other->target.width ? other->target : n.target};
}

/* What the second text encoder is told instead; NULL: the same. */
static const char *second_text(const SampleRequest *r, bool positive)
{
    const char *text = positive ? r->prompt_2 : r->negative_2;
    return text && *text ? text : NULL;
}

static bool is_zeros(const Told *t, bool positive)
{
    const char *negative = t->r->negative;
    const Model *m = prompts_model(t->p);
    if (positive || m->family != FAMILY_SDXL)
        return false;
    switch (compat_of(t->r->compat)->zero_negative) {
    case ZEROS_ABSENT:
        return !negative && m->zero_negative;
    case ZEROS_EMPTY:
        return (!negative || !*negative) && !second_text(t->r, positive);
    case ZEROS_NEVER:
        break;
    }
    return false;
}

/* Layers that are left out of it. */
static int clip_skip_of(const Told *t, bool positive)
{
    const int n = t->r->clip_skip;
    const Compat *compat = compat_of(t->r->compat);
    switch (prompts_model(t->p)->family == FAMILY_SDXL ? compat->sdxl_skip : compat->skip) {
    case SKIP_OF_PROMPT:
        return positive ? n : 0;
    case SKIP_OF_BOTH:
        return n;
    case SKIP_NOTHING:
        break;
    case SKIP_FROM_LAST:
        return n > 0 ? n - 1 : 0;
    }
    return 0;
}

/* The prompt or the negative prompt: what each encoder is told at which steps. */
static Status read_prompt(Told *t, bool positive, int steps, ToldPrompt *p)
{
    const SampleRequest *r = t->r;
    const char *second = t->encoders > 1 ? second_text(r, positive) : NULL;
    TRY(read_schedule(r,
                      positive      ? r->prompt
                      : r->negative ? r->negative
                                    : "",
                      positive, steps, &p->schedules[0]));
    if (second)
        TRY(read_schedule(r, second, positive, steps, &p->schedules[1]));
    return read_texts(t, p);
}

static Status read_both(Told *t, Size size, int steps)
{
    const SampleRequest *r = t->r;
    int chunks = 1;
    for (int i = 0; i < t->batch; i++) {
        const bool positive = i == t->batch - 1;
        TRY(status_in(read_prompt(t, positive, steps, &t->prompts[i]), "%s",
                      positive ? "prompt" : "negative prompt"));
        t->prompts[i].zeros = is_zeros(t, positive);
        t->prompts[i].clip_skip = clip_skip_of(t, positive);
        t->prompts[i].sizes = sizes_told(r, size, positive);
        chunks = least_common_multiple(chunks, t->prompts[i].chunks);
    }
    t->shape = t->one;
    t->shape.tokens = t->one.tokens * chunks;
    t->shape.guidance = takes_guidance(t) ? 1 : 0;
    t->text = mem_alloc((size_t)conditioning_text_size(&t->shape) * sizeof *t->text);
    return t->text ? STATUS_OK : STATUS_FAILED;
}

/* A second prompt that nobody would see is none that was meant. */
static Status check_second(const Model *m, const SampleRequest *r)
{
    const bool negative = second_text(r, false);
    if (!negative && !second_text(r, true))
        return STATUS_OK;
    if (m->family != FAMILY_SDXL)
        return status_refuse("a second prompt is for the second text encoder, which SDXL models alone have; "
                             "%s is one of %s",
                             m->name, family_name(m->family));
    if (negative && !r->negative && m->zero_negative && compat_of(r->compat)->zero_negative == ZEROS_ABSENT)
        return status_refuse("a second negative prompt does nothing without a negative prompt, in whose "
                             "place the model is told zeros; give one, be it empty");
    return STATUS_OK;
}

Status told_read(Prompts *p, const SampleRequest *r, Size size, int steps, Told **out)
{
    *out = NULL;
    TRY(check_sizes(prompts_model(p), r));
    TRY(check_second(prompts_model(p), r));
    Told *t = mem_calloc(1, sizeof *t);
    if (!t)
        return STATUS_FAILED;
    t->p = p;
    t->r = r;
    t->one = conditioning_shape(prompts_model(p));
    t->encoders = t->one.ids / t->one.tokens;
    t->batch = r->guidance > 1 && !takes_guidance(t) ? 2 : 1;
    const Status s = read_both(t, size, steps);
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
            for (int e = 0; e < ENCODERS_MAX; e++)
                prompt_chunks_free(&p->texts[k].chunks[e]);
            mem_free(p->texts[k].states);
        }
        mem_free(p->texts);
        mem_free(p->parts);
        for (int e = 0; e < ENCODERS_MAX; e++)
            prompt_schedule_free(&p->schedules[e]);
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

/* The columns of one encoder's states among those of all, which stand side by side. */
typedef struct Columns {
    int encoder;
    size_t first, count, all;
} Columns;

static double sum_of(const float *z, size_t n, Columns c)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        if (i % c.all - c.first < c.count)
            sum += z[i];
    return sum;
}

/* z w of chunk k of all texts, their mean kept; of one encoder. */
static void weigh_a1111(const Told *t, ToldPrompt *p, int k, Columns c)
{
    const size_t n = chunk_size(t);
    double before = 0, after = 0;
    for (int i = 0; i < p->count; i++) {
        ToldText *text = &p->texts[i];
        float *z = text->states + (size_t)k * n;
        const float *w = text->chunks[c.encoder].weights + (size_t)k * (size_t)t->one.tokens;
        before += text->times * sum_of(z, n, c);
        for (size_t j = 0; j < n; j++)
            if (j % c.all - c.first < c.count)
                z[j] *= w[j / c.all];
        after += text->times * sum_of(z, n, c);
    }
    const float factor = (float)(before / after);
    for (int i = 0; i < p->count && before != after && after != 0; i++)
        for (size_t j = 0; j < n; j++)
            if (j % c.all - c.first < c.count)
                p->texts[i].states[(size_t)k * n + j] *= factor;
}

/* (z - empty) w + empty; of one encoder */
static void weigh_comfy(const Told *t, ToldText *text, const float *empty, Columns c)
{
    const size_t n = chunk_size(t);
    for (size_t j = 0; j < n * (size_t)text->chunks[0].count; j++) {
        const float w = text->chunks[c.encoder].weights[j / c.all];
        if (w != 1 && j % c.all - c.first < c.count)
            text->states[j] = (text->states[j] - empty[j % n]) * w + empty[j % n];
    }
}

static Status weigh_from_empty(Told *t, ToldPrompt *p, const Columns columns[ENCODERS_MAX])
{
    int32_t *ids = mem_alloc((size_t)t->one.ids * sizeof *ids);
    float *empty = mem_alloc((size_t)conditioning_text_size(&t->one) * sizeof *empty);
    Status s = ids && empty ? conditioning_ids(prompts_model(t->p), "", ids) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = prompts_chunk(t->p, ids, NULL, p->clip_skip, empty);
    for (int i = 0; s == STATUS_OK && i < p->count; i++)
        for (int e = 0; e < t->encoders; e++)
            weigh_comfy(t, &p->texts[i], empty, columns[e]);
    mem_free(ids);
    mem_free(empty);
    return s;
}

static Status weigh(Told *t, ToldPrompt *p)
{
    Columns columns[ENCODERS_MAX];
    bool weighted = false;
    size_t first = 0;
    for (int e = 0; e < t->encoders; e++) {
        columns[e] = (Columns){e, first, (size_t)t->one.widths[e], (size_t)t->one.width};
        first += columns[e].count;
        for (int i = 0; i < p->count; i++)
            weighted |= p->texts[i].chunks[e].weighted;
    }
    if (!weighted || p->zeros)
        return STATUS_OK;
    if (t->r->reading.syntax == PROMPT_COMFY)
        return weigh_from_empty(t, p, columns);
    for (int k = 0; k < p->chunks; k++)
        for (int e = 0; e < t->encoders; e++)
            weigh_a1111(t, p, k, columns[e]);
    return STATUS_OK;
}

/* Encoding ----------------------------------------------------------------------------------------------- */

/* Chunk k, for all encoders -> out: states, and what there is besides. */
static Status encode_chunk(Told *t, const ToldPrompt *p, const ToldText *text, int k, float *out)
{
    const size_t length = (size_t)t->one.tokens, ids = (size_t)t->one.ids;
    int32_t *all = mem_alloc(ids * sizeof *all);
    const float **vectors = mem_alloc(ids * sizeof *vectors);
    Status s = all && vectors ? STATUS_OK : STATUS_FAILED;
    for (int e = 0; s == STATUS_OK && e < t->encoders; e++) {
        const PromptChunks *c = &text->chunks[e];
        memcpy(all + (size_t)e * length, c->ids + (size_t)k * length, length * sizeof *all);
        memcpy(vectors + (size_t)e * length, c->vectors + (size_t)k * length, length * sizeof *vectors);
    }
    if (s == STATUS_OK)
        s = prompts_chunk(t->p, all, vectors, p->clip_skip, out);
    mem_free(all);
    mem_free(vectors);
    return s;
}

static Status encode_text(Told *t, const ToldPrompt *p, ToldText *text)
{
    const size_t n = chunk_size(t), besides = (size_t)t->one.pooled, chunks = (size_t)text->chunks[0].count;
    text->states = mem_calloc(n * chunks + besides, sizeof *text->states);
    float *one = mem_alloc((n + besides) * sizeof *one);
    Status s = text->states && one ? STATUS_OK : STATUS_FAILED;
    for (size_t k = 0; s == STATUS_OK && !p->zeros && k < chunks; k++) {
        s = encode_chunk(t, p, text, (int)k, one);
        if (s != STATUS_OK)
            break;
        memcpy(text->states + k * n, one, n * sizeof *one);
        if (k == 0)
            memcpy(text->states + n * chunks, one + n, besides * sizeof *one);
    }
    mem_free(one);
    return s;
}

Status told_encode(Told *t)
{
    for (int i = 0; i < t->batch; i++) {
        for (int k = 0; k < t->prompts[i].count; k++)
            TRY(encode_text(t, &t->prompts[i], &t->prompts[i].texts[k]));
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
    while (part + 1 < p->part_count && i > p->parts[part].end)
        part++;
    return p->parts[part].text;
}

/* What is told besides the text. */
static void tell_numbers(const Told *t, int place, float *text)
{
    int64_t count;
    float *numbers = text + conditioning_part(&t->shape, t->batch, place, CONDITIONING_EXTRA, &count);
    if (count)
        size_numbers_write(&t->prompts[place].sizes, numbers);
    numbers = text + conditioning_part(&t->shape, t->batch, place, CONDITIONING_GUIDANCE, &count);
    if (count)
        *numbers = GUIDANCE_UNIT * (t->r->guidance - 1);
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
        tell_numbers(t, place, text);
    }
}
