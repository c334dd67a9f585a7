/* Rearranging operations on the tape. */
#include "kernels/op.h"

#include <string.h>

/* x's shape with another last dimension. */
static void shape_with_last(const Tensor *x, int64_t last, int64_t *shape)
{
    memcpy(shape, x->shape, sizeof x->shape);
    shape[x->ndim - 1] = last;
}

/* Views: another Tensor over the same memory, in the same place of the plan ----------------------------- */

static Tensor *view_of(Ctx *c, const Tensor *x, int ndim, const int64_t *shape, int64_t first)
{
    Tensor v = {.dtype = x->dtype, .ndim = ndim, .place = x->place};
    memcpy(v.shape, shape, sizeof *shape * (size_t)ndim);
    if (x->data)
        v.data = (char *)x->data + (size_t)first * dtype_size(x->dtype);
    return (Tensor *)ctx_copy(c, &v, sizeof v);
}

static void reshape_backward(Ctx *c, Node *n)
{
    op_begin(c, "reshape backward", NULL);
    grad_pass(c, n->in[0], n->out->grad);
}

Tensor *reshape(Ctx *c, Tensor *x, int ndim, const int64_t *shape)
{
    op_begin(c, "reshape", NULL);
    Tensor *y = view_of(c, x, ndim, shape, 0);
    if (tensor_count(y) != tensor_count(x)) {
        char p[80], q[80];
        op_fail(c, "%s and %s differ in their number of elements", tensor_describe(x, p, sizeof p),
                tensor_describe(y, q, sizeof q));
    }
    op_use(c, x);
    Node *n = tape_record(c, "reshape", NULL, y, x->requires_grad, reshape_backward);
    if (n)
        n->in[0] = x;
    return y;
}

/* i[0]: the first row */
static void slice_batch_backward(Ctx *c, Node *n)
{
    Tensor *x = n->in[0], *g = n->out->grad;
    op_begin(c, "slice_batch backward", NULL);
    op_use(c, g);
    Tensor *d = grad_target(c, x);
    Tensor *rows = view_of(c, d, g->ndim, g->shape, n->i[0] * (tensor_count(d) / d->shape[0]));
    RUN(c, c->dev->fill(d, 0));
    RUN(c, c->dev->copy(g, rows));
    grad_add(c, x, d);
}

Tensor *slice_batch(Ctx *c, Tensor *x, int64_t first, int64_t count)
{
    int64_t shape[TENSOR_MAX_DIMS];
    op_begin(c, "slice_batch", NULL);
    memcpy(shape, x->shape, sizeof shape);
    shape[0] = count;
    op_use(c, x);
    if (first < 0 || count < 1 || first + count > x->shape[0]) {
        op_fail(c, "%lld to %lld of %lld", (long long)first, (long long)(first + count - 1),
                (long long)x->shape[0]);
        return ctx_tensor(c, x->dtype, x->ndim, shape);
    }
    Tensor *y = view_of(c, x, x->ndim, shape, first * (tensor_count(x) / x->shape[0]));
    Node *n = tape_record(c, "slice_batch", NULL, y, x->requires_grad, slice_batch_backward);
    if (n)
        n->in[0] = x, n->i[0] = first;
    return y;
}

/* Joining and cutting ----------------------------------------------------------------------------------- */

static void concat_backward(Ctx *c, Node *n)
{
    Tensor *a = n->in[0], *b = n->in[1], *g = n->out->grad;
    op_begin(c, "concat backward", NULL);
    op_use(c, g);
    Tensor *da = grad_target(c, a), *db = grad_target(c, b);
    if (da)
        RUN(c, c->dev->slice_channels(g, 0, da));
    if (db)
        RUN(c, c->dev->slice_channels(g, tensor_dim(a, -1), db));
    grad_add(c, a, da);
    grad_add(c, b, db);
}

Tensor *concat(Ctx *c, Tensor *a, Tensor *b)
{
    int64_t shape[TENSOR_MAX_DIMS];
    op_begin(c, "concat", NULL);
    if (a->ndim != b->ndim || memcmp(a->shape, b->shape, sizeof *a->shape * (size_t)(a->ndim - 1)) != 0) {
        char p[80], q[80];
        op_fail(c, "%s and %s differ in more than the last dimension", tensor_describe(a, p, sizeof p),
                tensor_describe(b, q, sizeof q));
    }
    shape_with_last(a, tensor_dim(a, -1) + tensor_dim(b, -1), shape);
    op_use(c, a), op_use(c, b);
    Tensor *y = ctx_tensor(c, a->dtype, a->ndim, shape);
    RUN(c, c->dev->concat(a, b, y));
    Node *n = tape_record(c, "concat", NULL, y, a->requires_grad || b->requires_grad, concat_backward);
    if (n)
        n->in[0] = a, n->in[1] = b;
    return y;
}

/* Maps -------------------------------------------------------------------------------------------------- */

/* Fails unless x is a map of four dimensions, in which case the caller's shape is read off it. */
static bool check_map(Ctx *c, const Tensor *x)
{
    char p[80];
    if (x->ndim == 4)
        return true;
    op_fail(c, "%s is no map of four dimensions", tensor_describe(x, p, sizeof p));
    return false;
}

Tensor *from_nchw_as(Ctx *c, Tensor *x, DType dtype)
{
    op_begin(c, "from_nchw", NULL);
    if (check_map(c, x) && x->dtype != DTYPE_F32)
        op_fail(c, "the map is %s, not f32", dtype_name(x->dtype));
    const int64_t shape[] = {x->shape[0], x->shape[2], x->shape[3], x->shape[1]};
    op_use(c, x);
    Tensor *y = ctx_tensor(c, dtype, 4, shape);
    RUN(c, c->dev->from_nchw(x, y));
    return y;
}

Tensor *from_nchw(Ctx *c, Tensor *x)
{
    return from_nchw_as(c, x, c->dtype);
}

Tensor *to_nchw(Ctx *c, Tensor *x)
{
    op_begin(c, "to_nchw", NULL);
    check_map(c, x);
    const int64_t shape[] = {x->shape[0], x->shape[3], x->shape[1], x->shape[2]};
    op_use(c, x);
    Tensor *y = ctx_tensor(c, DTYPE_F32, 4, shape);
    RUN(c, c->dev->to_nchw(x, y));
    return y;
}
