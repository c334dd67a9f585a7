/* Group norm and layer norm on the tape. Kept for the backward: x, and the groups' or rows' mean and
 * 1/deviation. */
#include "kernels/op.h"

/* The layer has a weight and a bias of C values each. */
static bool has_channels(const Layer *l, int64_t C)
{
    return l->weight && l->bias && tensor_count(l->weight) == C && tensor_count(l->bias) == C;
}

/* Group norm -------------------------------------------------------------------------------------------- */

/* in: x, mean, rstd; i: groups, silu */
static void group_norm_backward(Ctx *c, Node *n)
{
    const Layer *l = n->layer;
    Tensor *x = n->in[0], *mean = n->in[1], *rstd = n->in[2], *g = n->out->grad;
    const int groups = (int)n->i[0];
    op_begin(c, n->i[1] ? "group_norm_silu backward" : "group_norm backward", l);
    op_use(c, x), op_use(c, mean), op_use(c, rstd), op_use(c, g);
    Tensor *d = grad_target(c, x);
    size_t bytes = 0;
    op_check(c, c->dev->group_norm_backward_scratch(x, groups, &bytes));
    void *scratch = op_scratch(c, bytes);
    RUN(c, c->dev->group_norm_backward(x, l->weight, l->bias, groups, n->i[1], mean, rstd, g, d,
                                       weight_grad(l->weight), weight_grad(l->bias), scratch));
    grad_add(c, x, d);
}

static Tensor *group_norm_of(Ctx *c, const char *name, const Layer *l, int groups, float eps, bool silu_too,
                             Tensor *x)
{
    op_begin(c, name, l);
    Tensor *y = ctx_tensor(c, x->dtype, x->ndim, x->shape);
    const int64_t C = tensor_dim(x, -1);
    if (groups < 1 || C % groups || x->ndim < 2 || !has_channels(l, C)) {
        op_fail(c, "%lld channels do not go into %d groups, or weight and bias have another number of them",
                (long long)C, groups);
        return y;
    }
    const int64_t kept[] = {x->shape[0], groups};
    Tensor *mean = ctx_tensor(c, DTYPE_F32, 2, kept), *rstd = ctx_tensor(c, DTYPE_F32, 2, kept);
    op_use(c, x);
    size_t bytes = 0;
    op_check(c, c->dev->group_norm_scratch(x, groups, &bytes));
    void *scratch = op_scratch(c, bytes);
    RUN(c, c->dev->group_norm(x, l->weight, l->bias, groups, eps, silu_too, y, mean, rstd, scratch));
    Node *n = tape_record(c, name, l, y, x->requires_grad || layer_trained(l), group_norm_backward);
    if (n) {
        n->in[0] = x, n->in[1] = mean, n->in[2] = rstd;
        n->i[0] = groups, n->i[1] = silu_too;
    }
    return y;
}

Tensor *group_norm(Ctx *c, const Layer *l, int groups, float eps, Tensor *x)
{
    return group_norm_of(c, "group_norm", l, groups, eps, false, x);
}

Tensor *group_norm_silu(Ctx *c, const Layer *l, int groups, float eps, Tensor *x)
{
    return group_norm_of(c, "group_norm_silu", l, groups, eps, true, x);
}

/* Layer norm -------------------------------------------------------------------------------------------- */

/* in: x, mean, rstd */
static void layer_norm_backward(Ctx *c, Node *n)
{
    const Layer *l = n->layer;
    Tensor *x = n->in[0], *mean = n->in[1], *rstd = n->in[2], *g = n->out->grad;
    op_begin(c, "layer_norm backward", l);
    op_use(c, x), op_use(c, mean), op_use(c, rstd), op_use(c, g);
    Tensor *d = grad_target(c, x);
    size_t bytes = 0;
    if (layer_trained(l))
        op_check(c, c->dev->layer_norm_backward_scratch(x, &bytes));
    void *scratch = op_scratch(c, bytes);
    RUN(c, c->dev->layer_norm_backward(x, l->weight, mean, rstd, g, d, weight_grad(l->weight),
                                       weight_grad(l->bias), scratch));
    grad_add(c, x, d);
}

Tensor *layer_norm(Ctx *c, const Layer *l, float eps, Tensor *x)
{
    op_begin(c, "layer_norm", l);
    Tensor *y = ctx_tensor(c, x->dtype, x->ndim, x->shape);
    if (!has_channels(l, tensor_dim(x, -1))) {
        op_fail(c, "weight and bias do not have %lld values", (long long)tensor_dim(x, -1));
        return y;
    }
    const int64_t rows = tensor_rows(x);
    Tensor *mean = ctx_tensor(c, DTYPE_F32, 1, &rows), *rstd = ctx_tensor(c, DTYPE_F32, 1, &rows);
    op_use(c, x);
    RUN(c, c->dev->layer_norm(x, l->weight, l->bias, eps, y, mean, rstd));
    Node *n = tape_record(c, "layer_norm", l, y, x->requires_grad || layer_trained(l), layer_norm_backward);
    if (n)
        n->in[0] = x, n->in[1] = mean, n->in[2] = rstd;
    return y;
}
