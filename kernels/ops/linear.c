/* Linear layers, and products of two activations, on the tape.
 *
 *     y = x W^T + b + what the adapters add (adapter.c)          x (N,in)  W (out,in)
 *
 * Backward, with g = grad y:  grad x = g W,  grad W += g^T x,  grad b += Σ_rows g. x is kept only where a
 * weight or an adapter is trained. */
#include "adapter.h"

#include "kernels/op.h"

/* Products of tensors ---------------------------------------------------------------------------------- */

Matrix matrix_of(const Tensor *t)
{
    return (Matrix){t, tensor_rows(t), tensor_dim(t, -1)};
}
Matrix weight_matrix(const Tensor *w)
{
    const int64_t rows = w->ndim ? w->shape[0] : 1;
    return (Matrix){w, rows, rows ? tensor_count(w) / rows : 0};
}

void product(Ctx *c, float alpha, Matrix a, bool trans_a, Matrix b, bool trans_b, float beta, Matrix y,
             const Tensor *bias)
{
    const Product p = {.m = y.rows,
                       .n = y.columns,
                       .k = trans_a ? a.rows : a.columns,
                       .trans_a = trans_a,
                       .trans_b = trans_b,
                       .alpha = alpha,
                       .beta = beta,
                       .a = a.t,
                       .b = b.t,
                       .bias = bias,
                       .y = (Tensor *)y.t};
    op_use(c, a.t), op_use(c, b.t), op_use(c, y.t);
    op_flop(c, 2.0 * (double)p.m * (double)p.n * (double)p.k);
    RUN_IN_SCRATCH(c, product, &p);
}

static Tensor *matrix_tensor(Ctx *c, DType dtype, int64_t rows, int64_t columns)
{
    const int64_t shape[] = {rows, columns};
    return ctx_tensor(c, dtype, 2, shape);
}

/* Linear ----------------------------------------------------------------------------------------------- */

/* in: x (NULL where nothing of the layer is trained), the tensor that wants grad x; arg is the operation's
 * name */
static void linear_backward(Ctx *c, Node *n)
{
    const Layer *l = n->layer;
    const Matrix w = weight_matrix(l->weight), g = matrix_of(n->out->grad);
    op_begin(c, n->arg, l);
    op_use(c, n->in[0]), op_use(c, g.t);
    Tensor *grad_x = grad_target(c, n->in[1]);
    if (grad_x)
        product(c, 1, g, false, w, false, 0, matrix_of(grad_x), NULL);
    if (l->weight->requires_grad)
        product(c, 1, g, true, matrix_of(n->in[0]), false, 1, weight_matrix(l->weight->grad), NULL);
    if (l->bias && l->bias->requires_grad)
        RUN(c, c->dev->column_sum(g.t, l->bias->grad, true));
    adapters_backward(c, &(Site){.layer = l}, n->in[0], g.t, grad_x);
    grad_add(c, n->in[1], grad_x);
}

static bool fits(Ctx *c, const Layer *l, const Tensor *x)
{
    char a[80], b[80];
    const Matrix w = weight_matrix(l->weight);
    if (x->ndim < 1 || w.columns != tensor_dim(x, -1)) {
        op_fail(c, "weight %s does not fit input %s", tensor_describe(l->weight, a, sizeof a),
                tensor_describe(x, b, sizeof b));
        return false;
    }
    return adapters_fit(c, l);
}

Tensor *linear_as(Ctx *c, const char *name, const Layer *l, Tensor *x)
{
    op_begin(c, name, l);
    const Matrix w = weight_matrix(l->weight);
    int64_t shape[TENSOR_MAX_DIMS] = {0};
    for (int i = 0; i + 1 < x->ndim; i++)
        shape[i] = x->shape[i];
    shape[x->ndim > 0 ? x->ndim - 1 : 0] = w.rows;
    Tensor *y = ctx_tensor(c, c->dtype, x->ndim, shape);
    if (fits(c, l, x)) {
        product(c, 1, matrix_of(x), false, w, true, 0, matrix_of(y), l->bias);
        adapters_add(c, &(Site){.layer = l}, x, y);
    }
    Node *n = tape_record(c, name, l, y, x->requires_grad || layer_trained(l), linear_backward);
    if (n) {
        n->in[0] = l->weight->requires_grad || layer_adapters_trained(l) ? x : NULL;
        n->in[1] = x;
        n->arg = name;
    }
    return y;
}

Tensor *linear(Ctx *c, const Layer *l, Tensor *x)
{
    return linear_as(c, "linear", l, x);
}

/* Matmul ----------------------------------------------------------------------------------------------- */

/* in: a b; i[0] transpose_b */
static void matmul_backward(Ctx *c, Node *n)
{
    Tensor *a = n->in[0], *b = n->in[1];
    const bool transpose_b = n->i[0];
    const Matrix g = matrix_of(n->out->grad);
    op_begin(c, "matmul backward", NULL);
    Tensor *grad_a = grad_target(c, a), *grad_b = grad_target(c, b);
    if (grad_a)
        product(c, 1, g, false, matrix_of(b), !transpose_b, 0, matrix_of(grad_a), NULL);
    if (grad_b && transpose_b)
        product(c, 1, g, true, matrix_of(a), false, 0, matrix_of(grad_b), NULL);
    else if (grad_b)
        product(c, 1, matrix_of(a), true, g, false, 0, matrix_of(grad_b), NULL);
    grad_add(c, a, grad_a);
    grad_add(c, b, grad_b);
}

Tensor *matmul(Ctx *c, Tensor *a, Tensor *b, bool transpose_b)
{
    char from[80], to[80];
    op_begin(c, "matmul", NULL);
    const int64_t columns = transpose_b ? b->shape[0] : b->shape[1];
    Tensor *y = matrix_tensor(c, c->dtype, a->shape[0], columns);
    if (a->ndim != 2 || b->ndim != 2 || a->shape[1] != (transpose_b ? b->shape[1] : b->shape[0]))
        op_fail(c, "%s and %s cannot be multiplied", tensor_describe(a, from, sizeof from),
                tensor_describe(b, to, sizeof to));
    else
        product(c, 1, matrix_of(a), false, matrix_of(b), transpose_b, 0, matrix_of(y), NULL);
    Node *n = tape_record(c, "matmul", NULL, y, a->requires_grad || b->requires_grad, matmul_backward);
    if (n) {
        n->in[0] = a, n->in[1] = b;
        n->i[0] = transpose_b;
    }
    return y;
}
