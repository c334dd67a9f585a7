#include "pass.h"

#include <math.h>
#include <stdio.h>

/* Running ---------------------------------------------------------------------------------------------- */

/* Sums of unweighted losses by part of the timesteps. */
typedef struct Bands {
    double sum[PASS_BANDS];
    int count[PASS_BANDS];
} Bands;

static void add_bands(Bands *bands, const Batch *b, int steps)
{
    for (int i = 0; i < b->shape->batch; i++) {
        const int band = (int)b->timesteps[i] * PASS_BANDS / steps;
        bands->sum[band] += (double)b->per_sample[i];
        bands->count[band]++;
    }
}

/* The means of a micro-batch's subject and class pictures. Each loss stands in the whole with its weight, of
 * which OBJECTIVE_PRIOR_SHARE makes two means of one, and with prior.weight (train/objectives/objective.h).
 */
static void add_shares(const Config *config, const Batch *b, PassNumbers *out)
{
    const int B = config->train.batch;
    const double part = 1.0 / ((double)b->shape->batch * config->train.accumulate);
    for (int i = 0; i < b->shape->batch; i++) {
        const double share = part * (double)b->per_sample[i] * (double)b->weights[i];
        if (i < B)
            out->loss_subject += share;
        else
            out->loss_prior += share / (double)config->prior.weight;
    }
}

/* Micro-batch i of the step: its inputs, and its place in the gradients' mean. */
static Status fill_micro(const Pass *p, int64_t step, int i, const LoaderSample *samples, Step *micro)
{
    const Config *config = p->setup->config;
    const int B = config->train.batch;
    *micro = (Step){.shape = p->setup->shape,
                    .data = {.grad_scale = (float)p->scale / (float)config->train.accumulate}};
    return batch_fill(p->batch, step, i * B, samples + i * B, &micro->data);
}

Status pass_run(const Pass *p, int64_t step, const LoaderSample *samples, PassNumbers *out)
{
    Setup *s = p->setup;
    const int accumulate = s->config->train.accumulate;
    Bands bands = {0};
    out->loss = out->loss_subject = 0;
    out->loss_prior = config_has_prior(s->config) ? 0 : NAN;
    TRY(parameters_zero_gradients(s->parameters));
    for (int i = 0; i < accumulate && isfinite(out->loss); i++) {
        Step micro;
        TRY(fill_micro(p, step, i, samples, &micro));
        if (p->trace)
            trace_aim(p->trace, i, &micro.data);
        TRY(ctx_run(s->c, s->plan, train_step, &micro));
        if (p->trace)
            trace_batch(p->trace, i, p->batch);
        add_bands(&bands, p->batch, s->model->schedule.train_steps);
        add_shares(s->config, p->batch, out);
        out->loss += (double)micro.data.loss / accumulate;
    }
    for (int i = 0; i < PASS_BANDS; i++)
        out->bands[i] = bands.count[i] ? bands.sum[i] / bands.count[i] : NAN;
    return STATUS_OK;
}

/* Explaining ------------------------------------------------------------------------------------------- */

#define SHOWN_PICTURES 8

/* What the second look found: where the first number that is none stands, and what to do about it. */
typedef struct Trouble {
    char where[512], hint[256];
    int first, count; /* the samples that it concerns */
    int beside;       /* and as many of the class pictures beside them */
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
    bool finite = true;
    for (int part = 0; part < CONDITIONING_PARTS; part++) {
        int64_t count;
        const int64_t start = conditioning_part(&b->shape->text, b->shape->batch, place, part, &count);
        finite = finite && all_finite(b->text + start, count);
    }
    return finite;
}

/* True: an input of the micro-batch is not finite. One sample is to blame then, and the passes are not. */
static bool input_trouble(const Pass *p, const LoaderSample *samples, Trouble *t)
{
    const Batch *b = p->batch;
    const int64_t latent = step_latent_size(b->shape);
    for (int i = 0; i < b->shape->batch; i++) {
        const Source *source = &b->sources->items[samples[batch_sample(b, i)].source];
        const bool bad_latent = !all_finite(b->latents + i * latent, latent);
        const bool bad_text = b->text && !text_finite(b, i);
        if (!bad_latent && !bad_text)
            continue;
        const bool cached = bad_latent ? source->latents != NULL : source->texts != NULL;
        t->first += batch_sample(b, i);
        t->count = 1;
        t->beside = 0;
        snprintf(t->where, sizeof t->where, "It began before the first layer, in the %s of one picture%s",
                 bad_latent ? "latents" : "caption as the text encoder sees it",
                 cached ? ", as the cache has it" : "");
        snprintf(t->hint, sizeof t->hint, "%s",
                 cached ? "remove the cache (*.cache.h5 in the run's folder, or build the dataset anew), "
                          "or train.cache_latents: false and train.cache_text: false"
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

/* Runs the micro-batches under checks until one shows it. */
static Status look_again(const Pass *p, int64_t step, const LoaderSample *samples, Trouble *t)
{
    Setup *s = p->setup;
    const int B = s->config->train.batch;
    const CtxFinding *f = ctx_finding(s->c);
    TRY(parameters_zero_gradients(s->parameters));
    for (int i = 0; i < s->config->train.accumulate; i++) {
        Step micro;
        TRY(fill_micro(p, step, i, samples, &micro));
        t->first = i * B;
        t->count = B;
        t->beside = config_samples(s->config) - B;
        if (input_trouble(p, samples + i * B, t))
            return STATUS_OK;
        if (p->trace)
            trace_aim(p->trace, i, &micro.data);
        ctx_set_checks(s->c, true);
        const Status status = ctx_run(s->c, s->plan, train_step, &micro);
        ctx_set_checks(s->c, false);
        if (f->op) {
            place_of(f, t);
            hint_for(s->config, f, t);
            return STATUS_OK;
        }
        TRY(status);
    }
    t->first = 0;
    t->count = B * s->config->train.accumulate;
    t->beside = t->beside ? t->count : 0;
    snprintf(t->where, sizeof t->where,
             "The same step run again gave no such number: that points to the machine's memory");
    hint_for(s->config, f, t);
    return STATUS_OK;
}

Status pass_explain(const Pass *p, int64_t step, const LoaderSample *samples, const char *what, double value,
                    int64_t saved_step)
{
    char pictures[512], last[96] = "no checkpoint is there yet: start again";
    Trouble t = {0};
    TRY(look_again(p, step, samples, &t));
    name_pictures(p, samples, &t, pictures, sizeof pictures);
    if (saved_step >= 0)
        snprintf(last, sizeof last, "the checkpoint of step %lld stays: go on from it (--resume auto)",
                 (long long)saved_step);
    return status_fail("step %lld: the %s is %g. %s. %s: %s. Nothing was trained on it, and %s, with %s",
                       (long long)step, what, isnan(value) ? NAN : value, t.where,
                       t.count + t.beside == 1 ? "The picture" : "The pictures", pictures, last, t.hint);
}
