/* The numbers of a tensor in a file, as the engine wants them. */
#include "tensor_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CHUNK 512   /* numbers gathered at a time */
#define LOADED 8192 /* and put into a tensor */

/* Numbers from which on all threads take part, and of each one's parts: a model's pages come from the disk,
 * and memory's pages from the kernel, faster to several. */
#define SHARED_LEAST (1 << 18)
#define SHARED_PART (1 << 16)

int64_t tensor_entry_count(const TensorEntry *e)
{
    int64_t count = 1;
    for (int i = 0; i < e->ndim; i++) /* with a 0 among them the others may be of any size */
        if (e->shape[i] == 0)
            return 0;
    for (int i = 0; i < e->ndim; i++)
        count *= e->shape[i];
    return count;
}

const char *tensor_entry_describe(const TensorEntry *e, char *buf, size_t size)
{
    size_t used = (size_t)snprintf(buf, size, "(");
    for (int i = 0; i < e->ndim && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, i ? ",%lld" : "%lld", (long long)e->shape[i]);
    if (used < size)
        snprintf(buf + used, size - used, ") %s",
                 e->type == ELEMENT_OTHER ? e->type_name : element_name(e->type));
    return buf;
}

bool tensor_entry_is_shaped(const TensorEntry *e, int ndim, const int64_t *shape)
{
    bool same = e->ndim == ndim;
    for (int i = 0; same && i < ndim; i++)
        same = e->shape[i] == shape[i];
    return same;
}

const void *tensor_entry_mapped(const TensorEntry *e, DType type)
{
    DType same;
    return !e->strides && element_dtype(e->type, &same) && same == type ? e->data : NULL;
}

/* Where the i-th element lies, counted row after row: in elements from data. */
static int64_t place_of(const TensorEntry *e, int64_t i)
{
    int64_t place = 0;
    for (int d = e->ndim - 1; d >= 0; d--) {
        place += i % e->shape[d] * e->strides[d];
        i /= e->shape[d];
    }
    return place;
}

static void read_strided(const TensorEntry *e, int64_t first, int64_t n, DType type, uint8_t *to)
{
    uint8_t gathered[CHUNK * sizeof(double)];
    const size_t size = element_size(e->type);
    for (int64_t i = 0; i < n; i += CHUNK) {
        const int64_t k = n - i < CHUNK ? n - i : CHUNK;
        for (int64_t j = 0; j < k; j++)
            memcpy(gathered + (size_t)j * size, (const uint8_t *)e->data + place_of(e, first + i + j) * size,
                   size);
        element_convert(to + (size_t)i * dtype_size(type), type, gathered, e->type, k);
    }
}

void tensor_entry_read_raw(const TensorEntry *e, int64_t first, int64_t n, void *to)
{
    const size_t size = element_size(e->type);
    if (!e->strides)
        memcpy(to, (const uint8_t *)e->data + (size_t)first * size, (size_t)n * size);
    else
        for (int64_t i = 0; i < n; i++)
            memcpy((uint8_t *)to + (size_t)i * size,
                   (const uint8_t *)e->data + (size_t)place_of(e, first + i) * size, size);
}

Status tensor_entry_read_part(const TensorEntry *e, int64_t first, int64_t n, DType type, void *to)
{
    if (!element_converts(e->type, type))
        return status_fail("%s: tensor %s holds numbers of type %s, which cannot be read as %s",
                           tensorfile_path(e->file), e->name, e->type_name, dtype_name(type));
    if (e->strides)
        read_strided(e, first, n, type, to);
    else
        element_convert(to, type, (const uint8_t *)e->data + (size_t)first * element_size(e->type), e->type,
                        n);
    return STATUS_OK;
}

Status tensor_entry_read(const TensorEntry *e, DType type, void *to)
{
    return tensor_entry_read_part(e, 0, tensor_entry_count(e), type, to);
}

static Status load_here(const TensorEntry *e, int64_t first, Tensor *t)
{
    const int64_t n = tensor_count(t);
    const size_t size = dtype_size(t->dtype);
    TRY(tensor_entry_read_part(e, first, 0, t->dtype, t->data)); /* what is refused is so here */
#pragma omp parallel for schedule(static) if (n >= SHARED_LEAST)
    for (int64_t i = 0; i < n; i += SHARED_PART)
        (void)tensor_entry_read_part(e, first + i, n - i < SHARED_PART ? n - i : SHARED_PART, t->dtype,
                                     (uint8_t *)t->data + (size_t)i * size);
    return STATUS_OK;
}

Status tensor_entry_load(const TensorEntry *e, int64_t first, Tensor *t)
{
    int64_t chunk[LOADED]; /* of any type */
    const int64_t n = tensor_count(t);
    if (!t->home)
        return load_here(e, first, t);
    for (int64_t i = 0; i < n; i += LOADED) {
        const int64_t k = n - i < LOADED ? n - i : LOADED;
        TRY(tensor_entry_read_part(e, first + i, k, t->dtype, chunk));
        TRY(tensor_put_part(t, i, k, chunk, t->dtype));
    }
    return STATUS_OK;
}

/* What to do about number i. */
static Status refuse_number(const TensorEntry *e, int64_t i, double value, DType type)
{
    if (!isfinite(value))
        return status_fail(
            "tensor %s: number %lld is %s; the file is damaged, or its training went wrong: take "
            "another copy, or an earlier save",
            e->name, (long long)i, isnan(value) ? "NaN" : "infinite");
    return status_fail("tensor %s: number %lld is %.6g, more than %s holds; use %s", e->name, (long long)i,
                       value, dtype_name(type), type == DTYPE_F16 ? "bf16 or f32" : "f32");
}

/* Whether one of n numbers is not finite in this type; e is not strided. */
static bool any_not_finite(const TensorEntry *e, int64_t first, int64_t n, DType type)
{
    const uint8_t *from = (const uint8_t *)e->data + (size_t)first * element_size(e->type);
    bool any = false;
#pragma omp parallel for schedule(static) reduction(|| : any) if (n >= SHARED_LEAST)
    for (int64_t i = 0; i < n; i += SHARED_PART)
        any = any || element_first_not_finite(from + (size_t)i * element_size(e->type), e->type, type,
                                              n - i < SHARED_PART ? n - i : SHARED_PART) >= 0;
    return any;
}

Status tensor_entry_check_finite(const TensorEntry *e, int64_t first, int64_t n, DType type)
{
    const size_t size = element_size(e->type);
    if (!element_is_float(e->type) || (!e->strides && !any_not_finite(e, first, n, type)))
        return STATUS_OK;
    for (int64_t i = 0; i < n;) {
        const int64_t place = e->strides ? place_of(e, first + i) : first + i, k = e->strides ? 1 : n - i;
        const uint8_t *from = (const uint8_t *)e->data + (size_t)place * size;
        const int64_t bad = element_first_not_finite(from, e->type, type, k);
        if (bad >= 0)
            return refuse_number(e, i + bad, element_number(from + (size_t)bad * size, e->type), type);
        i += k;
    }
    return STATUS_OK;
}

Status tensor_entry_turn(const TensorEntry *e, TurnedEntry *out)
{
    if (e->ndim != 2)
        return status_fail("%s: tensor %s has %d dimensions, a matrix is expected", tensorfile_path(e->file),
                           e->name, e->ndim);
    *out = (TurnedEntry){.entry = *e};
    for (int i = 0; i < 2; i++) {
        out->shape[i] = e->shape[1 - i];
        out->strides[i] = e->strides ? e->strides[1 - i] : i == 0 ? 1 : e->shape[1];
    }
    out->entry.shape = out->shape;
    const bool plain = out->strides[1] == 1 && out->strides[0] == out->shape[1];
    out->entry.strides = plain ? NULL : out->strides;
    return STATUS_OK;
}

Status tensor_entry_number(const TensorEntry *e, double *out)
{
    if (e->type == ELEMENT_OTHER)
        return status_fail("tensor %s holds numbers of type %s, which cannot be read", e->name, e->type_name);
    if (tensor_entry_count(e) != 1)
        return status_fail("tensor %s: one number is expected", e->name);
    *out = element_number(e->data, e->type);
    return STATUS_OK;
}
