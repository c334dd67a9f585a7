#include "step.h"

#include "kernels/ops.h"

/* A latent (B,C,H,W) of the host. */
static Tensor *latent_input(Ctx *c, const StepShape *s, const float *nchw)
{
    const int64_t shape[] = {s->batch, s->channels, s->size.height, s->size.width};
    return ctx_input(c, DTYPE_F32, 4, shape, nchw);
}

Tensor *step_masked(Ctx *c, const Step *step, Tensor *x)
{
    if (!step->shape.masked)
        return x;
    return multiply(c, x, from_nchw_as(c, latent_input(c, &step->shape, step->data.roots), DTYPE_F32));
}

/* For the objective ------------------------------------------------------------------------------------ */

static Conditioning conditioning_of(Ctx *c, const Step *step)
{
    const StepShape *s = &step->shape;
    const ConditioningShape given = step_given(s);
    const Conditioning put_in = conditioning_input(c, &given, s->batch, step->data.text);
    if (!s->text_on_tape)
        return put_in;
    Conditioning text = conditioning_encode(c, s->model, s->clip_skip, s->batch, step->data.ids);
    text.extra = put_in.extra;
    return text;
}

static Tensor *prediction_of(Ctx *c, const void *of)
{
    const Step *step = of;
    const StepShape *s = &step->shape;
    const StepData *d = &step->data;
    const int64_t B = s->batch;
    Tensor *noisy = from_nchw(c, latent_input(c, s, d->noisy));
    Tensor *timesteps = ctx_input(c, DTYPE_F32, 1, &B, d->timesteps);
    const Conditioning text = conditioning_of(c, step);
    if (s->report)
        ctx_read(c, text.states, d->conditioning);
    if (s->report && text.pooled)
        ctx_read(c, text.pooled, d->pooled);
    Tensor *prediction = unet_forward(c, s->model->unet, noisy, timesteps, &text);
    if (s->report)
        ctx_read(c, to_nchw(c, prediction), d->prediction);
    return step_masked(c, step, c->dtype == DTYPE_F32 ? prediction : cast(c, prediction, DTYPE_F32));
}

/* In f32: it keeps its precision whatever the activations are stored in. */
static Tensor *target_of(Ctx *c, const void *of)
{
    const Step *step = of;
    return step_masked(c, step, from_nchw_as(c, latent_input(c, &step->shape, step->data.target), DTYPE_F32));
}

static Tensor *weights_of(Ctx *c, const void *of)
{
    const Step *step = of;
    const int64_t B = step->shape.batch;
    return ctx_input(c, DTYPE_F32, 1, &B, step->data.weights);
}

void train_step(Ctx *c, void *arg)
{
    Step *step = arg;
    StepData *d = &step->data;
    const StepParts parts = {step, prediction_of, target_of, weights_of};
    ctx_set_recording(c, step->shape.backward);
    ctx_set_checkpointing(c, step->shape.checkpointing);
    Tensor *per_sample = NULL;
    Tensor *loss = step_objective(&step->shape)->loss(c, &parts, &per_sample);
    ctx_read(c, loss, &d->loss);
    ctx_read(c, per_sample, d->per_sample);
    if (step->shape.backward)
        ctx_backward(c, loss, d->grad_scale);
}
