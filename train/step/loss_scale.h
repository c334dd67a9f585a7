/* Loss scaling, for activations that are stored in f16: gradients on their way back are multiplied by a power
 * of two, so that small ones do not fall below f16's smallest number; the update divides by it again, and
 * --trace does. A number that became too large in spite of it shows as a norm that is not finite: that update
 * is skipped, and the factor halved (Micikevicius et al. 2018). The numbers are those of PyTorch's
 * GradScaler.
 *
 * f32 and bf16 reach as far down as gradients go: there the factor is 1 and stays. */
#ifndef ATL_LOSS_SCALE_H
#define ATL_LOSS_SCALE_H

#include "kernels/tensor.h"

#define LOSS_SCALE_FIRST 65536.0
#define LOSS_SCALE_PATIENCE 2000 /* good updates until the factor is doubled */

typedef struct LossScale {
    double factor;
    int64_t good; /* updates with this factor, none of which overflowed */
    bool on;
} LossScale;

/* kept: what a checkpoint has of a run with the same activations, or all 0. */
LossScale loss_scale_begin(DType activations, LossScale kept);
/* After an update that was done. */
void loss_scale_grow(LossScale *s);
/* After one that overflowed. False: the factor was not to blame, it is 1. */
bool loss_scale_shrink(LossScale *s);

#endif
