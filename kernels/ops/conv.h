/* The three products of a convolution, for what else convolves: an adapter on a layer. */
#ifndef ATL_OPS_CONV_H
#define ATL_OPS_CONV_H

#include "kernels/op.h"

void conv_run(Ctx *c, const Conv *a);
void conv_run_backward_data(Ctx *c, const Conv *a);
void conv_run_backward_weight(Ctx *c, const Conv *a);

/* conv2d_add on a map that ends at its edges, and on one that goes on at the opposite ones. */
Tensor *conv2d_plain(Ctx *c, const Layer *l, ConvShape s, Tensor *x, Tensor *per_picture, Tensor *residual);
Tensor *conv2d_wrapped(Ctx *c, const Layer *l, ConvShape s, Tensor *x, Tensor *per_picture, Tensor *residual);

#endif
