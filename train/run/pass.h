/* The passes of one training step: forward and backward of all its micro-batches, and, when a number in them
 * was none, the same passes once more under the engine's checks, to say where.
 *
 * A pass changes gradients only, unless the weights move with it (train/step/fused.h). Everything it draws
 * follows from seed, step and place, so the second time gives the numbers of the first, if nothing has moved.
 */
#ifndef ATL_PASS_H
#define ATL_PASS_H

#include "train/plan/setup.h"
#include "train/step/optimizer.h"
#include "train/step/trace.h"

/* Timesteps in as many equal parts, from the least noise to the most. */
#define PASS_BANDS 4

typedef struct PassNumbers {
    double loss; /* mean of the micro-batches', weighted as trained on */
    /* With prior preservation what it is made of, loss_subject + prior.weight · loss_prior: means over the
     * subject's pictures and over the class pictures. Without it loss_prior is NaN. */
    double loss_subject, loss_prior;
    double bands[PASS_BANDS]; /* mean loss, weighted alike, of the samples in that part; NaN: there is none */
} PassNumbers;

/* What a micro-batch adds to them. */
typedef struct MicroNumbers {
    double loss, loss_subject, loss_prior;
    double bands[PASS_BANDS], counts[PASS_BANDS]; /* sums of weighted losses, and of how many */
} MicroNumbers;

typedef struct Pass {
    Setup *setup;
    Batch *batch;
    Sums *sums;
    MicroNumbers *micros; /* (accumulate), and room to gather them: pass_new */
    MicroNumbers *gathered;
    Trace *trace; /* or NULL */
    double scale; /* of the loss on its way back: the gradients are as much larger */
    const WeightsBefore *start;
} Pass;

/* start: what the weights were, for fused updates to measure by; it may be filled in later. */
Status pass_new(Setup *setup, Batch *batch, Trace *trace, const WeightsBefore *start, Pass *out);
void pass_free(Pass *p); /* all zeros allowed */

/* The gradients become those of step `step`, summed over its micro-batches, of which each process computes
 * its share. samples: batch × accumulate of them. before: how what came before has ended for this process;
 * the result is the same for all. Where a micro-batch's loss is not finite out->loss isn't either, and the
 * gradients are undefined. With fused updates the weights have moved, and the gradients are 0. */
Status pass_run(const Pass *p, Status before, int64_t step, const LoaderSample *samples, PassNumbers *out);

/* Runs step `step` again, whose `what` ("loss", "gradients' norm") came out as `value`, and fails with a
 * message that names the step, the layer, the pictures, the checkpoint that stays (saved_step; −1: none) and
 * what to try. */
Status pass_explain(const Pass *p, int64_t step, const LoaderSample *samples, const char *what, double value,
                    int64_t saved_step);

#endif
