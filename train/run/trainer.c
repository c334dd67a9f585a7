#include "trainer.h"

#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "train/pictures/owned.h"
#include "train/pictures/preview.h"
#include "train/plan/modes.h"
#include "train/step/learning.h"
#include "train/step/optimizer.h"
#include "checkpoint.h"
#include "estimate.h"
#include "finish.h"
#include "names.h"
#include "numbers.h"
#include "pass.h"
#include "preflight.h"
#include "resume.h"
#include "run_folder.h"
#include "run_lock.h"
#include "summary.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct Trainer {
    Config *config;
    const TrainOptions *options;
    Setup *setup;
    Validation *validation;
    Batch *batch;
    Loader *loader;
    Trace *trace;
    WeightsBefore before; /* the first step */
    RunFolder *run;
    int lock;              /* on the run's folder */
    size_t folder_there;   /* bytes of its path that were there before */
    int64_t resume_step;   /* of the checkpoint that --resume names, or CHECKPOINT_ANY */
    bool fresh;            /* nothing of this run was in it before */
    bool begun;            /* a checkpoint is there to go on from */
    bool averaged;         /* the averages stand in the weights' place: nothing may be saved */
    CheckpointState state; /* after the last whole step */
    int64_t saved_step;    /* of the last checkpoint; −1: none */
    Pace pace;             /* as far as it has been measured */
    Progress progress;
    Smoothed smoothed; /* for the progress line */
    double began, elapsed_before;
} Trainer;

static bool stopped(const Trainer *t)
{
    return t->options->stop && *t->options->stop;
}

/* Saving ----------------------------------------------------------------------------------------------- */

static const char *how_to_go_on(const Trainer *t)
{
    return t->options->again ? t->options->again : "--resume auto";
}

/* For a second signal, which ends the run at once: in the middle of a step, or of saving. */
static void prepare_last_words(const Trainer *t)
{
    char kept[80] = "; no checkpoint is there yet, and what was cached or drawn is kept";
    if (t->saved_step > 0)
        snprintf(kept, sizeof kept, "; the checkpoint of step %lld is kept", (long long)t->saved_step);
    else if (t->begun)
        snprintf(kept, sizeof kept, "; the checkpoints are as they were");
    stop_last_words("ended at once by a second signal%s. Go on with: %s", kept, how_to_go_on(t));
}

/* A log that cannot be brought to the disk is no reason to lose the steps: it is told when they are safe. */
static Status save(Trainer *t)
{
    char why[STATUS_MESSAGE_SIZE];
    t->state.elapsed = t->elapsed_before + seconds_now() - t->began;
    const Status logged = run_log_sync(t->run);
    memcpy(why, status_message(), sizeof why);
    TRY(checkpoint_write(t->run->path, t->setup->parameters, &t->state, t->config->output.keep,
                         t->config->output.save_every));
    t->saved_step = t->state.step;
    prepare_last_words(t);
    return logged == STATUS_OK ? STATUS_OK : status_fail("%s", why);
}

/* Passes s on. Where something beside the training failed (a picture that cannot be read, the log, a
 * preview), the weights are still those of the last whole step, and are saved first. */
static Status saved_before(Trainer *t, Status s)
{
    char why[STATUS_MESSAGE_SIZE];
    if (s == STATUS_OK || s == STATUS_INTERRUPTED)
        return s;
    memcpy(why, status_message(), sizeof why);
    if (t->state.step > 0 && t->saved_step != t->state.step && !t->averaged && save(t) != STATUS_OK) {
        progress_clear(&t->progress);
        log_warn("%s", status_message());
    }
    return status_fail("%s", why);
}

/* One step --------------------------------------------------------------------------------------------- */

/* Where gradients that were scaled do not fit into f16: the update was skipped, and the next step is scaled
 * by less. It counts as one that moved nothing. False: scaling was not to blame. */
static bool overflowed(Trainer *t, int64_t step, UpdateNumbers *update)
{
    const double factor = t->state.scale.factor;
    if (!loss_scale_shrink(&t->state.scale))
        return false;
    update->change = t->state.change_norm;
    t->state.still.unet++;
    t->state.still.text++;
    progress_clear(&t->progress);
    log_info("step %lld: gradients scaled by %g do not fit into f16, so this update is skipped; from here on "
             "they are scaled by %g",
             (long long)step, factor, t->state.scale.factor);
    return true;
}

/* After this the weights are those of `step`. A failure or an interruption leaves them as they were, and only
 * a trace that cannot be written comes after they moved. */
static Status one_step(Trainer *t, int64_t step)
{
    const double start = seconds_now();
    Setup *s = t->setup;
    const LoaderSample *samples;
    const Pass pass = {.setup = s, .batch = t->batch, .trace = t->trace, .scale = t->state.scale.factor};
    PassNumbers numbers;
    UpdateNumbers update;
    const double lr = optimizer_rate(t->config, GROUP_UNET, step, s->steps);
    TRY(saved_before(t, loader_next(t->loader, &samples)));
    TRY(saved_before(t, pass_run(&pass, step, samples, &numbers)));
    if (!isfinite(numbers.loss))
        return pass_explain(&pass, step, samples, "loss", numbers.loss, t->saved_step);
    TRY(optimizer_step(t->config, s->parameters, step, s->steps, pass.scale, &t->before, &update));
    if (!isfinite(update.norm) && !overflowed(t, step, &update))
        return pass_explain(&pass, step, samples, "gradients' norm", update.norm, t->saved_step);
    if (isfinite(update.norm)) {
        TRY(learning_check(t->config, step, &update, lr, &t->state.still));
        loss_scale_grow(&t->state.scale);
    }
    t->state.step = step;
    t->state.loss = numbers.loss;
    t->state.loss_subject = numbers.loss_subject;
    t->state.loss_prior = numbers.loss_prior;
    t->state.lr = lr;
    t->state.grad_norm = update.norm;
    memcpy(t->state.bands, numbers.bands, sizeof numbers.bands);
    t->state.moved = update.moved;
    t->state.change_norm = update.change;
    t->state.skipped += !(update.moved.unet > 0 || update.moved.text > 0);
    t->state.seconds = seconds_now() - start;
    t->state.duties_done = false;
    t->state.elapsed = t->elapsed_before + seconds_now() - t->began;
    return t->trace ? saved_before(t, trace_step(t->trace, s->parameters, step, numbers.loss, pass.scale))
                    : STATUS_OK;
}

/* After a step ----------------------------------------------------------------------------------------- */

static bool due(const Trainer *t, int64_t every)
{
    const int64_t step = t->state.step;
    return every > 0 && (step % every == 0 || step == t->setup->steps);
}

/* Validation and previews see the averages, where there are any. */
static Status swap_averages(Trainer *t)
{
    TRY(parameters_swap_averages(t->setup->parameters));
    t->averaged = !t->averaged;
    return STATUS_OK;
}

static Status validate(Trainer *t, double *loss)
{
    Setup *s = t->setup;
    const double began = seconds_now();
    progress_clear(&t->progress);
    TRY(swap_averages(t));
    layerset_hold_still(unet_layers(s->model->unet), true);
    const Status status = validation_run(t->validation, s->c, s->validation_plan, t->batch, loss);
    layerset_hold_still(unet_layers(s->model->unet), false);
    const Status back = swap_averages(t); /* an interruption saves the weights */
    TRY(status_in(status, "validation"));
    TRY(back);
    t->state.validation_seconds = seconds_now() - began;
    log_info("step %lld: validation loss %.5f%s", (long long)t->state.step, *loss,
             s->parameters->averages ? " (EMA weights)" : "");
    return STATUS_OK;
}

static Status preview(Trainer *t)
{
    Setup *s = t->setup;
    const bool averaged = s->parameters->averages != NULL;
    const double began = seconds_now();
    progress_clear(&t->progress);
    TRY(swap_averages(t));
    layerset_hold_still(unet_layers(s->model->unet), true);
    const Status status = preview_draw(s->pipeline,
                                       &(PreviewDrawn){.config = t->config,
                                                       .model = s->model,
                                                       .weights = s->weights,
                                                       .step = t->state.step,
                                                       .averaged = averaged},
                                       t->run->path);
    layerset_hold_still(unet_layers(s->model->unet), false);
    const Status back = swap_averages(t);
    TRY(status);
    TRY(back);
    t->state.preview_seconds = seconds_now() - began;
    log_info("step %lld: %s/samples/step-%06lld.png%s", (long long)t->state.step, t->run->path,
             (long long)t->state.step, averaged ? " (EMA weights)" : "");
    return STATUS_OK;
}

static bool previews_on(const Trainer *t)
{
    return t->config->preview.every > 0 && t->config->preview.prompt_count > 0;
}

/* What falls due after a whole step. Until it is through, the state says so, and keeps the log's length from
 * before. */
static Status duties(Trainer *t)
{
    t->state.log_bytes = t->run->log_bytes;
    const bool validated = t->validation && due(t, t->config->validation.every);
    if (validated)
        TRY(validate(t, &t->state.validation));
    TRY(run_log(t->run, numbers_json(t->setup, &t->state, validated)));
    if (previews_on(t) && due(t, t->config->preview.every))
        TRY(preview(t));
    t->state.log_bytes = t->run->log_bytes;
    t->state.duties_done = true;
    return STATUS_OK;
}

static bool save_is_due(const Trainer *t)
{
    return due(t, t->config->output.save_every) || t->state.step == t->setup->steps;
}

/* Before the first step: the numbers and pictures to compare with. */
static Status before_first(Trainer *t)
{
    if (t->validation)
        TRY(validate(t, &t->state.validation_before));
    t->state.validation = t->state.validation_before;
    return previews_on(t) ? preview(t) : STATUS_OK;
}

/* What stands beside the steps still to come. */
static void show_beside(Trainer *t)
{
    const Estimate left = estimate_run(t->setup, &t->pace, t->state.step, false);
    progress_beside(&t->progress, left.total - left.steps);
}

static Status run_steps(Trainer *t)
{
    const int64_t steps = t->setup->steps;
    if (t->state.step == 0)
        TRY(before_first(t));
    else if (!t->state.duties_done) {
        TRY(saved_before(t, duties(t)));
        TRY(save_is_due(t) ? save(t) : STATUS_OK);
    }
    t->smoothed = numbers_unseen();
    t->pace.validation = t->state.validation_seconds; /* as long as the last ones took */
    t->pace.preview = t->state.preview_seconds;
    const Estimate left = estimate_run(t->setup, &t->pace, t->state.step, false);
    estimate_print(&left, "time left ");
    progress_begin(&t->progress, "train", "step", t->state.step, steps);
    show_beside(t);
    while (t->state.step < steps) {
        if (stopped(t))
            return status_interrupted();
        TRY(one_step(t, t->state.step + 1));
        numbers_show(t->config, &t->state, &t->smoothed, &t->progress);
        TRY(saved_before(t, duties(t)));
        TRY(save_is_due(t) ? save(t) : STATUS_OK);
        show_beside(t);
    }
    progress_end(&t->progress);
    return STATUS_OK;
}

/* Beginning and end ------------------------------------------------------------------------------------ */

static LoaderSource loader_source(const Source *s)
{
    return (LoaderSource){.dataset = s->dataset,
                          .pictures = s->trained,
                          .count = s->trained_count,
                          .repeats = s->repeats,
                          .random_crop = s->config->augment.random_crop,
                          .flip = s->config->augment.flip,
                          .shift = s->config->augment.shift,
                          .scale = s->config->augment.scale};
}

static Status open_loader(Trainer *t)
{
    const Config *config = t->config;
    const Sources *sources = t->setup->sources;
    LoaderSource list[CONFIG_MAX_LIST] = {0}, prior = {0};
    for (int i = 0; i < sources->count; i++)
        list[i] = loader_source(&sources->items[i]);
    if (sources->prior)
        prior = loader_source(sources->prior);
    const LoaderOptions o = {.sources = list,
                             .source_count = sources->count,
                             .beside = sources->prior ? &prior : NULL,
                             .size = config_size(config),
                             .batch = config->train.batch * config->train.accumulate,
                             .seed = config->train.seed,
                             .threads = config->train.loader_threads,
                             .first_step = t->state.step + 1,
                             .pixels = !config->train.cache_latents};
    return loader_new(&o, &t->loader);
}

/* The class pictures are drawn with the weights that the run starts from: before a checkpoint is read. */
static Status prepare_prior(Trainer *t)
{
    Setup *s = t->setup;
    if (!config_has_prior(t->config))
        return STATUS_OK;
    if (!s->prior_built) {
        TRY(prior_draw(t->config, s->pipeline, t->options->stop));
        layerset_rest(vae_layers(s->model->vae));
    }
    return sources_open_prior(s->sources, t->config, t->config->output.dir, s->prior_built, t->options->stop);
}

/* Everything that needs the run's folder: the state to go on from, caches, the log. */
static Status start(Trainer *t)
{
    Config *config = t->config;
    Setup *s = t->setup;
    const char *folder = config->output.dir;
    t->state.made_with = mem_printf("%s, %s, %d threads", ATELIER_VERSION, s->device, s->c->threads);
    if (!t->state.made_with)
        return STATUS_FAILED;
    TRY(learning_begin(s->parameters, &t->before));
    TRY(ctx_reserve(s->c, s->arena_bytes));
    TRY(preflight(s, folder, &t->state,
                  &t->pace)); /* before class pictures and caches, which may take hours */
    TRY(prepare_prior(t));
    TRY(origins_find(s, &t->state.origins));
    if (t->options->resume)
        TRY(resume_state(folder, s, t->resume_step, t->options->allow_changes, &t->state, &t->saved_step));
    prepare_last_words(t);
    t->state.scale = loss_scale_begin(config->model.dtype, t->state.scale);
    t->elapsed_before = t->state.elapsed;
    if (config->train.cache_latents || config->train.cache_text)
        layerset_rest(unet_layers(s->model->unet));
    TRY(sources_cache(s->sources, config, folder, s->pipeline, s->model, config->model.dtype,
                      t->options->stop));
    layerset_rest(vae_layers(s->model->vae));
    layerset_rest(clip_layers(s->model->clip));
    TRY(batch_new(config, &s->shape, s->sources, s->pipeline, s->texts, &t->batch));
    if (s->sources->held_count > 0)
        TRY(validation_new(config, &s->shape, s->sources, s->pipeline, &t->validation));
    if (t->options->trace) {
        TRY(trace_new(t->options->trace, t->options->trace_steps, &s->shape, config->train.accumulate,
                      &t->trace));
        TRY(trace_start(t->trace, s->parameters, t->state.step));
    }
    TRY(open_loader(t));
    TRY(run_open(folder, t->state.log_bytes, &t->run));
    return resume_write_config(config, folder);
}

/* The state after the last whole step is saved, and it is said how to go on. */
static Status interrupted(Trainer *t)
{
    progress_clear(&t->progress);
    if (t->options->plan)
        return status_interrupted();
    if (t->state.step == 0) {
        log_info(t->begun ? "interrupted before the run was gone on with; its checkpoints are as they were. "
                            "Go on with: %s"
                          : "interrupted before the first step was done; class pictures and caches are kept "
                            "as far as they came. Go on with: %s",
                 how_to_go_on(t));
        return status_interrupted();
    }
    if (t->run && t->saved_step != t->state.step)
        TRY(save(t));
    log_info("interrupted; the state after step %lld of %lld is saved. Go on with: %s",
             (long long)t->state.step, (long long)t->setup->steps, how_to_go_on(t));
    return status_interrupted();
}

static Status run(Trainer *t)
{
    prepare_last_words(t);
    TRY(start(t));
    TRY(run_steps(t));
    TRY(learning_check_end(t->config, &t->state.still, t->state.change_norm, t->state.grad_norm,
                           t->state.lr));
    t->state.elapsed = t->elapsed_before + seconds_now() - t->began;
    return finish_run(t->setup, t->run, &t->state);
}

/* The whole run's time, from steps that are run here; what is trained by them is thrown away. */
static Status measure(Trainer *t, Estimate *whole)
{
    if (!t->options->json)
        log_info(
            "measuring how long it takes: a step, or up to 20 seconds of them (--no-time leaves it out)");
    TRY(setup_load(t->setup));
    TRY(pace_measure(t->setup, seconds_now() - t->began, &t->pace));
    *whole = estimate_run(t->setup, &t->pace, 0, true);
    return STATUS_OK;
}

/* --plan. */
static Status say_plan(Trainer *t)
{
    ModeTable modes;
    TRY(mode_table(t->setup, &modes));
    if (!t->options->json) {
        setup_print(t->setup);
        modes_print(&modes);
    }
    Estimate whole;
    if (t->options->time)
        TRY(measure(t, &whole));
    if (t->options->json)
        return setup_print_json(t->setup, &modes, t->options->time ? &whole : NULL);
    if (t->options->time)
        estimate_print(&whole, "time      ");
    return STATUS_OK;
}

static void close_all(Trainer *t)
{
    loader_free(t->loader);
    learning_end(&t->before);
    trace_free(t->trace);
    validation_free(t->validation);
    batch_free(t->batch);
    run_close(t->run);
    setup_free(t->setup);
    mem_free(t->state.made_with);
    run_unlock(t->lock);
}

/* The run's folder, for this process alone, and whether there is anything to do in it. */
static Status take_folder(Trainer *t, bool *finished)
{
    const TrainOptions *o = t->options;
    TRY(resume_folder(t->config, o->resume, &t->resume_step));
    t->folder_there = dir_there(t->config->output.dir);
    TRY(run_lock(t->config->output.dir, &t->lock));
    TRY(resume_check(t->config, o->resume, t->resume_step, o->allow_changes, finished, &t->begun));
    if (*finished)
        return STATUS_OK;
    run_clean(t->config->output.dir);
    if (!o->resume)
        TRY(checkpoint_check_names(t->config->output.dir, false));
    t->fresh = !owned_any(t->config->output.dir);
    return names_check(t->config, t->config->output.dir);
}

static SourcesKept kept(const Trainer *t)
{
    return !t->begun ? SOURCES_ANEW : t->options->allow_changes ? SOURCES_KEPT_OR_ANEW : SOURCES_KEPT;
}

static void say_what_stays(const Trainer *t)
{
    if (t->run && t->saved_step > 0)
        log_info("the checkpoint of step %lld is whole; to go on from it: %s", (long long)t->saved_step,
                 how_to_go_on(t));
}

Status trainer_run(Config *config, const TrainOptions *o)
{
    Trainer t = {.config = config,
                 .options = o,
                 .lock = -1,
                 .folder_there = strlen(config->output.dir),
                 .saved_step = -1,
                 .began = seconds_now()};
    t.state.validation = t.state.validation_before = NAN;
    bool finished = false;
    char why[STATUS_MESSAGE_SIZE];
    Status s = o->plan ? STATUS_OK : take_folder(&t, &finished);
    if (s == STATUS_OK && !finished)
        s = setup_new(config, o->device, o->plan ? NULL : config->output.dir, kept(&t), o->trace != NULL,
                      o->stop, &t.setup);
    if (s == STATUS_OK && o->plan)
        s = say_plan(&t);
    if (s == STATUS_OK && !o->plan && !finished) {
        setup_print(t.setup);
        s = setup_load(t.setup);
    }
    if (s == STATUS_OK && !o->plan && !finished)
        s = run(&t);
    if (s == STATUS_INTERRUPTED)
        s = interrupted(&t);
    memcpy(why, status_message(),
           sizeof why); /* closing may fail too, for the same reason or as a consequence */
    if (s == STATUS_FAILED)
        say_what_stays(&t);
    if (s == STATUS_REFUSED && t.fresh && t.state.step == 0)
        owned_remove(config->output.dir); /* a dataset that was built before the refusal, say */
    else if (s != STATUS_OK && t.fresh)
        owned_tidy(config->output.dir);
    close_all(&t);
    stop_last_words("%s", "");
    if (s != STATUS_OK)
        status_fail("%s", why);
    if (s != STATUS_OK && !o->plan)
        dir_remove_empty(config->output.dir, t.folder_there); /* what nothing came into */
    return s;
}
