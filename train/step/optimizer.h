/* One optimizer step over all trained tensors: learning rates, clipping by the global norm, AdamW, EMA. The
 * device does it in one call over the blocks, which ends with the numbers below.
 *
 * The norm is summed in f64, tensor by tensor in the order of the list, so that it is the same at every run.
 */
#ifndef ATL_OPTIMIZER_H
#define ATL_OPTIMIZER_H

#include "kernels/device.h"
#include "train/config/config.h"
#include "parameters.h"

/* Factor on the base rate at step s of total (from 1): a linear warm-up to 1 at step `warmup` (its first step
 * already learns), then constant, or down to 0 along a line or a half cosine, as diffusers' schedulers at s
 * − 1. */
double schedule_factor(ScheduleKind kind, int64_t s, int64_t total, int64_t warmup);
/* Steps of the warm-up: what the configuration says, or a tenth of a run that is no longer than that. */
int64_t optimizer_warmup(const Config *config, int64_t total);

/* How far an update moved the weights: L2 norms, NaN or infinity where a weight is not finite any more. */
typedef struct Moved {
    double unet, text, text_2;
} Moved;

/* What an update came to. */
typedef struct UpdateNumbers {
    double norm; /* of the gradients, before clipping; where it is not finite nothing was changed */
    Moved moved;
    bool second_text;   /* a second text encoder is trained */
    double change;      /* L2 norm of what the weights differ by from their start; 0 where that isn't known */
    const char *broken; /* name of the first tensor that is not finite any more, or NULL */
} UpdateNumbers;

/* What the weights were at the start, for UpdateNumbers.change: every stride-th of each tensor. */
typedef struct WeightsBefore {
    Tensor *samples; /* of all tensors, one after the other */
    int64_t stride;
} WeightsBefore;

/* A group's rate before the schedule: a text encoder's that is not given is that of the group before it. */
double optimizer_base_rate(const Config *config, ParameterGroup group);
/* The rate of a group at `step`, which counts from 1, of total. */
double optimizer_rate(const Config *config, ParameterGroup group, int64_t step, int64_t total);
/* Moves every trained tensor by its gradient, unless those are not finite, and clears nothing. scale: of the
 * loss (loss_scale.h). before: or NULL. */
Status optimizer_step(const Config *config, Parameters *p, int64_t step, int64_t total, double scale,
                      const WeightsBefore *before, UpdateNumbers *out);

/* What moves them. Of weights that have moved by it already (fused.h), what it came to; p->torn: any has. */
Update optimizer_update(const Config *config, const Parameters *p, int64_t step, int64_t total, double scale,
                        const WeightsBefore *before);
Status optimizer_collect(Parameters *p, UpdateNumbers *out);

/* EMA's decay after n updates so far: min(d, (1+n)/(10+n)). */
double average_decay(double d, int64_t n);

#endif
