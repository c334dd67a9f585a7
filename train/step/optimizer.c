#include "optimizer.h"

#include <math.h>

#define SHORT_WARMUP 10 /* a run shorter than its warm-up warms up over a tenth of it */

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

int64_t optimizer_warmup(const Config *config, int64_t total)
{
    const int64_t asked = config->optimizer.warmup;
    return asked < total ? asked : total / SHORT_WARMUP;
}

double average_decay(double d, int64_t n)
{
    return fmin(d, (1.0 + (double)n) / (10.0 + (double)n));
}

double optimizer_rate(const Config *config, ParameterGroup group, int64_t step, int64_t total)
{
    const double lr = config->optimizer.lr, text_lr = config->optimizer.text_encoder_lr;
    return schedule_factor(config->optimizer.schedule, step, total, optimizer_warmup(config, total)) *
           (group == GROUP_TEXT && text_lr > 0 ? text_lr : lr);
}

/* The update and what it says, as one thing where the device records steps: rate, step number and the like it
 * brings itself, so that one recording serves them all. */
static Status update(Parameters *p, const Update *u, StepNumbers *said)
{
    const Device *dev = p->dev;
    bool again;
    TRY(dev->record ? dev->record(&p->recording) : STATUS_OK);
    Status s = dev->update(u, p->flat.weights, p->flat.gradients, p->states[0], p->states[1], p->averages,
                           p->numbers, p->scratch);
    if (s == STATUS_OK)
        s = dev->get(said, p->numbers, sizeof *said);
    if (s == STATUS_OK)
        s = dev->clear(p->numbers, sizeof *said);
    const Status ran = dev->record ? dev->recorded(&p->recording, &again) : STATUS_OK;
    const Status settled = dev->settle();
    return s != STATUS_OK ? s : ran != STATUS_OK ? ran : settled;
}

/* What the device said; an update that was skipped leaves no trace in the state. */
static void take_numbers(Parameters *p, const StepNumbers *n, UpdateNumbers *out)
{
    *out = (UpdateNumbers){.norm = n->norm,
                           .moved = {.unet = sqrt(n->moved[GROUP_UNET]), .text = sqrt(n->moved[GROUP_TEXT])},
                           .change = sqrt(n->change),
                           .broken = n->segment >= 0 ? p->items[n->segment].name : NULL};
    p->updates += !n->skipped;
}

Status optimizer_step(const Config *config, Parameters *p, int64_t step, int64_t total, double scale,
                      const WeightsBefore *before, UpdateNumbers *out)
{
    Update u = {.step = p->updates + 1,
                .segments = p->segments,
                .count = p->count,
                .unscale = 1 / scale,
                .clip = config->train.max_grad_norm,
                .decay = (float)average_decay(config->train.ema, p->updates)};
    p->optimizer->set(&config->optimizer.settings, &u);
    for (int i = 0; i < GROUP_COUNT; i++)
        u.rates[i] = (double)(float)optimizer_rate(config, (ParameterGroup)i, step, total);
    if (before) {
        u.from = before->samples->data;
        u.stride = before->stride;
    }
    StepNumbers n;
    TRY(update(p, &u, &n));
    take_numbers(p, &n, out);
    return STATUS_OK;
}
