#include "decompose.h"

#include "kernels/base/mem.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* A weight and a change of it, row by row. */
typedef struct Rows {
    const Adapter *a;
    int64_t rows, columns, kernel; /* kernel: numbers of a row for each input channel */
    float *weight;                 /* (rows,columns) */
    float *row, *other;            /* a row of ΔW, and of one of its factors */
    float *w1, *w2;                /* LoKr's halves */
    int64_t w1_rows, w1_columns, w2_rows, w2_columns;
} Rows;

/* What is stored in 8 bits, times the scale of its row. A weight that is only described counts as ones. */
static Status read_weight(const Tensor *w, float *out)
{
    for (int64_t i = 0; !w->data && i < tensor_count(w); i++)
        out[i] = 1;
    if (!w->data)
        return STATUS_OK;
    if (w->dtype != DTYPE_I8)
        return tensor_get(w, out, DTYPE_F32);
    const int64_t n = tensor_count(w), rows = w->shape[0];
    int8_t *small = mem_alloc((size_t)n);
    float *scales = mem_alloc((size_t)rows * sizeof *scales);
    Status s = small && scales ? tensor_get(w, small, DTYPE_I8) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = tensor_get(w->scales, scales, DTYPE_F32);
    for (int64_t i = 0; s == STATUS_OK && i < n; i++)
        out[i] = (float)small[i] * scales[i / (n / rows)];
    mem_free(small);
    mem_free(scales);
    return s;
}

/* row += factor x */
static void add_row(float *row, float factor, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        row[i] += factor * x[i];
}

/* Row o of a b; both in host memory, f32. */
static void product_row(const Tensor *a, const Tensor *b, int64_t o, int64_t columns, float *row)
{
    const int64_t rank = b->shape[0];
    memset(row, 0, (size_t)columns * sizeof *row);
    for (int64_t r = 0; r < rank; r++)
        add_row(row, ((const float *)a->data)[o * rank + r], (const float *)b->data + r * columns, columns);
}

/* A half of LoKr, whole. */
static Status make_half(const Adapter *a, int first, float **out, int64_t *rows, int64_t *columns)
{
    const Tensor *whole = a->tensors[first], *left = a->tensors[first + 1], *right = a->tensors[first + 2];
    *rows = whole ? whole->shape[0] : left->shape[0];
    *columns = whole ? tensor_count(whole) / *rows : tensor_count(right) / right->shape[0];
    *out = mem_alloc((size_t)(*rows * *columns) * sizeof **out);
    if (!*out)
        return STATUS_FAILED;
    for (int64_t i = 0; i < *rows; i++)
        if (whole)
            memcpy(*out + i * *columns, (const float *)whole->data + i * *columns,
                   (size_t)*columns * sizeof **out);
        else
            product_row(left, right, i, *columns, *out + i * *columns);
    return STATUS_OK;
}

/* Row o of ΔW, without its scale. */
static void delta_row(const Rows *r, int64_t o)
{
    Tensor *const *t = r->a->tensors;
    if (r->a->kind == &adapter_lora) {
        product_row(t[LORA_UP], t[LORA_DOWN], o, r->columns, r->row);
    } else if (r->a->kind == &adapter_loha) {
        product_row(t[LOHA_W1_A], t[LOHA_W1_B], o, r->columns, r->row);
        product_row(t[LOHA_W2_A], t[LOHA_W2_B], o, r->columns, r->other);
        for (int64_t i = 0; i < r->columns; i++)
            r->row[i] *= r->other[i];
    } else {
        const float *first = r->w1 + o / r->w2_rows * r->w1_columns,
                    *second = r->w2 + o % r->w2_rows * r->w2_columns;
        for (int64_t i = 0; i < r->columns; i++)
            r->row[i] = first[i / r->w2_columns] * second[i % r->w2_columns];
    }
}

static Status rows_begin(Rows *r, const Adapter *a, const Tensor *w)
{
    *r = (Rows){.a = a, .rows = w->shape[0], .columns = tensor_count(w) / w->shape[0]};
    r->kernel = r->columns / w->shape[1];
    r->weight = mem_alloc((size_t)tensor_count(w) * sizeof(float));
    r->row = mem_alloc((size_t)r->columns * sizeof(float));
    r->other = mem_alloc((size_t)r->columns * sizeof(float));
    if (!r->weight || !r->row || !r->other)
        return STATUS_FAILED;
    if (a->kind == &adapter_lokr) {
        TRY(make_half(a, LOKR_W1, &r->w1, &r->w1_rows, &r->w1_columns));
        TRY(make_half(a, LOKR_W2, &r->w2, &r->w2_rows, &r->w2_columns));
    }
    return read_weight(w, r->weight);
}

static void rows_end(Rows *r)
{
    mem_free(r->weight);
    mem_free(r->row);
    mem_free(r->other);
    mem_free(r->w1);
    mem_free(r->w2);
}

/* Squares of the lengths of W + ΔW: of rows, or of the columns of each input channel. */
static void add_squares(const Rows *r, bool by_rows, double *squares)
{
    for (int64_t o = 0; o < r->rows; o++) {
        const float *w = r->weight + o * r->columns;
        delta_row(r, o);
        for (int64_t i = 0; i < r->columns; i++) {
            const double v = (double)w[i] + (double)r->a->scale * r->row[i];
            squares[by_rows ? o : i / r->kernel] += v * v;
        }
    }
}

/* share (s - 1) and share s, s = m / length, one number a row or a column. */
static Status make_factors(Adapter *a, const Rows *r, const Tensor *m, bool by_rows, const double *squares,
                           float share)
{
    const int64_t n = by_rows ? r->rows : r->columns;
    const int64_t shape[] = {by_rows ? n : 1, by_rows ? 1 : n};
    a->weight_factor = tensor_new(DTYPE_F32, 2, shape);
    a->delta_factor = tensor_new(DTYPE_F32, 2, shape);
    if (!a->weight_factor || !a->delta_factor)
        return STATUS_FAILED;
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = by_rows ? i : i / r->kernel;
        const double s = ((const float *)m->data)[at] / fmax(sqrt(squares[at]), FLT_EPSILON);
        ((float *)a->weight_factor->data)[i] = (float)(share * (s - 1));
        ((float *)a->delta_factor->data)[i] = (float)(share * s);
    }
    return STATUS_OK;
}

Status adapter_decompose(Adapter *a, const Layer *l, const Tensor *m, float share)
{
    char text[80];
    Rows r;
    const int64_t rows = l->weight->shape[0], channels = l->weight->shape[1], n = tensor_count(m);
    const bool by_rows = n == rows && (m->shape[0] == n || n != channels || m->ndim < 2 || m->shape[1] != n);
    if (!by_rows && n != channels)
        return status_fail(
            "the lengths %s do not fit a weight of (%lld,%lld); was this made for another model?",
            tensor_describe(m, text, sizeof text), (long long)rows,
            (long long)(tensor_count(l->weight) / rows));
    double *squares = mem_calloc((size_t)n, sizeof *squares);
    Status s = rows_begin(&r, a, l->weight);
    if (s == STATUS_OK && squares) {
        add_squares(&r, by_rows, squares);
        s = make_factors(a, &r, m, by_rows, squares, share);
    }
    rows_end(&r);
    mem_free(squares);
    return squares ? s : STATUS_FAILED;
}
