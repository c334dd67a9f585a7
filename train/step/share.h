/* Which tensors this process moves, of several that share a run. With exact sums each moves all, the same
 * way. With fast ones each keeps the optimizer's state and the averages of its own tensors alone, as ZeRO's
 * first stage (Rajbhandari et al. 2020): gradients are summed to whom they belong, and moved weights go to
 * all. Tensors stay whole; a process has some that follow each other. */
#ifndef ATL_SHARE_H
#define ATL_SHARE_H

#include "kernels/comm/comm.h"
#include "kernels/device.h"

typedef struct Share {
    Comm *comm;        /* alone: all tensors are this process's */
    int first, count;  /* of the list: this process's */
    int64_t *at;       /* (size + 1): where each process's part of a block of numbers begins */
    Segment *segments; /* this process's, as they lie in its part */
    bool made_up; /* what others keep is taken as zeros and not asked for: process 0 tries something alone */
} Share;

/* segments: all tensors, in a block of so many numbers. */
Status share_new(Comm *comm, const Segment *segments, int count, int64_t elements, Share *out);
void share_free(Share *s);

static inline bool share_is_whole(const Share *s)
{
    return s->comm->size == 1;
}
static inline bool share_has(const Share *s, int i)
{
    return i >= s->first && i < s->first + s->count;
}
/* Where this process's part begins, and how many numbers it has. */
static inline int64_t share_begin(const Share *s)
{
    return s->at[s->comm->rank];
}
static inline int64_t share_numbers(const Share *s)
{
    return s->at[s->comm->rank + 1] - s->at[s->comm->rank];
}
/* Whose tensor i of the list is. */
int share_owner(const Share *s, const Segment *segments, int i);
/* This process's part of a block that is whole. Caller: tensor_free. NULL: out of memory, or there is
 * nothing in it. */
Tensor *share_part(const Share *s, const Tensor *block);

#endif
