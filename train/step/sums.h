/* The sum of a step's gradients over its micro-batches and over the processes that share them.
 *
 * Exact: each micro-batch's gradients are a block of their own, and the blocks are added along a binary tree
 * over the micro-batches' numbers: node i of level l is the sum of 2^l of them, from i·2^l on. Which process
 * has computed a block does not matter, so any number of processes gives the same bytes. A process takes
 * micro-batches that follow each other and adds up what of the tree lies among them; then every process gets
 * a part of all blocks, adds along the rest of the tree, and the parts go to all.
 *
 * Fast: gradients are added up as they come, and processes' sums in the order that the transport likes; each
 * process gets those of its share of the weights (train/step/share.h). */
#ifndef ATL_SUMS_H
#define ATL_SUMS_H

#include "kernels/comm/comm.h"
#include "early_sums.h"

typedef struct Sums Sums;

/* micro_batches: of a step, over all processes; at least as many as there are processes. c, shape: of the
 * micro-batches. */
Status sums_new(Comm *comm, Parameters *p, int micro_batches, bool exact, Ctx *c, const StepShape *shape,
                Sums **out);
void sums_free(Sums *s); /* NULL allowed */
/* What sums_new would take of the device's memory. elements: of a block. */
size_t sums_bytes(const Comm *comm, int64_t elements, int micro_batches, bool exact);

/* This process's micro-batches of a step: [*first, *first + *count). */
void sums_share(const Sums *s, int *first, int *count);
/* Around each of them, in order: before, the gradients are cleared where need be; after, they are taken. */
Status sums_before(Sums *s, int micro_batch);
Status sums_after(Sums *s, int micro_batch);
/* All processes together: the gradients become the sum of all micro-batches'; with fast sums this process's
 * share of them, and the rest is undefined. */
Status sums_finish(Sums *s);
/* Instead of it where the sum is not wanted: nobody waits for this process's part of it. All together. */
Status sums_let_go(Sums *s);

#endif
