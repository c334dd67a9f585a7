/* Group norm and layer norm on the tape. Kept for the backward: x, and the groups' or rows' mean and
 * 1/deviation. */
#include "kernels/op.h"

/* The layer has a weight and a bias of C values each. */
static bool has_channels(const Layer *l, int64_t C)
{
    return l->weight && l->bias && tensor_count(l->weight) == C && tensor_count(l->bias) == C;
}

/* Group norm -------------------------------------------------------------------------------------------- */

/* in: x, mean, rstd; i: groups, silu; f: eps */
static Norm norm_of(const Node *n, Tensor *grad_x)
{
    const Layer *l = n->layer;
    return (Norm){.groups = (int)n->i[0],
                  .silu = n->i[1],
                  .x = n->in[0],
                  .w = l->weight,
                  .b = l->bias,
                  .mean = n->in[1],
                  .rstd = n->in[2],
                  .grad_y = n->out->grad,
                  .grad_x = grad_x,
                  .grad_w = weight_grad(l->weight),
                  .grad_b = weight_grad(l->bias)};
}

static void norm_backward(Ctx *c, Node *n, const char *name)
{
    op_begin(c, name, n->layer);
    op_use(c, n->in[0]), op_use(c, n->in[1]), op_use(c, n->in[2]), op_use(c, n->out->grad);
    Tensor *d = grad_target(c, n->in[0]);
    const Norm norm = norm_of(n, d);
    if (norm.groups)
        RUN_IN_SCRATCH(c, group_norm_backward, &norm);
    else
        RUN_IN_SCRATCH(c, layer_norm_backward, &norm);
    grad_add(c, n->in[0], d);
}

static void norm_record(Ctx *c, const char *name, const Layer *l, const Norm *norm, BackwardFn backward)
{
    Tensor *x = (Tensor *)norm->x;
    Node *n = tape_record(c, name, l, norm->y, x->requires_grad || layer_trained(l), backward);
    if (n) {
        n->in[0] = x, n->in[1] = norm->mean, n->in[2] = norm->rstd;
        n->i[0] = norm->groups, n->i[1] = norm->silu;
    }
}

/* Group norm -------------------------------------------------------------------------------------------- */

static void group_norm_backward(Ctx *c, Node *n)
{
    norm_backward(c, n, n->i[1] ? "group_norm_silu backward" : "group_norm backward");
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
    const Norm norm = {.groups = groups,
                       .eps = eps,
                       .silu = silu_too,
                       .x = x,
                       .w = l->weight,
                       .b = l->bias,
                       .y = y,
                       .mean = ctx_tensor(c, DTYPE_F32, 2, kept),
                       .rstd = ctx_tensor(c, DTYPE_F32, 2, kept)};
    op_use(c, x);
    RUN_IN_SCRATCH(c, group_norm, &norm);
    norm_record(c, name, l, &norm, group_norm_backward);
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

static void layer_norm_backward(Ctx *c, Node *n)
{
    norm_backward(c, n, "layer_norm backward");
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
    const Norm norm = {.eps = eps,
                       .x = x,
                       .w = l->weight,
                       .b = l->bias,
                       .y = y,
                       .mean = ctx_tensor(c, DTYPE_F32, 1, &rows),
                       .rstd = ctx_tensor(c, DTYPE_F32, 1, &rows)};
    op_use(c, x);
    RUN(c, c->dev->layer_norm(&norm));
    norm_record(c, "layer_norm", l, &norm, layer_norm_backward);
    return y;
}
