/* Group norm and layer norm on the tape. Kept for the backward: x, and the groups' or rows' mean and
 * 1/deviation. On parts of a map a group norm may go by the whole map's (GroupStatistics), on no tape. */
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

/* A norm's two rows of a step's statistics. */
typedef struct Moments {
    Tensor *mean, *rstd; /* f32 (1,groups); NULLs: x's own */
} Moments;

static Moments moments_in(Ctx *c, Tensor *all)
{
    const int64_t row = 2 * c->statistics->next;
    return (Moments){slice_batch(c, all, row, 1), slice_batch(c, all, row + 1, 1)};
}

/* x's statistics into m. */
static void measure(Ctx *c, const Layer *l, int groups, float eps, const Tensor *x, Moments m)
{
    op_begin(c, "group_norm statistics", l);
    const Norm norm = {
        .groups = groups, .eps = eps, .x = x, .w = l->weight, .b = l->bias, .mean = m.mean, .rstd = m.rstd};
    op_use(c, x), op_use(c, m.mean), op_use(c, m.rstd);
    RUN_IN_SCRATCH(c, group_norm, &norm);
}

static Tensor *piece_of(Ctx *c, Tensor *x)
{
    const GroupStatistics *s = c->statistics;
    const int64_t H = x->shape[1], W = x->shape[2];
    return crop(c, x, H * s->top / s->height, W * s->left / s->width, H * s->rows / s->height,
                W * s->columns / s->width);
}

static void check_statistics(Ctx *c, const Layer *l, int groups, const Tensor *x)
{
    const GroupStatistics *s = c->statistics;
    const Tensor *all[] = {s->given, s->correction, s->measured};
    op_begin(c, "group_norm", l);
    if (c->recording && x->requires_grad)
        op_fail(c, "has no gradient by other statistics: it is for drawing, not for training");
    for (int i = 0; i < 3; i++)
        if (all[i] && (all[i]->shape[1] != groups || 2 * s->next + 2 > all[i]->shape[0]))
            op_fail(c, "there are no statistics of %d groups for norm %d", groups, s->next + 1);
}

/* What a norm under c->statistics goes by; x is one picture here. */
static Moments moments_of(Ctx *c, const Layer *l, int groups, float eps, Tensor *x)
{
    GroupStatistics *s = c->statistics;
    const int64_t shape[] = {1, groups};
    Moments m = {NULL, NULL};
    check_statistics(c, l, groups, x);
    if (ctx_status(c) != STATUS_OK)
        return m;
    if (!s->given && !s->measured)
        m = (Moments){ctx_tensor(c, DTYPE_F32, 2, shape), ctx_tensor(c, DTYPE_F32, 2, shape)};
    else if (s->measured)
        m = moments_in(c, s->measured);
    if (!s->given || s->measured)
        measure(c, l, groups, eps, s->given ? piece_of(c, x) : x, m);
    if (s->given) {
        m = moments_in(c, s->given);
    } else if (s->correction) {
        const Moments k = moments_in(c, s->correction);
        m = (Moments){add(c, m.mean, k.mean), multiply(c, m.rstd, k.rstd)};
    }
    s->next++;
    return m;
}

static Tensor *normalised(Ctx *c, const char *name, const Layer *l, int groups, float eps, bool silu_too,
                          Moments m, Tensor *x)
{
    const int64_t kept[] = {x->shape[0], groups};
    op_begin(c, name, l);
    Tensor *y = ctx_tensor(c, x->dtype, x->ndim, x->shape);
    const int64_t C = tensor_dim(x, -1);
    if (groups < 1 || C % groups || x->ndim < 2 || !has_channels(l, C)) {
        op_fail(c, "%lld channels do not go into %d groups, or weight and bias have another number of them",
                (long long)C, groups);
        return y;
    }
    const Norm norm = {.groups = groups,
                       .eps = eps,
                       .silu = silu_too,
                       .given = m.mean != NULL,
                       .x = x,
                       .w = l->weight,
                       .b = l->bias,
                       .y = y,
                       .mean = m.mean ? m.mean : ctx_tensor(c, DTYPE_F32, 2, kept),
                       .rstd = m.rstd ? m.rstd : ctx_tensor(c, DTYPE_F32, 2, kept)};
    op_use(c, x), op_use(c, m.mean), op_use(c, m.rstd);
    RUN_IN_SCRATCH(c, group_norm, &norm);
    norm_record(c, name, l, &norm, group_norm_backward);
    return y;
}

static Tensor *group_norm_of(Ctx *c, const char *name, const Layer *l, int groups, float eps, bool silu_too,
                             Tensor *x)
{
    if (!c->statistics)
        return normalised(c, name, l, groups, eps, silu_too, (Moments){NULL, NULL}, x);
    Tensor *all = reshape(c, x, 4, (int64_t[]){1, x->shape[0] * x->shape[1], x->shape[2], x->shape[3]});
    const Moments m = moments_of(c, l, groups, eps, all);
    return reshape(c, normalised(c, name, l, groups, eps, silu_too, m, all), 4, x->shape);
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
