#include "estimate.h"

#include "data/loader/sample.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "train/pictures/preview.h"
#include "train/step/optimizer.h"
#include "preflight.h"
#include "trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEADY_STEPS 5 /* fewer tell nothing about how much they differ */
#define STEADY_SECONDS 3.0
#define STEADY_ERROR 0.02 /* standard error of the mean, as a share of it */
#define TRIED_BYTES ((size_t)64 << 20)

/* Steps ------------------------------------------------------------------------------------------------ */

/* Mean of some numbers, and how far to trust it. */
typedef struct Mean {
    double sum, squares;
    int count;
} Mean;

static void mean_add(Mean *m, double x)
{
    m->sum += x;
    m->squares += x * x;
    m->count++;
}

static bool mean_steady(const Mean *m)
{
    if (m->count < STEADY_STEPS || m->sum < STEADY_SECONDS)
        return false;
    const double mean = m->sum / m->count, variance = m->squares / m->count - mean * mean;
    return sqrt(fmax(variance, 0) / m->count) < STEADY_ERROR * mean;
}

/* What there is time for. A piece of work that would take longer than is left is not tried: it is taken to
 * need a step's time for as much arithmetic. */
typedef struct Budget {
    double until;    /* on the clock */
    double per_flop; /* seconds, of a step */
    Progress progress;
    int done;
} Budget;

/* True: there is time to try it; else *seconds is what its arithmetic says. */
static bool is_tried(const Budget *b, double flop, double *seconds)
{
    *seconds = flop * b->per_flop;
    return seconds_now() + *seconds < b->until;
}

static void next(Budget *b, const char *what)
{
    progress_update(&b->progress, b->done++, "%s", what);
}

/* Half of the time, where there is more to measure than steps: the first one makes oneDNN's code and packs
 * weights, once in a run, and counts only where there is no time for another. */
static Status measure_micro(Setup *s, Trial *t, Budget *b, double *seconds)
{
    Mean m = {0};
    double one, first;
    const double until = seconds_now() + (b->until - seconds_now()) / 2;
    TRY(trial_step(s, t, &first));
    one = first;
    while (seconds_now() + one < until && !mean_steady(&m)) {
        TRY(trial_step(s, t, &one));
        mean_add(&m, one);
    }
    *seconds = m.count ? m.sum / m.count : first;
    b->per_flop = *seconds / plan_flop(s->plan);
    *seconds *= s->step_flop / plan_flop(s->plan); /* it was of the largest size */
    return STATUS_OK;
}

/* What comes once in a step: the gradients cleared and measured, the weights changed. */
static Status measure_update(Setup *s, double *seconds)
{
    UpdateNumbers numbers;
    const double began = seconds_now();
    TRY(parameters_zero_gradients(s->parameters));
    if (s->fused) {
        const Update u = optimizer_update(s->config, s->parameters, 1, s->steps, 1, NULL);
        TRY(fused_try(s->fused, &u));
        TRY(optimizer_collect(s->parameters, &numbers));
    } else {
        TRY(optimizer_step(s->config, s->parameters, 1, s->steps, 1, NULL, &numbers));
    }
    *seconds = seconds_now() - began;
    return STATUS_OK;
}

/* The rest --------------------------------------------------------------------------------------------- */

static bool has_previews(const Config *config)
{
    return config->preview.every > 0 && config->preview.prompt_count > 0;
}

typedef struct Clock {
    double first, last; /* after the first and the last sampling step */
} Clock;

static bool look_at_clock(int step, int steps, const SampleView *view, void *arg)
{
    Clock *c = arg;
    (void)view;
    if (step == 1)
        c->first = seconds_now();
    if (step == steps)
        c->last = seconds_now();
    return true;
}

/* A grid, from one picture in few steps: the first one also bears what is done once. */
static Status measure_preview(Setup *s, const Budget *b, double *seconds)
{
    const Config *config = s->config;
    SampleRequest r = preview_request(config, 0);
    SampleResult result;
    Clock clock = {0};
    size_t bytes;
    double piece;
    const int tried = r.steps < 3 ? r.steps : 3, wanted = r.steps;
    TRY(pipeline_plan(s->pipeline, &r, &bytes));
    *seconds = config->preview.prompt_count * pipeline_flop(s->pipeline, &r) * b->per_flop;
    r.steps = tried;
    if (!is_tried(b, pipeline_flop(s->pipeline, &r), &piece))
        return STATUS_OK;
    const double began = seconds_now();
    TRY(pipeline_sample(s->pipeline, &r, look_at_clock, &clock, &result));
    const double all = seconds_now() - began;
    sample_result_free(&result);
    const double step = tried > 1 ? (clock.last - clock.first) / (tried - 1) : all;
    const double other = tried > 1 ? all - (clock.last - clock.first) - step : 0;
    *seconds = config->preview.prompt_count * (wanted * step + fmax(other, 0));
    return STATUS_OK;
}

/* Floats of what the first picture becomes. */
static size_t encoded_floats(const Setup *s)
{
    StepShape shape = s->shape;
    shape.size = size_divided(s->sources->items[0].entries.fits[0].bucket, vae_factor(s->model->vae));
    return (size_t)step_latent_size(&shape);
}

/* One picture decoded and encoded, and one caption. The second of two, where the first was quick. */
static Status encode_once(Setup *s, float *memory, Pace *p)
{
    const Source *source = &s->sources->items[0];
    const BucketFit *fit = &source->entries.fits[0];
    const size_t pixels = 3 * (size_t)size_area(fit->bucket), n = encoded_floats(s);
    float *mean = memory + pixels, *deviation = mean + n, *text = deviation + n;
    Picture picture;
    double began = seconds_now();
    TRY(dataset_picture(source->dataset, source->entries.pictures[0], fit, &picture));
    picture_to_floats(&picture, memory);
    picture_free(&picture);
    TRY(pipeline_encode_picture(s->pipeline, memory, fit->bucket, mean, deviation));
    p->picture = seconds_now() - began;
    if (s->config->method.text_encoder)
        return STATUS_OK;
    began = seconds_now();
    TRY(pipeline_encode_text(s->pipeline, p->caption > 0 ? "the second" : "the first",
                             s->config->method.clip_skip, text));
    p->caption = seconds_now() - began;
    return STATUS_OK;
}

static Status measure_encoding(Setup *s, const Budget *b, Pace *p)
{
    size_t bytes;
    const Size size = s->sources->items[0].entries.fits[0].bucket;
    TRY(pipeline_encode_picture_plan(s->pipeline, size, &bytes));
    if (!is_tried(b, pipeline_encode_picture_flop(s->pipeline, size), &p->picture))
        return STATUS_OK; /* a caption is next to nothing beside a picture */
    const size_t floats = 3 * (size_t)size_area(size) + 2 * encoded_floats(s);
    float *memory = mem_alloc((floats + (size_t)step_text_size(&s->shape)) * sizeof *memory);
    Status status = memory ? encode_once(s, memory, p) : STATUS_FAILED;
    if (status == STATUS_OK && p->picture < 1)
        status = encode_once(s, memory, p);
    mem_free(memory);
    return status;
}

/* The folder nearest to output.dir that there is already. Caller: mem_free. */
static char *existing_folder(const char *path)
{
    char *at = mem_strdup(path);
    while (at && !file_is_dir(at)) {
        char *slash = strrchr(at, '/');
        if (!slash) {
            mem_free(at);
            return mem_strdup(".");
        }
        slash[slash == at] = 0;
    }
    return at;
}

static Status measure_files(Setup *s, Pace *p)
{
    char *parent = existing_folder(s->config->output.dir);
    char *folder = parent ? mem_printf("%s/.atelier-plan-XXXXXX", parent) : NULL;
    const CheckpointState state = {.made_with = s->device};
    Status status = folder ? STATUS_OK : STATUS_FAILED;
    if (status == STATUS_OK && !mkdtemp(folder))
        status = status_refuse("%s: nothing can be written there; set another output.dir", parent);
    else if (status == STATUS_OK) {
        status = preflight_files(s, folder, &state, TRIED_BYTES, &p->checkpoint, &p->result);
        dir_remove(folder);
    }
    mem_free(folder);
    mem_free(parent);
    return status;
}

static Status measure_validation(Setup *s, Trial *t, const Budget *b, double *seconds)
{
    double one;
    if (is_tried(b, plan_flop(s->validation_plan), &one))
        TRY(trial_validation(s, t, &one));
    *seconds = one * validation_batches(&s->sizes, s->shape.batch);
    return STATUS_OK;
}

static Status measure_all(Setup *s, Trial *t, Budget *b, Pace *p)
{
    const Config *config = s->config;
    double micro = 0, update = 0;
    next(b, "steps");
    TRY(measure_micro(s, t, b, &micro));
    TRY(measure_update(s, &update));
    next(b, "what is written");
    TRY(measure_files(s, p));
    next(b, "encoding");
    TRY(measure_encoding(s, b, p));
    next(b, "validation");
    if (s->sources->held_count > 0)
        TRY(measure_validation(s, t, b, &p->validation));
    next(b, "previews");
    if (has_previews(config))
        TRY(measure_preview(s, b, &p->preview));
    const double per_picture = config->train.cache_latents ? 0 : p->picture;
    p->step = config->train.accumulate * (micro + s->shape.batch * per_picture) + update;
    p->class_picture = s->prior.flop * b->per_flop;
    p->start += micro + p->checkpoint + p->result;
    return STATUS_OK;
}

Status pace_measure(Setup *s, double start_seconds, double most, Pace *out)
{
    Trial t;
    Budget b = {.until = seconds_now() + most};
    *out = (Pace){.start = start_seconds};
    progress_begin(&b.progress, "measuring", "part", 0, 5);
    progress_quiet(&b.progress, 1);
    TRY(ctx_reserve(s->c, s->arena_bytes));
    TRY(trial_new(&s->shape, &t));
    const Status status = measure_all(s, &t, &b, out);
    trial_free(&t);
    progress_clear(&b.progress);
    return status_in(status, "measuring how long the run takes");
}

/* Sums ------------------------------------------------------------------------------------------------- */

/* How often something falls due from after step `done` to the end, which counts too. */
static double times_due(const Setup *s, int64_t every, int64_t done)
{
    if (every <= 0)
        return 0;
    const int64_t n = s->steps / every - done / every;
    return (double)(n + (s->steps % every != 0));
}

/* Pictures and captions that the caches have to hold, where the datasets do not bring them. */
static double caching_seconds(const Setup *s, const Pace *p)
{
    const Config *config = s->config;
    double seconds = 0;
    for (int i = 0; i < s->sources->count; i++) {
        const Source *source = &s->sources->items[i];
        const double n = dataset_count(source->dataset),
                     views = n * config_resolutions(config, source->config)->count;
        if (config->train.cache_latents)
            seconds += views * p->picture * (source->config->augment.flip ? 2 : 1);
        if (config->train.cache_text)
            seconds += n * p->caption;
    }
    if (config_has_prior(config) && config->train.cache_latents)
        seconds += config->prior.pictures * p->picture;
    return seconds;
}

Estimate estimate_run(const Setup *s, const Pace *p, int64_t done, bool before)
{
    const Config *config = s->config;
    Estimate e = {.step = p->step, .steps = p->step * (double)(s->steps - done)};
    const bool saves = config->output.save_every > 0;
    if (s->sources->held_count > 0)
        e.validation = p->validation * (times_due(s, config->validation.every, done) + before);
    if (has_previews(config))
        e.previews = p->preview * (times_due(s, config->preview.every, done) + before);
    e.saving = p->checkpoint * (saves ? times_due(s, config->output.save_every, done) : 1) + p->result;
    if (before) {
        e.start = p->start;
        e.caching = caching_seconds(s, p);
        e.classes = p->class_picture * s->prior.missing;
    }
    e.total = e.start + e.classes + e.caching + e.steps + e.validation + e.previews + e.saving;
    return e;
}

/* ", previews 0:12" where it is worth naming. */
static void add_part(char *text, size_t size, const char *name, double seconds, double total)
{
    char time[32];
    const size_t used = strlen(text);
    if (seconds > total / 200)
        snprintf(text + used, size - used, ", %s %s", name, progress_time(seconds, time, sizeof time));
}

void estimate_print(const Estimate *e, const char *what, FILE *out)
{
    char total[32], parts[256] = "";
    add_part(parts, sizeof parts, "steps", e->steps, e->total);
    add_part(parts, sizeof parts, "start", e->start, e->total);
    add_part(parts, sizeof parts, "class pictures", e->classes, e->total);
    add_part(parts, sizeof parts, "caches", e->caching, e->total);
    add_part(parts, sizeof parts, "validation", e->validation, e->total);
    add_part(parts, sizeof parts, "previews", e->previews, e->total);
    add_part(parts, sizeof parts, "saving", e->saving, e->total);
    progress_time(e->total, total, sizeof total);
    log_row(out, (int)strlen(what) + 1, "%s about %s: %.3g s a step%s", what, total, e->step, parts);
}
