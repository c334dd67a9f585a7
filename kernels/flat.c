#include "flat.h"

#include "device.h"

#include <string.h>

Tensor *flat_block(const Flat *f)
{
    return f->described ? tensor_shape_only(DTYPE_F32, 1, &f->size)
                        : tensor_new_on(f->dev, DTYPE_F32, 1, &f->size);
}

static Tensor *pinned_block(const Flat *f, DType dtype, int64_t count)
{
    const size_t bytes = dtype_size(dtype) * (size_t)count;
    void *at = f->pinned_by->pinned_new(bytes);
    Tensor *t = at ? tensor_over(at, dtype, 1, &count) : NULL;
    if (t)
        memset(at, 0, bytes);
    else if (at)
        f->pinned_by->pinned_free(at, bytes);
    return t;
}

static Tensor *block_where_steps_reach(const Flat *f)
{
    return f->pinned_by && !f->described ? pinned_block(f, DTYPE_F32, f->size) : flat_block(f);
}

Status flat_new_apart(Flat *f, const Device *dev, const Device *pinned_by, int64_t size, bool described)
{
    *f = (Flat){.size = size, .dev = dev, .pinned_by = pinned_by, .described = described};
    f->weights = block_where_steps_reach(f);
    return f->weights ? STATUS_OK : STATUS_FAILED;
}

Status flat_new(Flat *f, const Device *dev, const Device *pinned_by, int64_t size, bool described)
{
    TRY(flat_new_apart(f, dev, pinned_by, size, described));
    f->gradients = block_where_steps_reach(f);
    return f->gradients ? STATUS_OK : STATUS_FAILED;
}

Status flat_gradients(Flat *f, int64_t count)
{
    f->gradients = tensor_new_on(f->dev, DTYPE_F32, 1, &count);
    return f->gradients ? STATUS_OK : STATUS_FAILED;
}

Tensor *flat_beside(const Flat *f, DType dtype, int64_t count)
{
    if (f->described)
        return tensor_shape_only(dtype, 1, &count);
    return f->pinned_by == f->dev ? pinned_block(f, dtype, count) : tensor_new_on(f->dev, dtype, 1, &count);
}

void flat_block_free(const Flat *f, Tensor *t)
{
    if (t && t->data && !t->owned)
        f->pinned_by->pinned_free(t->data, tensor_bytes(t));
    tensor_free(t);
}

void flat_free(Flat *f)
{
    flat_block_free(f, f->weights);
    flat_block_free(f, f->gradients);
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
    w->grad = f->gradients ? tensor_view(f->gradients, f->used, ndim, shape)
                           : tensor_shape_only(DTYPE_F32, ndim, shape);
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
