/* Gradients that are on their way to whom they belong while the backward pass goes on, as PyTorch's
 * DistributedDataParallel does it (Li et al. 2020): the block is cut into buckets, and a bucket's sum begins
 * as soon as the last of its tensors has its whole gradient. For fast sums over several processes, in the
 * last micro-batch of each. */
#ifndef ATL_EARLY_SUMS_H
#define ATL_EARLY_SUMS_H

#include "parameters.h"
#include "step.h"

typedef struct EarlySums EarlySums;

/* Rehearses the step, to see how often each tensor's gradient is added to; nothing is computed. */
Status early_sums_new(Ctx *c, Parameters *p, const StepShape *shape, EarlySums **out);
void early_sums_free(EarlySums *b); /* NULL allowed */
/* Before the last micro-batch runs; its failures come from early_sums_finish. */
void early_sums_begin(EarlySums *b);
/* After it: begins what is left and waits for all. */
Status early_sums_finish(EarlySums *b);

#endif
