/* When each gradient of a step is whole, so that something may be done with it while the backward pass goes
 * on.
 *
 * Nothing says of an operation that it is the last to add to a gradient, or to read a weight: a layer may be
 * used twice, and checkpointed blocks use theirs again in the backward pass. But the operations of a step
 * follow from its shapes, so a rehearsal counts how often each trained tensor's layer begins an operation,
 * forward, again or backward, and how often its gradient is added to. In a real step the counts are counted
 * down: at 0 the gradient is whole and the weight is not read any more. */
#ifndef ATL_WHOLE_H
#define ATL_WHOLE_H

#include "kernels/ctx.h"
#include "parameters.h"

typedef struct Whole Whole;

/* Rehearses the step fn(c, arg); nothing is computed. */
Status whole_new(Ctx *c, const Parameters *p, StepFn fn, void *arg, Whole **out);
void whole_free(Whole *w); /* NULL allowed */

/* While tensor i's gradient is there: from the first to the last of the step's moments, which are the
 * operations after which layers are added to, numbered from 0. One that becomes whole nowhere on the way is
 * there at the last of all, whole_moments() − 1, which no operation has; so is one that is never added to,
 * there alone. */
void whole_life(const Whole *w, int i, int *first, int *last);
int whole_moments(const Whole *w);

/* Calls of a real step. */
typedef struct WholeCalls {
    void (*tensor)(Ctx *c, int i, void *arg); /* its gradient is whole */
    void (*layer)(Ctx *c, void *arg);         /* an operation of the way back is done; NULL: nobody asks */
    void *arg;
} WholeCalls;

/* The next step that runs is followed, until whole_end(): after it those tensors come that became whole
 * nowhere on the way. False: the operations were not those of the rehearsal, and no gradient is to be
 * trusted. */
void whole_begin(Whole *w, const WholeCalls *calls);
bool whole_end(Whole *w);

#endif
