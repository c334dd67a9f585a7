#include "tensor_list.h"

#include "kernels/base/mem.h"

void tensorlist_add(TensorList *l, char *name, const Tensor *t, DType dtype)
{
    if (name && mem_grow(&l->items, l->count, &l->capacity, sizeof *l->items))
        l->items[l->count++] = (SafeItem){.name = name, .tensor = t, .dtype = dtype, .ndim = -1};
    else {
        mem_free(name);
        l->failed = true;
    }
}

Status tensorlist_write(const TensorList *l, const char *path, const TensorMeta *meta, int meta_count)
{
    if (l->failed)
        return status_memory("%s: out of memory", path);
    return safetensors_write(path, l->items, l->count, meta, meta_count);
}

void tensorlist_free(TensorList *l)
{
    for (int i = 0; i < l->count; i++)
        mem_free((char *)l->items[i].name);
    mem_free(l->items);
    *l = (TensorList){0};
}
