#include "pass.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Running ---------------------------------------------------------------------------------------------- */

static void add_bands(MicroNumbers *m, const Batch *b, int steps)
{
    for (int i = 0; i < b->shape.batch; i++) {
        const int band = (int)b->timesteps[i] * PASS_BANDS / steps;
        m->bands[band] += (double)b->per_sample[i] * (double)b->weights[i];
        m->counts[band]++;
    }
}

/* The means of a micro-batch's subject and class pictures. Each loss stands in the whole with its weight, of
 * which OBJECTIVE_PRIOR_SHARE makes two means of one, and with prior.weight (train/objectives/objective.h).
 */
static void add_shares(MicroNumbers *m, const Config *config, const Batch *b)
{
    const int B = config->train.batch;
    const double part = 1.0 / ((double)b->shape.batch * config->train.accumulate);
    for (int i = 0; i < b->shape.batch; i++) {
        const double share = part * (double)b->per_sample[i] * (double)b->weights[i];
        if (i < B)
            m->loss_subject += share;
        else
            m->loss_prior += share / (double)config->prior.weight;
    }
}

/* Micro-batch i of the step: its inputs, its place in the gradients' mean, and its size's plan. */
static Status fill_micro(const Pass *p, int64_t step, int i, const LoaderSample *samples, Step *micro,
                         const Plan **plan)
{
    const Config *config = p->setup->config;
    const int B = config->train.batch;
    *micro = (Step){.data = {.grad_scale = (float)p->scale / (float)config->train.accumulate}};
    TRY(batch_fill(p->batch, step, i * B, samples + i * B, &micro->data));
    micro->shape = p->batch->shape;
    return setup_plan(p->setup, samples[0].size, plan);
}

/* The weights move as their gradients come. */
static Status run_fused(const Pass *p, int64_t step, const Plan *plan, Step *micro)
{
    Setup *s = p->setup;
    const Update u = optimizer_update(s->config, s->parameters, step, s->steps, p->scale, p->start);
    fused_begin(s->fused, &u);
    return fused_end(s->fused, ctx_run(s->c, plan, train_step, micro));
}

static Status run_micro(const Pass *p, int64_t step, int i, const LoaderSample *samples)
{
    Setup *s = p->setup;
    Step micro;
    const Plan *plan;
    TRY(fill_micro(p, step, i, samples, &micro, &plan));
    if (p->trace)
        TRY(trace_aim(p->trace, i, micro.shape.size, &micro.data));
    TRY(sums_before(p->sums, i));
    TRY(s->fused ? run_fused(p, step, plan, &micro) : ctx_run(s->c, plan, train_step, &micro));
    TRY(sums_after(p->sums, i));
    if (p->trace)
        trace_batch(p->trace, i, p->batch);
    MicroNumbers *m = &p->micros[i];
    add_bands(m, p->batch, s->model->schedule.train_steps);
    add_shares(m, s->config, p->batch);
    m->loss = (double)micro.data.loss / s->config->train.accumulate;
    return STATUS_OK;
}

/* This process's part of the step, up to a loss that is not finite. */
static Status run_share(const Pass *p, int64_t step, const LoaderSample *samples)
{
    int first, count;
    sums_share(p->sums, &first, &count);
    memset(p->micros, 0, (size_t)p->setup->config->train.accumulate * sizeof *p->micros);
    for (int i = first; i < first + count; i++) {
        TRY(run_micro(p, step, i, samples));
        if (!isfinite(p->micros[i].loss))
            break;
    }
    return STATUS_OK;
}

/* Most micro-batches that one process has. */
static int largest_share(const Setup *s)
{
    int64_t first, count;
    comm_share(s->config->train.accumulate, s->comm->size, 0, &first, &count);
    return (int)count;
}

/* Everybody's numbers to everybody, and how it went: the same for all. */
static Status meet(const Pass *p, Status mine)
{
    const Comm *comm = p->setup->comm;
    const int accumulate = p->setup->config->train.accumulate, most = largest_share(p->setup);
    int64_t first, count;
    comm_share(accumulate, comm->size, comm->rank, &first, &count);
    TRY(comm_meet(p->setup->comm, mine, p->micros + first, (size_t)most * sizeof *p->micros, p->gathered));
    for (int r = 0; r < comm->size; r++) {
        comm_share(accumulate, comm->size, r, &first, &count);
        memcpy(p->micros + first, p->gathered + r * most, (size_t)count * sizeof *p->micros);
    }
    return STATUS_OK;
}

static void add_up(const Pass *p, PassNumbers *out)
{
    MicroNumbers sum = {.loss = 0};
    for (int i = 0; i < p->setup->config->train.accumulate && isfinite(sum.loss); i++) {
        const MicroNumbers *m = &p->micros[i];
        sum.loss += m->loss;
        sum.loss_subject += m->loss_subject;
        sum.loss_prior += m->loss_prior;
        for (int k = 0; k < PASS_BANDS; k++) {
            sum.bands[k] += m->bands[k];
            sum.counts[k] += m->counts[k];
        }
    }
    *out = (PassNumbers){.loss = sum.loss,
                         .loss_subject = sum.loss_subject,
                         .loss_prior = config_has_prior(p->setup->config) ? sum.loss_prior : NAN};
    for (int k = 0; k < PASS_BANDS; k++)
        out->bands[k] = sum.counts[k] > 0 ? sum.bands[k] / sum.counts[k] : NAN;
}

Status pass_run(const Pass *p, Status before, int64_t step, const LoaderSample *samples, PassNumbers *out)
{
    TRY(meet(p, before == STATUS_OK ? run_share(p, step, samples) : before));
    add_up(p, out);
    return isfinite(out->loss) ? sums_finish(p->sums) : sums_let_go(p->sums);
}

Status pass_new(Setup *s, Batch *batch, Trace *trace, const WeightsBefore *start, Pass *out)
{
    const Config *config = s->config;
    const size_t room =
        (size_t)config->train.accumulate + (size_t)largest_share(s) * (size_t)(s->comm->size + 1);
    *out = (Pass){.setup = s, .batch = batch, .trace = trace, .scale = 1, .start = start};
    out->micros = mem_calloc(room, sizeof *out->micros);
    if (!out->micros)
        return STATUS_FAILED;
    out->gathered = out->micros + config->train.accumulate + largest_share(s);
    return sums_new(s->comm, s->parameters, config->train.accumulate,
                    config->train.reproducible == SUMS_EXACT, s->c, &s->shape, &out->sums);
}

void pass_free(Pass *p)
{
    sums_free(p->sums);
    mem_free(p->micros);
    *p = (Pass){0};
}

/* Explaining ------------------------------------------------------------------------------------------- */

#define SHOWN_PICTURES 8

/* What the second look found: where the first number that is none stands, and what to do about it. */
typedef struct Trouble {
    char where[512], hint[256];
    int first, count; /* the samples that it concerns */
    int beside;       /* and as many of the class pictures beside them */
    bool found;
} Trouble;

/* "a.jpg, b.jpg and 38 more". */
static void name_pictures(const Pass *p, const LoaderSample *samples, const Trouble *t, char *out,
                          size_t size)
{
    const Config *config = p->setup->config;
    const int others = config->train.batch * config->train.accumulate, count = t->count + t->beside;
    size_t at = 0;
    out[0] = 0;
    const int shown = count < SHOWN_PICTURES ? count : SHOWN_PICTURES;
    for (int i = 0; i < shown && at < size; i++) {
        const LoaderSample *sample = &samples[t->first + (i < t->count ? i : others + i - t->count)];
        const Dataset *d = p->setup->sources->items[sample->source].dataset;
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "", dataset_name(d, sample->picture));
    }
    if (count > shown && at < size)
        snprintf(out + at, size - at, " and %d more", count - shown);
}

static bool all_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static bool text_finite(const Batch *b, int place)
{
    const ConditioningShape given = step_given(&b->shape);
    bool finite = true;
    for (int part = 0; part < CONDITIONING_PARTS; part++) {
        int64_t count;
        const int64_t start = conditioning_part(&given, b->shape.batch, place, part, &count);
        finite = finite && all_finite(b->text + start, count);
    }
    return finite;
}

/* True: an input of the micro-batch is not finite. One sample is to blame then, and the passes are not. */
static bool input_trouble(const Pass *p, const LoaderSample *samples, Trouble *t)
{
    const Batch *b = p->batch;
    const int64_t latent = step_latent_size(&b->shape);
    for (int i = 0; i < b->shape.batch; i++) {
        const Source *source = &b->sources->items[samples[batch_sample(b, i)].source];
        const bool bad_latent = !all_finite(b->latents + i * latent, latent);
        const bool bad_text = b->text && !text_finite(b, i);
        if (!bad_latent && !bad_text)
            continue;
        t->found = true;
        const bool cached = bad_latent ? source->latents : source->texts;
        t->first += batch_sample(b, i);
        t->count = 1;
        t->beside = 0;
        snprintf(t->where, sizeof t->where, "It began before the first layer, in the %s of one picture%s",
                 bad_latent ? "latents" : "caption as the text encoder sees it",
                 cached ? ", as the cache has it" : "");
        snprintf(t->hint, sizeof t->hint, "%s",
                 cached
                     ? "remove the cache (the .cache file beside the dataset), or train.cache_latents: false "
                       "and train.cache_text: false"
                     : "another model.vae, or model.dtype: f32");
        return true;
    }
    return false;
}

static void hint_for(const Config *config, const CtxFinding *f, Trouble *t)
{
    const char *dtype = config->model.dtype == DTYPE_F16   ? ", model.dtype: bf16 or f32"
                        : config->model.dtype == DTYPE_F32 ? ""
                                                           : ", model.dtype: f32";
    if (f->op && f->broken)
        snprintf(t->hint, sizeof t->hint, "another copy of the model: the layer's %s is not finite itself",
                 f->broken);
    else
        snprintf(
            t->hint, sizeof t->hint,
            "a smaller optimizer.lr (now %g), a longer optimizer.warmup, a smaller train.max_grad_norm%s",
            config->optimizer.lr, dtype);
}

static void place_of(const CtxFinding *f, Trouble *t)
{
    const char *pass = f->backward ? "backward" : "forward";
    if (f->own)
        snprintf(t->where, sizeof t->where, "It began in the %s pass, at %s (%s): its %s holds %g", pass,
                 f->layer, f->op, f->what, f->value);
    else
        snprintf(t->where, sizeof t->where, "It began in the %s pass, at %s%s%s: its %s holds %g", pass,
                 f->op, f->layer ? ", next to " : "", f->layer ? f->layer : "", f->what, f->value);
}

/* Runs this process's micro-batches under checks until one shows it. */
static Status look_again(const Pass *p, int64_t step, const LoaderSample *samples, Trouble *t)
{
    Setup *s = p->setup;
    const int B = s->config->train.batch;
    const CtxFinding *f = ctx_finding(s->c);
    int first, count;
    sums_share(p->sums, &first, &count);
    TRY(parameters_zero_gradients(s->parameters));
    for (int i = first; i < first + count; i++) {
        Step micro;
        const Plan *plan;
        TRY(fill_micro(p, step, i, samples, &micro, &plan));
        t->first = i * B;
        t->count = B;
        t->beside = config_samples(s->config) - B;
        if (input_trouble(p, samples + i * B, t))
            return STATUS_OK;
        if (p->trace)
            TRY(trace_aim(p->trace, i, micro.shape.size, &micro.data));
        ctx_set_checks(s->c, true);
        const Status status = ctx_run(s->c, plan, train_step, &micro);
        ctx_set_checks(s->c, false);
        if (f->op) {
            t->found = true;
            place_of(f, t);
            hint_for(s->config, f, t);
            return STATUS_OK;
        }
        TRY(status);
    }
    t->first = 0;
    t->count = B * s->config->train.accumulate;
    t->beside = t->beside ? t->count : 0;
    snprintf(t->where, sizeof t->where, "The same step run again%s gave no such number%s",
             s->parameters->torn ? " with what the weights had become" : "",
             s->parameters->torn ? "" : ": that points to the machine's memory");
    hint_for(s->config, f, t);
    return STATUS_OK;
}

/* Which process tells: the first that has found something, else process 0. */
static Status choose_teller(const Pass *p, Status looked, const Trouble *t, int *teller)
{
    Comm *comm = p->setup->comm;
    char *found = mem_calloc((size_t)comm->size, 1);
    const char mine = t->found;
    Status s = found ? comm_meet(comm, looked, &mine, 1, found) : STATUS_FAILED;
    const char *first = s == STATUS_OK ? memchr(found, 1, (size_t)comm->size) : NULL;
    *teller = first ? (int)(first - found) : 0;
    mem_free(found);
    return s;
}

static Status tell(const Pass *p, int64_t step, const LoaderSample *samples, const Trouble *t,
                   const char *what, double value, int64_t saved_step)
{
    char pictures[512], last[96] = "no checkpoint is there yet: start again";
    name_pictures(p, samples, t, pictures, sizeof pictures);
    if (saved_step >= 0)
        snprintf(last, sizeof last, "the checkpoint of step %lld stays: go on from it (--resume auto)",
                 (long long)saved_step);
    return status_fail(
        "step %lld: the %s is %g. %s. %s: %s. %s, and %s, with %s", (long long)step, what,
        isnan(value) ? NAN : value, t->where, t->count + t->beside == 1 ? "The picture" : "The pictures",
        pictures,
        p->setup->parameters->torn
            ? "Some weights had been trained on it by then (train.fused_backward), so that what "
              "came after the last checkpoint is lost"
            : "Nothing was trained on it",
        last, t->hint);
}

Status pass_explain(const Pass *p, int64_t step, const LoaderSample *samples, const char *what, double value,
                    int64_t saved_step)
{
    Comm *comm = p->setup->comm;
    Trouble t = {.found = false};
    int teller;
    const Status looked = look_again(p, step, samples, &t);
    TRY(choose_teller(p, looked, &t, &teller));
    return comm_agree(comm,
                      comm->rank == teller ? tell(p, step, samples, &t, what, value, saved_step) : STATUS_OK);
}
