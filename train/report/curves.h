/* A run's log as curves over its steps. */
#ifndef ATL_CURVES_H
#define ATL_CURVES_H

#include "kernels/base/status.h"
#include "curve.h"

#define LOSS_BANDS 4 /* quarters of the timesteps */

typedef struct Curves {
    int64_t step; /* the last; 0: none */
    double epoch; /* then */
    double seconds_sum, memory_peak;
    double validation_before, validation_best; /* NaN: not measured */
    int64_t validation_best_step;
    Curve loss, loss_smooth, prior_smooth, validation;
    Curve bands[LOSS_BANDS]; /* smoothed */
    Curve lr, grad_norm, grad_norm_smooth, change_norm;
    Curve seconds, seconds_smooth, memory; /* memory: gigabytes */
} Curves;

/* Reads the run's log.jsonl, a line at a time. What is no line of a step is left out, so is a step that does
 * not come after the one before it; no log: no steps. Caller: mem_free. */
Status curves_read(const char *run, Curves **out);

#endif
