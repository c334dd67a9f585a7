/* The training loop: steps, and what falls due after them (validation, log, preview, checkpoint), until the
 * end and its exports.
 *
 *     volatile sig_atomic_t stop = 0;
 *     TRY(config_read("cat.yaml", NULL, 0, &config));
 *     TRY(trainer_run(config, &(TrainOptions){.stop = &stop}));
 *
 * The order of things after a step, and what a checkpoint keeps, are such that a run killed at any moment
 * ends in the same bytes as one that was never stopped. */
#ifndef ATL_TRAINER_H
#define ATL_TRAINER_H

#include "kernels/comm/comm.h"
#include "train/config/config.h"

#include <signal.h>

typedef struct TrainOptions {
    const char
        *resume; /* NULL: a new run; "auto": the configuration's folder; else a run's folder, or RUN@STEP */
    bool allow_changes; /* resume though configuration, model or pictures would change the result */
    bool plan, json;    /* say what it comes to and do nothing */
    bool time;          /* with plan: how long it takes too, which is measured */
    const char *trace;  /* folder, or NULL */
    int trace_steps;    /* how many steps; 0: all */
    const char *again;  /* the command that goes on after an interruption, for the message */
    const volatile sig_atomic_t *stop;
    Comm *comm;           /* the processes that share the run; NULL: this one alone */
    const Device *device; /* NULL: as the configuration says */
    bool no_output;       /* nothing goes to standard output */
} TrainOptions;

/* STATUS_INTERRUPTED: stopped by the flag, with the state after the last whole step saved. config is filled
 * in where it left things open. */
Status trainer_run(Config *config, const TrainOptions *o);

#endif
