#include "parameters.h"

#include "infer/adapters/adapters.h"
#include "infer/adapters/keys.h"
#include "infer/models/parts.h"
#include "kernels/adapter.h"
#include "kernels/base/mem.h"
#include "kernels/base/random.h"
#include "kernels/state8.h"

#include <math.h>
#include <string.h>

/* Lists weight under name (owned from here on), which has just been taken from the blocks. */
static Status list_add(Parameters *p, char *name, Tensor *weight, ParameterGroup group)
{
    if (!name)
        return STATUS_FAILED;
    int room = p->capacity; /* both lists have the same */
    if (!mem_grow(&p->segments, p->count, &room, sizeof *p->segments) ||
        !mem_grow(&p->items, p->count, &p->capacity, sizeof *p->items)) {
        mem_free(name);
        return STATUS_FAILED;
    }
    const int64_t count = tensor_count(weight);
    p->items[p->count] = (Parameter){.name = name, .weight = weight};
    p->segments[p->count++] = (Segment){.first = p->placed, .count = count, .group = (int)group};
    p->groups |= 1 << group;
    p->placed += flat_room(count);
    return STATUS_OK;
}

static ParameterGroup group_of(PartId part)
{
    return part == PART_TEXT ? GROUP_TEXT : part == PART_TEXT_2 ? GROUP_TEXT_2 : GROUP_UNET;
}

/* LoRA ------------------------------------------------------------------------------------------------- */

/* down: kaiming_uniform(a = √5), that is U(±1/√inputs), as sd-scripts has it, or N(0, 1/rank) as peft's
 * "gaussian" (its deviation is 1/rank). up stays 0, so that training starts from the base model. */
static Status adapter_init(Adapter *a, LoraInit init, uint64_t seed, int number)
{
    const RandomKey key = {.seed = seed, .step = (uint32_t)number, .purpose = RANDOM_ADAPTER};
    const int64_t rank = a->tensors[LORA_DOWN]->shape[0], n = tensor_count(a->tensors[LORA_DOWN]);
    float *w = mem_alloc((size_t)n * sizeof *w);
    if (!w)
        return STATUS_FAILED;
    if (init == LORA_INIT_GAUSSIAN) {
        random_normal(key, w, (size_t)n);
        for (int64_t i = 0; i < n; i++)
            w[i] /= (float)rank;
    } else {
        const double bound = 1 / sqrt((double)(n / rank));
        for (int64_t i = 0; i < n; i++)
            w[i] = (float)((2 * random_uniform(key, (uint32_t)i) - 1) * bound);
    }
    const Status s = tensor_put(a->tensors[LORA_DOWN], w, DTYPE_F32);
    mem_free(w);
    return s;
}

/* What a layer's adapter takes of a block. */
static int64_t adapter_room(const Layer *l, int64_t rank)
{
    const int64_t out = l->weight->shape[0], in = tensor_count(l->weight) / out;
    return flat_room(rank * in) + flat_room(out * rank);
}

static Status adapter_new(Parameters *p, const Config *config, LoraModule *module, int number)
{
    const Tensor *w = module->layer->weight;
    const int64_t rank = config->method.rank, out = w->shape[0];
    const int64_t in = tensor_count(w) / out;
    const int ndim = w->ndim; /* a 1×1 convolution's adapter keeps the file's two more dimensions */
    Adapter *a = &module->adapter;
    a->kind = &adapter_lora;
    a->tensors[LORA_DOWN] = flat_take(&p->flat, ndim, (int64_t[]){rank, in, 1, 1});
    a->tensors[LORA_UP] = flat_take(&p->flat, ndim, (int64_t[]){out, rank, 1, 1});
    if (!a->tensors[LORA_DOWN] || !a->tensors[LORA_UP])
        return STATUS_FAILED;
    a->scale = config->method.alpha / (float)config->method.rank;
    if (a->tensors[LORA_DOWN]->data)
        TRY(adapter_init(a, config->method.init, config->train.seed, number));
    layer_attach(module->layer, a);
    return STATUS_OK;
}

static Status lora_add(Parameters *p, const Config *config, PartId part, Layer **layers, int count)
{
    const ParameterGroup group = group_of(part);
    for (int i = 0; i < count; i++) {
        LoraModule *module = &p->modules[p->module_count];
        module->part = part;
        module->layer = layers[i];
        p->module_count++; /* from here on parameters_free takes care of it */
        TRY(adapter_new(p, config, module, p->module_count - 1));
        const Adapter *a = &module->adapter;
        const AdapterLayer layer = {p->model, part, layers[i]->name};
        for (int r = 0; r < ADAPTER_TENSORS; r++)
            if (a->tensors[r])
                TRY(list_add(p, adapter_key(SPELLED_KOHYA, &layer, a->kind, r), a->tensors[r], group));
    }
    return STATUS_OK;
}

/* The layers of a part that get an adapter. */
typedef struct PartLayers {
    PartId part;
    Layer **layers;
    int count;
} PartLayers;

/* Room for the adapters of all these layers. */
static Status lora_room(Parameters *p, const Config *config, bool described, const PartLayers parts[],
                        int part_count)
{
    int64_t size = 0;
    int count = 0;
    for (int k = 0; k < part_count; k++) {
        for (int i = 0; i < parts[k].count; i++)
            size += adapter_room(parts[k].layers[i], config->method.rank);
        count += parts[k].count;
    }
    p->modules = mem_calloc((size_t)count, sizeof *p->modules);
    p->alpha = tensor_new(DTYPE_F32, 0, NULL);
    if (!p->modules || !p->alpha)
        return STATUS_FAILED;
    tensor_set_at(p->alpha, 0, (double)config->method.alpha);
    return flat_new(&p->flat, p->dev, NULL, size, described);
}

/* The UNet, and the text encoders that the configuration names; returns how many. */
#define TRAINED_PARTS 3
static int trained_parts(const Config *config, const Model *m, PartLayers out[TRAINED_PARTS])
{
    int count = 0;
    out[count++] = (PartLayers){.part = PART_UNET};
    if (config_trains_text(config, 0))
        out[count++] = (PartLayers){.part = PART_TEXT};
    if (config_trains_text(config, 1) && m->clip_2)
        out[count++] = (PartLayers){.part = PART_TEXT_2};
    return count;
}

static Status lora_attach_all(Parameters *p, const Config *config, Model *m, bool described)
{
    PartLayers parts[TRAINED_PARTS];
    const int count = trained_parts(config, m, parts);
    const LoraTargets targets =
        config->method.targets == TARGETS_ATTENTION ? LORA_ATTENTION : LORA_ATTENTION_MLP;
    Status s = STATUS_OK;
    for (int k = 0; k < count && s == STATUS_OK; k++)
        s = parts[k].part == PART_UNET
                ? lora_unet_layers(m, targets, &parts[k].layers, &parts[k].count)
                : lora_text_layers(m, parts[k].part, &parts[k].layers, &parts[k].count);
    if (s == STATUS_OK)
        s = lora_room(p, config, described, parts, count);
    for (int k = 0; k < count && s == STATUS_OK; k++)
        s = lora_add(p, config, parts[k].part, parts[k].layers, parts[k].count);
    p->layer_count = p->module_count;
    for (int k = 0; k < count; k++)
        mem_free(parts[k].layers);
    return s;
}

/* Full ------------------------------------------------------------------------------------------------- */

static Status full_add(Parameters *p, LayerSet *set, PartId part)
{
    const ParameterGroup group = group_of(part);
    const char *folder = PARTS[part].folder;
    TRY(layerset_train(set, &p->flat));
    const int count = set->count - set->idle;
    for (int i = 0; i < count; i++) {
        Layer *l = set->items[i];
        if (l->weight)
            TRY(list_add(p, mem_printf("%s.%s.weight", folder, l->name), l->weight, group));
        if (l->bias)
            TRY(list_add(p, mem_printf("%s.%s.bias", folder, l->name), l->bias, group));
    }
    p->layer_count += count;
    return STATUS_OK;
}

static Status full_add_all(Parameters *p, const Config *config, Model *m, bool described)
{
    PartLayers parts[TRAINED_PARTS];
    const int count = trained_parts(config, m, parts);
    int64_t room = 0;
    conditioning_mark_idle(m);
    for (int k = 0; k < count; k++)
        room += layerset_room(part_layers(parts[k].part, m));
    TRY((config->train.fused_backward ? flat_new_apart : flat_new)(&p->flat, p->dev, p->steps_on, room,
                                                                   described));
    for (int k = 0; k < count; k++)
        TRY(full_add(p, part_layers(parts[k].part, m), parts[k].part));
    mem_give_back(); /* where the weights lay: the optimizer's blocks come on top */
    return STATUS_OK;
}

/* The blocks beside weights and gradients ---------------------------------------------------------------- */

/* Bytes of tensors [first, end) of the list in a state of codes. */
static int64_t codes_room(const Parameters *p, int first, int end)
{
    int64_t bytes = 0;
    for (int k = first; k < end; k++)
        bytes += state8_room(p->segments[k].count);
    return bytes;
}

static Tensor *state_block(const Parameters *p)
{
    const Share *s = &p->share;
    return p->optimizer->codes ? flat_beside(&p->flat, DTYPE_U8, codes_room(p, s->first, s->first + s->count))
                               : flat_beside(&p->flat, DTYPE_F32, share_numbers(s));
}

/* The averages begin as the weights. */
static Status new_averages(Parameters *p)
{
    p->averages = flat_beside(&p->flat, DTYPE_F32, share_numbers(&p->share));
    if (!p->averages)
        return STATUS_FAILED;
    if (!p->averages->data || share_numbers(&p->share) == 0)
        return STATUS_OK;
    Tensor *weights = share_part(&p->share, p->flat.weights);
    const Status s = weights ? tensor_copy(p->averages, weights) : STATUS_FAILED;
    tensor_free(weights);
    return s;
}

static Status add_blocks(Parameters *p, const Config *config)
{
    p->numbers = p->dev->memory_new(sizeof *p->numbers);
    if (!p->numbers)
        return STATUS_FAILED;
    TRY(p->dev->clear(p->numbers, sizeof *p->numbers));
    for (int i = 0; i < optimizer_states(p->optimizer); i++) {
        p->states[i] = state_block(p);
        if (!p->states[i])
            return STATUS_FAILED;
    }
    Update u = {.segments = p->share.segments, .count = p->share.count};
    p->optimizer->set(&config->optimizer.settings, &u);
    TRY(p->dev->update_scratch(&u, &p->scratch_bytes));
    if (!p->flat.described && p->scratch_bytes > 0) {
        p->scratch = p->dev->memory_new(p->scratch_bytes);
        if (!p->scratch)
            return STATUS_FAILED;
    }
    return config->train.ema > 0 ? new_averages(p) : STATUS_OK;
}

Status parameters_new(const Config *config, const Device *dev, Comm *comm, Model *m, Parameters **out)
{
    Parameters *p = mem_calloc(1, sizeof *p);
    if (!p)
        return STATUS_FAILED;
    p->dev = dev;
    p->model = m;
    p->share.comm = comm_alone();
    if (config->method.kind == METHOD_FULL && !dev->host_memory && m->offload == OFFLOAD_ALL) {
        p->steps_on = dev;
        p->dev = config->train.fused_backward ? dev : device_cpu();
    }
    p->optimizer = optimizer_at(config->optimizer.kind);
    const bool described = unet_layers(m->unet)->described;
    Status s = config->method.kind == METHOD_LORA ? lora_attach_all(p, config, m, described)
                                                  : full_add_all(p, config, m, described);
    if (s == STATUS_OK)
        s = share_new(config->train.reproducible == SUMS_FAST ? comm : comm_alone(), p->segments, p->count,
                      p->flat.size, &p->share);
    if (s == STATUS_OK)
        s = add_blocks(p, config);
    if (s != STATUS_OK) {
        parameters_free(p);
        return s;
    }
    *out = p;
    return STATUS_OK;
}

static void adapter_detach(LoraModule *module)
{
    layer_detach(module->layer, &module->adapter);
    adapter_free_tensors(&module->adapter);
}

void parameters_free(Parameters *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->count; i++)
        mem_free(p->items[i].name);
    for (int i = 0; i < p->module_count; i++)
        adapter_detach(&p->modules[i]);
    for (int i = 0; i < UPDATE_STATES; i++)
        flat_block_free(&p->flat, p->states[i]);
    flat_block_free(&p->flat, p->averages);
    flat_free(&p->flat);
    tensor_free(p->alpha);
    if (p->recording)
        p->dev->forget(p->recording);
    p->dev->memory_free(p->numbers, sizeof *p->numbers);
    p->dev->memory_free(p->scratch, p->scratch_bytes);
    share_free(&p->share);
    mem_free(p->modules);
    mem_free(p->segments);
    mem_free(p->items);
    mem_free(p);
}

/* The whole ---------------------------------------------------------------------------------------------- */

/* The block has no more than this process's share. */
static bool is_share(const Parameters *p, const Tensor *block)
{
    const bool codes = block->dtype == DTYPE_U8;
    return tensor_count(block) != (codes ? codes_room(p, 0, p->count) : p->flat.size);
}

Tensor parameters_part(const Parameters *p, const Tensor *block, int i)
{
    Tensor t = *p->items[i].weight;
    const bool codes = block->dtype == DTYPE_U8, part = is_share(p, block);
    int64_t first = codes ? codes_room(p, part ? p->share.first : 0, i) : p->segments[i].first;
    if (part && !codes)
        first -= share_begin(&p->share);
    if (codes) {
        t.dtype = DTYPE_U8;
        t.ndim = 1;
        t.shape[0] = state8_room(p->segments[i].count);
    }
    const bool there = block->data && (!part || share_has(&p->share, i));
    t.data = there ? (char *)block->data + (size_t)first * dtype_size(t.dtype) : NULL;
    t.home = block->home;
    t.grad = NULL;
    t.requires_grad = false;
    return t;
}

int64_t parameters_elements(const Parameters *p)
{
    int64_t n = 0;
    for (int i = 0; i < p->count; i++)
        n += p->segments[i].count;
    return n;
}

size_t parameters_block_bytes(const Parameters *p)
{
    return tensor_bytes(p->flat.weights);
}

size_t parameters_optimizer_bytes(const Parameters *p)
{
    size_t bytes = p->averages ? tensor_bytes(p->averages) : 0;
    for (int i = 0; i < optimizer_states(p->optimizer); i++)
        bytes += tensor_bytes(p->states[i]);
    return bytes;
}

size_t parameters_all_optimizer_bytes(const Parameters *p)
{
    const size_t block = parameters_block_bytes(p),
                 state = p->optimizer->codes ? (size_t)codes_room(p, 0, p->count) : block;
    return (p->averages ? block : 0) + (size_t)optimizer_states(p->optimizer) * state;
}

Status parameters_zero_gradients(Parameters *p)
{
    return p->dev->fill(p->flat.gradients, 0);
}

Status parameters_place_gradients(Parameters *p, const size_t *at, size_t bytes)
{
    TRY(flat_gradients(&p->flat, (int64_t)(bytes / sizeof(float))));
    for (int i = 0; i < p->count; i++) {
        Tensor *g = p->items[i].weight->grad;
        g->data = (char *)p->flat.gradients->data + at[i];
        g->home = p->flat.gradients->home;
    }
    return STATUS_OK;
}

Status parameters_swap_averages(Parameters *p)
{
    const Share *s = &p->share;
    if (!p->averages)
        return STATUS_OK;
    if (share_numbers(s) > 0) {
        Tensor *weights = share_part(s, p->flat.weights);
        const Status exchanged = weights ? p->dev->exchange(weights, p->averages) : STATUS_FAILED;
        tensor_free(weights);
        TRY(exchanged);
        if (p->steps_on == p->dev) /* the host reads them where they lie */
            TRY(p->dev->settle());
    }
    return share_is_whole(s) ? STATUS_OK : comm_all_gather(s->comm, p->flat.weights, s->at);
}
