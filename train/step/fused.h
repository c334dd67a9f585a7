/* The fused backward pass and update: each weight is moved as soon as its gradient is whole, and the
 * gradient's memory serves the next. So gradients never exist all at once: what a step needs for them is the
 * block that they fit in as they come and go, in SD 1.5's UNet a thirtieth of all. As sd-scripts'
 * --fused_backward_pass and OneTrainer's fused back pass it has no norm of all gradients before the first
 * weight moves: each is clipped by its own, and is found broken when others have moved.
 *
 *     backward pass   … │ layer C │ layer B        │ layer A │ …
 *     moved                     C │        B       │       A │
 *     block               [  gC  ] [ gB of 2 uses ] [  gA  ]        0 outside of [ ]
 *
 * A weight moves when nothing of the step reads it any more (whole.h). Everything goes through the device's
 * queue, and is recorded with the step where the device records steps. */
#ifndef ATL_FUSED_H
#define ATL_FUSED_H

#include "kernels/ctx.h"
#include "parameters.h"

typedef struct Fused Fused;

/* Rehearses the step fn(c, arg), finds each gradient a place, and gives p's gradients the block; of described
 * parameters the places alone. p is parameters_new()'s of a configuration with train.fused_backward. */
Status fused_new(Ctx *c, Parameters *p, StepFn fn, void *arg, Fused **out);
void fused_free(Fused *f);          /* NULL allowed; the block is p's */
size_t fused_bytes(const Fused *f); /* of the block */

/* Around a step's only run, which `ran` says how it went, its gradients being 0 before: the weights move by
 * u, whose segments are all of p's. p->torn from the first on. Numbers: optimizer_collect(). */
void fused_begin(Fused *f, const Update *u);
Status fused_end(Fused *f, Status ran);
/* All weights move by gradients of 0, without a step: to see how long that takes. */
Status fused_try(Fused *f, const Update *u);

#endif
