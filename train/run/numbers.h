/* What a step came to, as it is told: a line of the log, and the progress line. */
#ifndef ATL_NUMBERS_H
#define ATL_NUMBERS_H

#include "kernels/base/progress.h"
#include "train/plan/setup.h"
#include "checkpoint.h"

/* Means of about the last fifty steps. */
typedef struct Smoothed {
    double loss, prior, weight;
    double bands[PASS_BANDS]; /* NaN: none yet */
} Smoothed;
Smoothed numbers_unseen(void);

/* The line of log.jsonl for the step that s is the state after. validated: s has its validation loss. NULL:
 * out of memory. Caller: json_decref. */
json_t *numbers_json(const Setup *setup, const CheckpointState *s, bool validated);
/* "loss 0.0640  moved 1.23  0.55 GB  [0.021 0.049 0.090 0.203]": the loss, how far the weights have come, and
 * the loss by part of the timesteps from little noise to much. With prior preservation also the class
 * pictures' loss, "prior 0.0512". */
void numbers_show(const Config *config, const CheckpointState *s, Smoothed *m, Progress *progress);

#endif
