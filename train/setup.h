/* Everything a run holds before its first step: the model, what of it is trained, the pictures, the step's
 * plan, and what all of it comes to. `train --plan` ends here. */
#ifndef ATL_SETUP_H
#define ATL_SETUP_H

#include "batch.h"
#include "parameters.h"
#include "validation.h"

#include "../kernels/device.h"

/* Bytes by what they are for. */
typedef struct MemoryNeed {
    size_t weights, activations, gradients, optimizer, workspace, other;
} MemoryNeed;
size_t memory_total(const MemoryNeed *m);

typedef struct Setup {
    Config *config; /* borrowed; sizes and switches that were left open are filled in */
    Ctx *c;
    char device[64]; /* "cpu (avx2)" */
    Model *model;
    Parameters *parameters;
    Pipeline *pipeline;
    Sources *sources;
    Texts *texts; /* NULL: the text encoder is trained */
    StepShape shape;
    Plan *plan;            /* of a micro-batch */
    Plan *validation_plan; /* or NULL */
    size_t arena_bytes;    /* the largest of all plans of the run */
    MemoryNeed memory;
    int64_t steps, steps_per_epoch;
} Setup;

/* folder: the run's, made if missing; NULL: nothing is written (--plan). keep: as for sources_open. report:
 * the step reads out prediction and conditioning (--trace). */
Status setup_new(Config *config, const char *folder, bool keep, bool report,
                 const volatile sig_atomic_t *stop, Setup **out);
void setup_free(Setup *s); /* NULL allowed */

/* Says what the numbers come to, as text or as --plan's JSON on standard output. */
void setup_print(const Setup *s);
Status setup_print_json(const Setup *s);

#endif
