/* LoKr: the Kronecker product of a small and a larger matrix (KronA, Edalati et al. 2022), as LyCORIS has it.
 *
 *     ΔW = scale w1 ⊗ w2          w1 (o,i)  w2 (out/o,in/i[,kh,kw])
 *
 * Each of the two is there whole, or as the product of its a (rows,r) and its b (r,columns); of a convolution
 * w2 has the kernel. ΔW's row o₁·(out/o)+o₂ is w1's row o₁ with each of its elements times w2's row o₂. */
#include "adapter.h"

#include "kernels/op.h"

/* w1 or w2: three tensors, of which the first or the others are there. */
typedef struct Half {
    const Tensor *whole, *a, *b;
} Half;

static Half half_of(const Adapter *a, int first)
{
    return (Half){a->tensors[first], a->tensors[first + 1], a->tensors[first + 2]};
}

static Status check_half(const Adapter *a, int first, int64_t *rows, int64_t *columns)
{
    char l[80], r[80];
    const Half h = half_of(a, first);
    const char *name = adapter_lokr.roles[first];
    if (h.whole ? h.a || h.b : !h.a || !h.b)
        return status_fail("%s is wanted whole or as %s_a and %s_b", name, name, name);
    const Matrix left = weight_matrix(h.whole ? h.whole : h.a);
    const Matrix right = h.whole ? left : weight_matrix(h.b);
    if (!h.whole && (left.columns < 1 || left.columns != right.rows))
        return status_fail("%s_a %s and %s_b %s cannot be multiplied", name,
                           tensor_describe(h.a, l, sizeof l), name, tensor_describe(h.b, r, sizeof r));
    *rows = left.rows;
    *columns = right.columns;
    return STATUS_OK;
}

static Status check(const Adapter *a, const Tensor *w)
{
    const Matrix layer = weight_matrix(w);
    int64_t rows[2] = {0}, columns[2] = {0};
    TRY(check_half(a, LOKR_W1, &rows[0], &columns[0]));
    TRY(check_half(a, LOKR_W2, &rows[1], &columns[1]));
    if (rows[0] * rows[1] != layer.rows || columns[0] * columns[1] != layer.columns ||
        w->shape[1] % columns[0] != 0)
        return status_fail("w1 (%lld,%lld) and w2 (%lld,%lld) do not make the model's weight of (%lld,%lld); "
                           "was this made for another model?",
                           (long long)rows[0], (long long)columns[0], (long long)rows[1],
                           (long long)columns[1], (long long)layer.rows, (long long)layer.columns);
    return STATUS_OK;
}

/* With two whole matrices no rank is left to divide alpha by; LyCORIS then takes alpha for the rank. */
static int64_t rank(const Adapter *a)
{
    const Tensor *b = a->tensors[LOKR_W2_B] ? a->tensors[LOKR_W2_B] : a->tensors[LOKR_W1_B];
    return b ? b->shape[0] : 0;
}

/* In f32: what is not trained may be stored in less. */
static const Tensor *make_half(Ctx *c, Half h)
{
    if (!h.whole)
        return delta_product(c, 1, h.a, h.b);
    if (h.whole->dtype == DTYPE_F32)
        return h.whole;
    const Matrix m = weight_matrix(h.whole);
    Tensor *wide = delta_matrix(c, m.rows, m.columns);
    RUN(c, c->dev->copy(h.whole, wide));
    return wide;
}

static Tensor *delta(Ctx *c, const Adapter *a, const Tensor *w)
{
    const Tensor *w1 = make_half(c, half_of(a, LOKR_W1)), *w2 = make_half(c, half_of(a, LOKR_W2));
    Tensor *y = ctx_tensor(c, DTYPE_F32, w->ndim, w->shape);
    op_use(c, w1), op_use(c, w2);
    RUN(c, c->dev->kronecker(a->scale, w1, w2, y));
    return y;
}

static bool is_trained(Half h)
{
    return h.whole ? h.whole->requires_grad : h.a->requires_grad || h.b->requires_grad;
}

/* Where the gradient of a half goes: that of its tensor, or one that delta_product_backward takes further. */
static Tensor *half_grad(Ctx *c, Half h, const Tensor *made)
{
    if (!is_trained(h))
        return NULL;
    if (h.whole)
        return h.whole->grad;
    Tensor *g = ctx_tensor(c, DTYPE_F32, made->ndim, made->shape);
    RUN(c, c->dev->fill(g, 0));
    return g;
}

static void delta_backward(Ctx *c, const Adapter *a, const Tensor *grad_delta)
{
    const Half h1 = half_of(a, LOKR_W1), h2 = half_of(a, LOKR_W2);
    const Tensor *w1 = make_half(c, h1), *w2 = make_half(c, h2);
    Tensor *g1 = half_grad(c, h1, w1), *g2 = half_grad(c, h2, w2);
    op_use(c, w1), op_use(c, w2), op_use(c, grad_delta);
    RUN(c, c->dev->kronecker_backward(a->scale, w1, w2, grad_delta, g1, g2));
    if (g1 && !h1.whole)
        delta_product_backward(c, h1.a, h1.b, g1);
    if (g2 && !h2.whole)
        delta_product_backward(c, h2.a, h2.b, g2);
}

const AdapterKind adapter_lokr = {
    .name = "lokr",
    .title = "LoKr",
    .roles = {[LOKR_W1] = "w1",
              [LOKR_W1_A] = "w1_a",
              [LOKR_W1_B] = "w1_b",
              [LOKR_W2] = "w2",
              [LOKR_W2_A] = "w2_a",
              [LOKR_W2_B] = "w2_b"},
    .check = check,
    .rank = rank,
    .delta = delta,
    .delta_backward = delta_backward,
};
