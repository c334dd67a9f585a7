/* Losses on the tape. */
#include "kernels/op.h"

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
