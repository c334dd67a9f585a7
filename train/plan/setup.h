/* Everything a run holds before its first step: the model, what of it is trained, the pictures, the step's
 * plan, and what all of it comes to.
 *
 * First comes the plan, made from shapes: the model is described, not loaded (ModelRequest), so that a run
 * that does not fit is refused before it has taken anything. `train --plan --no-time` ends there. Then
 * setup_load. */
#ifndef ATL_SETUP_H
#define ATL_SETUP_H

#include "train/export/export.h"
#include "train/pictures/prior.h"
#include "train/step/batch.h"
#include "train/step/fused.h"
#include "train/step/parameters.h"
#include "train/step/sums.h"
#include "train/step/validation.h"
#include "memory.h"

#include "kernels/devices/devices.h"
#include "kernels/plans.h"

/* Text kept in memory, where the text encoder isn't trained. */
#define SETUP_TEXTS_BYTES ((size_t)256 << 20)

/* What is computed in the arena, one after the other. */
typedef enum ArenaWork {
    ARENA_STEP,
    ARENA_VALIDATION,
    ARENA_PICTURE, /* encoded */
    ARENA_CAPTION,
    ARENA_PREVIEW,
    ARENA_CLASS /* a class picture drawn */
} ArenaWork;

typedef struct Setup {
    Config *config; /* borrowed; sizes and switches that were left open are filled in */
    Config asked;   /* as it was before that: a copy of the struct, its texts are config's */
    const Device *dev;
    Comm *comm;
    Ctx *c;
    char device[320];              /* "cpu (avx2)" */
    Model *model;                  /* described, until setup_load */
    char weights[MODEL_HASH_SIZE]; /* which model it is; "": nothing is loaded yet */
    Parameters *parameters;
    Fused *fused; /* NULL: the weights move after the backward pass */
    Pipeline *pipeline;
    Guard *guard; /* of its pictures */
    Sources *sources;
    RunSizes sizes;        /* of the pictures, sources'; none before they have been looked at */
    Texts *texts;          /* NULL: the text encoder is trained, or nothing is loaded yet */
    StepShape shape;       /* of the size whose step takes the most memory */
    Plan *plan;            /* of a micro-batch of that size */
    Plan *validation_plan; /* of that size, or NULL */
    Plans *plans;          /* of the other sizes */
    double step_flop;      /* of a micro-batch, over all sizes as often as they come */
    size_t arena_bytes;    /* the largest of all plans of the run */
    ArenaWork arena_work;  /* whose that is */
    Size arena_size;       /* and, of work that has a picture's size, which */
    size_t base_bytes;     /* what the process has without a run in it */
    MemoryNeed memory;
    DiskNeed disk;
    int64_t steps;
    PriorNeed prior;  /* class pictures, with prior preservation */
    bool prior_built; /* a dataset of them is in the run's folder */
    const volatile sig_atomic_t *stop;
    bool report;
} Setup;

/* The device that train.device asks for; what auto takes is written down there. model.dtype becomes what the
 * device can store, model.tf32 whether it has that. */
Status setup_device(Config *config, const Device **dev);
/* Plans the run on a device (NULL: as the configuration says) for one of the processes that share it. folder:
 * the run's, made if missing; NULL: nothing is written (--plan). keep: as for sources_open. report: the step
 * reads out prediction and conditioning
 * (--trace). */
Status setup_new(Config *config, const Device *dev, Comm *comm, const char *folder, SourcesKept keep,
                 bool report, const volatile sig_atomic_t *stop, Setup **out);
/* The plan of a micro-batch, or of validation's, at a size in pixels: there until the next call. setup: a
 * Setup. */
Status setup_plan(Setup *s, Size size, const Plan **out);
Status setup_validation_plan(void *setup, Size size, const Plan **out);
/* Loads the model and makes what is trained. */
Status setup_load(Setup *s);
void setup_free(Setup *s); /* NULL allowed */
/* How many epochs so many steps are. An epoch is every picture as often as it is repeated, once each; those
 * held out and class pictures do not count. */
double setup_epochs(const Setup *s, int64_t steps);
/* What export_*() write of a loaded run. */
Export setup_export(const Setup *s);

/* What a run of another configuration of the same pictures would take: plans it, and keeps nothing. config is
 * settled as setup_new would (sizes, mode). */
Status setup_try(const Setup *like, Config *config, MemoryNeed *need);

/* What a run takes whose pictures are not looked at. Of several in one process each is given the first one's
 * base: what earlier ones left with the allocator is no part of a run. */
typedef struct SetupNeed {
    MemoryNeed memory;
    size_t base;          /* what the process has without a run in it; 0 when called: it is measured */
    double flop;          /* of a micro-batch */
    size_t waiting;       /* bytes of the UNet's weights that wait in the host's memory */
    bool recomputed;      /* they are fetched three times in a step instead of twice: checkpointing */
    bool updates_on_host; /* the processor moves the weights */
    size_t reached;  /* bytes in the host's memory that an update on the device reads, and writes again */
    int64_t trained; /* numbers */
} SetupNeed;
Status setup_need(Config *config, const Device *dev, SetupNeed *need);

#endif
