/* Where the time of a step goes: each operation of it in order, with the fastest of the steps that were run.
 *
 *     Profile p = {0};
 *     ctx_set_profile(c, &p);
 *     ctx_run(c, plan, step, &args);     // as often as is wanted; always the same step
 *     … p.entries[0 … p.count-1]
 *     ctx_set_profile(c, NULL);
 *     profile_free(&p);
 *
 * An operation lasts until the next one begins, so what the model does between them counts as the former's.
 * On a device that queues each is waited for: the sum is then more than a step takes. */
#ifndef ATL_STEP_PROFILE_H
#define ATL_STEP_PROFILE_H

#include "ctx.h"

#define PROFILE_TENSORS 32 /* of one operation whose bytes are counted; more are not */

typedef struct ProfileEntry {
    const char *op;     /* as op_begin() has it */
    const Layer *layer; /* or NULL */
    double seconds;     /* the least of the steps so far */
    double flop;        /* multiply-adds * 2 of products, as plan_flop() counts them */
    double bytes;       /* of the tensors that it reads and makes, each once; scratch memory is not counted */
} ProfileEntry;

typedef struct Profile {
    ProfileEntry *entries; /* in the order of the step */
    int count, capacity;
    /* the open operation */
    int at; /* operations of this step so far; the open one is the last of them */
    double began, flop, bytes;
    const void *seen[PROFILE_TENSORS];
    int seen_count;
} Profile;

/* Every step that is run from now on goes into p; NULL: none. */
void ctx_set_profile(Ctx *c, Profile *p);
void profile_free(Profile *p);

#endif
