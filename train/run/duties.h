/* The loop's own: what trainer.c and duties.c share. */
#ifndef ATL_DUTIES_H
#define ATL_DUTIES_H

#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "train/step/optimizer.h"
#include "checkpoint.h"
#include "estimate.h"
#include "numbers.h"
#include "pass.h"
#include "run_folder.h"
#include "trainer.h"

typedef struct Trainer {
    Config *config;
    const TrainOptions *options;
    Comm *comm;
    Setup *setup;
    Validation *validation;
    Batch *batch;
    Loader *loader;
    Trace *trace;
    Pass pass;
    WeightsBefore before;  /* the first step */
    RunFolder *run;        /* process 0 alone writes */
    int lock;              /* on the run's folder */
    size_t folder_there;   /* bytes of its path that were there before */
    int64_t resume_step;   /* of the checkpoint that --resume names, or CHECKPOINT_ANY */
    bool fresh;            /* nothing of this run was in it before */
    bool finished;         /* there is nothing left to do */
    bool begun;            /* a checkpoint is there to go on from */
    bool averaged;         /* the averages stand in the weights' place: nothing may be saved */
    CheckpointState state; /* after the last whole step */
    int64_t saved_step;    /* of the last checkpoint; −1: none */
    Pace pace;             /* as far as it has been measured */
    Progress progress;
    Smoothed smoothed; /* for the progress line */
    double began, elapsed_before;
    int64_t reported_step;           /* of report.html */
    double reported, report_seconds; /* when, and how long that took */
} Trainer;

static inline const volatile sig_atomic_t *stop_of(const Trainer *t)
{
    return t->comm->size > 1 ? comm_stop(t->comm) : t->options->stop;
}

static inline bool stopped(const Trainer *t)
{
    return stop_asked(stop_of(t));
}

/* Files, the log and messages are process 0's. */
static inline bool writes(const Trainer *t)
{
    return t->comm->rank == 0;
}

/* For a second signal, which ends the run at once: in the middle of a step, or of saving. */
void duty_last_words(const Trainer *t);
const char *duty_how_to_go_on(const Trainer *t);
/* Keeps the state after the last whole step. A log that cannot be brought to the disk is no reason to lose
 * the steps: it is told when they are safe. */
Status duty_save(Trainer *t);
/* Brings report.html to the last whole step, where it is not. Not now: only if that takes next to nothing of
 * the run's time, since a log of many steps takes seconds to read. */
Status duty_report(Trainer *t, bool now);
/* False: a part of the state is kept by a process that is gone. */
bool duty_can_save(const Trainer *t);
/* Passes s on. Where something beside the training failed (a picture that cannot be read, the log, a
 * preview), the weights are still those of the last whole step, and are saved first. */
Status duty_saved_before(Trainer *t, Status s);

/* The held-out pictures' loss, and the previews, with the averages where there are any. */
Status duty_validate(Trainer *t, double *loss);
Status duty_preview(Trainer *t);
bool duty_has_previews(const Trainer *t);
/* What falls due after a whole step (validation, log, preview), and saving where that is due, with the same
 * end for all processes. */
Status duties_after_step(Trainer *t);

#endif
