/* Two-dimensional convolution on the tape, feature maps in NHWC.
 *
 *     y[b,i,j,k] = bias[k] + Σ_{c,u,v} w[k,c,u,v] x[b, i·stride + u − top, j·stride + v − left, c]
 *
 * and what the adapters add (adapter.c). A 1×1 convolution is a linear layer over the channels and goes that
 * way, adapters and all. x is kept only where the weight or an adapter is trained; a frozen weight is handed
 * to the device with its layer, which may keep it packed. What is added to y, for each picture or as a
 * residual, keeps nothing. With upsample x is read as if each pixel were four. */
#include "conv.h"

#include "adapter.h"

/* Only the packed form of the layer is changed. */
static Layer *keeps_packed(const Layer *l)
{
    return l->still || l->packed_only ||
                   !(l->weight->requires_grad || l->pack_off || l->streamed || l->weight->dtype == DTYPE_I8)
               ? (Layer *)l
               : NULL;
}

static Conv conv_of(const Layer *l, ConvShape s, const Tensor *x, const Tensor *w, const Tensor *y)
{
    return (Conv){.s = s, .x = x, .w = w, .bias = l->bias, .y = y, .layer = keeps_packed(l)};
}

/* Multiply-adds * 2 of one of the three products. */
static double conv_flop(const Conv *a)
{
    const double all = 2.0 * (double)tensor_rows(a->y) * (double)tensor_count(a->w);
    return a->s.upsample ? all * 4 / 9 : all; /* of 9 pixels in the window 4 differ */
}

static Conv in_context(const Ctx *c, const Conv *a)
{
    Conv run = *a;
    run.tf32 = c->tf32;
    return run;
}

void conv_run(Ctx *c, const Conv *a)
{
    op_next(c);
    op_use(c, a->x), op_use(c, a->w), op_use(c, a->y), op_use(c, a->per_picture), op_use(c, a->residual);
    op_flop(c, conv_flop(a));
    const Conv run = in_context(c, a);
    RUN_IN_SCRATCH(c, conv2d, &run);
}

void conv_run_backward_data(Ctx *c, const Conv *a)
{
    op_next(c);
    op_use(c, a->x), op_use(c, a->w), op_use(c, a->y);
    op_flop(c, conv_flop(a));
    const Conv run = in_context(c, a);
    RUN_IN_SCRATCH(c, conv2d_backward_data, &run);
}

void conv_run_backward_weight(Ctx *c, const Conv *a)
{
    op_next(c);
    op_use(c, a->x), op_use(c, a->w), op_use(c, a->y);
    op_flop(c, conv_flop(a));
    const Conv run = in_context(c, a);
    RUN_IN_SCRATCH(c, conv2d_backward_weight, &run);
}

static void backward_data(Ctx *c, const Layer *l, ConvShape s, const Tensor *g, Tensor *grad_x)
{
    Conv a = conv_of(l, s, grad_x, op_product_weight(c, l), g);
    a.bias = NULL;
    conv_run_backward_data(c, &a);
}

static void backward_weight(Ctx *c, const Layer *l, ConvShape s, const Tensor *x, const Tensor *g)
{
    const bool bias = l->bias && l->bias->requires_grad;
    if (l->weight->requires_grad) {
        Conv a = conv_of(l, s, x, l->weight->grad, g);
        a.bias = bias ? l->bias->grad : NULL;
        conv_run_backward_weight(c, &a);
    } else if (bias) {
        op_use(c, g);
        RUN(c, c->dev->column_sum(g, l->bias->grad, true));
    }
}

/* in: x (NULL where nothing of the layer is trained), the tensor that wants grad x, per_picture, residual;
 * i: the shape */
static void conv2d_backward(Ctx *c, Node *n)
{
    Tensor *g = n->out->grad, *per_picture = n->in[2];
    const ConvShape s = {(int)n->i[0], (int)n->i[1], (int)n->i[2], (int)n->i[3], (int)n->i[4], n->i[5]};
    op_begin(c, "conv2d backward", n->layer);
    op_use(c, n->in[0]), op_use(c, g);
    Tensor *sum = grad_target(c, per_picture);
    if (sum)
        RUN(c, c->dev->sum_per_channel(g, sum));
    Tensor *grad_x = grad_target(c, n->in[1]);
    if (grad_x)
        backward_data(c, n->layer, s, g, grad_x);
    backward_weight(c, n->layer, s, n->in[0], g);
    adapters_backward(c, &(Site){n->layer, &s}, n->in[0], g, grad_x);
    grad_add(c, n->in[1], grad_x);
    grad_add(c, per_picture, sum);
    grad_pass(c, n->in[3], g);
}

/* Writes y's shape (B,H',W',K); false, and the operation has failed, where x and the weight do not fit. */
static bool output_shape(Ctx *c, const Layer *l, ConvShape s, const Tensor *x, int64_t shape[4])
{
    char a[80], b[80];
    const Tensor *w = l->weight;
    for (int i = 0; i < 4; i++)
        shape[i] = i < x->ndim ? x->shape[i] : 1;
    shape[3] = w->shape[0];
    if (x->ndim != 4 || w->ndim != 4 || w->shape[1] != x->shape[3]) {
        op_fail(c, "weight %s does not fit input %s", tensor_describe(w, a, sizeof a),
                tensor_describe(x, b, sizeof b));
        return false;
    }
    const bool same = w->shape[2] == 3 && w->shape[3] == 3 && s.stride == 1 && s.pad_top == 1 &&
                      s.pad_left == 1 && s.pad_bottom == 1 && s.pad_right == 1;
    const int64_t H = x->shape[1] * (s.upsample ? 2 : 1), W = x->shape[2] * (s.upsample ? 2 : 1);
    shape[1] = (H + s.pad_top + s.pad_bottom - w->shape[2]) / s.stride + 1;
    shape[2] = (W + s.pad_left + s.pad_right - w->shape[3]) / s.stride + 1;
    if (s.upsample && !same) {
        op_fail(c, "a map is doubled only under 3×3 that keeps its size, not under the weight %s",
                tensor_describe(w, a, sizeof a));
        return false;
    }
    if (H + s.pad_top + s.pad_bottom < w->shape[2] || W + s.pad_left + s.pad_right < w->shape[3]) {
        op_fail(c, "input %s is smaller than the weight %s", tensor_describe(x, b, sizeof b),
                tensor_describe(w, a, sizeof a));
        shape[1] = shape[2] = 1;
        return false;
    }
    return true;
}

/* What is added to y has its pictures and channels, or its shape. */
static bool additions_fit(Ctx *c, const Tensor *y, const Tensor *per_picture, const Tensor *residual)
{
    char a[80], b[80];
    const Tensor *wrong = NULL;
    if (per_picture && (per_picture->ndim != 2 || per_picture->shape[0] != y->shape[0] ||
                        per_picture->shape[1] != y->shape[3]))
        wrong = per_picture;
    if (residual && !tensor_same_shape(residual, y))
        wrong = residual;
    if (wrong)
        op_fail(c, "%s cannot be added to %s", tensor_describe(wrong, a, sizeof a),
                tensor_describe(y, b, sizeof b));
    return !wrong;
}

static bool is_pointwise(const Tensor *w, ConvShape s)
{
    return w->ndim == 4 && w->shape[2] == 1 && w->shape[3] == 1 && s.stride == 1 && !s.pad_top &&
           !s.pad_left && !s.pad_bottom && !s.pad_right;
}

Tensor *conv2d(Ctx *c, const Layer *l, ConvShape s, Tensor *x)
{
    return conv2d_add(c, l, s, x, NULL, NULL);
}

Tensor *conv2d_add(Ctx *c, const Layer *l, ConvShape s, Tensor *x, Tensor *per_picture, Tensor *residual)
{
    if (is_pointwise(l->weight, s) && !per_picture)
        return linear_as(c, "conv2d", l, x, residual);
    const bool padded = s.pad_top || s.pad_left || s.pad_bottom || s.pad_right;
    return (c->wrap && padded ? conv2d_wrapped : conv2d_plain)(c, l, s, x, per_picture, residual);
}

static Tensor *forward(Ctx *c, const Layer *l, ConvShape s, Tensor *x, Tensor *per_picture, Tensor *residual)
{
    op_use(c, x);
    int64_t shape[4];
    const bool fits = output_shape(c, l, s, x, shape);
    Tensor *y = ctx_tensor(c, c->dtype, 4, shape);
    if (fits && adapters_fit(c, l) && additions_fit(c, y, per_picture, residual)) {
        Conv a = conv_of(l, s, x, op_product_weight(c, l), y);
        a.per_picture = per_picture;
        a.residual = residual;
        a.narrow = l->narrow && !tape_wanted(c);
        conv_run(c, &a);
        adapters_add(c, &(Site){l, &s}, l->adapters, x, y);
    }
    op_keep(c, 2.0 * (double)tensor_count(y) * (double)(tensor_count(l->weight) / l->weight->shape[0]), y,
            NULL);
    return y;
}

Tensor *conv2d_plain(Ctx *c, const Layer *l, ConvShape s, Tensor *x, Tensor *per_picture, Tensor *residual)
{
    op_begin(c, "conv2d", l);
    Tensor *y = op_kept(c, NULL);
    if (!y)
        y = forward(c, l, s, x, per_picture, residual);
    const bool added = (per_picture && per_picture->requires_grad) || (residual && residual->requires_grad);
    Node *n = tape_record(c, "conv2d", l, y, x->requires_grad || layer_trained(l) || added, conv2d_backward);
    if (n) {
        n->in[0] = l->weight->requires_grad || layer_adapters_trained(l) ? x : NULL;
        n->in[1] = x, n->in[2] = per_picture, n->in[3] = residual;
        n->i[0] = s.stride, n->i[1] = s.pad_top, n->i[2] = s.pad_left, n->i[3] = s.pad_bottom,
        n->i[4] = s.pad_right, n->i[5] = s.upsample;
    }
    return y;
}
