#include "learning.h"

#include "kernels/base/mem.h"

#include <math.h>

#define SAMPLES 1000000

static int64_t samples_of(const Learning *l, const Tensor *t)
{
    return (tensor_count(t) + l->stride - 1) / l->stride;
}

Status learning_new(const Parameters *p, Learning **out)
{
    Learning *l = mem_calloc(1, sizeof *l);
    if (!l)
        return STATUS_FAILED;
    *l = (Learning){.p = p, .stride = (parameters_elements(p) + SAMPLES - 1) / SAMPLES};
    int64_t n = 0;
    for (int i = 0; i < p->count; i++)
        n += samples_of(l, p->items[i].weight);
    float *at = l->start = mem_alloc((size_t)n * sizeof *at);
    if (!at) {
        learning_free(l);
        return STATUS_FAILED;
    }
    for (int i = 0; i < p->count; i++) {
        const float *w = p->items[i].weight->data;
        for (int64_t k = 0; k < tensor_count(p->items[i].weight); k += l->stride)
            *at++ = w[k];
    }
    *out = l;
    return STATUS_OK;
}

void learning_free(Learning *l)
{
    if (!l)
        return;
    mem_free(l->start);
    mem_free(l);
}

double learning_change(const Learning *l)
{
    const float *at = l->start;
    double sum = 0;
    for (int i = 0; i < l->p->count; i++) {
        const Tensor *t = l->p->items[i].weight;
        const float *w = t->data;
        double part = 0;
        for (int64_t k = 0; k < tensor_count(t); k += l->stride) {
            const double d = (double)w[k] - (double)*at++;
            part += d * d;
        }
        sum += part * (double)tensor_count(t) / (double)samples_of(l, t);
    }
    return sqrt(sum);
}

/* Reasons ---------------------------------------------------------------------------------------------- */

static const char *why_still(double grad_norm, double lr)
{
    if (!(lr > 0))
        return "the learning rate is 0: set optimizer.lr, or a shorter optimizer.warmup";
    if (!(grad_norm > 0))
        return "all gradients are 0: see model.dtype (f16 loses small ones; bf16 and f32 do not) and the "
               "loss's "
               "settings";
    return "the learning rate is too small to change a weight in f32: set a larger optimizer.lr or "
           "optimizer.text_encoder_lr";
}

/* The first tensor with a number that is none. */
static const char *broken_name(const Parameters *p)
{
    for (int i = 0; i < p->count; i++) {
        const float *w = p->items[i].weight->data;
        for (int64_t k = 0; k < tensor_count(p->items[i].weight); k++)
            if (!isfinite(w[k]))
                return p->items[i].name;
    }
    return NULL;
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

Status learning_check(const Learning *l, const Config *config, int64_t step, const Moved *moved,
                      double grad_norm, double lr, Standstill *still)
{
    if (!isfinite(moved->unet) || !isfinite(moved->text)) {
        const char *name = broken_name(l->p);
        return status_fail(
            "step %lld: its update was too large for f32%s%s (learning rate %g, weight decay "
            "%g). It is not saved; earlier checkpoints stay. Go on from the last one (--resume "
            "auto) with a smaller optimizer.lr or optimizer.weight_decay",
            (long long)step, name ? ", first in " : "", name ? name : "", lr, config->optimizer.weight_decay);
    }
    TRY(count_still(&still->unet, moved->unet, "the UNet's trained weights", step, grad_norm, lr));
    if (!config->method.text_encoder)
        return STATUS_OK;
    return count_still(&still->text, moved->text, "the text encoder's trained weights", step, grad_norm, lr);
}

Status learning_check_end(const Learning *l, const Config *config, const Standstill *still, double grad_norm,
                          double lr)
{
    if (still->unet == 0 || learning_change(l) > 0)
        return STATUS_OK;
    return status_fail(
        "no update has changed the trained weights by one bit, so there is no result in %s: %s",
        config->output.dir, why_still(grad_norm, lr));
}
