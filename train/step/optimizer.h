/* One optimizer step over all trained tensors: learning rate, clipping by the global norm, AdamW, EMA.
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

/* Square root of the sum of all gradients' squares. */
double gradient_norm(const Device *d, const Parameters *p);

/* How far an update moved the weights: L2 norms, NaN or infinity where a weight is not finite any more. */
typedef struct Moved {
    double unet, text;
} Moved;

/* Moves every trained tensor by its gradient and clears nothing. norm is gradient_norm(); step counts from 1.
 * *lr receives the UNet's learning rate of the step, *moved how far it went. */
Status optimizer_step(const Device *d, const Config *config, Parameters *p, int64_t step, int64_t total,
                      double norm, double *lr, Moved *moved);

/* EMA's decay after n updates so far: min(d, (1+n)/(10+n)). */
double average_decay(double d, int64_t n);

#endif
