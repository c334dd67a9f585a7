#include "tensor_list.h"

#include "kernels/base/mem.h"

#define FIRST_CAPACITY 64

static bool make_room(TensorList *l)
{
    if (l->count < l->capacity)
        return true;
    const int capacity = l->capacity ? 2 * l->capacity : FIRST_CAPACITY;
    SafeItem *larger = mem_realloc(l->items, (size_t)capacity * sizeof *larger);
    if (!larger)
        return false;
    l->items = larger;
    l->capacity = capacity;
    return true;
}

void tensorlist_add(TensorList *l, char *name, const Tensor *t, DType dtype)
{
    if (name && make_room(l))
        l->items[l->count++] = (SafeItem){.name = name, .tensor = t, .dtype = dtype, .ndim = -1};
    else {
        mem_free(name);
        l->failed = true;
    }
}

Status tensorlist_write(const TensorList *l, const char *path, const TensorMeta *meta, int meta_count)
{
    if (l->failed)
        return status_fail("%s: out of memory", path);
    return safetensors_write(path, l->items, l->count, meta, meta_count);
}

void tensorlist_free(TensorList *l)
{
    for (int i = 0; i < l->count; i++)
        mem_free((char *)l->items[i].name);
    mem_free(l->items);
    *l = (TensorList){0};
}
