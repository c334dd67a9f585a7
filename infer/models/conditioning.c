#include "conditioning.h"

#include "kernels/base/mem.h"
#include "kernels/ops.h"
#include "model.h"
#include "size_numbers.h"

#include <string.h>

/* The text encoders of m, in the order in which their states stand side by side. */
static int encoders_of(const Model *m, const Clip *list[ENCODERS_MAX])
{
    list[0] = m->clip;
    list[1] = m->clip_2;
    return m->clip_2 ? 2 : 1;
}

ConditioningShape conditioning_shape(const Model *m)
{
    const Clip *encoders[ENCODERS_MAX];
    const int count = encoders_of(m, encoders);
    ConditioningShape s = {.tokens = clip_config(m->clip)->positions};
    for (int i = 0; i < count; i++) {
        const ClipConfig *k = clip_config(encoders[i]);
        s.ids += k->positions;
        s.widths[i] = k->hidden;
        s.width += k->hidden;
        s.pooled += k->projection;
    }
    s.extra = s.pooled ? SIZE_NUMBERS : 0;
    return s;
}

/* Floats that sample after sample has of each part. */
static void sizes_of(const ConditioningShape *s, int64_t sizes[CONDITIONING_PARTS])
{
    sizes[CONDITIONING_STATES] = (int64_t)s->tokens * s->width;
    sizes[CONDITIONING_POOLED] = s->pooled;
    sizes[CONDITIONING_EXTRA] = s->extra;
    sizes[CONDITIONING_GUIDANCE] = s->guidance;
}

int64_t conditioning_text_size(const ConditioningShape *s)
{
    return (int64_t)s->tokens * s->width + s->pooled;
}

int64_t conditioning_size(const ConditioningShape *s, int batch)
{
    return batch * (conditioning_text_size(s) + s->extra + s->guidance);
}

int64_t conditioning_part(const ConditioningShape *s, int batch, int place, int part, int64_t *count)
{
    int64_t sizes[CONDITIONING_PARTS], start = 0;
    sizes_of(s, sizes);
    for (int k = 0; k < part; k++)
        start += batch * sizes[k];
    *count = sizes[part];
    return start + place * sizes[part];
}

void conditioning_place(const ConditioningShape *s, int batch, int place, const float *text, float *all)
{
    for (int part = 0; part <= CONDITIONING_POOLED; part++) {
        int64_t count;
        float *to = all + conditioning_part(s, batch, place, part, &count);
        memcpy(to, text, (size_t)count * sizeof *to);
        text += count;
    }
}

static Status encoder_ids(const Model *m, const Clip *encoder, const Tokenizer *t, const char *text,
                          int32_t *ids)
{
    if (!encoder)
        return status_fail("%s was loaded without its text encoder", m->name);
    if (!t)
        return status_fail("%s was loaded without its tokenizer", m->name);
    return tokenizer_encode_padded(t, text, clip_config(encoder)->positions, ids, NULL);
}

Status conditioning_ids(const Model *m, const char *text, int32_t *ids)
{
    TRY(encoder_ids(m, m->clip, m->tokenizer, text, ids));
    return m->clip_2 ? encoder_ids(m, m->clip_2, m->tokenizer_2, text, ids + clip_config(m->clip)->positions)
                     : STATUS_OK;
}

void conditioning_mark_idle(Model *m)
{
    if (m->clip_2) /* of the first encoder the states before its last layer are taken, and nothing pooled */
        clip_mark_idle(m->clip);
}

static Tensor *stored(Ctx *c, Tensor *x)
{
    return x && c->dtype != DTYPE_F32 ? cast(c, x, c->dtype) : x;
}

/* In a step -------------------------------------------------------------------------------------------- */

/* Of one encoder: its tokens among those of all, and at which of them each text ends. */
typedef struct EncoderIds {
    int32_t *ids, *rows; /* (B,T), (B); NULL in a rehearsal */
} EncoderIds;

static Status take_ids(const ClipConfig *k, int batch, int all, int first, const int32_t *ids,
                       EncoderIds *out)
{
    *out = (EncoderIds){0};
    if (!ids)
        return STATUS_OK;
    const size_t T = (size_t)k->positions, B = (size_t)batch;
    out->ids = mem_alloc((T + 1) * B * sizeof *ids);
    if (!out->ids)
        return STATUS_FAILED;
    out->rows = out->ids + T * B;
    for (int i = 0; i < batch; i++) {
        int32_t *own = out->ids + (size_t)i * T;
        memcpy(own, ids + (size_t)i * (size_t)all + first, T * sizeof *ids);
        out->rows[i] = clip_row(k, own, k->positions);
    }
    return STATUS_OK;
}

/* SDXL: states of both encoders before their last layer, side by side, and the second's pooled text. */
static Conditioning encode_two(Ctx *c, const Model *m, int clip_skip, int batch, const int32_t *ids,
                               const TokenVectors *v)
{
    const ConditioningShape s = conditioning_shape(m);
    const Clip *encoders[ENCODERS_MAX];
    const int count = encoders_of(m, encoders);
    Conditioning out = {0};
    int first = 0;
    int64_t vectors = 0;
    for (int i = 0; i < count; i++) {
        const ClipConfig *k = clip_config(encoders[i]);
        const int64_t shape[] = {batch, k->positions, k->hidden};
        EncoderIds own;
        if (take_ids(k, batch, s.ids, first, ids, &own) != STATUS_OK)
            op_fail(c, "out of memory");
        ClipText text = {.ids = ctx_input(c, DTYPE_I32, 2, shape, own.ids)};
        if (k->projection)
            text.rows = ctx_input(c, DTYPE_I32, 1, shape, own.rows);
        if (v) {
            text.keep = stored(c, ctx_input(c, DTYPE_F32, 3, shape, v->keep ? v->keep + vectors : NULL));
            text.other = stored(c, ctx_input(c, DTYPE_F32, 3, shape, v->other ? v->other + vectors : NULL));
        }
        mem_free(own.ids);
        Tensor *states = clip_penultimate(c, encoders[i], clip_skip, &text, &out.pooled);
        out.states = i ? concat(c, out.states, states) : states;
        first += k->positions;
        vectors += (int64_t)k->positions * k->hidden;
    }
    return out;
}

Conditioning conditioning_encode(Ctx *c, const Model *m, int clip_skip, int batch, const int32_t *ids)
{
    if (m->clip_2)
        return encode_two(c, m, clip_skip, batch, ids, NULL);
    Tensor *tokens = ctx_input(c, DTYPE_I32, 2, (int64_t[]){batch, clip_config(m->clip)->positions}, ids);
    return (Conditioning){.states = clip_forward(c, m->clip, clip_skip, tokens)};
}

Conditioning conditioning_encode_with(Ctx *c, const Model *m, int clip_skip, const int32_t *ids,
                                      const TokenVectors *v)
{
    if (m->clip_2)
        return encode_two(c, m, clip_skip, 1, ids, v);
    const ClipConfig *k = clip_config(m->clip);
    const int64_t shape[] = {1, k->positions, k->hidden};
    Tensor *tokens = ctx_input(c, DTYPE_I32, 2, shape, ids);
    Tensor *keep = stored(c, ctx_input(c, DTYPE_F32, 3, shape, v->keep)),
           *other = stored(c, ctx_input(c, DTYPE_F32, 3, shape, v->other));
    return (Conditioning){.states = clip_forward_with(c, m->clip, clip_skip, tokens, keep, other)};
}

int conditioning_vector_width(const ConditioningShape *s, int i)
{
    return s->widths[i / s->tokens];
}

void conditioning_vectors(const ConditioningShape *s, const float *const *vectors, float *keep, float *other)
{
    for (int i = 0; i < s->ids; i++) {
        const int D = conditioning_vector_width(s, i);
        for (int d = 0; d < D; d++) {
            *keep++ = vectors[i] ? 0 : 1;
            *other++ = vectors[i] ? vectors[i][d] : 0;
        }
    }
}

void conditioning_read(Ctx *c, const Conditioning *k, float *text)
{
    ctx_read(c, k->states, text);
    if (k->pooled)
        ctx_read(c, k->pooled, text + tensor_count(k->states));
}

/* `part` of the batch as f32; NULL: there is none. */
static Tensor *part_input(Ctx *c, const ConditioningShape *s, int batch, int part, const float *all)
{
    int64_t count;
    const int64_t start = conditioning_part(s, batch, 0, part, &count);
    if (!count)
        return NULL;
    const int64_t states[] = {batch, s->tokens, s->width}, row[] = {batch, count};
    return ctx_input(c, DTYPE_F32, part ? 2 : 3, part ? row : states, all ? all + start : NULL);
}

Conditioning conditioning_input(Ctx *c, const ConditioningShape *s, int batch, const float *all)
{
    return (Conditioning){.states = stored(c, part_input(c, s, batch, CONDITIONING_STATES, all)),
                          .pooled = stored(c, part_input(c, s, batch, CONDITIONING_POOLED, all)),
                          .extra = part_input(c, s, batch, CONDITIONING_EXTRA, all),
                          .guidance = part_input(c, s, batch, CONDITIONING_GUIDANCE, all)};
}
