#include "largest.h"

#include <stdio.h>

static void set(Largest *l, size_t bytes, const char *part, const char *lower)
{
    if (bytes <= l->bytes)
        return;
    l->bytes = bytes;
    snprintf(l->part, sizeof l->part, "%s", part);
    snprintf(l->lower, sizeof l->lower, "%s", lower);
}

Size largest_preview(const Setup *s)
{
    const Config *c = s->config;
    const int side = s->model->default_size;
    return (Size){c->preview.width ? c->preview.width : side, c->preview.height ? c->preview.height : side};
}

/* Of a step, from what keeps every byte of the result on. */
static const char *lower_step(const Config *c)
{
    return c->train.checkpointing != SWITCH_ON ? "train.mode: balanced"
           : c->train.batch > 1                ? "train.batch (and as much more train.accumulate)"
                                               : "train.resolution";
}

static void set_arena(const Setup *s, Largest *l)
{
    const Config *c = s->config;
    const Size preview = largest_preview(s);
    const int width = s->arena_size.width, height = s->arena_size.height;
    char part[128];
    switch (s->arena_work) {
    case ARENA_STEP:
        snprintf(part, sizeof part, "the activations of a training step of %d×%d pixels", width, height);
        set(l, s->arena_bytes, s->sizes.count > 1 ? part : "the activations of a training step",
            lower_step(c));
        return;
    case ARENA_VALIDATION:
        snprintf(part, sizeof part, "measuring held-out pictures of %d×%d pixels", width, height);
        set(l, s->arena_bytes, s->sizes.count > 1 ? part : "measuring the held-out pictures",
            "train.batch or train.resolution");
        return;
    case ARENA_PICTURE:
        snprintf(part, sizeof part, "encoding pictures of %d×%d pixels", width, height);
        set(l, s->arena_bytes, part, "train.resolution");
        return;
    case ARENA_CAPTION:
        set(l, s->arena_bytes, "encoding captions", "");
        return;
    case ARENA_PREVIEW:
        snprintf(part, sizeof part, "drawing previews of %d×%d pixels", preview.width, preview.height);
        set(l, s->arena_bytes, part, "preview.width and preview.height");
        return;
    case ARENA_CLASS:
        snprintf(part, sizeof part, "drawing class pictures of %d×%d pixels", width, height);
        set(l, s->arena_bytes, part, "prior.resolution");
        return;
    }
}

static const char *lower_weights(const Config *c)
{
    return c->train.pack_weights != SWITCH_OFF && c->train.mode != MODE_MINIMAL ? "train.mode: minimal"
           : c->method.kind == METHOD_FULL                                      ? "method.kind: lora"
           : c->model.dtype == DTYPE_F32                                        ? "model.dtype: bf16"
           : c->model.quantise != QUANTISE_INT8                                 ? "model.quantise: int8"
                                                                                : "";
}

static const char *lower_trained(const Config *c)
{
    const bool can_leave =
        !c->train.fused_backward && c->train.accumulate == 1 && c->model.dtype != DTYPE_F16;
    return c->method.kind == METHOD_LORA ? "method.rank"
           : can_leave                   ? "train.fused_backward: true"
                                         : "method.kind: lora";
}

void largest_part(const Setup *s, Largest *out)
{
    const MemoryNeed *m = &s->memory;
    *out = (Largest){.bytes = 0};
    set_arena(s, out);
    set(out, m->weights, "the weights", lower_weights(s->config));
    set(out, m->optimizer, "the optimizer's state", "optimizer.kind: adamw8bit");
    set(out, m->gradients, "the gradients", lower_trained(s->config));
    set(out, m->other, "the program and its libraries", "");
}
