#include "learning.h"

#include "kernels/base/mem.h"

#include <math.h>

#define SAMPLES 1000000

static int64_t stride_of(const Parameters *p)
{
    return (parameters_elements(p) + SAMPLES - 1) / SAMPLES;
}

static int64_t samples_of(const Parameters *p)
{
    const int64_t stride = stride_of(p);
    int64_t n = 0;
    for (int i = 0; i < p->count; i++)
        n += (p->segments[i].count + stride - 1) / stride;
    return n;
}

size_t learning_bytes(const Parameters *p)
{
    return (size_t)samples_of(p) * sizeof(float);
}

/* Every stride-th number of each tensor, one after the other, to out. */
static Status take_samples(const Parameters *p, int64_t stride, float *out)
{
    Tensor *weights = flat_on_host(p->flat.weights);
    for (int i = 0; weights && i < p->count; i++) {
        const float *w = (const float *)weights->data + p->segments[i].first;
        for (int64_t k = 0; k < p->segments[i].count; k += stride)
            *out++ = w[k];
    }
    flat_leave(weights, p->flat.weights);
    return weights ? STATUS_OK : STATUS_FAILED;
}

Status learning_begin(const Parameters *p, WeightsBefore *before)
{
    const int64_t n = samples_of(p);
    before->stride = stride_of(p);
    before->samples = tensor_new_on(p->dev, DTYPE_F32, 1, &n);
    if (!before->samples)
        return STATUS_FAILED;
    if (!before->samples->home) /* taken in place: all that the run holds is there by now */
        return take_samples(p, before->stride, before->samples->data);
    float *samples = mem_alloc((size_t)n * sizeof *samples);
    Status s = samples ? take_samples(p, before->stride, samples) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = tensor_put(before->samples, samples, DTYPE_F32);
    mem_free(samples);
    return s;
}

void learning_end(WeightsBefore *before)
{
    tensor_free(before->samples);
    *before = (WeightsBefore){0};
}

/* Reasons ---------------------------------------------------------------------------------------------- */

static const char *why_still(double grad_norm, double lr)
{
    if (!(lr > 0))
        return "the learning rate is 0: set optimizer.lr, or a shorter optimizer.warmup";
    if (!isfinite(grad_norm))
        return "the gradients do not fit into f16: set model.dtype to bf16 or f32";
    if (!(grad_norm > 0))
        return "all gradients are 0: see model.dtype (f16 loses small ones; bf16 and f32 do not) and the "
               "loss's "
               "settings";
    return "the learning rate is too small to change a weight in f32: set a larger optimizer.lr or "
           "optimizer.text_encoder_lr";
}

static Status count_still(int *still, double moved, const char *part, int64_t step, double grad_norm,
                          double lr)
{
    *still = moved > 0 ? 0 : *still + 1;
    if (*still < LEARNING_PATIENCE)
        return STATUS_OK;
    return status_fail("step %lld: the last %d updates have not changed %s by one bit, so the run stops: %s "
                       "(the gradients' norm is %g, the learning rate %g)",
                       (long long)step, LEARNING_PATIENCE, part, why_still(grad_norm, lr), grad_norm, lr);
}

Status learning_check(const Config *config, int64_t step, const UpdateNumbers *update, double lr,
                      Standstill *still)
{
    const Moved *moved = &update->moved;
    if (!isfinite(moved->unet) || !isfinite(moved->text) || !isfinite(moved->text_2)) {
        const char *name = update->broken;
        return status_fail(
            "step %lld: its update was too large for f32%s%s (learning rate %g, weight decay "
            "%g). It is not saved; earlier checkpoints stay. Go on from the last one (--resume "
            "auto) with a smaller optimizer.lr or optimizer.weight_decay",
            (long long)step, name ? ", first in " : "", name ? name : "", lr,
            config->optimizer.settings.weight_decay);
    }
    const bool first = config_trains_text(config, 0) && optimizer_base_rate(config, GROUP_TEXT) > 0,
               second = update->second_text && optimizer_base_rate(config, GROUP_TEXT_2) > 0;
    if (config->optimizer.lr > 0 || !config->method.text_encoder) /* else text encoders alone are trained */
        TRY(count_still(&still->unet, moved->unet, "the UNet's trained weights", step, update->norm, lr));
    if (first)
        TRY(count_still(&still->text, moved->text, "the text encoder's trained weights", step, update->norm,
                        lr));
    if (!second)
        return STATUS_OK;
    return count_still(&still->text_2, moved->text_2, "the second text encoder's trained weights", step,
                       update->norm, lr);
}

Status learning_check_end(const Config *config, const Standstill *still, double change, double grad_norm,
                          double lr)
{
    if (still->unet == 0 || change > 0)
        return STATUS_OK;
    return status_fail(
        "no update has changed the trained weights by one bit, so there is no result in %s: %s",
        config->output.dir, why_still(grad_norm, lr));
}
