#include "conditioning.h"

#include "kernels/ops.h"
#include "model.h"

#include <string.h>

ConditioningShape conditioning_shape(const Model *m)
{
    const ClipConfig *k = clip_config(m->clip);
    return (ConditioningShape){.ids = k->positions, .tokens = k->positions, .width = k->hidden};
}

/* Floats that sample after sample has of each part. */
static void sizes_of(const ConditioningShape *s, int64_t sizes[CONDITIONING_PARTS])
{
    sizes[0] = (int64_t)s->tokens * s->width;
    sizes[1] = s->pooled;
    sizes[2] = s->extra;
}

int64_t conditioning_text_size(const ConditioningShape *s)
{
    return (int64_t)s->tokens * s->width + s->pooled;
}

int64_t conditioning_size(const ConditioningShape *s, int batch)
{
    return batch * (conditioning_text_size(s) + s->extra);
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
    for (int part = 0; part < 2; part++) {
        int64_t count;
        float *to = all + conditioning_part(s, batch, place, part, &count);
        memcpy(to, text, (size_t)count * sizeof *to);
        text += count;
    }
}

Status conditioning_ids(const Model *m, const char *text, int32_t *ids)
{
    if (!m->clip)
        return status_fail("%s was loaded without its text encoder", m->name);
    if (!m->tokenizer)
        return status_fail("%s was loaded without its tokenizer", m->name);
    return tokenizer_encode_padded(m->tokenizer, text, clip_config(m->clip)->positions, ids, NULL);
}

static Tensor *stored(Ctx *c, Tensor *x)
{
    return x && c->dtype != DTYPE_F32 ? cast(c, x, c->dtype) : x;
}

/* In a step -------------------------------------------------------------------------------------------- */

Conditioning conditioning_encode(Ctx *c, const Model *m, int clip_skip, int batch, const int32_t *ids)
{
    Tensor *tokens = ctx_input(c, DTYPE_I32, 2, (int64_t[]){batch, clip_config(m->clip)->positions}, ids);
    return (Conditioning){.states = clip_forward(c, m->clip, clip_skip, tokens)};
}

Conditioning conditioning_encode_with(Ctx *c, const Model *m, int clip_skip, const int32_t *ids,
                                      const TokenVectors *v)
{
    const ClipConfig *k = clip_config(m->clip);
    const int64_t shape[] = {1, k->positions, k->hidden};
    Tensor *tokens = ctx_input(c, DTYPE_I32, 2, shape, ids);
    Tensor *keep = stored(c, ctx_input(c, DTYPE_F32, 3, shape, v->keep)),
           *other = stored(c, ctx_input(c, DTYPE_F32, 3, shape, v->other));
    return (Conditioning){.states = clip_forward_with(c, m->clip, clip_skip, tokens, keep, other)};
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
    return (Conditioning){.states = stored(c, part_input(c, s, batch, 0, all)),
                          .pooled = stored(c, part_input(c, s, batch, 1, all)),
                          .extra = part_input(c, s, batch, 2, all)};
}
