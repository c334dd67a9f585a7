/* A scalar whose gradient with respect to `out` is given: the way to ask the tape for the gradients of
 * Σ cotangent · out. Its value is undefined. */
#ifndef TESTS_COTANGENT_H
#define TESTS_COTANGENT_H

#include "kernels/op.h"

/* in: out, cotangent */
static void cotangent_backward(Ctx *c, Node *n)
{
    op_begin(c, "cotangent", NULL);
    op_use(c, n->in[1]);
    Tensor *d = grad_target(c, n->in[0]);
    RUN(c, c->dev->copy(n->in[1], d));
    grad_add(c, n->in[0], d);
}

/* values: f32, as many as out has elements. */
static Tensor *scalar_with_cotangent(Ctx *c, Tensor *out, const float *values)
{
    const int64_t one = 1;
    Tensor *cotangent = ctx_input(c, DTYPE_F32, out->ndim, out->shape, values);
    op_begin(c, "scalar", NULL);
    Tensor *scalar = ctx_tensor(c, DTYPE_F32, 1, &one);
    Node *n = tape_record(c, "scalar", NULL, scalar, out->requires_grad, cotangent_backward);
    if (n)
        n->in[0] = out, n->in[1] = cotangent;
    return scalar;
}

#endif
