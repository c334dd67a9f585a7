/* The three products of a convolution, for what else convolves: an adapter on a layer. */
#ifndef ATL_OPS_CONV_H
#define ATL_OPS_CONV_H

#include "kernels/op.h"

void conv_run(Ctx *c, const Conv *a);
void conv_run_backward_data(Ctx *c, const Conv *a);
void conv_run_backward_weight(Ctx *c, const Conv *a);

#endif
