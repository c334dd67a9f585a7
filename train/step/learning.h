/* Proof that a run learns: how far each update moved the weights, how far they have come from where they
 * started, and an end with the reason where they do not move.
 *
 * The way so far is measured on up to a million of the trained numbers, spread evenly over all tensors, so
 * that it costs next to nothing; up to that many it is exact. */
#ifndef ATL_LEARNING_H
#define ATL_LEARNING_H

#include "train/config/config.h"
#include "optimizer.h"
#include "parameters.h"

/* So many updates in a row that change no bit of a part's weights end the run. */
#define LEARNING_PATIENCE 20

/* Updates in a row that moved nothing of a part's weights: a checkpoint keeps it, so that a run gone on with
 * ends where one in a piece does. */
typedef struct Standstill {
    int unet, text, text_2;
} Standstill;

/* The weights as they are before step 1, and before a checkpoint is read. */
Status learning_begin(const Parameters *p, WeightsBefore *before);
size_t learning_bytes(const Parameters *p); /* that learning_begin() keeps */
void learning_end(WeightsBefore *before);   /* once or again, and of one that never began */

/* After an update, which still is to count. Fails where a weight is not finite any more, and where nothing
 * has moved for LEARNING_PATIENCE updates, and says why; lr is the step's. */
Status learning_check(const Config *config, int64_t step, const UpdateNumbers *update, double lr,
                      Standstill *still);
/* At the end: a run shorter than the patience that has moved nothing is no success either. change: of the
 * last update, as grad_norm and lr. */
Status learning_check_end(const Config *config, const Standstill *still, double change, double grad_norm,
                          double lr);

#endif
