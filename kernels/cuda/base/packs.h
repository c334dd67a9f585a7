/* Tensors as elementwise kernels read and write them: packs of neighbours, 16 bytes at once, as floats.
 *
 * A kernel is compiled for f32, bf16 and f16 when all its tensors are stored alike, and once more, T being
 * Mixed, for mixtures, whose types it looks up; each for packs of N elements, and for packs of 1, where rows
 * are not whole packs or a tensor is a view that begins between two. */
#ifndef ATL_CUDA_PACKS_H
#define ATL_CUDA_PACKS_H

#include "kernel.h"

#include "kernels/floats.h"

struct Mixed;

/* Elements of a pack: 4 or 8. */
template <typename T> struct PackOf {
    static constexpr int width = 16 / sizeof(T);
    static constexpr bool mixed = false;
};
template <> struct PackOf<Mixed> {
    static constexpr int width = 4;
    static constexpr bool mixed = true;
};

typedef struct Floats {
    void *data;
    int64_t type; /* DType */
} Floats;

static inline Floats floats_of(const Tensor *t)
{
    Floats f = {};
    f.data = t ? t->data : NULL;
    f.type = t ? t->dtype : DTYPE_F32;
    return f;
}

/* Whether rows of so many elements are whole packs that begin at a multiple of 16 bytes. NULL: is not read.
 */
static inline bool is_packed(const Tensor *t, int64_t row)
{
    return !t || ((uintptr_t)t->data % 16 == 0 && row * (int64_t)dtype_size(t->dtype) % 16 == 0);
}

/* Runs the statements with T the type that all of the tensors have, or Mixed, and N the elements of a pack.
 */
#define WITH_PACKS(packed, alike, dtype, T, N, ...)                                                          \
    do {                                                                                                     \
        if (!(alike)) {                                                                                      \
            typedef Mixed T;                                                                                 \
            WITH_WIDTH(packed, T, N, __VA_ARGS__);                                                           \
        } else                                                                                               \
            WITH_FLOAT(dtype, T, WITH_WIDTH(packed, T, N, __VA_ARGS__));                                     \
    } while (0)
#define WITH_WIDTH(packed, T, N, ...)                                                                        \
    do {                                                                                                     \
        if (packed) {                                                                                        \
            constexpr int N = PackOf<T>::width;                                                              \
            __VA_ARGS__;                                                                                     \
        } else {                                                                                             \
            constexpr int N = 1;                                                                             \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
    } while (0)

template <typename T, int N> struct __align__(N * sizeof(T)) Neighbours
{
    T at[N];
};

template <typename T, int N> __device__ static inline void load_as(const void *data, int64_t i, float x[N])
{
    const Neighbours<T, N> p = *(const Neighbours<T, N> *)((const T *)data + i);
#pragma unroll
    for (int j = 0; j < N; j++)
        x[j] = to_float(p.at[j]);
}
template <typename T, int N> __device__ static inline void store_as(void *data, int64_t i, const float x[N])
{
    Neighbours<T, N> p;
#pragma unroll
    for (int j = 0; j < N; j++)
        p.at[j] = from_float<T>(x[j]);
    *(Neighbours<T, N> *)((T *)data + i) = p;
}

/* x = elements i … i+N-1, N 1 or the pack's width. */
template <typename T, int N> __device__ static inline void load(const Floats &f, int64_t i, float x[N])
{
    if constexpr (!PackOf<T>::mixed)
        load_as<T, N>(f.data, i, x);
    else if (f.type == DTYPE_BF16)
        load_as<bf16, N>(f.data, i, x);
    else if (f.type == DTYPE_F16)
        load_as<f16, N>(f.data, i, x);
    else
        load_as<float, N>(f.data, i, x);
}
template <typename T, int N> __device__ static inline void store(const Floats &f, int64_t i, const float x[N])
{
    if constexpr (!PackOf<T>::mixed)
        store_as<T, N>(f.data, i, x);
    else if (f.type == DTYPE_BF16)
        store_as<bf16, N>(f.data, i, x);
    else if (f.type == DTYPE_F16)
        store_as<f16, N>(f.data, i, x);
    else
        store_as<float, N>(f.data, i, x);
}

/* One element of any type. */
__device__ static inline float load_one(const Floats &f, int64_t i)
{
    float x;
    load<Mixed, 1>(f, i, &x);
    return x;
}
__device__ static inline void store_one(const Floats &f, int64_t i, float x)
{
    store<Mixed, 1>(f, i, &x);
}

#endif
