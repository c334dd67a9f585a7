#include "optimizer.h"

#include <math.h>

double schedule_factor(ScheduleKind kind, int64_t s, int64_t total, int64_t warmup)
{
    if (s <= warmup)
        return (double)s / (double)warmup;
    const double span = (double)(total > warmup ? total - warmup : 1);
    const double done = fmin((double)(s - 1 - warmup) / span, 1.0);
    switch (kind) {
    case SCHEDULE_LINEAR:
        return 1 - done;
    case SCHEDULE_COSINE:
        return 0.5 * (1 + cos(3.141592653589793 * done));
    default:
        return 1;
    }
}

double gradient_norm(const Device *d, const Parameters *p)
{
    double sum = 0;
    for (int i = 0; i < p->count; i++)
        sum += d->sum_of_squares(p->items[i].weight->grad);
    return sqrt(sum);
}

double average_decay(double d, int64_t n)
{
    return fmin(d, (1.0 + (double)n) / (10.0 + (double)n));
}

Status optimizer_step(const Device *d, const Config *config, Parameters *p, int64_t step, int64_t total,
                      double norm, double *lr, Moved *moved)
{
    const double factor = schedule_factor(config->optimizer.schedule, step, total, config->optimizer.warmup);
    const double text_lr =
        config->optimizer.text_encoder_lr > 0 ? config->optimizer.text_encoder_lr : config->optimizer.lr;
    /* torch.nn.utils.clip_grad_norm_ has the same 1e-6 */
    const double limit = config->train.max_grad_norm;
    const double clip = limit > 0 ? fmin(1.0, limit / (norm + 1e-6)) : 1.0;
    AdamW o = {.beta1 = config->optimizer.beta1,
               .beta2 = config->optimizer.beta2,
               .eps = config->optimizer.eps,
               .weight_decay = config->optimizer.weight_decay,
               .step = step};
    const double decay = average_decay(config->train.ema, p->average_updates);
    double squares[2] = {0}, moved_by;
    *lr = factor * config->optimizer.lr;
    for (int i = 0; i < p->count; i++) {
        Parameter *q = &p->items[i];
        o.lr = (float)(factor * (q->text_encoder ? text_lr : config->optimizer.lr));
        TRY(status_in(d->adamw(&o, q->weight, q->weight->grad, (float)clip, q->m, q->v, &moved_by), "%s",
                      q->name));
        squares[q->text_encoder] += moved_by;
        if (q->average)
            TRY(status_in(d->ema(q->average, q->weight, (float)decay), "%s", q->name));
    }
    p->average_updates++;
    *moved = (Moved){.unet = sqrt(squares[0]), .text = sqrt(squares[1])};
    return STATUS_OK;
}
