/* Kronecker products, of which LoKr's ΔW is made, and their gradients. */
#include "families.h"
#include "pieces.h"
#include "vec.h"

/* a (A,B), b (C,D), y and grad y (AC,BD): row i·C+k of y is row i of a, each element times row k of b. */
typedef struct Kronecker {
    float factor;
    const float *a, *b;
    float *y, *grad_a, *grad_b;
    int64_t A, B, C, D;
} Kronecker;

static Kronecker kronecker_of(float factor, const Tensor *a, const Tensor *b, const Tensor *y)
{
    const int64_t A = a->shape[0], C = b->shape[0];
    return (Kronecker){.factor = factor,
                       .a = a->data,
                       .b = b->data,
                       .y = y->data,
                       .A = A,
                       .B = tensor_count(a) / A,
                       .C = C,
                       .D = tensor_count(b) / C};
}

/* y = factor x, or y += factor x */
VEC void scaled_row(const float *x, float factor, bool add, float *y, int64_t n)
{
    int64_t i = 0;
    for (const vf f = vec_set(factor); i + VL <= n; i += VL)
        vec_store(y + i, add ? vec_load(y + i) + f * vec_load(x + i) : f * vec_load(x + i));
    for (; i < n; i++)
        y[i] = add ? y[i] + factor * x[i] : factor * x[i];
}

/* Σ x y */
VEC float dot_row(const float *x, const float *y, int64_t n)
{
    int64_t i = 0;
    vf sum = vec_set(0);
    for (; i + VL <= n; i += VL)
        sum += vec_load(x + i) * vec_load(y + i);
    float rest = 0;
    for (; i < n; i++)
        rest += x[i] * y[i];
    return vec_sum(sum) + rest;
}

/* Rows of y. */
static void kronecker_piece(const void *args, int64_t first, int64_t last)
{
    const Kronecker *s = args;
    for (int64_t r = first; r < last; r++)
        for (int64_t j = 0; j < s->B; j++)
            scaled_row(s->b + r % s->C * s->D, s->factor * s->a[r / s->C * s->B + j], false,
                       s->y + (r * s->B + j) * s->D, s->D);
}

static Status cpu_kronecker(float factor, const Tensor *a, const Tensor *b, Tensor *y)
{
    const Kronecker s = kronecker_of(factor, a, b, y);
    for_pieces(s.A * s.C, s.B * s.D, kronecker_piece, &s);
    return STATUS_OK;
}

/* grad a[i,j] += factor Σ_k of row i·C+k's part j with row k of b: elements of a. */
static void kronecker_a_piece(const void *args, int64_t first, int64_t last)
{
    const Kronecker *s = args;
    for (int64_t e = first; e < last; e++) {
        double sum = 0;
        for (int64_t k = 0; k < s->C; k++)
            sum += (double)dot_row(s->y + ((e / s->B * s->C + k) * s->B + e % s->B) * s->D, s->b + k * s->D,
                                   s->D);
        s->grad_a[e] += s->factor * (float)sum;
    }
}

/* grad b's row k += factor Σ_ij a[i,j] times row i·C+k's part j: rows of b. */
static void kronecker_b_piece(const void *args, int64_t first, int64_t last)
{
    const Kronecker *s = args;
    for (int64_t k = first; k < last; k++)
        for (int64_t e = 0; e < s->A * s->B; e++)
            scaled_row(s->y + ((e / s->B * s->C + k) * s->B + e % s->B) * s->D, s->factor * s->a[e], true,
                       s->grad_b + k * s->D, s->D);
}

static Status cpu_kronecker_backward(float factor, const Tensor *a, const Tensor *b, const Tensor *grad_y,
                                     Tensor *grad_a, Tensor *grad_b)
{
    Kronecker s = kronecker_of(factor, a, b, grad_y);
    if (grad_a) {
        s.grad_a = grad_a->data;
        for_pieces(s.A * s.B, s.C * s.D, kronecker_a_piece, &s);
    }
    if (grad_b) {
        s.grad_b = grad_b->data;
        for_pieces(s.C, s.A * s.B * s.D, kronecker_b_piece, &s);
    }
    return STATUS_OK;
}

void ISA(kronecker_table)(Device *d)
{
    d->kronecker = cpu_kronecker;
    d->kronecker_backward = cpu_kronecker_backward;
}
