/* For operations on the positions of maps: which of x's each of the result's is. */
#ifndef ATL_OPS_POSITIONS_H
#define ATL_OPS_POSITIONS_H

#include "kernels/ctx.h"

/* Along one axis: place i of `count` is place at(i, side of x, count). */
typedef struct Axis {
    int64_t count;
    int64_t (*at)(int64_t i, int64_t from, int64_t to);
} Axis;

/* x (B,H,W,C) -> (B,down.count,across.count,C), in x's dtype. */
Tensor *take_positions(Ctx *c, const char *name, Tensor *x, Axis down, Axis across);

#endif
