/* The loss on held-out pictures: the same pictures, timesteps and noise every time, so that two numbers can
 * be compared.
 *
 * Each picture is asked at four timesteps, one in each quarter of the schedule, with PyTorch's noise of seed
 * + number of the picture. The latent is the posterior's mean, the caption whole; the loss is the mean of
 * squares that training makes smaller: as masks and the datasets' weights have it count, but without weights
 * of timesteps (min-SNR), of which each picture has the same ones. A picture with several resolutions counts
 * at each. */
#ifndef ATL_VALIDATION_H
#define ATL_VALIDATION_H

#include "kernels/comm/comm.h"
#include "batch.h"

#define VALIDATION_QUESTIONS 4 /* timesteps a picture */

typedef struct Validation Validation;

/* Takes the latents of the held-out pictures (encoding them, where they aren't cached). shape is the training
 * step's. */
Status validation_new(const Config *config, const StepShape *shape, Sources *sources, Pipeline *pipeline,
                      Validation **out);
void validation_free(Validation *v); /* NULL allowed */
/* The step that validation runs, for a plan. */
Step validation_step(const StepShape *shape);
/* The plan of that step for a size, in pixels. */
typedef Status (*ValidationPlan)(void *arg, Size size, const Plan **out);
/* Computes the loss with the weights as they stand; the processes of comm share the work, and all get the
 * loss. b: a batch of the same shape, overwritten. */
Status validation_run(Validation *v, Comm *comm, Ctx *c, ValidationPlan plan, void *plan_arg, Batch *b,
                      double *loss);
/* How many runs of the step that is. */
int validation_batches(const RunSizes *sizes, int batch);

#endif
