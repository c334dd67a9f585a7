/* A micro-batch: what the loader's samples become before the step: latents, noise, timesteps, captions.
 *
 * All of it is drawn by the keyed generator from the optimizer step and the sample's place in it. */
#ifndef ATL_BATCH_H
#define ATL_BATCH_H

#include "train/pictures/encoded.h"
#include "step.h"
#include "texts.h"

typedef struct Batch {
    /* borrowed */
    const Config *config;
    Sources *sources;
    Pipeline *pipeline;
    Texts *texts;    /* NULL: the text encoder is on the tape */
    StepShape shape; /* of the micro-batch that is in it */
    /* (B,…) each, as StepData has them */
    float *latents; /* (B,C,H,W) scaled, before noise */
    float *noise, *noisy, *target, *timesteps, *weights, *text, *per_sample;
    float *roots;    /* (B,C,H,W) of masks, where the shape has any */
    float *one_text; /* what a text became, on its way to its place */
    int32_t *ids;
    float *moments; /* of one latent, (2,C,H,W) */
    char *caption;  /* room for any caption of the sources, as a sample sees it */
} Batch;

/* Room for any size of sources->sizes. */
Status batch_new(const Config *config, const StepShape *shape, Sources *sources, Pipeline *pipeline,
                 Texts *texts, Batch **out);
void batch_free(Batch *b); /* NULL allowed */

/* From here on the batch is of that size, in pixels. */
void batch_take_size(Batch *b, Size size);
/* Fills the batch with shape.batch samples of one size, the first of which has place `first` in optimizer
 * step `step`, and sets data's inputs to it. samples: the step's, from place `first` on; class pictures come
 * after all of the step's others, and in the batch after the batch's. */
Status batch_fill(Batch *b, int64_t step, int first, const LoaderSample *samples, StepData *data);
/* The factor on the loss of the sample at this place of the batch, at timestep t. */
float batch_loss_weight(const Config *config, const NoiseSchedule *schedule, int place, int t);
/* A mask (H,W) in [0,1], which comes first in room for (C,H,W), becomes the roots that a step is given:
 * √max(mask, floor), where normalise by the mean of that, for each channel. */
void batch_mask_roots(float *mask, int64_t area, int channels, float floor, bool normalise);
/* The roots (C,H,W) of a mask (H,W) as the configuration has it count; mask NULL: all counts. */
void batch_mask(const Config *config, const float *mask, int64_t area, int channels, float *roots);
/* Which of `samples` stands at this place of the batch. */
int batch_sample(const Batch *b, int place);

/* Puts in what a model that is told of sizes is told of sample `place`: picture, as it is stored, became
 * target, both in pixels. */
void batch_numbers(Batch *b, int place, Size picture, Size target, bool mirrored);
/* Puts caption number `place` of the batch in: its tokens, or its states. */
Status batch_caption(Batch *b, int place, const char *caption, const Source *source);

#endif
