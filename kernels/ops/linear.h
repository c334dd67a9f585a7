/* What other families share with linear: a 1×1 convolution is a linear layer over the channels of every
 * position. */
#ifndef ATL_OPS_LINEAR_H
#define ATL_OPS_LINEAR_H

#include "kernels/ops.h"

/* linear() under the name that messages and the plan know the operation by. */
Tensor *linear_as(Ctx *c, const char *name, const Layer *l, Tensor *x);

#endif
