/* Embeddings on the tape. */
#include "kernels/op.h"

#include <string.h>

/* in: ids */
static void embedding_backward(Ctx *c, Node *n)
{
    op_begin(c, "embedding backward", n->layer);
    op_use(c, n->in[0]), op_use(c, n->out->grad);
    RUN(c, c->dev->embedding_backward(n->in[0], n->out->grad, n->layer->weight->grad));
}

Tensor *embedding(Ctx *c, const Layer *l, Tensor *ids)
{
    const Tensor *w = l->weight;
    int64_t shape[TENSOR_MAX_DIMS] = {0};
    op_begin(c, "embedding", l);
    const bool fits = ids->ndim < TENSOR_MAX_DIMS && ids->dtype == DTYPE_I32 && w && w->ndim == 2;
    if (!fits)
        op_fail(c, "needs numbers in i32 and a table of two dimensions");
    const int ndim = ids->ndim < TENSOR_MAX_DIMS ? ids->ndim + 1 : TENSOR_MAX_DIMS;
    memcpy(shape, ids->shape, sizeof *shape * (size_t)(ndim - 1));
    shape[ndim - 1] = fits ? w->shape[1] : 1;
    op_use(c, ids);
    Tensor *y = ctx_tensor(c, c->dtype, ndim, shape);
    const Tensor *table = fits ? op_weight(c, l) : w;
    RUN(c, c->dev->embedding(ids, table, y));
    Node *n = tape_record(c, "embedding", l, y, fits && w->requires_grad, embedding_backward);
    if (n)
        n->in[0] = ids;
    return y;
}

/* in: x, rows */
static void take_rows_backward(Ctx *c, Node *n)
{
    op_begin(c, "take_rows backward", NULL);
    op_use(c, n->in[1]), op_use(c, n->out->grad);
    Tensor *d = grad_target(c, n->in[0]);
    RUN(c, c->dev->take_rows_backward(n->in[1], n->out->grad, d));
    grad_add(c, n->in[0], d);
}

Tensor *take_rows(Ctx *c, Tensor *x, Tensor *rows)
{
    op_begin(c, "take_rows", NULL);
    const bool fits =
        x->ndim == 3 && rows->ndim == 1 && rows->dtype == DTYPE_I32 && rows->shape[0] == x->shape[0];
    if (!fits) {
        char p[80], q[80];
        op_fail(c, "needs (B,T,D) and (B) numbers in i32, not %s and %s", tensor_describe(x, p, sizeof p),
                tensor_describe(rows, q, sizeof q));
    }
    const int64_t shape[] = {x->shape[0], tensor_dim(x, -1)};
    op_use(c, x), op_use(c, rows);
    Tensor *y = ctx_tensor(c, x->dtype, 2, shape);
    RUN(c, c->dev->take_rows(x, rows, y));
    Node *n = tape_record(c, "take_rows", NULL, y, fits && x->requires_grad, take_rows_backward);
    if (n)
        n->in[0] = x, n->in[1] = rows;
    return y;
}

Tensor *timestep_embedding(Ctx *c, Tensor *t, int64_t dim, bool flip_sin_to_cos, float downscale_freq_shift)
{
    op_begin(c, "timestep_embedding", NULL);
    if (t->ndim != 1 || t->dtype != DTYPE_F32 || dim < 2)
        op_fail(c, "needs timesteps f32 (B) and at least 2 features");
    const int64_t shape[] = {t->shape[0], dim};
    op_use(c, t);
    Tensor *y = ctx_tensor(c, c->dtype, 2, shape);
    RUN(c, c->dev->timestep_embedding(t, flip_sin_to_cos, downscale_freq_shift, y));
    return y;
}
