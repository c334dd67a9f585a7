/* A step on made-up numbers of the true shapes: proof that the largest step runs before anything depends on
 * it, and the measure that times are told from. It reads the weights and adds to the gradients, which every
 * real step clears first; nothing that a run's result depends on is touched. */
#ifndef ATL_TRIAL_H
#define ATL_TRIAL_H

#include "train/plan/setup.h"

typedef struct Trial {
    StepShape shape;
    StepData data;
    float *memory; /* all of data's arrays */
    int32_t *ids;
} Trial;

Status trial_new(const StepShape *shape, Trial *out);
void trial_free(Trial *t);

/* Forward and backward of one micro-batch; *seconds (NULL allowed): how long it took. */
Status trial_step(Setup *s, Trial *t, double *seconds);
/* The step that validation runs. Only where s->validation_plan is. */
Status trial_validation(Setup *s, Trial *t, double *seconds);

#endif
