/* Plans that are kept: a step of the same shapes is rehearsed once. When they take more memory than they may,
 * those that were not used for longest go. */
#ifndef ATL_PLANS_H
#define ATL_PLANS_H

#include "ctx.h"

typedef struct Plans Plans;

Plans *plans_new(size_t limit); /* bytes; NULL: out of memory */
void plans_free(Plans *p);      /* NULL allowed */

/* The plan that is kept under this key (size bytes, of which each counts: no gaps between fields), or a new
 * one of fn. It is there until the next call, and the newest is kept whatever it takes. */
Status plans_get(Plans *p, Ctx *c, const void *key, size_t size, StepFn fn, void *arg, const Plan **out);
size_t plans_bytes(const Plans *p);

#endif
