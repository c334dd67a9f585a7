#include "parameters.h"

#include "infer/adapters/adapters.h"
#include "kernels/base/mem.h"
#include "kernels/base/random.h"

#include <math.h>
#include <string.h>

/* f32 storage, cleared; of a described model's parameters only the shape. */
static Tensor *new_tensor(const Parameters *p, int ndim, const int64_t *shape)
{
    return p->described ? tensor_shape_only(DTYPE_F32, ndim, shape) : tensor_new(DTYPE_F32, ndim, shape);
}

/* Makes t trained: a gradient of its own, cleared. */
static Status make_trained(const Parameters *p, Tensor *t)
{
    t->requires_grad = true;
    if (!t->grad)
        t->grad = new_tensor(p, t->ndim, t->shape);
    return t->grad ? STATUS_OK : STATUS_FAILED;
}

/* Lists weight under name (owned from here on). */
static Status list_add(Parameters *p, const Config *config, char *name, Tensor *weight, bool text_encoder)
{
    if (!name)
        return STATUS_FAILED;
    if (p->count == p->capacity) {
        const int capacity = p->capacity ? p->capacity * 2 : 256;
        Parameter *items = mem_realloc(p->items, (size_t)capacity * sizeof *items);
        if (!items) {
            mem_free(name);
            return STATUS_FAILED;
        }
        p->items = items;
        p->capacity = capacity;
    }
    Parameter *q = &p->items[p->count++];
    *q = (Parameter){.name = name, .weight = weight, .text_encoder = text_encoder};
    q->m = new_tensor(p, weight->ndim, weight->shape);
    q->v = new_tensor(p, weight->ndim, weight->shape);
    if (!q->m || !q->v)
        return STATUS_FAILED;
    if (config->train.ema > 0) {
        q->average = new_tensor(p, weight->ndim, weight->shape);
        if (!q->average)
            return STATUS_FAILED;
        if (!p->described)
            memcpy(q->average->data, weight->data, tensor_bytes(weight));
    }
    return STATUS_OK;
}

/* LoRA ------------------------------------------------------------------------------------------------- */

/* down: kaiming_uniform(a = √5), that is U(±1/√inputs), as sd-scripts has it, or N(0, 1/rank) as peft's
 * "gaussian" (its deviation is 1/rank). up stays 0, so that training starts from the base model. */
static void adapter_init(Adapter *a, LoraInit init, uint64_t seed, int number)
{
    const RandomKey key = {.seed = seed, .step = (uint32_t)number, .purpose = RANDOM_ADAPTER};
    float *w = a->down->data;
    const int64_t rank = a->down->shape[0], n = tensor_count(a->down);
    if (init == LORA_INIT_GAUSSIAN) {
        random_normal(key, w, (size_t)n);
        for (int64_t i = 0; i < n; i++)
            w[i] /= (float)rank;
        return;
    }
    const double bound = 1 / sqrt((double)(n / rank));
    for (int64_t i = 0; i < n; i++)
        w[i] = (float)((2 * random_uniform(key, (uint32_t)i) - 1) * bound);
}

static Status adapter_new(const Parameters *p, const Config *config, LoraModule *module, int number)
{
    const Tensor *w = module->layer->weight;
    const int64_t rank = config->method.rank, out = w->shape[0];
    const int64_t in = tensor_count(w) / out;
    const int ndim = w->ndim; /* a 1×1 convolution's adapter keeps the file's two more dimensions */
    Adapter *a = &module->adapter;
    a->down = new_tensor(p, ndim, (int64_t[]){rank, in, 1, 1});
    a->up = new_tensor(p, ndim, (int64_t[]){out, rank, 1, 1});
    if (!a->down || !a->up)
        return STATUS_FAILED;
    a->scale = config->method.alpha / (float)config->method.rank;
    if (!p->described)
        adapter_init(a, config->method.init, config->train.seed, number);
    TRY(make_trained(p, a->down));
    TRY(make_trained(p, a->up));
    a->next = module->layer->adapters;
    module->layer->adapters = a;
    return STATUS_OK;
}

static Status lora_add(Parameters *p, const Config *config, Layer **layers, int count, bool text_encoder)
{
    for (int i = 0; i < count; i++) {
        LoraModule *module = &p->modules[p->module_count];
        module->layer = layers[i];
        module->text_encoder = text_encoder;
        TRY(lora_kohya_name(layers[i], text_encoder, module->kohya, sizeof module->kohya));
        p->module_count++; /* from here on parameters_free takes care of it */
        TRY(adapter_new(p, config, module, p->module_count - 1));
        TRY(list_add(p, config, mem_printf("%s.lora_down.weight", module->kohya), module->adapter.down,
                     text_encoder));
        TRY(list_add(p, config, mem_printf("%s.lora_up.weight", module->kohya), module->adapter.up,
                     text_encoder));
    }
    return STATUS_OK;
}

static Status lora_attach_all(Parameters *p, const Config *config, Model *m)
{
    Layer **unet = NULL, **text = NULL;
    int unet_count = 0, text_count = 0;
    Status s =
        lora_unet_layers(m, config->method.targets == TARGETS_ATTENTION ? LORA_ATTENTION : LORA_ATTENTION_MLP,
                         &unet, &unet_count);
    if (s == STATUS_OK && config->method.text_encoder)
        s = lora_text_layers(m, &text, &text_count);
    if (s == STATUS_OK) {
        p->modules = mem_calloc((size_t)(unet_count + text_count), sizeof *p->modules);
        p->alpha = tensor_new(DTYPE_F32, 0, NULL);
        s = p->modules && p->alpha ? STATUS_OK : STATUS_FAILED;
    }
    if (s == STATUS_OK)
        tensor_set_at(p->alpha, 0, (double)config->method.alpha);
    if (s == STATUS_OK)
        s = lora_add(p, config, unet, unet_count, false);
    if (s == STATUS_OK)
        s = lora_add(p, config, text, text_count, true);
    p->layer_count = p->module_count;
    mem_free(unet);
    mem_free(text);
    return s;
}

/* Full ------------------------------------------------------------------------------------------------- */

static Status full_add(Parameters *p, const Config *config, LayerSet *set, const char *part,
                       bool text_encoder)
{
    TRY(layerset_train(set));
    for (int i = 0; i < set->count; i++) {
        Layer *l = set->items[i];
        if (l->weight)
            TRY(list_add(p, config, mem_printf("%s.%s.weight", part, l->name), l->weight, text_encoder));
        if (l->bias)
            TRY(list_add(p, config, mem_printf("%s.%s.bias", part, l->name), l->bias, text_encoder));
    }
    p->layer_count += set->count;
    return STATUS_OK;
}

Status parameters_new(const Config *config, Model *m, Parameters **out)
{
    Parameters *p = mem_calloc(1, sizeof *p);
    if (!p)
        return STATUS_FAILED;
    p->described = unet_layers(m->unet)->described;
    Status s;
    if (config->method.kind == METHOD_LORA) {
        s = lora_attach_all(p, config, m);
    } else {
        s = full_add(p, config, unet_layers(m->unet), "unet", false);
        if (s == STATUS_OK && config->method.text_encoder)
            s = full_add(p, config, clip_layers(m->clip), "text_encoder", true);
    }
    if (s != STATUS_OK) {
        parameters_free(p);
        return s;
    }
    *out = p;
    return STATUS_OK;
}

/* Takes an adapter out of its layer's list. */
static void adapter_detach(LoraModule *module)
{
    for (Adapter **a = &module->layer->adapters; *a; a = &(*a)->next)
        if (*a == &module->adapter) {
            *a = module->adapter.next;
            break;
        }
    tensor_free(module->adapter.down);
    tensor_free(module->adapter.up);
}

void parameters_free(Parameters *p)
{
    if (!p)
        return;
    parameters_swap_averages(p->averaged ? p : NULL);
    for (int i = 0; i < p->count; i++) {
        mem_free(p->items[i].name);
        tensor_free(p->items[i].m);
        tensor_free(p->items[i].v);
        tensor_free(p->items[i].average);
    }
    for (int i = 0; i < p->module_count; i++)
        adapter_detach(&p->modules[i]);
    tensor_free(p->alpha);
    mem_free(p->modules);
    mem_free(p->items);
    mem_free(p);
}

int64_t parameters_elements(const Parameters *p)
{
    int64_t n = 0;
    for (int i = 0; i < p->count; i++)
        n += tensor_count(p->items[i].weight);
    return n;
}

size_t parameters_optimizer_bytes(const Parameters *p)
{
    size_t bytes = 0;
    for (int i = 0; i < p->count; i++)
        bytes += tensor_bytes(p->items[i].weight) * (p->items[i].average ? 3 : 2);
    return bytes;
}

void parameters_zero_gradients(Parameters *p)
{
    for (int i = 0; i < p->count; i++)
        memset(p->items[i].weight->grad->data, 0, tensor_bytes(p->items[i].weight->grad));
}

void parameters_swap_averages(Parameters *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->count; i++) {
        Parameter *q = &p->items[i];
        if (!q->average)
            continue;
        void *data = q->weight->data;
        q->weight->data = q->average->data;
        q->average->data = data;
    }
    p->averaged = !p->averaged;
}
