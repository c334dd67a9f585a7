#include "tucker.h"

#include <string.h>

/* Σ_j t[i,j,k] b[j,c] as (i,c,kh,kw) */
static Status contract(const Tensor *t, const Tensor *b, Tensor **out)
{
    char left[80], right[80];
    const int64_t I = t->shape[0], J = t->ndim > 1 ? t->shape[1] : 0,
                  C = b->ndim > 1 ? tensor_count(b) / b->shape[0] : 0;
    if (t->ndim < 2 || b->shape[0] != J || C < 1)
        return status_fail("the middle part %s does not fit %s", tensor_describe(t, left, sizeof left),
                           tensor_describe(b, right, sizeof right));
    const int64_t kh = t->ndim > 2 ? t->shape[2] : 1, kw = t->ndim > 3 ? t->shape[3] : 1, K = kh * kw;
    *out = tensor_new(DTYPE_F32, 4, (int64_t[]){I, C, kh, kw});
    if (!*out)
        return STATUS_FAILED;
    const float *from = t->data, *with = b->data;
    float *to = (*out)->data;
    for (int64_t i = 0; i < I; i++)
        for (int64_t j = 0; j < J; j++)
            for (int64_t c = 0; c < C; c++)
                for (int64_t k = 0; k < K; k++)
                    to[(i * C + c) * K + k] += from[(i * J + j) * K + k] * with[j * C + c];
    return STATUS_OK;
}

/* (i,o) -> (o,i) */
static Status transpose(Tensor **a)
{
    const int64_t rows = (*a)->shape[0], columns = tensor_count(*a) / rows;
    Tensor *out = tensor_new(DTYPE_F32, 2, (int64_t[]){columns, rows});
    if (!out)
        return STATUS_FAILED;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t o = 0; o < columns; o++)
            ((float *)out->data)[o * rows + i] = ((const float *)(*a)->data)[i * columns + o];
    tensor_free(*a);
    *a = out;
    return STATUS_OK;
}

/* No larger than the layer's weight allows. */
static Status check_sizes(const Tensor *t, const Tensor *left, const Tensor *right, const Tensor *w)
{
    const int64_t rank = t->shape[0], kernel = t->ndim > 1 ? tensor_count(t) / rank / t->shape[1] : 0;
    const int64_t rows = tensor_count(left) / rank, columns = tensor_count(right) / right->shape[0] * kernel;
    if (rows < 1 || rows > w->shape[0] || columns < 1 || columns > tensor_count(w) / w->shape[0])
        return status_fail(
            "the middle part and what stands beside it do not fit the model's weight; was this made "
            "for another model?");
    return STATUS_OK;
}

/* Takes the part at `middle` into that on the right; the left one is stored the other way round where
 * `turned`. */
static Status expand(Adapter *a, const Tensor *w, int middle, int left, int right, bool turned)
{
    Tensor **t = &a->tensors[middle], *b = NULL;
    if (!*t)
        return STATUS_OK;
    if (!a->tensors[left] || !a->tensors[right])
        return status_fail("there is a middle part without the two beside it");
    TRY(check_sizes(*t, a->tensors[left], a->tensors[right], w));
    TRY(contract(*t, a->tensors[right], &b));
    tensor_free(a->tensors[right]);
    tensor_free(*t);
    a->tensors[right] = b;
    *t = NULL;
    return turned ? transpose(&a->tensors[left]) : STATUS_OK;
}

Status tucker_expand(Adapter *a, const Tensor *w)
{
    if (a->kind == &adapter_lora)
        return expand(a, w, LORA_MID, LORA_UP, LORA_DOWN, false);
    if (a->kind == &adapter_lokr)
        return expand(a, w, LOKR_T2, LOKR_W2_A, LOKR_W2_B, true);
    TRY(expand(a, w, LOHA_T1, LOHA_W1_A, LOHA_W1_B, true));
    return expand(a, w, LOHA_T2, LOHA_W2_A, LOHA_W2_B, true);
}
