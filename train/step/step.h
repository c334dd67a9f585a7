/* The training step on the tape: noisy latents, timesteps and text go in, the loss comes out, and every
 * trained weight's gradient has been added to.
 *
 * One micro-batch of fixed shapes. Everything random has been drawn before (train/step/batch.h), so tests and
 * goldens can give PyTorch's numbers. Latents are given and read as (B,C,H,W), as the files of other programs
 * have them. */
#ifndef ATL_STEP_H
#define ATL_STEP_H

#include "data/pictures/size.h"
#include "infer/models/model.h"
#include "kernels/ctx.h"
#include "train/objectives/objective.h"

/* What the sequence of operations depends on, and so what a plan is made for. */
typedef struct StepShape {
    const Model *model;
    int batch;    /* B; with prior preservation class pictures are its second half */
    int channels; /* C of a latent */
    Size size;    /* its W and H */
    ConditioningShape text;
    int clip_skip;
    bool text_on_tape; /* the text encoder runs in the step, on ids; else its states are given */
    bool backward;
    Checkpointing checkpointing;
    bool masked; /* positions of a latent count differently */
    bool report; /* prediction and conditioning are read out (--trace) */
} StepShape;

/* One run of the step: numbers in, numbers out. All host memory of the caller's; while rehearsing nothing is
 * read. */
typedef struct StepData {
    const float *noisy, *target; /* (B,C,H,W) */
    const float *timesteps;      /* (B) */
    const float *weights;        /* (B): factor on each sample's loss */
    const float *roots;          /* (B,C,H,W): √ of how much each position counts, where shape.masked */
    const float *text;           /* step_given(): a batch's floats */
    const int32_t *ids;          /* (B,ids), where it is */
    float grad_scale;            /* 1 / accumulate */
    float loss;                  /* Σ weight · mean(mask · (prediction − target)²) / B */
    float *per_sample;           /* (B) mean((prediction − target)²), masked, unweighted */
    float *prediction;           /* (B,C,H,W), if shape.report */
    float *conditioning;         /* (B,T,D): the states, if shape.report */
    float *pooled;               /* (B,P), if shape.report and there is any */
} StepData;

typedef struct Step {
    StepShape shape;
    StepData data;
} Step;

/* For ctx_rehearse and ctx_run: arg is a Step *. */
void train_step(Ctx *c, void *arg);

/* x (B,H,W,C), f32, as the step's masks have it: mask · (p − t)² = (√mask · p − √mask · t)², so that the loss
 * of what both become, its parts and its gradient are right for every objective. */
Tensor *step_masked(Ctx *c, const Step *step, Tensor *x);

/* What the model is asked. */
static inline const Objective *step_objective(const StepShape *s)
{
    return objective_for(s->model->schedule.prediction);
}

/* What of the conditioning is given to a step: all, or with the text encoders on the tape what no text says.
 */
static inline ConditioningShape step_given(const StepShape *s)
{
    return s->text_on_tape ? (ConditioningShape){.extra = s->text.extra} : s->text;
}

/* Floats of one latent, and of one text. */
static inline int64_t step_latent_size(const StepShape *s)
{
    return s->channels * size_area(s->size);
}
static inline int64_t step_text_size(const StepShape *s)
{
    return conditioning_text_size(&s->text);
}

#endif
