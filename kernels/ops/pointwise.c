/* Elementwise operations on the tape. Activations keep their input; sums keep nothing and hand the gradient
 * on. */
#include "kernels/op.h"

static bool check_same(Ctx *c, const Tensor *a, const Tensor *b)
{
    char p[80], q[80];
    if (tensor_same_shape(a, b))
        return true;
    op_fail(c, "%s and %s differ in shape", tensor_describe(a, p, sizeof p), tensor_describe(b, q, sizeof q));
    return false;
}

/* Activations: a function and its backward of the device, named in a table ------------------------------ */

typedef Status (*ForwardFn)(const Tensor *x, Tensor *y);
typedef Status (*GradientFn)(const Tensor *x, const Tensor *grad_y, Tensor *grad_x);

static void activation_backward(Ctx *c, Node *n, const char *name, GradientFn gradient)
{
    Tensor *x = n->in[0], *g = n->out->grad;
    op_begin(c, name, NULL);
    op_use(c, x), op_use(c, g);
    Tensor *d = grad_target(c, x);
    RUN(c, gradient(x, g, d));
    grad_add(c, x, d);
}

static Tensor *activation(Ctx *c, const char *name, Tensor *x, ForwardFn forward, BackwardFn backward)
{
    op_begin(c, name, NULL);
    op_use(c, x);
    Tensor *y = ctx_tensor(c, x->dtype, x->ndim, x->shape);
    RUN(c, forward(x, y));
    Node *n = tape_record(c, name, NULL, y, x->requires_grad, backward);
    if (n)
        n->in[0] = x;
    return y;
}

static void silu_backward(Ctx *c, Node *n)
{
    activation_backward(c, n, "silu backward", c->dev->silu_backward);
}

Tensor *silu(Ctx *c, Tensor *x)
{
    return activation(c, "silu", x, c->dev->silu, silu_backward);
}

static void gelu_backward(Ctx *c, Node *n)
{
    activation_backward(c, n, "gelu backward", c->dev->gelu_backward);
}

Tensor *gelu(Ctx *c, Tensor *x)
{
    return activation(c, "gelu", x, c->dev->gelu, gelu_backward);
}

static void quick_gelu_backward(Ctx *c, Node *n)
{
    activation_backward(c, n, "quick_gelu backward", c->dev->quick_gelu_backward);
}

Tensor *quick_gelu(Ctx *c, Tensor *x)
{
    return activation(c, "quick_gelu", x, c->dev->quick_gelu, quick_gelu_backward);
}

static void geglu_backward(Ctx *c, Node *n)
{
    activation_backward(c, n, "geglu backward", c->dev->geglu_backward);
}

Tensor *geglu(Ctx *c, Tensor *x)
{
    int64_t shape[TENSOR_MAX_DIMS] = {0};
    op_begin(c, "geglu", NULL);
    for (int i = 0; i < x->ndim; i++)
        shape[i] = x->shape[i];
    shape[x->ndim - 1] /= 2;
    if (tensor_dim(x, -1) % 2)
        op_fail(c, "the last dimension, %lld, has no halves", (long long)tensor_dim(x, -1));
    op_use(c, x);
    Tensor *y = ctx_tensor(c, x->dtype, x->ndim, shape);
    RUN(c, c->dev->geglu(x, y));
    Node *n = tape_record(c, "geglu", NULL, y, x->requires_grad, geglu_backward);
    if (n)
        n->in[0] = x;
    return y;
}

/* Sums and products ------------------------------------------------------------------------------------- */

static void add_backward(Ctx *c, Node *n)
{
    op_begin(c, "add backward", NULL);
    grad_pass(c, n->in[0], n->out->grad);
    grad_pass(c, n->in[1], n->out->grad);
}

Tensor *add(Ctx *c, Tensor *a, Tensor *b)
{
    op_begin(c, "add", NULL);
    check_same(c, a, b);
    op_use(c, a), op_use(c, b);
    Tensor *y = ctx_tensor(c, a->dtype, a->ndim, a->shape);
    RUN(c, c->dev->add(a, b, y));
    Node *n = tape_record(c, "add", NULL, y, a->requires_grad || b->requires_grad, add_backward);
    if (n)
        n->in[0] = a, n->in[1] = b;
    return y;
}

static void multiply_backward(Ctx *c, Node *n)
{
    Tensor *a = n->in[0], *b = n->in[1], *g = n->out->grad;
    op_begin(c, "multiply backward", NULL);
    op_use(c, g);
    Tensor *da = grad_target(c, a), *db = grad_target(c, b);
    if (da) {
        op_use(c, b);
        RUN(c, c->dev->multiply(g, b, da));
    }
    if (db) {
        op_use(c, a);
        RUN(c, c->dev->multiply(g, a, db));
    }
    grad_add(c, a, da);
    grad_add(c, b, db);
}

Tensor *multiply(Ctx *c, Tensor *a, Tensor *b)
{
    op_begin(c, "multiply", NULL);
    check_same(c, a, b);
    op_use(c, a), op_use(c, b);
    Tensor *y = ctx_tensor(c, a->dtype, a->ndim, a->shape);
    RUN(c, c->dev->multiply(a, b, y));
    Node *n = tape_record(c, "multiply", NULL, y, a->requires_grad || b->requires_grad, multiply_backward);
    if (n)
        n->in[0] = a, n->in[1] = b;
    return y;
}

/* One vector for many rows ------------------------------------------------------------------------------ */

static void add_rows_backward(Ctx *c, Node *n)
{
    Tensor *x = n->in[0], *g = n->out->grad;
    const Tensor *w = n->layer->weight;
    op_begin(c, "add_rows backward", n->layer);
    op_use(c, g);
    if (w->requires_grad)
        RUN(c, c->dev->sum_rows(g, w->grad));
    grad_pass(c, x, g);
}

Tensor *add_rows(Ctx *c, const Layer *l, Tensor *x)
{
    const Tensor *w = l->weight;
    op_begin(c, "add_rows", l);
    if (x->ndim != 3 || !w || w->ndim != 2 || w->shape[1] != x->shape[2] || w->shape[0] < x->shape[1]) {
        char p[80], q[80];
        op_fail(c, "the weight %s has too few rows, or rows of another width, for %s",
                w ? tensor_describe(w, p, sizeof p) : "(none)", tensor_describe(x, q, sizeof q));
    }
    op_use(c, x);
    Tensor *y = ctx_tensor(c, x->dtype, x->ndim, x->shape);
    const Tensor *rows = op_weight(c, l);
    RUN(c, c->dev->add_rows(x, rows, y));
    Node *n =
        tape_record(c, "add_rows", l, y, x->requires_grad || (w && w->requires_grad), add_rows_backward);
    if (n)
        n->in[0] = x;
    return y;
}

/* Storage types ----------------------------------------------------------------------------------------- */

static void cast_backward(Ctx *c, Node *n)
{
    op_begin(c, "cast backward", NULL);
    grad_pass(c, n->in[0], n->out->grad);
}

Tensor *cast(Ctx *c, Tensor *x, DType dtype)
{
    if (x->dtype == dtype)
        return x;
    op_begin(c, "cast", NULL);
    op_use(c, x);
    Tensor *y = ctx_tensor(c, dtype, x->ndim, x->shape);
    RUN(c, c->dev->copy(x, y));
    Node *n = tape_record(c, "cast", NULL, y, x->requires_grad, cast_backward);
    if (n)
        n->in[0] = x;
    return y;
}
