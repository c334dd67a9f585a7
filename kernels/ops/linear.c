/* Linear layers, and products of two activations, on the tape.
 *
 *     y = x W^T + b + what the adapters add (adapter.c)          x (N,in)  W (out,in)
 *
 * Backward, with g = grad y:  grad x = g W,  grad W += g^T x,  grad b += Σ_rows g. x is kept only where a
 * weight or an adapter is trained. A residual is added while y is at hand and keeps nothing; under a GEGLU
 * the product itself, h, is kept, and y is not read again. */
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

static Product product_of(float alpha, Matrix a, bool trans_a, Matrix b, bool trans_b, float beta, Matrix y,
                          const Tensor *bias)
{
    return (Product){.m = y.rows,
                     .n = trans_b ? b.rows : b.columns,
                     .k = trans_a ? a.rows : a.columns,
                     .trans_a = trans_a,
                     .trans_b = trans_b,
                     .alpha = alpha,
                     .beta = beta,
                     .a = a.t,
                     .b = b.t,
                     .bias = bias,
                     .y = (Tensor *)y.t};
}

static void run_product(Ctx *c, Product p)
{
    op_next(c);
    const Tensor *const used[] = {p.a, p.b, p.y, p.residual, p.t, p.up, p.keep_h};
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        op_use(c, used[i]);
    op_flop(c, 2.0 * (double)p.m * (double)p.n * (double)(p.k + (p.t ? tensor_dim(p.t, -1) : 0)));
    p.tf32 = c->tf32;
    RUN_IN_SCRATCH(c, product, &p);
}

void product(Ctx *c, float alpha, Matrix a, bool trans_a, Matrix b, bool trans_b, float beta, Matrix y,
             const Tensor *bias)
{
    run_product(c, product_of(alpha, a, trans_a, b, trans_b, beta, y, bias));
}

/* Linear ----------------------------------------------------------------------------------------------- */

/* What x's gradient and the layer's parameters' come to from g. kept is x, or NULL where nothing of the layer
 * is trained. */
static void backward_of(Ctx *c, const Layer *l, const Tensor *kept, Tensor *x, const Tensor *grad_y)
{
    const Matrix g = matrix_of(grad_y);
    op_use(c, kept), op_use(c, grad_y);
    Tensor *grad_x = grad_target(c, x);
    if (grad_x)
        product(c, 1, g, false, weight_matrix(op_product_weight(c, l)), false, 0, matrix_of(grad_x), NULL);
    if (l->weight->requires_grad)
        product(c, 1, g, true, matrix_of(kept), false, 1, weight_matrix(l->weight->grad), NULL);
    if (l->bias && l->bias->requires_grad) {
        op_use(c, grad_y);
        RUN(c, c->dev->column_sum(grad_y, l->bias->grad, true));
    }
    adapters_backward(c, &(Site){.layer = l}, kept, grad_y, grad_x);
    grad_add(c, x, grad_x);
}

/* in: x (NULL where nothing of the layer is trained), the tensor that wants grad x, the residual or NULL; arg
 * is the operation's name */
static void linear_backward(Ctx *c, Node *n)
{
    op_begin(c, n->arg, n->layer);
    backward_of(c, n->layer, n->in[0], n->in[1], n->out->grad);
    grad_pass(c, n->in[2], n->out->grad);
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

/* x's shape with `columns` as the last dimension. */
static Tensor *result(Ctx *c, const Tensor *x, int64_t columns)
{
    int64_t shape[TENSOR_MAX_DIMS] = {0};
    for (int i = 0; i + 1 < x->ndim; i++)
        shape[i] = x->shape[i];
    shape[x->ndim > 0 ? x->ndim - 1 : 0] = columns;
    return ctx_tensor(c, c->dtype, x->ndim, shape);
}

static Tensor *kept_input(const Layer *l, Tensor *x)
{
    return l->weight->requires_grad || layer_adapters_trained(l) ? x : NULL;
}

static bool residual_fits(Ctx *c, const Tensor *residual, const Tensor *y)
{
    char a[80], b[80];
    if (!residual || tensor_same_shape(residual, y))
        return true;
    op_fail(c, "%s cannot be added to %s", tensor_describe(residual, a, sizeof a),
            tensor_describe(y, b, sizeof b));
    return false;
}

/* The first adapter, where it can ride on the product. */
static const Adapter *rider_of(const Layer *l)
{
    return l->adapters && l->adapters->kind->ride && !l->adapters->delta_factor ? l->adapters : NULL;
}

/* y, or what is under its GEGLU, = x W^T + b + residual + the rider's share. */
static void forward(Ctx *c, const Layer *l, Tensor *x, Product p)
{
    const Adapter *rider = rider_of(l);
    p.bias = l->bias;
    p.narrow = l->narrow && !tape_wanted(c);
    if (rider) {
        p.t = rider->kind->ride(c, rider, &(Site){.layer = l}, x, &p.up);
        p.scale = rider->scale;
    }
    run_product(c, p);
}

static Tensor *linear_forward(Ctx *c, const Layer *l, Tensor *x, Tensor *residual)
{
    const Matrix w = weight_matrix(l->weight);
    Tensor *y = result(c, x, w.rows);
    if (fits(c, l, x) && residual_fits(c, residual, y)) {
        const Matrix there = weight_matrix(op_product_weight(c, l));
        Product p = product_of(1, matrix_of(x), false, there, true, 0, matrix_of(y), NULL);
        const Adapter *rider = rider_of(l);
        p.residual = residual;
        forward(c, l, x, p);
        adapters_add(c, &(Site){.layer = l}, rider ? rider->next : l->adapters, x, y);
    }
    op_keep(c, 2.0 * (double)tensor_count(y) * (double)w.columns, y, NULL);
    return y;
}

Tensor *linear_as(Ctx *c, const char *name, const Layer *l, Tensor *x, Tensor *residual)
{
    op_begin(c, name, l);
    Tensor *y = op_kept(c, NULL);
    if (!y)
        y = linear_forward(c, l, x, residual);
    Node *n = tape_record(c, name, l, y,
                          x->requires_grad || layer_trained(l) || (residual && residual->requires_grad),
                          linear_backward);
    if (n) {
        n->in[0] = kept_input(l, x), n->in[1] = x, n->in[2] = residual;
        n->arg = name;
    }
    return y;
}

Tensor *linear(Ctx *c, const Layer *l, Tensor *x)
{
    return linear_as(c, "linear", l, x, NULL);
}

Tensor *linear_add(Ctx *c, const Layer *l, Tensor *x, Tensor *residual)
{
    return linear_as(c, "linear_add", l, x, residual);
}

/* Linear under a GEGLU --------------------------------------------------------------------------------- */

/* in: x (NULL where nothing of the layer is trained), the tensor that wants grad x, h */
static void linear_geglu_backward(Ctx *c, Node *n)
{
    Tensor *h = n->in[2], *g = n->out->grad;
    op_begin(c, "linear_geglu backward", n->layer);
    op_use(c, h), op_use(c, g);
    Tensor *grad_h = grad_target(c, h);
    RUN(c, c->dev->geglu_backward(h, g, grad_h));
    op_next(c);
    backward_of(c, n->layer, n->in[0], n->in[1], grad_h);
}

Tensor *linear_geglu(Ctx *c, const Layer *l, Tensor *x)
{
    if (l->adapters && (!rider_of(l) || l->adapters->next)) /* which are added to the whole of h */
        return geglu(c, linear(c, l, x));
    op_begin(c, "linear_geglu", l);
    const Matrix w = weight_matrix(l->weight);
    const bool needs_grad = x->requires_grad || layer_trained(l);
    Tensor *y = result(c, x, w.rows / 2), *h = needs_grad && c->recording ? result(c, x, w.rows) : NULL;
    if (w.rows % 2)
        op_fail(c, "the weight's %lld rows have no halves", (long long)w.rows);
    else if (fits(c, l, x)) {
        const Matrix there = weight_matrix(op_product_weight(c, l));
        Product p = product_of(1, matrix_of(x), false, there, true, 0, matrix_of(y), NULL);
        p.geglu = true;
        p.keep_h = h;
        forward(c, l, x, p);
    }
    Node *n = tape_record(c, "linear_geglu", l, y, needs_grad, linear_geglu_backward);
    if (n) {
        n->in[0] = kept_input(l, x), n->in[1] = x, n->in[2] = h;
        h->requires_grad = true;
    }
    return y;
}
