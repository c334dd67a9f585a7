/* The product behind cuBLASLt: sums in f32, in the order of the depth. */
#include "lt.h"

#include <stdlib.h>
#include <string.h>

#define COLUMNS 4 /* of D at once */

static float from_half(unsigned bits)
{
    union {
        unsigned u;
        float f;
    } x = {(bits & 0x7fff) << 13};
    if ((bits & 0x7c00) == 0x7c00)
        x.u |= 0x7f800000;
    else
        x.f *= 0x1p112f;
    x.u |= (bits & 0x8000) << 16;
    return x.f;
}

static unsigned short to_half(float f)
{
    union {
        float f;
        unsigned u;
    } x = {f}, tiny;
    const unsigned sign = x.u >> 16 & 0x8000, rest = x.u & 0x7fffffff;
    if (rest > 0x7f800000)
        return 0x7fff;
    if (rest >= 0x477ff000)
        return (unsigned short)(sign | 0x7c00);
    if (rest < 0x38800000) {
        tiny.u = rest;
        tiny.f += 0.5f;
        return (unsigned short)(sign | (tiny.u - 0x3f000000));
    }
    return (unsigned short)(sign | ((rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13));
}

static float get(const void *p, cudaDataType type, int64_t i)
{
    union {
        unsigned u;
        float f;
    } x;
    switch (type) {
    case CUDA_R_16F:
        return from_half(((const unsigned short *)p)[i]);
    case CUDA_R_16BF:
        x.u = (unsigned)((const unsigned short *)p)[i] << 16;
        return x.f;
    default:
        return ((const float *)p)[i];
    }
}

static void set(void *p, cudaDataType type, int64_t i, float f)
{
    union {
        float f;
        unsigned u;
    } x = {f};
    switch (type) {
    case CUDA_R_16F:
        ((unsigned short *)p)[i] = to_half(f);
        break;
    case CUDA_R_16BF:
        ((unsigned short *)p)[i] = (x.u & 0x7fffffff) > 0x7f800000
                                       ? 0x7fff
                                       : (unsigned short)((x.u + 0x7fff + (x.u >> 16 & 1)) >> 16);
        break;
    default:
        ((float *)p)[i] = f;
    }
}

/* Where the element in a row and a column is. */
static int64_t place(const LtLayout *l, int64_t row, int64_t column)
{
    return l->rows_first ? row * l->ld + column : column * l->ld + row;
}

static float rounded_to_tf32(float f)
{
    union {
        uint32_t u;
        float f;
    } x = {stand_in_tf32(f)};
    return x.f;
}

/* As floats, op(x) (or its transpose, where `turned`) row after row; in TF32 where that is computed in. */
static void unpack(float *to, const void *from, const LtLayout *l, int64_t batch, bool transposed,
                   bool turned, cublasComputeType_t compute)
{
    const char *p = (const char *)from + batch * l->batch_stride * (int64_t)lt_size(l->type);
    const int64_t rows = (int64_t)(transposed ? l->columns : l->rows),
                  columns = (int64_t)(transposed ? l->rows : l->columns);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            to[turned ? j * rows + i : i * columns + j] =
                get(p, l->type, transposed ? place(l, j, i) : place(l, i, j));
    for (int64_t i = 0; compute == CUBLAS_COMPUTE_32F_FAST_TF32 && i < rows * columns; i++)
        to[i] = rounded_to_tf32(to[i]);
}

/* sums (COLUMNS,m) = a (m,k), which lies as (k,m), times b (k,COLUMNS), which lies as (COLUMNS,k) */
static void multiply_columns(float *restrict sums, const float *restrict a, const float *restrict b,
                             int64_t m, int64_t k)
{
    memset(sums, 0, (size_t)(COLUMNS * m) * sizeof *sums);
    for (int64_t i = 0; i < k; i++) {
        const float *row = a + i * m, b0 = b[i], b1 = b[k + i], b2 = b[2 * k + i], b3 = b[3 * k + i];
        for (int64_t j = 0; j < m; j++) {
            sums[j] += row[j] * b0;
            sums[m + j] += row[j] * b1;
            sums[2 * m + j] += row[j] * b2;
            sums[3 * m + j] += row[j] * b3;
        }
    }
}

/* A column of D: row by row, from its sums. */
static void finish(const LtCall *c, int64_t batch, int64_t column, const float *sums)
{
    const LtLayout *lc = &c->layout_c, *ld = &c->layout_d;
    const char *from = (const char *)c->c + batch * lc->batch_stride * (int64_t)lt_size(lc->type);
    char *to = (char *)c->d + batch * ld->batch_stride * (int64_t)lt_size(ld->type);
    const LtOperation *o = &c->operation;
    const cudaDataType bias_type = o->bias_type < 0 ? ld->type : (cudaDataType)o->bias_type;
    for (int64_t i = 0; i < (int64_t)ld->rows; i++) {
        float x = c->alpha * sums[i];
        if (c->beta != 0)
            x += c->beta * get(from, lc->type, place(lc, i, column));
        if (o->epilogue == CUBLASLT_EPILOGUE_BIAS)
            x += get(o->bias, bias_type, batch * o->bias_stride + i);
        set(to, ld->type, place(ld, i, column), x);
    }
}

void lt_multiply(const LtCall *c)
{
    const LtOperation *o = &c->operation;
    const int64_t m = (int64_t)c->layout_d.rows, n = (int64_t)c->layout_d.columns,
                  k = (int64_t)(o->a == CUBLAS_OP_N ? c->layout_a.columns : c->layout_a.rows);
    const int64_t round = (n + COLUMNS - 1) / COLUMNS * COLUMNS;
    float *a = malloc((size_t)(m * k) * 4 + 4), *b = calloc((size_t)(round * k) + 1, 4),
          *sums = malloc((size_t)(COLUMNS * m) * 4 + 4);
    if (!a || !b || !sums)
        abort();
    /* what an algorithm leaves in its workspace is nobody's business */
    if (c->workspace_bytes)
        memset(c->workspace, STAND_IN_POISON, c->workspace_bytes);
    for (int64_t batch = 0; batch < c->layout_d.batch; batch++) {
        unpack(a, c->a, &c->layout_a, batch, o->a != CUBLAS_OP_N, true, o->compute);
        unpack(b, c->b, &c->layout_b, batch, o->b != CUBLAS_OP_N, true, o->compute);
        for (int64_t j = 0; j < n; j += COLUMNS) {
            multiply_columns(sums, a, b + j * k, m, k);
            for (int64_t i = j; i < n && i < j + COLUMNS; i++)
                finish(c, batch, i, sums + (i - j) * m);
        }
    }
    free(a);
    free(b);
    free(sums);
}
