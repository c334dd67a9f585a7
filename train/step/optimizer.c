#include "optimizer.h"

#include "kernels/base/mem.h"

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

double optimizer_base_rate(const Config *config, ParameterGroup group)
{
    const double rates[GROUP_COUNT] = {[GROUP_UNET] = config->optimizer.lr,
                                       [GROUP_TEXT] = config->optimizer.text_encoder_lr,
                                       [GROUP_TEXT_2] = config->optimizer.text_encoder_2_lr};
    int at = (int)group;
    while (at > GROUP_UNET && rates[at] <= 0)
        at--;
    return rates[at];
}

double optimizer_rate(const Config *config, ParameterGroup group, int64_t step, int64_t total)
{
    return schedule_factor(config->optimizer.schedule, step, total, optimizer_warmup(config, total)) *
           optimizer_base_rate(config, group);
}

/* The update, and what it says. */
static Status queue(Parameters *p, const Update *u, Tensor *w, Tensor *g, StepNumbers *said)
{
    const Device *dev = p->dev;
    TRY(dev->update(u, w, g, p->states[0], p->states[1], p->averages, p->numbers, p->scratch));
    TRY(dev->get(said, p->numbers, sizeof *said));
    return dev->clear(p->numbers, sizeof *said);
}

/* Both as one thing where the device records steps: rate, step number and the like it brings itself, so that
 * one recording serves them all. */
static Status update(Parameters *p, const Update *u, StepNumbers *said)
{
    const Device *dev = p->dev;
    bool again;
    TRY(dev->record ? dev->record(&p->recording) : STATUS_OK);
    const Status s = queue(p, u, p->flat.weights, p->flat.gradients, said);
    const Status ran = dev->record ? dev->recorded(&p->recording, &again) : STATUS_OK;
    const Status settled = dev->settle();
    return s != STATUS_OK ? s : ran != STATUS_OK ? ran : settled;
}

/* One of several processes that move a share each ------------------------------------------------------- */

static Status update_part(Parameters *p, const Update *u, StepNumbers *said)
{
    *said = (StepNumbers){.segment = -1};
    if (p->share.count == 0)
        return STATUS_OK;
    Tensor *w = share_part(&p->share, p->flat.weights), *g = share_part(&p->share, p->flat.gradients);
    Status s = w && g ? queue(p, u, w, g, said) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = p->dev->settle();
    tensor_free(w);
    tensor_free(g);
    if (said->segment >= 0)
        said->segment += p->share.first;
    return s;
}

/* Everybody's numbers, by rank. *all: mem_free. */
static Status meet(Parameters *p, Status mine, const StepNumbers *said, StepNumbers **all)
{
    Comm *comm = p->share.comm;
    *all = mem_calloc((size_t)comm->size, sizeof **all);
    const Status s = comm_meet(comm, *all ? mine : STATUS_FAILED, said, sizeof *said, *all);
    if (s != STATUS_OK) {
        mem_free(*all);
        *all = NULL;
    }
    return s;
}

/* The squares of everybody's gradients, this process's apart, for the norm by which they are clipped. */
static Status measure(Parameters *p, Update *u, double *norm)
{
    StepNumbers said, *all;
    u->measure_only = true;
    TRY(meet(p, update_part(p, u, &said), &said, &all));
    double sum = 0;
    for (int r = 0; r < p->share.comm->size; r++) {
        const double own = all[r].norm / u->unscale;
        sum += own * own;
        u->other_squares += r == p->share.comm->rank ? 0 : own * own;
    }
    mem_free(all);
    u->measure_only = false;
    *norm = sqrt(sum) * u->unscale;
    return STATUS_OK;
}

static Status update_share(Parameters *p, Update *u, StepNumbers *said)
{
    const Share *share = &p->share;
    double norm;
    StepNumbers *all;
    TRY(measure(p, u, &norm));
    TRY(meet(p, update_part(p, u, said), said, &all));
    *said = (StepNumbers){.norm = norm, .segment = -1, .skipped = !isfinite(norm)};
    for (int r = 0; r < share->comm->size; r++) {
        for (int k = 0; k < UPDATE_GROUPS; k++)
            said->moved[k] += all[r].moved[k];
        said->change += all[r].change;
        if (said->segment < 0)
            said->segment = all[r].segment;
    }
    mem_free(all);
    return said->skipped ? STATUS_OK : comm_all_gather(share->comm, p->flat.weights, share->at);
}

/* How many of the samples of a run's first weights stand before this process's. */
static int64_t samples_before(const Parameters *p, int64_t stride)
{
    int64_t n = 0;
    for (int i = 0; i < p->share.first; i++)
        n += (p->segments[i].count + stride - 1) / stride;
    return n;
}

/* The whole ---------------------------------------------------------------------------------------------- */

/* What the device said; an update that was skipped leaves no trace in the state. */
static void take_numbers(Parameters *p, const StepNumbers *n, UpdateNumbers *out)
{
    *out = (UpdateNumbers){.norm = n->norm,
                           .moved = {.unet = sqrt(n->moved[GROUP_UNET]),
                                     .text = sqrt(n->moved[GROUP_TEXT]),
                                     .text_2 = sqrt(n->moved[GROUP_TEXT_2])},
                           .second_text = p->groups & 1 << GROUP_TEXT_2,
                           .change = sqrt(n->change),
                           .broken = n->segment >= 0 ? p->items[n->segment].name : NULL};
    p->updates += !n->skipped;
}

Update optimizer_update(const Config *config, const Parameters *p, int64_t step, int64_t total, double scale,
                        const WeightsBefore *before)
{
    Update u = {.step = p->updates + 1,
                .segments = p->share.segments,
                .count = p->share.count,
                .unscale = 1 / scale,
                .clip = config->train.max_grad_norm,
                .decay = (float)average_decay(config->train.ema, p->updates)};
    p->optimizer->set(&config->optimizer.settings, &u);
    for (int i = 0; i < GROUP_COUNT; i++)
        u.rates[i] = (double)(float)optimizer_rate(config, (ParameterGroup)i, step, total);
    if (before) {
        u.from = (const float *)before->samples->data + samples_before(p, before->stride);
        u.stride = before->stride;
    }
    return u;
}

Status optimizer_step(const Config *config, Parameters *p, int64_t step, int64_t total, double scale,
                      const WeightsBefore *before, UpdateNumbers *out)
{
    Update u = optimizer_update(config, p, step, total, scale, before);
    StepNumbers n;
    TRY(share_is_whole(&p->share) ? update(p, &u, &n) : update_share(p, &u, &n));
    take_numbers(p, &n, out);
    return STATUS_OK;
}

Status optimizer_collect(Parameters *p, UpdateNumbers *out)
{
    StepNumbers n;
    TRY(p->dev->get(&n, p->numbers, sizeof n));
    TRY(p->dev->clear(p->numbers, sizeof n));
    TRY(p->dev->settle());
    take_numbers(p, &n, out);
    p->torn = out->moved.unet > 0 || out->moved.text > 0 || out->moved.text_2 > 0;
    return STATUS_OK;
}
