#include "memory_limit.h"

#include "infer/adapters/adapters.h"
#include "infer/models/parts.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
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
        return status_refuse("%s: is no size; write 2G, 1500M, or bytes", text);
    *bytes = (size_t)(number * unit);
    return STATUS_OK;
}

static size_t bytes_of(const Tensor *t)
{
    return t ? tensor_bytes(t) : 0;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t adapters_bytes(const Layer *l)
{
    size_t bytes = 0;
    for (const Adapter *a = l->adapters; a; a = a->next) {
        for (int i = 0; i < ADAPTER_TENSORS; i++)
            bytes += bytes_of(a->tensors[i]);
        bytes += bytes_of(a->weight_factor) + bytes_of(a->delta_factor);
    }
    return bytes;
}

/* Of a file that is read as it lies. */
static bool is_mapped(const Tensor *t)
{
    return t && t->data && !t->owned;
}

/* times: how often what waits is fetched. *touched: what is there once the part has been used, and can be
 * given back. */
static void add_layers(const LayerSet *set, int times, MemoryUse *use, size_t *touched)
{
    size_t waiting = 0;
    *touched = 0;
    for (int i = 0; i < set->count; i++) {
        const Layer *l = set->items[i];
        if (l->streamed)
            waiting += bytes_of(l->weight);
        else if (!l->packed_only) /* whose other form is the device's only one */
            *(is_mapped(l->weight) ? touched : &use->bytes) += bytes_of(l->weight);
        else if (l->weight->owned || l->weight->scales) /* in 8 bits it is rounded while it is loaded */
            use->host += bytes_of(l->weight);
        use->bytes += bytes_of(l->weight ? l->weight->scales : NULL) + bytes_of(l->bias) + adapters_bytes(l);
        *touched += layerset_packed_bytes(set, l);
    }
    use->host += waiting;
    use->moved += times * (double)waiting;
}

/* All parts' weights. On the processor what a part has touched is given back when the next one's turn comes,
 * as pipeline_rest() has it. */
static void add_parts(const Model *m, const Device *dev, int steps, MemoryUse *use)
{
    size_t touched[PART_COUNT] = {0};
    for (int i = 0; i < PART_COUNT; i++)
        if (part_network((PartId)i, m))
            add_layers(part_layers((PartId)i, m), i == PART_UNET ? steps : 1, use, &touched[i]);
    const size_t texts = touched[PART_TEXT] + touched[PART_TEXT_2], unet = touched[PART_UNET],
                 vae = touched[PART_VAE];
    if (!dev->host_memory)
        use->bytes += texts + unet + vae;
    else if (m->offload == OFFLOAD_ALL)
        use->bytes += larger(texts, larger(unet, vae));
    else
        use->bytes += larger(texts, unet + vae);
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

/* A picture made that way, beside what the program has: `taken`. The model is described, not loaded; its
 * adapters are attached. */
static Status need_of(Model *m, Ctx *c, const SampleRequest *r, size_t taken, MemoryUse *use)
{
    Pipeline *p;
    SampleRequest sized = *r;
    int steps = 0;
    *use = (MemoryUse){0};
    TRY(pipeline_new(c, m, &p));
    Status s = pipeline_choose_size(m, &sized);
    if (s == STATUS_OK)
        s = pipeline_plan(p, &sized, &use->bytes);
    if (s == STATUS_OK)
        s = pipeline_steps(m, &sized, &steps);
    use->flop = s == STATUS_OK ? pipeline_flop(p, &sized) : 0;
    pipeline_free(p);
    if (s != STATUS_OK)
        return s;
    add_parts(m, c->dev, steps, use);
    *(c->dev->host_memory ? &use->bytes : &use->host) += taken + UNCOUNTED_BYTES + host_bytes(m, &sized);
    return STATUS_OK;
}

typedef struct Attached {
    Model *m;
    const MemoryPicture *of; /* NULL: none yet */
    LoraFile **files;
    int count;
} Attached;

static void detach(Attached *a)
{
    while (a->count > 0)
        lora_detach(a->files[--a->count]);
    mem_free(a->files);
    *a = (Attached){.m = a->m};
}

static bool same_loras(const MemoryPicture *a, const MemoryPicture *b)
{
    bool same = a->lora_count == b->lora_count;
    for (int i = 0; same && i < a->lora_count; i++)
        same = strcmp(a->loras[i].path, b->loras[i].path) == 0 &&
               adapter_strength_same(&a->loras[i].strength, &b->loras[i].strength);
    return same;
}

/* The picture's adapters in place of those of the picture before. */
static Status attach(Attached *a, const MemoryPicture *picture)
{
    if (a->of && same_loras(a->of, picture))
        return STATUS_OK;
    detach(a);
    a->files = mem_calloc((size_t)picture->lora_count + 1, sizeof *a->files);
    if (!a->files)
        return STATUS_FAILED;
    for (; a->count < picture->lora_count; a->count++)
        TRY(lora_attach_as(a->m, picture->loras[a->count].path, &picture->loras[a->count].strength,
                           &a->files[a->count]));
    a->of = picture;
    return STATUS_OK;
}

/* What the picture that needs most needs. */
static Status need_of_all(const MemoryChoice *m, Model *model, Ctx *c, int tile, MemoryUse *use)
{
    const size_t taken = machine_current_bytes();
    Attached attached = {.m = model};
    Status s = STATUS_OK;
    *use = (MemoryUse){0};
    for (int i = 0; s == STATUS_OK && i < m->count; i++) {
        SampleRequest r = *m->pictures[i].request;
        MemoryUse one = {0};
        r.vae_tile = m->keep_tile ? r.vae_tile : tile;
        s = attach(&attached, &m->pictures[i]);
        if (s == STATUS_OK)
            s = need_of(model, c, &r, taken, &one);
        *use = one.bytes > use->bytes ? one : *use;
    }
    detach(&attached);
    return s;
}

Status memory_use(const MemoryChoice *m, const MemoryWay *way, MemoryUse *use)
{
    Model *model = NULL;
    Status s = model_open(&(ModelRequest){.name = m->model,
                                          .vae = m->vae,
                                          .ema = m->ema,
                                          .parts = MODEL_ALL,
                                          .dtype = way->dtype,
                                          .quantised = way->int8 ? MODEL_UNET | MODEL_TEXT : 0,
                                          .described = true},
                          &model);
    if (s == STATUS_OK) {
        model->offload = way->offload;
        Ctx *c = ctx_new(m->dev, &(CtxOptions){.dtype = way->dtype, .tf32 = m->tf32, .threads = m->threads});
        s = c ? need_of_all(m, model, c, way->tile, use) : STATUS_FAILED;
        ctx_free(c);
    }
    model_free(model);
    return s;
}

static bool one_wraps(const MemoryChoice *m)
{
    for (int i = 0; i < m->count; i++)
        if (m->pictures[i].request->wrap)
            return true;
    return false;
}

/* ", or leave --dtype and --quantise away": what was asked for and takes more than what would be chosen. */
static Status refuse(const MemoryChoice *m, size_t least)
{
    const char *const away[] = {m->keep_dtype && m->dtype == DTYPE_F32 ? "--dtype" : NULL,
                                m->keep_int8 && !m->int8 ? "--quantise" : NULL,
                                m->keep_tile && !m->tile ? "--vae-tile" : NULL};
    char names[64] = "";
    for (int i = 0; i < 3; i++)
        if (away[i])
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
                     names[0] ? " and " : ", or leave ", away[i]);
    return status_refuse("the least that %s is %.0f MB; ask for a smaller --width and --height%s%s",
                         m->count > 1 ? "the picture that needs most needs" : "this picture needs",
                         (double)least / MEGA, names, names[0] ? " away" : "");
}

Status memory_limit_choose(MemoryChoice *m, size_t limit)
{
    size_t least = SIZE_MAX;
    for (int i = 0; i < SAVING_COUNT; i++) {
        const Saving *s = &SAVINGS[i];
        const bool half = s->half && !m->keep_dtype && m->dtype == DTYPE_F32;
        const bool int8 = m->int8 || (s->int8 && !m->keep_int8);
        const int tile = s->tile && !m->keep_tile && !one_wraps(m) ? s->tile : m->tile;
        const DType dtype = half ? DTYPE_BF16 : m->dtype;
        MemoryUse use;
        TRY(memory_use(m, &(MemoryWay){dtype, int8, tile, m->offload}, &use));
        m->bytes = use.bytes;
        if (m->bytes <= limit) {
            m->dtype = dtype;
            m->int8 = int8;
            m->tile = tile;
            return STATUS_OK;
        }
        least = m->bytes < least ? m->bytes : least;
    }
    return refuse(m, least);
}
