/* Linear layers with low-rank adapters, and products of two activations, on the tape.
 *
 *     y = x W^T + b + Σ scale up(down(x))          x (N,in)  W (out,in)  down (r,in)  up (out,r)
 *
 * The adapter is never merged into W: t = x down^T is N·r numbers, and the second product adds to y.
 * Backward, with g = grad y and u = scale g up:  grad x = g W + Σ u down,  grad W += g^T x,  grad b += Σ_rows
 * g, grad up += scale g^T t,  grad down += u^T x. t is made again rather than kept: it is cheap, and a layer
 * may carry any number of adapters. x is kept only where a weight or an adapter is trained. */
#include "linear.h"

#include "kernels/op.h"

/* Products of tensors ---------------------------------------------------------------------------------- */

/* A tensor as a matrix: rows of its last dimension, whatever comes before. A weight (out,in,1,1) is (out,in).
 */
typedef struct Matrix {
    const Tensor *t;
    int64_t rows, columns;
} Matrix;

static Matrix matrix_of(const Tensor *t)
{
    return (Matrix){t, tensor_rows(t), tensor_dim(t, -1)};
}
static Matrix weight_matrix(const Tensor *w)
{
    const int64_t rows = w->ndim ? w->shape[0] : 1;
    return (Matrix){w, rows, rows ? tensor_count(w) / rows : 0};
}

/* y = alpha op(a) op(b) + beta y + bias */
static void product(Ctx *c, float alpha, Matrix a, bool trans_a, Matrix b, bool trans_b, float beta, Matrix y,
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

static bool trains_adapter(const Layer *l)
{
    for (const Adapter *a = l->adapters; a; a = a->next)
        if (a->down->requires_grad || a->up->requires_grad)
            return true;
    return false;
}

/* The adapter's share of the backward pass: parameters' gradients, and grad x += u down. */
static void adapter_backward(Ctx *c, const Adapter *a, Matrix x, Matrix g, Tensor *grad_x)
{
    const Matrix down = weight_matrix(a->down), up = weight_matrix(a->up);
    if (a->up->requires_grad) {
        Tensor *t = matrix_tensor(c, g.t->dtype, g.rows, down.rows);
        product(c, 1, x, false, down, true, 0, matrix_of(t), NULL);
        product(c, a->scale, g, true, matrix_of(t), false, 1, weight_matrix(a->up->grad), NULL);
    }
    if (!a->down->requires_grad && !grad_x)
        return;
    Tensor *u = matrix_tensor(c, g.t->dtype, g.rows, up.columns);
    product(c, a->scale, g, false, up, false, 0, matrix_of(u), NULL);
    if (a->down->requires_grad)
        product(c, 1, matrix_of(u), true, x, false, 1, weight_matrix(a->down->grad), NULL);
    if (grad_x)
        product(c, 1, matrix_of(u), false, down, false, 1, matrix_of(grad_x), NULL);
}

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
    const Matrix x = n->in[0] ? matrix_of(n->in[0]) : (Matrix){0};
    for (const Adapter *a = l->adapters; a; a = a->next)
        adapter_backward(c, a, x, g, grad_x);
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
    for (const Adapter *p = l->adapters; p; p = p->next) {
        const Matrix down = weight_matrix(p->down), up = weight_matrix(p->up);
        if (down.columns != w.columns || up.rows != w.rows || up.columns != down.rows) {
            op_fail(c, "an adapter with down %s and up %s does not fit the layer",
                    tensor_describe(p->down, a, sizeof a), tensor_describe(p->up, b, sizeof b));
            return false;
        }
    }
    return true;
}

static void add_adapter(Ctx *c, const Adapter *a, Matrix x, Matrix y)
{
    const Matrix down = weight_matrix(a->down);
    Tensor *t = matrix_tensor(c, y.t->dtype, x.rows, down.rows);
    product(c, 1, x, false, down, true, 0, matrix_of(t), NULL);
    product(c, a->scale, matrix_of(t), false, weight_matrix(a->up), true, 1, y, NULL);
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
        for (const Adapter *a = l->adapters; a; a = a->next)
            add_adapter(c, a, matrix_of(x), matrix_of(y));
    }
    Node *n = tape_record(c, name, l, y, x->requires_grad || layer_trained(l), linear_backward);
    if (n) {
        n->in[0] = l->weight->requires_grad || trains_adapter(l) ? x : NULL;
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
