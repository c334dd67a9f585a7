/* What the UNet predicts at a step, and guidance (Ho & Salimans 2022): away from the prediction without the
 * prompt.
 *
 *     guided = u + g (p - u) = p + (g - 1)(p - u)
 *
 * Fewer evaluations by choice (fewer.h): outside an interval of the noise levels p alone is taken
 * (Kynkäänniemi et al. 2024); the direction p - u of a step is kept for the next ones, in which only p is
 * computed; the result of the UNet's deep part is kept for the next steps (DeepCache, Ma et al. 2023). */
#include "walk.h"

#include <math.h>
#include <string.h>

static bool every(int step, int n)
{
    return n < 2 || step % n == 0;
}

static bool guided_at(const Walk *w, int i)
{
    const SampleFewer *f = &w->r->fewer;
    const float sigma = sampler_sigma(w->sampler, i);
    return w->batch == 2 && !(f->guided_below > 0 && (sigma <= f->guided_above || sigma > f->guided_below));
}

/* The prompt's half of a batch's floats, as a batch of one. */
static void take_prompt(Walk *w)
{
    for (int part = 0; part < CONDITIONING_PARTS; part++) {
        int64_t count;
        const float *from = w->text + conditioning_part(&w->shape, w->batch, w->batch - 1, part, &count);
        float *to = w->text_one + conditioning_part(&w->shape, 1, 0, part, &count);
        memcpy(to, from, (size_t)count * sizeof *to);
    }
}

/* What becomes of the deep part in a call of so many: kept results are the batch's, or of its second half. */
static DeepUse deep_use(Walk *w, int step, int batch)
{
    if (w->r->fewer.deep_every < 2)
        return DEEP_FORGOTTEN;
    if (every(step, w->r->fewer.deep_every) || w->deep_batch < batch) {
        w->deep_batch = batch;
        return DEEP_KEPT;
    }
    return DEEP_TAKEN;
}

/* Predictions of a batch of 1 (the prompt) or w->batch. */
static Status evaluate(Walk *w, int i, int batch)
{
    const DeepUse use = deep_use(w, i - w->first, batch);
    const size_t deep = w->deep ? w->plane * (size_t)unet_deep_channels(w->p->m->unet) : 0;
    const UNetCall call = {.batch = batch,
                           .size = w->size,
                           .shape = w->shape,
                           .x = w->input,
                           .text = batch == w->batch ? w->text : w->text_one,
                           .timestep = sampler_timestep(w->sampler, i),
                           .use = use,
                           .deep = w->deep ? w->deep + (use == DEEP_TAKEN && w->deep_batch > batch ? deep : 0)
                                           : NULL,
                           .out = w->prediction};
    if (batch < w->batch)
        take_prompt(w);
    return stage_unet(w->p->stages, &call);
}

static double deviation(const float *x, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t k = 0; k < n; k++)
        sum += (double)x[k];
    for (size_t k = 0; k < n; k++)
        squares += ((double)x[k] - sum / (double)n) * ((double)x[k] - sum / (double)n);
    return sqrt(squares / (double)(n - 1));
}

/* Lin et al. 2024, formula 15, 16: as far as asked for back to the spread of the prediction with the prompt,
 * which guidance widens. */
static void rescale(Walk *w, const float *with)
{
    const float share = (float)w->r->guidance_rescale;
    if (share <= 0)
        return;
    const float ratio = (float)(deviation(with, w->n) / deviation(w->guided, w->n));
    for (size_t k = 0; k < w->n; k++)
        w->guided[k] = share * (w->guided[k] * ratio) + (1 - share) * w->guided[k];
}

Status walk_predict(Walk *w, int i)
{
    const float g = w->r->guidance;
    const bool guided = guided_at(w, i), keeps = w->r->fewer.guide_every > 1;
    const bool both = guided && (!w->direction_known || every(i - w->first, w->r->fewer.guide_every));
    w->batch_done = both ? 2 : 1;
    TRY(evaluate(w, i, w->batch_done));
    const float *without = w->prediction, *with = w->prediction + (both ? w->n : 0);
    for (size_t k = 0; k < w->n; k++)
        w->guided[k] = both     ? without[k] + g * (with[k] - without[k])
                       : guided ? with[k] + (g - 1) * w->direction[k]
                                : with[k];
    if (guided)
        rescale(w, with);
    for (size_t k = 0; k < w->n && both && keeps; k++)
        w->direction[k] = with[k] - without[k];
    w->direction_known = w->direction_known || (both && keeps);
    return STATUS_OK;
}
