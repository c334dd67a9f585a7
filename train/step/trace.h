/* `train --trace DIR[:N]`: everything that went into and came out of a step, as safetensors, so that anybody
 * can replay it in PyTorch and find the first number that differs (design, section 3).
 *
 * step-000000.safetensors has weight.KEY before the first step; step-NNNNNN.safetensors has latents, noise,
 * timesteps, conditioning, pooled and sizes (SDXL's), prediction, target, loss, loss_weights, ids (where the
 * text encoder is trained), grad.KEY (of the whole step, before clipping and without the loss scaling) and
 * weight.KEY after the step. f32, (B,C,H,W), samples of all micro-batches in order. */
#ifndef ATL_TRACE_H
#define ATL_TRACE_H

#include "batch.h"
#include "parameters.h"

typedef struct Trace Trace;

/* count: steps to write, 0: all. micro: micro-batches a step. */
Status trace_new(const char *folder, int count, const StepShape *shape, int micro, Trace **out);
void trace_free(Trace *t); /* NULL allowed */
/* Weights before the first step of the run. */
Status trace_start(Trace *t, const Parameters *p, int64_t step);
/* Where micro-batch number i's prediction and conditioning go, before it is run; and what went in, after. */
Status trace_aim(Trace *t, int i, Size latent, StepData *data);
void trace_batch(Trace *t, int i, const Batch *b);
/* Writes the step; gradients still stand as the backward passes left them, scaled with the loss. */
Status trace_step(Trace *t, const Parameters *p, int64_t step, double loss, double scale);

#endif
