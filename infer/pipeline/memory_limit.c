#include "memory_limit.h"

#include "kernels/base/machine.h"
#include "kernels/device.h"

#include <stdlib.h>
#include <string.h>

#define UNCOUNTED_BYTES (16u << 20) /* code, stacks, texts, the picture's file */
#define MEGA 1000000.0

/* Ways to take less memory, each with the ones before it that were not asked otherwise: what costs least
 * comes first. */
typedef struct Saving {
    int tile; /* pixels; 0: the VAE at once */
    bool half, int8;
} Saving;
static const Saving SAVINGS[] = {{0, false, false},  {512, false, false}, {0, true, false},
                                 {512, true, false}, {512, true, true},   {256, true, true}};
#define SAVING_COUNT ((int)(sizeof SAVINGS / sizeof *SAVINGS))

Status memory_limit_parse(const char *text, size_t *bytes)
{
    char *end;
    const double number = strtod(text, &end);
    const double unit = !strcmp(end, "G") || !strcmp(end, "GB")   ? 1e9
                        : !strcmp(end, "M") || !strcmp(end, "MB") ? 1e6
                        : !strcmp(end, "")                        ? 1
                                                                  : 0;
    if (end == text || !(unit > 0) || !(number > 0) || !(number * unit < 1e18))
        return status_refuse("%s: is no size; write 2G, 1500M, or bytes", text);
    *bytes = (size_t)(number * unit);
    return STATUS_OK;
}

static size_t layers_bytes(const LayerSet *set)
{
    size_t bytes = 0;
    for (int i = 0; i < set->count; i++) {
        const Layer *l = set->items[i];
        bytes += l->weight ? tensor_bytes(l->weight) : 0;
        bytes += l->weight && l->weight->scales ? tensor_bytes(l->weight->scales) : 0;
        bytes += l->bias ? tensor_bytes(l->bias) : 0;
        bytes += layerset_packed_bytes(set, l);
    }
    return bytes;
}

/* What lies beside the arena: the picture as floats and as bytes, and between the VAE's halves. */
static size_t host_bytes(const Model *m, const SampleRequest *r)
{
    const size_t pixels = (size_t)size_area(r->size);
    const size_t between = r->vae_tile ? pixels / (size_t)(vae_factor(m->vae) * vae_factor(m->vae)) *
                                             (size_t)vae_inner_channels(m->vae, false) * sizeof(float)
                                       : 0;
    return pixels * (3 * sizeof(float) + 3 + 4) + between;
}

/* Of the device's memory, for a's picture made that way. The model is described, not loaded. */
static Status need_of(Model *m, Ctx *c, const SampleRequest *r, size_t *bytes)
{
    Pipeline *p;
    size_t arena = 0;
    SampleRequest sized = *r;
    TRY(pipeline_new(c, m, &p));
    Status s = pipeline_choose_size(m, &sized);
    if (s == STATUS_OK)
        s = pipeline_plan(p, &sized, &arena);
    pipeline_free(p);
    if (s != STATUS_OK)
        return s;
    *bytes = arena + layers_bytes(unet_layers(m->unet)) + layers_bytes(clip_layers(m->clip)) +
             layers_bytes(vae_layers(m->vae));
    if (c->dev->host_memory)
        *bytes += machine_current_bytes() + UNCOUNTED_BYTES + host_bytes(m, &sized);
    return STATUS_OK;
}

static Status need(const MemoryChoice *m, DType dtype, bool int8, int tile, size_t *bytes)
{
    Model *model = NULL;
    SampleRequest r = *m->request;
    r.vae_tile = tile;
    Status s = model_open(&(ModelRequest){.name = m->model,
                                          .parts = MODEL_ALL,
                                          .dtype = dtype,
                                          .quantised = int8 ? MODEL_UNET | MODEL_TEXT : 0,
                                          .described = true},
                          &model);
    if (s == STATUS_OK) {
        Ctx *c = ctx_new(m->dev, &(CtxOptions){.dtype = dtype, .threads = m->threads});
        s = c ? need_of(model, c, &r, bytes) : STATUS_FAILED;
        ctx_free(c);
    }
    model_free(model);
    return s;
}

Status memory_limit_choose(MemoryChoice *m, size_t limit)
{
    size_t least = SIZE_MAX;
    for (int i = 0; i < SAVING_COUNT; i++) {
        const Saving *s = &SAVINGS[i];
        const bool half = s->half && !m->keep_dtype && m->dtype == DTYPE_F32;
        const bool int8 = m->int8 || (s->int8 && !m->keep_int8);
        const int tile = s->tile && !m->keep_tile && !m->request->wrap ? s->tile : m->tile;
        const DType dtype = half ? DTYPE_BF16 : m->dtype;
        TRY(need(m, dtype, int8, tile, &m->bytes));
        if (m->bytes <= limit) {
            m->dtype = dtype;
            m->int8 = int8;
            m->tile = tile;
            return STATUS_OK;
        }
        least = m->bytes < least ? m->bytes : least;
    }
    return status_refuse(
        "the least that this picture needs is %.0f MB; ask for a smaller --width and --height%s",
        (double)least / MEGA, m->keep_dtype || m->keep_int8 ? ", or leave --dtype and --quantise away" : "");
}
