/* The first element of a tensor that is NaN or infinite: for checks and messages, not for every step. */
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/kernel.h"

/* found: what the search begins with is larger than any index. */
template <typename T>
__global__ static void not_finite_kernel(const T *x, int64_t n, unsigned long long *found)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        if (!isfinite(to_float(x[i])))
            atomicMin(found, (unsigned long long)i);
}

template <typename T>
__global__ static void element_kernel(const T *x, const unsigned long long *index, float *value)
{
    if (*index != ~0ull)
        *value = to_float(x[*index]);
}

/* index: device memory for two numbers, the second a float. */
static Status search(const Tensor *t, unsigned long long *index)
{
    const unsigned long long none = ~0ull;
    const int64_t n = tensor_count(t);
    const Device *d = cuda_device();
    TRY(d->put(index, &none, sizeof none));
    const unsigned blocks = blocks_for(n, 256) < 1024 ? blocks_for(n, 256) : 1024;
    WITH_FLOAT(t->dtype, T, TRY(LAUNCH(blocks, 256, 0, not_finite_kernel<T>, (const T *)t->data, n, index));
               TRY(LAUNCH(1, 1, 0, element_kernel<T>, (const T *)t->data, index, (float *)(index + 1))));
    return STATUS_OK;
}

static Status first_not_finite(const Tensor *t, int64_t *index, double *value)
{
    struct {
        unsigned long long index;
        float value[2];
    } found = {};
    const Device *d = cuda_device();
    *index = -1;
    *value = 0;
    if (!dtype_is_float(t->dtype) || tensor_count(t) == 0)
        return d->settle();
    unsigned long long *there = (unsigned long long *)d->memory_new(sizeof found);
    if (!there)
        return STATUS_FAILED;
    Status s = search(t, there);
    if (s == STATUS_OK)
        s = d->get(&found, there, sizeof found);
    if (s == STATUS_OK)
        s = d->settle();
    d->memory_free(there, sizeof found);
    if (s == STATUS_OK && found.index != ~0ull) {
        *index = (int64_t)found.index;
        *value = found.value[0];
    }
    return s;
}

extern "C" void cuda_finite_table(Device *d)
{
    d->first_not_finite = first_not_finite;
}
