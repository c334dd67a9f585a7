/* Before the first step a run proves that it can end.
 *
 * A forward and backward of the step's full shape runs in the run's own memory; a trial checkpoint and a
 * trial result are written into the run's folder by the code that will write the real ones, read back,
 * compared and removed. Above PREFLIGHT_WHOLE bytes the room is reserved instead, and the first tensors are
 * tried. So no trouble of memory, disk or format waits for hour three. What the run computes is not changed
 * by it. */
#ifndef ATL_PREFLIGHT_H
#define ATL_PREFLIGHT_H

#include "train/plan/setup.h"
#include "checkpoint.h"
#include "estimate.h"

#define PREFLIGHT_WHOLE ((size_t)1 << 30)

/* folder: the run's. state: as the run begins. *pace: its step, checkpoint and result
 * are set. */
Status preflight(Setup *s, const char *folder, const CheckpointState *state, Pace *pace);
/* Its second half: what will be written, tried in folder. whole: files up to this many bytes are written
 * whole (PREFLIGHT_WHOLE). *checkpoint, *result: seconds that writing one takes. */
Status preflight_files(Setup *s, const char *folder, const CheckpointState *state, size_t whole,
                       double *checkpoint, double *result);

#endif
