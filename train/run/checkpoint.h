/* Checkpoints: everything that the next step depends on, in one folder that appears whole or not at all.
 *
 * checkpoints/step-000250/ has weights.safetensors (the trained tensors), optimizer.safetensors (what the
 * optimizer keeps of each; AdamW's moments are "NAME.m" and "NAME.v"), ema.safetensors where averages are
 * kept, and state.json. Data order and random numbers need no state: they follow from the seed and the step.
 * state.json carries a sum of each of the others, and of itself; what differs from it when it is read is
 * damage. The folder is written as checkpoints/.step-000250.part-PID and renamed; the last checkpoint is
 * found by looking. */
#ifndef ATL_CHECKPOINT_H
#define ATL_CHECKPOINT_H

#include "kernels/base/json.h"
#include "train/step/learning.h"
#include "train/step/loss_scale.h"
#include "train/step/optimizer.h"
#include "checkpoint_folder.h"
#include "origins.h"
#include "pass.h"

typedef struct CheckpointState {
    int64_t step;      /* the last step that is in the weights */
    int64_t log_bytes; /* log.jsonl is cut back to this */
    bool duties_done;  /* the step's log line, validation and preview are written, or have to be made again */
    double loss, lr, grad_norm, seconds;        /* of that step, for its log line */
    double loss_subject, loss_prior;            /* as PassNumbers has them */
    double bands[PASS_BANDS];                   /* as PassNumbers has them */
    double change_norm;                         /* of the weights since step 1 (train/step/learning.h) */
    Moved moved;                                /* by that step */
    int64_t skipped;                            /* updates so far that moved no weight */
    Standstill still;                           /* and how many in a row up to this step */
    LossScale scale;                            /* for the next step */
    double validation_before, validation;       /* NaN: not measured */
    int64_t best_step;                          /* with the least validation loss; 0: none was measured yet */
    double best_loss;                           /* and what it was */
    double elapsed;                             /* seconds of work so far */
    double validation_seconds, preview_seconds; /* that the last of each took; 0: none yet */
    Origins origins;                            /* the model and the pictures that the run began with */
    char *made_with;                            /* "0.1.0, cpu (avx2), 2 threads": what the bytes depend on */
} CheckpointState;

/* Writes the state of after `step` into RUN/checkpoints. keep: how many stay; older ones, and any that do not
 * lie on a multiple of `every`, are removed, but for the best step's. */
Status checkpoint_write(const char *run, const Parameters *p, const CheckpointState *state, int keep,
                        int64_t every);
/* Of the processes that keep a share of the optimizer's state each: what this one keeps, to process 0, which
 * is in checkpoint_write. Nothing where each has all. */
Status checkpoint_contribute(const Parameters *p);
/* Restores p; refused if names or shapes are others. state->made_with: caller's, mem_free. *damaged: it
 * failed because a part is missing or cannot be read. */
Status checkpoint_read(const char *folder, Parameters *p, CheckpointState *state, bool *damaged);

#endif
