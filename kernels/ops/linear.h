/* Products of tensors, and what other families share with linear: a 1×1 convolution is a linear layer over
 * the channels of every position, an adapter is products beside the layer's own. */
#ifndef ATL_OPS_LINEAR_H
#define ATL_OPS_LINEAR_H

#include "kernels/ops.h"

/* linear() under the name that messages and the plan know the operation by, + residual (or NULL). */
Tensor *linear_as(Ctx *c, const char *name, const Layer *l, Tensor *x, Tensor *residual);

/* A tensor as a matrix: rows of its last dimension, whatever comes before. */
typedef struct Matrix {
    const Tensor *t;
    int64_t rows, columns;
} Matrix;
Matrix matrix_of(const Tensor *t);
Matrix weight_matrix(const Tensor *w); /* rows of its first dimension: (out,in,1,1) is (out,in) */

/* y = alpha op(a) op(b) + beta y + bias (or NULL) */
void product(Ctx *c, float alpha, Matrix a, bool trans_a, Matrix b, bool trans_b, float beta, Matrix y,
             const Tensor *bias);

#endif
