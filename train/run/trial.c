#include "trial.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "kernels/base/random.h"

#define TRIAL_TIMESTEP 500 /* of a thousand: neither all noise nor none */

/* Hands out n floats of the trial's memory. */
static float *take(float **at, size_t n)
{
    float *p = *at;
    *at += n;
    return p;
}

Status trial_new(const StepShape *shape, Trial *t)
{
    const size_t B = (size_t)shape->batch, latent = B * (size_t)step_latent_size(shape),
                 text = (size_t)conditioning_size(&shape->text, shape->batch);
    *t = (Trial){.shape = *shape, .data = {.grad_scale = 1}};
    /* noisy, target and prediction; timesteps, weights, losses; text in and out */
    t->memory = mem_calloc(3 * latent + 3 * B + 2 * text, sizeof *t->memory);
    t->ids = mem_calloc(B * (size_t)shape->text.ids, sizeof *t->ids);
    if (!t->memory || !t->ids) {
        trial_free(t);
        return STATUS_FAILED;
    }
    float *at = t->memory, *noisy = take(&at, latent), *target = take(&at, latent), *timesteps = take(&at, B),
          *weights = take(&at, B);
    random_normal((RandomKey){.purpose = RANDOM_NOISE}, noisy, latent);
    random_normal((RandomKey){.purpose = RANDOM_NOISE, .sample = 1}, target, latent);
    for (size_t i = 0; i < B; i++) {
        timesteps[i] = TRIAL_TIMESTEP;
        weights[i] = 1;
    }
    t->data.noisy = noisy;
    t->data.target = target;
    t->data.roots = noisy; /* any numbers do */
    t->data.timesteps = timesteps;
    t->data.weights = weights;
    t->data.prediction = take(&at, latent);
    t->data.per_sample = take(&at, B);
    t->data.text = take(&at, text);
    t->data.conditioning = take(&at, text);
    t->data.pooled = t->data.conditioning + B * (size_t)(shape->text.tokens * shape->text.width);
    t->data.ids = t->ids;
    return STATUS_OK;
}

void trial_free(Trial *t)
{
    mem_free(t->memory);
    mem_free(t->ids);
    *t = (Trial){0};
}

static Status run(Setup *s, const Plan *plan, Step *step, double *seconds)
{
    const double began = seconds_now();
    TRY(ctx_run(s->c, plan, train_step, step));
    if (seconds)
        *seconds = seconds_now() - began;
    return STATUS_OK;
}

Status trial_step(Setup *s, Trial *t, double *seconds)
{
    Step step = {.shape = t->shape, .data = t->data};
    return run(s, s->plan, &step, seconds);
}

Status trial_validation(Setup *s, Trial *t, double *seconds)
{
    Step step = validation_step(&t->shape);
    step.data = t->data;
    return run(s, s->validation_plan, &step, seconds);
}
