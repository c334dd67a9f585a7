#include "memory_limit.h"

#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/device.h"

#include <stdio.h>
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
        return status_refuse("sample: --max-memory %s: is no size; write 2G, 1500M, or bytes", text);
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

static Status need(const SampleArguments *a, const Device *dev, DType dtype, const SampleRequest *r,
                   bool int8, size_t *bytes)
{
    Model *m = NULL;
    Status s = model_open(&(ModelRequest){.name = a->model,
                                          .parts = MODEL_ALL,
                                          .dtype = dtype,
                                          .quantised = int8 ? MODEL_UNET | MODEL_TEXT : 0,
                                          .described = true},
                          &m);
    if (s == STATUS_OK) {
        Ctx *c = ctx_new(dev, &(CtxOptions){.dtype = dtype, .threads = a->threads});
        s = c ? need_of(m, c, r, bytes) : STATUS_FAILED;
        ctx_free(c);
    }
    model_free(m);
    return s;
}

/* What is left of the saving where something was asked for by name. */
static Saving allowed(const SampleArguments *a, Saving s, DType dtype)
{
    if (strcmp(a->vae_tile, "auto") != 0 || a->request.wrap)
        s.tile = 0;
    s.half = s.half && !a->dtype_given && dtype == DTYPE_F32;
    s.int8 = s.int8 && !a->quantise_given;
    return s;
}

static Status try_saving(const SampleArguments *a, const Device *dev, DType dtype, Saving s, size_t *bytes)
{
    SampleRequest r = a->request;
    if (s.tile)
        r.vae_tile = s.tile;
    return need(a, dev, s.half ? DTYPE_BF16 : dtype, &r, s.int8 || !strcmp(a->quantise, "int8"), bytes);
}

static void take(SampleArguments *a, Saving s, DType *dtype, size_t bytes)
{
    char tiles[64] = "";
    if (s.tile) {
        a->request.vae_tile = s.tile;
        snprintf(tiles, sizeof tiles, ", the VAE by tiles of %d pixels", s.tile);
    }
    if (s.half)
        *dtype = DTYPE_BF16;
    if (s.int8)
        a->quantise = "int8";
    log_info("--max-memory %s: %.0f MB are needed in %s%s%s", a->max_memory, (double)bytes / MEGA,
             dtype_name(*dtype), !strcmp(a->quantise, "int8") ? ", UNet and text encoder in 8 bits" : "",
             tiles);
}

Status memory_limit_apply(SampleArguments *a, const Device *dev, DType *dtype)
{
    size_t limit, bytes = 0, least = SIZE_MAX;
    TRY(memory_limit_parse(a->max_memory, &limit));
    for (int i = 0; i < SAVING_COUNT; i++) {
        const Saving s = allowed(a, SAVINGS[i], *dtype);
        TRY(try_saving(a, dev, *dtype, s, &bytes));
        if (bytes <= limit) {
            take(a, s, dtype, bytes);
            return STATUS_OK;
        }
        least = bytes < least ? bytes : least;
    }
    return status_refuse(
        "sample: --max-memory %s: the least that this picture needs is %.0f MB; ask for a smaller "
        "--width and --height%s",
        a->max_memory, (double)least / MEGA,
        a->dtype_given || a->quantise_given ? ", or leave --dtype and --quantise away" : "");
}
