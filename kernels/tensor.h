/* Tensors: a pointer, an element type, a shape. Always contiguous, row-major; feature maps are NHWC.
 *
 * A tensor either lives in its own storage (weights, optimizer state: tensor_new_on, tensor_free) or in the
 * arena of the step that a context runs (made by operations, never freed one by one). Only floating tensors
 * of a step take part in the tape.
 *
 * Its memory is the host's or a device's. What has a home other than the host is reached by tensor_put and
 * tensor_get alone, which also wait for whatever still computes it. */
#ifndef ATL_TENSOR_H
#define ATL_TENSOR_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TENSOR_MAX_DIMS 5

typedef enum DType {
    DTYPE_F32 = 0,
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_I8,
    DTYPE_U8,
    DTYPE_I32,
    DTYPE_I64,
    DTYPE_COUNT
} DType;

typedef struct Device Device;
typedef struct Tensor Tensor;
struct Tensor {
    void *data;         /* NULL while a step is rehearsed */
    const Device *home; /* whose memory data is; NULL: the host's */
    DType dtype;
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];

    /* The tape's fields. A trained weight: requires_grad, and grad is f32 storage of its own that the
     * backward pass adds to. A step's tensor: grad is made by the backward pass. */
    bool requires_grad;
    bool grad_shared; /* grad is another tensor's too: adding to it makes a new tensor */
    int grad_parts;   /* gradients that have come together in grad */
    Tensor *grad;

    Tensor
        *scales; /* i8: f32, one for each index of the first dimension, which its elements are times; owned */

    int32_t place; /* number of its buffer in the step, -1: own storage */
    bool owned;    /* data was allocated by tensor_new */
};

size_t dtype_size(DType t);      /* bytes of one element */
const char *dtype_name(DType t); /* "f32", "bf16", "f16", "i8", "u8", "i32", "i64" */
bool dtype_is_float(DType t);    /* f32, bf16 or f16 */
Status dtype_parse(const char *name, DType *out);
/* What weights and activations may be stored in, as options and the configuration have choices. */
#define DTYPE_CHOICES "f32|bf16|f16"

int64_t tensor_count(const Tensor *t); /* number of elements; 1 for 0 dimensions */
size_t tensor_bytes(const Tensor *t);
int64_t tensor_dim(const Tensor *t, int i); /* i < 0 counts from the end: -1 is the last */
int64_t tensor_rows(const Tensor *t);       /* product of all dimensions but the last */
bool tensor_same_shape(const Tensor *a, const Tensor *b);
/* "(2,64,64,320) bf16" into buf; returns buf. */
const char *tensor_describe(const Tensor *t, char *buf, size_t size);

/* A tensor with storage of its own, cleared. NULL: out of memory (status message set). */
Tensor *tensor_new(DType dtype, int ndim, const int64_t *shape);
/* The same, not cleared: for whoever fills all of it, at the cost of touching its memory once. */
Tensor *tensor_unset(DType dtype, int ndim, const int64_t *shape);
/* Cleared, in the device's memory. */
Tensor *tensor_new_on(const Device *dev, DType dtype, int ndim, const int64_t *shape);
/* Part of another tensor: its elements from number `first` on, in this shape. t keeps the memory. */
Tensor *tensor_view(const Tensor *t, int64_t first, int ndim, const int64_t *shape);
/* A shape and no data, for plans. */
Tensor *tensor_shape_only(DType dtype, int ndim, const int64_t *shape);
/* A tensor over memory that somebody else owns and keeps alive. */
Tensor *tensor_over(void *data, DType dtype, int ndim, const int64_t *shape);
void tensor_free(Tensor *t); /* and its grad, where that is owned; NULL allowed */

/* Conversion of n elements between f32, bf16 and f16 (round to nearest even, NaN stays NaN); any to any. */
void convert_floats(void *dst, DType dst_type, const void *src, DType src_type, int64_t n);
/* Between a whole tensor, wherever it lives, and host memory with elements of `type`; and the same for n of
 * its elements from number `first` on. Floating types are converted, other types have to be the tensor's own.
 */
Status tensor_put(Tensor *t, const void *from, DType type);
Status tensor_get(const Tensor *t, void *to, DType type);
Status tensor_put_part(Tensor *t, int64_t first, int64_t n, const void *from, DType type);
Status tensor_get_part(const Tensor *t, int64_t first, int64_t n, void *to, DType type);
/* Moves t's memory to the device, with what it holds; nothing where it is there. Views of it are left behind.
 */
Status tensor_place(Tensor *t, const Device *dev);
Status tensor_copy(Tensor *to, const Tensor *from); /* as many elements, of any floating types, anywhere */
/* Reads one element of a host tensor as double / writes it, for tests and small host work. */
double tensor_at(const Tensor *t, int64_t i);
void tensor_set_at(Tensor *t, int64_t i, double value);

static inline float bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}
static inline uint16_t f32_to_bf16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    if ((v.u & 0x7fffffffu) > 0x7f800000u) /* NaN: keep it quiet, never round it into infinity */
        return (uint16_t)((v.u >> 16) | 0x40);
    return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16);
}
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);

#endif
