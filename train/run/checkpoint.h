/* Checkpoints: everything that the next step depends on, in one folder that appears whole or not at all.
 *
 * checkpoints/step-000250/ has weights.safetensors (the trained tensors), optimizer.safetensors (what the
 * optimizer keeps of each; AdamW's moments are "NAME.m" and "NAME.v"), ema.safetensors where averages are
 * kept, and state.json. Data order and random numbers need no state: they follow from the seed and the step.
 * The folder is written as checkpoints/.step-000250.part-PID and renamed; the last checkpoint is found by
 * looking. */
#ifndef ATL_CHECKPOINT_H
#define ATL_CHECKPOINT_H

#include "kernels/base/json.h"
#include "train/step/learning.h"
#include "train/step/loss_scale.h"
#include "train/step/optimizer.h"
#include "origins.h"
#include "pass.h"

typedef struct CheckpointState {
    int64_t step;      /* the last step that is in the weights */
    int64_t log_bytes; /* log.jsonl is cut back to this */
    bool duties_done;  /* the step's log line, validation and preview are written, or have to be made again */
    double loss, lr, grad_norm, seconds;  /* of that step, for its log line */
    double loss_subject, loss_prior;      /* as PassNumbers has them */
    double bands[PASS_BANDS];             /* as PassNumbers has them */
    double change_norm;                   /* of the weights since step 1 (train/step/learning.h) */
    Moved moved;                          /* by that step */
    int64_t skipped;                      /* updates so far that moved no weight */
    Standstill still;                     /* and how many in a row up to this step */
    LossScale scale;                      /* for the next step */
    double validation_before, validation; /* NaN: not measured */
    double elapsed;                       /* seconds of work so far */
    Origins origins;                      /* the model and the pictures that the run began with */
    char *made_with;                      /* "0.1.0, cpu (avx2), 2 threads": what the bytes depend on */
} CheckpointState;

/* Writes the state of after `step` into RUN/checkpoints. keep: how many stay; older ones, and any that do not
 * lie on a multiple of `every`, are removed. */
Status checkpoint_write(const char *run, const Parameters *p, const CheckpointState *state, int keep,
                        int64_t every);
/* Keeps the newest `keep` up to step `newest`. One that an interruption left between two multiples of `every`
 * goes as soon as a later one is there, so that an interrupted run ends with the same folders as one that was
 * not. What cannot be removed is said and left. */
void checkpoint_prune(const char *run, int64_t newest, int keep, int64_t every);
/* Folder of the last whole checkpoint, *folder NULL: there is none. Caller: mem_free. */
Status checkpoint_last(const char *run, char **folder);
/* Removes what interrupted writers left, but for a checkpoint that was just losing its name to its successor:
 * that one is given it back. */
Status checkpoint_clean(const char *run);
/* Restores p; refused if names or shapes are others. state->made_with: caller's, mem_free. */
Status checkpoint_read(const char *folder, Parameters *p, CheckpointState *state);

#endif
