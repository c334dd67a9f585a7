/* Which tensors a part has, and under which of several spellings its files have them, its own constructor
 * knows: it is run without memory for the weights, and each layer's tensors are looked up once more. */
#include "stored.h"

#include "kernels/base/mem.h"

#include <string.h>

static Status add_tensor(StoredPart *p, const Layer *l, const char *ending, const Tensor *t)
{
    if (!mem_grow(&p->items, p->count, &p->capacity, sizeof *p->items))
        return STATUS_FAILED;
    StoredTensor s = {.name = mem_printf("%s.%s", l->name, ending), .ndim = t->ndim};
    if (!s.name)
        return STATUS_FAILED;
    for (int i = 0; i < t->ndim; i++)
        s.shape[i] = t->shape[i];
    p->items[p->count++] = s;
    return weights_find(p->weights, s.name, &p->items[p->count - 1].piece);
}

static Status add_layers(StoredPart *p, const LayerSet *set)
{
    for (int i = 0; i < set->count; i++) {
        const Layer *l = set->items[i];
        TRY(add_tensor(p, l, "weight", l->weight));
        if (l->weight->scales)
            TRY(add_tensor(p, l, "weight" WEIGHTS_SCALE, l->weight->scales));
        if (l->bias)
            TRY(add_tensor(p, l, "bias", l->bias));
    }
    return STATUS_OK;
}

Status stored_part_open(const Model *m, PartId id, StoredPart *out)
{
    const PartKind *kind = PARTS[id].kind;
    ModelShapes shapes;
    void *network = NULL;
    *out = (StoredPart){0};
    TRY(kind->parse(m->config_json[id], m->name, part_config(id, &shapes)));
    TRY(model_weights(m, id, &out->weights));
    if (!out->weights)
        return status_refuse("%s: has no weights of its %s", m->name, PARTS[id].folder);
    weights_describe(out->weights);
    Status s = kind->create(part_config(id, &shapes), out->weights, &network);
    if (s == STATUS_OK) {
        weights_warn_unused(out->weights, PARTS[id].unneeded);
        s = add_layers(out, kind->layers(network));
    }
    kind->destroy(network);
    if (s != STATUS_OK)
        stored_part_close(out);
    return s;
}

void stored_part_close(StoredPart *p)
{
    for (int i = 0; i < p->count; i++)
        mem_free(p->items[i].name);
    mem_free(p->items);
    weights_close(p->weights);
    *p = (StoredPart){0};
}

/* A weight in 8 bits and its scales are of no use in another type. */
static bool keeps_type(const StoredTensor *t)
{
    static const char ending[] = "weight" WEIGHTS_SCALE;
    const size_t n = strlen(t->name), end = sizeof ending - 1;
    return !element_is_float(t->piece.entry->type) || (n > end && !strcmp(t->name + n - end, ending));
}

SafeItem stored_item(const StoredTensor *t, const char *name, const DType *dtype)
{
    SafeItem item = {.name = name,
                     .ndim = t->ndim,
                     .pieces = {t->piece},
                     .piece_count = 1,
                     .type = dtype && !keeps_type(t) ? element_of_dtype(*dtype) : t->piece.entry->type};
    for (int i = 0; i < t->ndim; i++)
        item.shape[i] = t->shape[i];
    return item;
}
