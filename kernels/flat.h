/* Flat blocks: all that is trained lies in one allocation for the weights and one for the gradients, and each
 * tensor is a view into them. So clearing, the norm, an update, a copy and a reduction are one call over the
 * whole, and what an optimizer keeps is blocks of the same size.
 *
 * A tensor begins at a multiple of FLAT_STEP numbers; those between two tensors stay 0. */
#ifndef ATL_FLAT_H
#define ATL_FLAT_H

#include "tensor.h"

#define FLAT_STEP 64 /* 256 bytes: no device wants a tensor's beginning to be a multiple of more */

typedef struct Flat {
    Tensor *weights;   /* f32 (size) */
    Tensor *gradients; /* f32 (size); of flat_new_apart() none, or fewer */
    int64_t size, used;
    const Device *dev;
    const Device *pinned_by; /* weights and gradients lie in the host's memory, where this device reaches
                                them; or NULL. dev itself: all other blocks lie there too */
    bool described;
} Flat;

/* What a tensor of so many numbers takes of a block. */
static inline int64_t flat_room(int64_t count)
{
    return (count + FLAT_STEP - 1) / FLAT_STEP * FLAT_STEP;
}

/* Two cleared blocks in the device's memory; described: shapes and no data. flat_free in either case.
 * pinned_by: they are to lie in the host's memory, which dev then computes on, while steps are computed on
 * this device; or NULL. */
Status flat_new(Flat *f, const Device *dev, const Device *pinned_by, int64_t size, bool described);
/* The weights alone. Gradients are shapes without memory, until flat_gradients() makes a block of as many
 * numbers as whoever does this wants, in dev's own memory: each gradient's place in it is his. */
Status flat_new_apart(Flat *f, const Device *dev, const Device *pinned_by, int64_t size, bool described);
Status flat_gradients(Flat *f, int64_t count);
/* Another block like them, cleared; NULL: out of memory. tensor_free. */
Tensor *flat_block(const Flat *f);
/* A cleared block that is kept with the weights, where dev updates them; NULL: out of memory.
 * flat_block_free, before flat_free. */
Tensor *flat_beside(const Flat *f, DType dtype, int64_t count);
void flat_block_free(const Flat *f, Tensor *t); /* NULL allowed */
void flat_free(Flat *f);                        /* after the views */
/* The next tensor: a trained weight over the block, with its gradient. To be freed by tensor_free. NULL: out
 * of memory. */
Tensor *flat_take(Flat *f, int ndim, const int64_t *shape);

/* A block where the host can read it: itself, or a copy in one go where its memory is a device's. NULL: it
 * failed. Given back by flat_leave. */
Tensor *flat_on_host(Tensor *block);
void flat_leave(Tensor *on_host, const Tensor *block); /* NULL allowed */

#endif
