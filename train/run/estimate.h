/* How long a run takes: seconds of one of each kind of work, measured, times how many of them there are. */
#ifndef ATL_ESTIMATE_H
#define ATL_ESTIMATE_H

#include "train/plan/setup.h"

#include <stdio.h>

/* Seconds of one of each. */
typedef struct Pace {
    double step;               /* an optimizer step, all its micro-batches */
    double validation;         /* the loss on all held-out pictures */
    double preview;            /* a grid */
    double checkpoint, result; /* written */
    double picture, caption;   /* encoded for the caches */
    double class_picture;      /* drawn, by its arithmetic against a step's */
    double start;              /* loading and trying, once */
} Pace;

typedef struct Estimate {
    double start, classes, caching, steps, validation, previews, saving, total;
    double step; /* one */
} Estimate;

#define PACE_SECONDS 20.0 /* that measuring may take, unless one step takes longer */

/* Measures the pace on the loaded model: a step, and as much of the rest as there is time for within `most`
 * seconds; what there is none for is worked out from a step's time by its arithmetic. The weights are no
 * longer the model's afterwards. Files are tried beside output.dir, and removed. */
Status pace_measure(Setup *s, double start_seconds, double most, Pace *out);

/* The run from after step `done` on; done 0: with everything before the first step, where `before` is true.
 */
Estimate estimate_run(const Setup *s, const Pace *p, int64_t done, bool before);
/* To out, or where that is NULL as a message. */
void estimate_print(const Estimate *e, const char *what, FILE *out);

#endif
