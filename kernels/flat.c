#include "flat.h"

#include "device.h"

#include <string.h>

Tensor *flat_block(const Flat *f)
{
    return f->described ? tensor_shape_only(DTYPE_F32, 1, &f->size)
                        : tensor_new_on(f->dev, DTYPE_F32, 1, &f->size);
}

static Tensor *pinned_block(const Flat *f)
{
    const size_t bytes = sizeof(float) * (size_t)f->size;
    void *at = f->pinned_by->pinned_new(bytes);
    Tensor *t = at ? tensor_over(at, DTYPE_F32, 1, &f->size) : NULL;
    if (t)
        memset(at, 0, bytes);
    else if (at)
        f->pinned_by->pinned_free(at, bytes);
    return t;
}

Status flat_new(Flat *f, const Device *dev, const Device *pinned_by, int64_t size, bool described)
{
    *f = (Flat){.size = size, .dev = dev, .pinned_by = pinned_by, .described = described};
    const bool pinned = pinned_by && !described;
    f->weights = pinned ? pinned_block(f) : flat_block(f);
    f->gradients = pinned ? pinned_block(f) : flat_block(f);
    return f->weights && f->gradients ? STATUS_OK : STATUS_FAILED;
}

static void free_block(const Flat *f, Tensor *t)
{
    if (t && t->data && f->pinned_by)
        f->pinned_by->pinned_free(t->data, tensor_bytes(t));
    tensor_free(t);
}

void flat_free(Flat *f)
{
    free_block(f, f->weights);
    free_block(f, f->gradients);
    *f = (Flat){0};
}

Tensor *flat_take(Flat *f, int ndim, const int64_t *shape)
{
    Tensor *w = tensor_view(f->weights, f->used, ndim, shape);
    if (!w)
        return NULL;
    const int64_t room = flat_room(tensor_count(w));
    if (f->used + room > f->size) {
        tensor_free(w);
        status_fail("a block of %lld numbers is too small for what is trained", (long long)f->size);
        return NULL;
    }
    w->grad = tensor_view(f->gradients, f->used, ndim, shape);
    if (!w->grad) {
        tensor_free(w);
        return NULL;
    }
    w->requires_grad = true;
    f->used += room;
    return w;
}

Tensor *flat_on_host(Tensor *block)
{
    if (!block->home)
        return block;
    Tensor *copy = tensor_new(block->dtype, block->ndim, block->shape);
    if (copy && tensor_get(block, copy->data, block->dtype) != STATUS_OK) {
        tensor_free(copy);
        copy = NULL;
    }
    return copy;
}

void flat_leave(Tensor *on_host, const Tensor *block)
{
    if (on_host != block)
        tensor_free(on_host);
}
