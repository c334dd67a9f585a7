#include "tensor.h"

#include "kernels/base/mem.h"
#include "device.h"

#include <stdio.h>
#include <string.h>
#ifdef ATL_X86
#include <immintrin.h>
#endif

static const struct {
    const char *name;
    size_t size;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_F32] = {"f32", 4}, [DTYPE_BF16] = {"bf16", 2}, [DTYPE_F16] = {"f16", 2}, [DTYPE_I8] = {"i8", 1},
    [DTYPE_U8] = {"u8", 1},   [DTYPE_I32] = {"i32", 4},   [DTYPE_I64] = {"i64", 8},
};

size_t dtype_size(DType t)
{
    return dtypes[t].size;
}

const char *dtype_name(DType t)
{
    return dtypes[t].name;
}

bool dtype_is_float(DType t)
{
    return t == DTYPE_F32 || t == DTYPE_BF16 || t == DTYPE_F16;
}

Status dtype_parse(const char *name, DType *out)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            *out = (DType)i;
            return STATUS_OK;
        }
    return status_refuse("unknown data type '%s' (f32, bf16, f16, i8, u8, i32, i64)", name);
}

int64_t tensor_count(const Tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}

size_t tensor_bytes(const Tensor *t)
{
    return (size_t)tensor_count(t) * dtype_size(t->dtype);
}

int64_t tensor_dim(const Tensor *t, int i)
{
    return t->shape[i < 0 ? t->ndim + i : i];
}

int64_t tensor_rows(const Tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim - 1; i++)
        n *= t->shape[i];
    return n;
}

bool tensor_same_shape(const Tensor *a, const Tensor *b)
{
    return a->ndim == b->ndim && memcmp(a->shape, b->shape, sizeof a->shape[0] * (size_t)a->ndim) == 0;
}

const char *tensor_describe(const Tensor *t, char *buf, size_t size)
{
    size_t used = (size_t)snprintf(buf, size, "(");
    for (int i = 0; i < t->ndim && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, i ? ",%lld" : "%lld", (long long)t->shape[i]);
    if (used < size)
        snprintf(buf + used, size - used, ") %s", dtype_name(t->dtype));
    return buf;
}

Tensor *tensor_over(void *data, DType dtype, int ndim, const int64_t *shape)
{
    Tensor *t = mem_calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->data = data;
    t->dtype = dtype;
    t->ndim = ndim;
    t->place = -1;
    if (ndim)
        memcpy(t->shape, shape, sizeof *shape * (size_t)ndim);
    return t;
}

Tensor *tensor_shape_only(DType dtype, int ndim, const int64_t *shape)
{
    return tensor_over(NULL, dtype, ndim, shape);
}

Tensor *tensor_unset(DType dtype, int ndim, const int64_t *shape)
{
    Tensor *t = tensor_over(NULL, dtype, ndim, shape);
    if (!t)
        return NULL;
    const size_t bytes = tensor_bytes(t);
    t->owned = true;
    t->data = mem_alloc(bytes ? bytes : 1);
    if (t->data)
        return t;
    tensor_free(t);
    return NULL;
}

Tensor *tensor_new_on(const Device *dev, DType dtype, int ndim, const int64_t *shape)
{
    Tensor *t = tensor_over(NULL, dtype, ndim, shape);
    if (!t)
        return NULL;
    const bool host = !dev || dev->host_memory;
    const size_t bytes = tensor_bytes(t);
    t->owned = true;
    t->home = host ? NULL : dev;
    t->data = host ? mem_calloc(bytes ? bytes : 1, 1) : dev->memory_new(bytes);
    if (t->data && (host || dev->clear(t->data, bytes) == STATUS_OK))
        return t;
    tensor_free(t);
    return NULL;
}

Tensor *tensor_new(DType dtype, int ndim, const int64_t *shape)
{
    return tensor_new_on(NULL, dtype, ndim, shape);
}

Tensor *tensor_view(const Tensor *t, int64_t first, int ndim, const int64_t *shape)
{
    Tensor *v = tensor_over(t->data ? (char *)t->data + (size_t)first * dtype_size(t->dtype) : NULL, t->dtype,
                            ndim, shape);
    if (v)
        v->home = t->home;
    return v;
}

void tensor_free(Tensor *t)
{
    if (!t)
        return;
    if (t->grad && t->grad->place < 0)
        tensor_free(t->grad);
    tensor_free(t->scales);
    if (t->owned && t->home && t->data)
        t->home->memory_free(t->data, tensor_bytes(t));
    else if (t->owned)
        mem_free(t->data);
    mem_free(t);
}

/* Host and device --------------------------------------------------------------------------------------- */

#define CHUNK_ELEMENTS 16384 /* converted at a time on their way to or from a device */

static Status check_part(const Tensor *t, int64_t first, int64_t n, DType type)
{
    if (first < 0 || n < 0 || first + n > tensor_count(t))
        return status_fail("elements %lld to %lld of a tensor of %lld", (long long)first,
                           (long long)(first + n - 1), (long long)tensor_count(t));
    if (type != t->dtype && !(dtype_is_float(type) && dtype_is_float(t->dtype)))
        return status_fail("%s cannot be taken for %s", dtype_name(t->dtype), dtype_name(type));
    return STATUS_OK;
}

static void *element(const Tensor *t, int64_t i)
{
    return (char *)t->data + (size_t)i * dtype_size(t->dtype);
}

Status tensor_put_part(Tensor *t, int64_t first, int64_t n, const void *from, DType type)
{
    TRY(check_part(t, first, n, type));
    if (!t->home) {
        convert_floats(element(t, first), t->dtype, from, type, n);
        return STATUS_OK;
    }
    if (t->dtype == type)
        return t->home->put(element(t, first), from, (size_t)n * dtype_size(type));
    char chunk[CHUNK_ELEMENTS * 4];
    for (int64_t i = 0; i < n; i += CHUNK_ELEMENTS) {
        const int64_t k = n - i < CHUNK_ELEMENTS ? n - i : CHUNK_ELEMENTS;
        convert_floats(chunk, t->dtype, (const char *)from + (size_t)i * dtype_size(type), type, k);
        TRY(t->home->put(element(t, first + i), chunk, (size_t)k * dtype_size(t->dtype)));
    }
    return STATUS_OK;
}

Status tensor_get_part(const Tensor *t, int64_t first, int64_t n, void *to, DType type)
{
    TRY(check_part(t, first, n, type));
    if (!t->home) {
        convert_floats(to, type, element(t, first), t->dtype, n);
        return STATUS_OK;
    }
    if (t->dtype == type) {
        TRY(t->home->get(to, element(t, first), (size_t)n * dtype_size(type)));
        return t->home->settle();
    }
    char chunk[CHUNK_ELEMENTS * 4];
    for (int64_t i = 0; i < n; i += CHUNK_ELEMENTS) {
        const int64_t k = n - i < CHUNK_ELEMENTS ? n - i : CHUNK_ELEMENTS;
        TRY(t->home->get(chunk, element(t, first + i), (size_t)k * dtype_size(t->dtype)));
        TRY(t->home->settle());
        convert_floats((char *)to + (size_t)i * dtype_size(type), type, chunk, t->dtype, k);
    }
    return STATUS_OK;
}

Status tensor_put(Tensor *t, const void *from, DType type)
{
    return tensor_put_part(t, 0, tensor_count(t), from, type);
}

Status tensor_get(const Tensor *t, void *to, DType type)
{
    return tensor_get_part(t, 0, tensor_count(t), to, type);
}

Status tensor_place(Tensor *t, const Device *dev)
{
    if (dev->host_memory || t->home == dev || !t->data)
        return STATUS_OK;
    if (t->home)
        return status_fail("a tensor moved from one device to another");
    const size_t bytes = tensor_bytes(t);
    void *there = dev->memory_new(bytes);
    if (!there)
        return STATUS_FAILED;
    const Status s = dev->put(there, t->data, bytes);
    if (s != STATUS_OK) {
        dev->memory_free(there, bytes);
        return s;
    }
    if (t->owned)
        mem_free(t->data);
    t->data = there;
    t->home = dev;
    t->owned = true;
    return STATUS_OK;
}

Status tensor_copy(Tensor *to, const Tensor *from)
{
    if (to->home && to->home == from->home)
        return to->home->copy(from, to);
    if (!from->home)
        return tensor_put(to, from->data, from->dtype);
    if (!to->home)
        return tensor_get(from, to->data, to->dtype);
    return status_fail("a copy between two devices");
}

/* IEEE half, by hand: exact, with subnormals, infinities and NaN (kept quiet). */
float f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 1023u;
    union {
        uint32_t u;
        float f;
    } v;
    if (exponent == 31)
        v.u = sign | 0x7f800000u | (mantissa ? (mantissa << 13) | 0x400000u : 0);
    else if (exponent)
        v.u = sign | ((exponent + 112) << 23) | (mantissa << 13);
    else { /* zero or subnormal: mantissa * 2^-24 */
        v.f = (float)mantissa * 0x1p-24f;
        v.u |= sign;
    }
    return v.f;
}

uint16_t f32_to_f16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    const uint32_t sign = (v.u >> 16) & 0x8000u;
    v.u &= 0x7fffffffu;
    if (v.u > 0x7f800000u) /* NaN */
        return (uint16_t)(sign | 0x7e00u | ((v.u >> 13) & 0x3ffu));
    if (v.u >= 0x477ff000u) /* rounds to 65536 or more: infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (v.u <
        0x38800000u) { /* below 2^-14: subnormal; adding 0.5 lets the hardware round to units of 2^-24 */
        v.f += 0.5f;
        return (uint16_t)(sign | (v.u - 0x3f000000u));
    }
    v.u += 0xfffu + ((v.u >> 13) & 1u);
    return (uint16_t)(sign | ((v.u - 0x38000000u) >> 13));
}

#ifdef ATL_X86
__attribute__((target("avx,f16c"))) static int64_t f16_to_f32_f16c(float *dst, const uint16_t *src, int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(src + i))));
    return i;
}

__attribute__((target("avx,f16c"))) static int64_t f32_to_f16_f16c(uint16_t *dst, const float *src, int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(dst + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}

__attribute__((target("avx2"))) static __m256i f32_to_bf16_avx2(const float *src)
{
    const __m256 x = _mm256_loadu_ps(src);
    const __m256i u = _mm256_castps_si256(x), upper = _mm256_srli_epi32(u, 16),
                  even = _mm256_and_si256(upper, _mm256_set1_epi32(1)),
                  rounded = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), even),
                  nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(_mm256_srli_epi32(rounded, 16), _mm256_or_si256(upper, _mm256_set1_epi32(0x40)),
                              nan);
}

__attribute__((target("avx2"))) static int64_t f32s_to_bf16_avx2(uint16_t *dst, const float *src, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i both = _mm256_packus_epi32(f32_to_bf16_avx2(src + i), f32_to_bf16_avx2(src + i + 8));
        _mm256_storeu_si256((__m256i *)(void *)(dst + i), _mm256_permute4x64_epi64(both, 0xd8));
    }
    return i;
}

static bool has_f16c(void)
{
    return __builtin_cpu_supports("avx") && __builtin_cpu_supports("f16c");
}
#endif

static void to_f32(float *dst, const void *src, DType type, int64_t n)
{
    const uint16_t *h = src;
    int64_t i = 0;
    if (type == DTYPE_BF16) {
        for (; i < n; i++)
            dst[i] = bf16_to_f32(h[i]);
        return;
    }
#ifdef ATL_X86
    if (has_f16c())
        i = f16_to_f32_f16c(dst, h, n);
#endif
    for (; i < n; i++)
        dst[i] = f16_to_f32(h[i]);
}

static void from_f32(void *dst, DType type, const float *src, int64_t n)
{
    uint16_t *h = dst;
    int64_t i = 0;
    if (type == DTYPE_BF16) {
#ifdef ATL_X86
        if (__builtin_cpu_supports("avx2"))
            i = f32s_to_bf16_avx2(h, src, n);
#endif
        for (; i < n; i++)
            h[i] = f32_to_bf16(src[i]);
        return;
    }
#ifdef ATL_X86
    if (has_f16c())
        i = f32_to_f16_f16c(h, src, n);
#endif
    for (; i < n; i++)
        h[i] = f32_to_f16(src[i]);
}

void convert_floats(void *dst, DType dst_type, const void *src, DType src_type, int64_t n)
{
    if (dst_type == src_type)
        memcpy(dst, src, (size_t)n * dtype_size(dst_type));
    else if (dst_type == DTYPE_F32)
        to_f32(dst, src, src_type, n);
    else if (src_type == DTYPE_F32)
        from_f32(dst, dst_type, src, n);
    else { /* between the two halves, a piece at a time */
        float piece[256];
        for (int64_t i = 0; i < n; i += 256) {
            const int64_t m = n - i < 256 ? n - i : 256;
            to_f32(piece, (const uint16_t *)src + i, src_type, m);
            from_f32((uint16_t *)dst + i, dst_type, piece, m);
        }
    }
}

double tensor_at(const Tensor *t, int64_t i)
{
    switch (t->dtype) {
    case DTYPE_F32:
        return (double)((const float *)t->data)[i];
    case DTYPE_BF16:
        return (double)bf16_to_f32(((const uint16_t *)t->data)[i]);
    case DTYPE_F16:
        return (double)f16_to_f32(((const uint16_t *)t->data)[i]);
    case DTYPE_I8:
        return (double)((const int8_t *)t->data)[i];
    case DTYPE_U8:
        return (double)((const uint8_t *)t->data)[i];
    case DTYPE_I32:
        return (double)((const int32_t *)t->data)[i];
    default:
        return (double)((const int64_t *)t->data)[i];
    }
}

void tensor_set_at(Tensor *t, int64_t i, double value)
{
    switch (t->dtype) {
    case DTYPE_F32:
        ((float *)t->data)[i] = (float)value;
        break;
    case DTYPE_BF16:
        ((uint16_t *)t->data)[i] = f32_to_bf16((float)value);
        break;
    case DTYPE_F16:
        ((uint16_t *)t->data)[i] = f32_to_f16((float)value);
        break;
    case DTYPE_I8:
        ((int8_t *)t->data)[i] = (int8_t)value;
        break;
    case DTYPE_U8:
        ((uint8_t *)t->data)[i] = (uint8_t)value;
        break;
    case DTYPE_I32:
        ((int32_t *)t->data)[i] = (int32_t)value;
        break;
    default:
        ((int64_t *)t->data)[i] = (int64_t)value;
        break;
    }
}
