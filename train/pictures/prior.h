/* The class pictures of prior preservation (Ruiz et al. 2022, DreamBooth): what the model draws for the
 * class's name before it is trained, shown to it beside the subject so that it goes on drawing the class like
 * that.
 *
 * They lie in a folder of their own, outside the runs: number i is class-0000i.png, drawn from seed + i by
 * the code of `atelier sample`, with its settings in the PNG's text and the prompt in class-0000i.txt. A run
 * draws those that are missing, one after the other, and each stays; pictures of somebody's own count as
 * well. They come in the sizes that the subject's are trained at (sizes_sequence), or in that of
 * prior.resolution. */
#ifndef ATL_PRIOR_H
#define ATL_PRIOR_H

#include "infer/pipeline/pipeline.h"
#include "kernels/comm/comm.h"
#include "train/config/config.h"
#include "train/sizes/sizes.h"

#include <signal.h>

typedef struct PriorNeed {
    int there, missing; /* class pictures, of config->prior.pictures */
    double flop;        /* of drawing one, on average (prior_plan) */
    Size largest;       /* of their sizes (prior_plan) */
} PriorNeed;

/* Counts the pictures, and refuses what cannot be used: a dataset file with too few, and pictures that a run
 * with other settings has drawn. Those may have other sizes, unless prior.resolution says one: another
 * subject came in other shapes. m may be described. */
Status prior_look(const Config *config, const Model *m, PriorNeed *out);
/* Bytes of arena that class pictures take, at the most; fills need's flop and largest. sizes: the run's. */
Status prior_plan(Pipeline *p, const Config *config, const RunSizes *sizes, PriorNeed *need, size_t *bytes);
/* Draws the pictures that are missing, with progress shown, with the weights as they stand. Interrupted:
 * those that are done stay. */
Status prior_draw(const Config *config, const RunSizes *sizes, Pipeline *p, Comm *comm,
                  const volatile sig_atomic_t *stop);

#endif
