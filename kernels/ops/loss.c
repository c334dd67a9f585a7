/* Losses and the VAE's sampling on the tape. */
#include "kernels/op.h"

#include <string.h>

/* in: prediction, target, weight or NULL */
static void mse_loss_backward(Ctx *c, Node *n)
{
    Tensor *p = n->in[0], *t = n->in[1], *weight = n->in[2], *g = n->out->grad;
    op_begin(c, "mse_loss backward", NULL);
    op_use(c, p), op_use(c, t), op_use(c, weight), op_use(c, g);
    Tensor *d = grad_target(c, p);
    RUN(c, c->dev->mse_loss_backward(p, t, weight, g, d));
    grad_add(c, p, d);
}

Tensor *mse_loss(Ctx *c, Tensor *prediction, Tensor *target, Tensor *weight, Tensor **per_sample)
{
    const int64_t one = 1, B = prediction->shape[0], rows = tensor_rows(prediction);
    char p[80], q[80];
    op_begin(c, "mse_loss", NULL);
    if (!tensor_same_shape(prediction, target))
        op_fail(c, "prediction %s and target %s differ in shape", tensor_describe(prediction, p, sizeof p),
                tensor_describe(target, q, sizeof q));
    if (weight && (weight->dtype != DTYPE_F32 || (tensor_count(weight) != B && tensor_count(weight) != rows)))
        op_fail(c, "the weights %s are neither f32 (%lld), a sample each, nor %lld, a position each",
                tensor_describe(weight, p, sizeof p), (long long)B, (long long)rows);
    op_use(c, prediction), op_use(c, target), op_use(c, weight);
    Tensor *loss = ctx_tensor(c, DTYPE_F32, 1, &one);
    Tensor *means = per_sample ? ctx_tensor(c, DTYPE_F32, 1, &B) : NULL;
    RUN(c, c->dev->mse_loss(prediction, target, weight, loss, means));
    if (per_sample)
        *per_sample = means;
    Node *n = tape_record(c, "mse_loss", NULL, loss, prediction->requires_grad, mse_loss_backward);
    if (n)
        n->in[0] = prediction, n->in[1] = target, n->in[2] = weight;
    return loss;
}

/* in: moments, noise or NULL */
static void gaussian_sample_backward(Ctx *c, Node *n)
{
    Tensor *moments = n->in[0], *noise = n->in[1], *g = n->out->grad;
    op_begin(c, "gaussian_sample backward", NULL);
    op_use(c, moments), op_use(c, noise), op_use(c, g);
    Tensor *d = grad_target(c, moments);
    RUN(c, c->dev->gaussian_sample_backward(moments, noise, g, d));
    grad_add(c, moments, d);
}

Tensor *gaussian_sample(Ctx *c, Tensor *moments, Tensor *noise)
{
    int64_t shape[TENSOR_MAX_DIMS];
    op_begin(c, "gaussian_sample", NULL);
    memcpy(shape, moments->shape, sizeof shape);
    shape[moments->ndim - 1] /= 2;
    op_use(c, moments), op_use(c, noise);
    Tensor *y = ctx_tensor(c, moments->dtype, moments->ndim, shape);
    if (tensor_dim(moments, -1) % 2 || (noise && !tensor_same_shape(noise, y))) {
        char p[80], q[80];
        op_fail(c, "moments %s do not fit noise %s", tensor_describe(moments, p, sizeof p),
                noise ? tensor_describe(noise, q, sizeof q) : "(none)");
    }
    RUN(c, c->dev->gaussian_sample(moments, noise, y));
    Node *n = tape_record(c, "gaussian_sample", NULL, y, moments->requires_grad, gaussian_sample_backward);
    if (n)
        n->in[0] = moments, n->in[1] = noise;
    return y;
}
