#include "trainer.h"

#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/stop.h"
#include "train/pictures/encoded.h"
#include "train/pictures/owned.h"
#include "train/plan/modes.h"
#include "train/report/report.h"
#include "train/step/learning.h"
#include "duties.h"
#include "finish.h"
#include "names.h"
#include "preflight.h"
#include "resume.h"
#include "summary.h"
#include "team.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Something that process 0 does while the others wait. */
static Status by_first(Trainer *t, Status (*work)(Trainer *))
{
    return comm_agree(t->comm, writes(t) ? work(t) : STATUS_OK);
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
    t->state.still.text_2++;
    progress_clear(&t->progress);
    log_info("step %lld: gradients scaled by %g do not fit into f16, so this update is skipped; from here on "
             "they are scaled by %g",
             (long long)step, factor, t->state.scale.factor);
    return true;
}

/* After this the weights are those of `step`. A failure or an interruption leaves them as they were, or says
 * that they are torn; only a trace that cannot be written comes after they moved. */
static Status one_step(Trainer *t, int64_t step)
{
    const double start = seconds_now();
    Setup *s = t->setup;
    const LoaderSample *samples;
    Pass *pass = &t->pass;
    PassNumbers numbers;
    UpdateNumbers update;
    const double lr = optimizer_rate(t->config, GROUP_UNET, step, s->steps);
    pass->scale = t->state.scale.factor;
    const Status loaded = stopped(t) ? status_interrupted() : loader_next(t->loader, &samples);
    TRY(duty_saved_before(t, pass_run(pass, loaded, step, samples, &numbers)));
    if (s->fused)
        TRY(optimizer_collect(s->parameters, &update));
    if (!isfinite(numbers.loss))
        return pass_explain(pass, step, samples, "loss", numbers.loss, t->saved_step);
    if (!s->fused)
        TRY(optimizer_step(t->config, s->parameters, step, s->steps, pass->scale, &t->before, &update));
    if (!isfinite(update.norm) && !overflowed(t, step, &update))
        return pass_explain(pass, step, samples, "gradients' norm", update.norm, t->saved_step);
    if (isfinite(update.norm)) {
        TRY(learning_check(t->config, step, &update, lr, &t->state.still));
        loss_scale_grow(&t->state.scale);
    }
    s->parameters->torn = false;
    t->state.step = step;
    t->state.loss = numbers.loss;
    t->state.loss_subject = numbers.loss_subject;
    t->state.loss_prior = numbers.loss_prior;
    t->state.lr = lr;
    t->state.grad_norm = update.norm;
    memcpy(t->state.bands, numbers.bands, sizeof numbers.bands);
    t->state.moved = update.moved;
    t->state.change_norm = update.change;
    t->state.skipped += !(update.moved.unet > 0 || update.moved.text > 0 || update.moved.text_2 > 0);
    t->state.seconds = seconds_now() - start;
    t->state.duties_done = false;
    t->state.elapsed = t->elapsed_before + seconds_now() - t->began;
    return t->trace
               ? duty_saved_before(t, trace_step(t->trace, s->parameters, step, numbers.loss, pass->scale))
               : STATUS_OK;
}

/* Before the first step: the numbers and pictures to compare with. */
static Status before_first(Trainer *t)
{
    if (t->validation)
        TRY(duty_validate(t, &t->state.validation_before));
    t->state.validation = t->state.validation_before;
    return duty_has_previews(t) ? duty_preview(t) : STATUS_OK;
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
    else if (!t->state.duties_done)
        TRY(duties_after_step(t));
    t->smoothed = numbers_unseen();
    t->pace.validation = t->state.validation_seconds; /* as long as the last ones took */
    t->pace.preview = t->state.preview_seconds;
    const Estimate left = estimate_run(t->setup, &t->pace, t->state.step, false);
    estimate_print(&left, "time left ", NULL);
    progress_begin(&t->progress, "train", "step", t->state.step, steps);
    show_beside(t);
    while (t->state.step < steps) {
        TRY(one_step(t, t->state.step + 1));
        numbers_show(t->config, &t->state, &t->smoothed, &t->progress);
        TRY(duties_after_step(t));
        show_beside(t);
    }
    progress_end(&t->progress);
    return STATUS_OK;
}

/* Beginning and end ------------------------------------------------------------------------------------ */

static LoaderSource loader_source(const Source *s)
{
    return (LoaderSource){.dataset = s->dataset,
                          .pictures = s->entries.pictures,
                          .fits = s->entries.fits,
                          .count = s->entries.count,
                          .repeats = s->repeats,
                          .random_crop = s->config->crop == CROP_RANDOM,
                          .flip = s->config->augment.flip,
                          .shift = s->config->augment.shift,
                          .scale = s->config->augment.scale,
                          .mask = s->config->mask};
}

static Status open_loader(Trainer *t)
{
    const Config *config = t->config;
    const Sources *sources = t->setup->sources;
    LoaderSource list[CONFIG_MAX_LIST] = {0}, prior = {0};
    int first, count;
    sums_share(t->pass.sums, &first, &count);
    for (int i = 0; i < sources->count; i++)
        list[i] = loader_source(&sources->items[i]);
    if (sources->prior)
        prior = loader_source(sources->prior);
    const LoaderOptions o = {.sources = list,
                             .source_count = sources->count,
                             .beside = sources->prior ? &prior : NULL,
                             .size = config_size(config),
                             .batch = config->train.batch * config->train.accumulate,
                             .share_first = config->train.batch * first,
                             .share = config->train.batch * count,
                             .seed = config->train.seed,
                             .threads = config->train.loader_threads,
                             .first_step = t->state.step + 1,
                             .pixels = !config->train.cache_latents,
                             .mask_factor = t->setup->shape.masked ? vae_factor(t->setup->model->vae) : 0};
    return loader_new(&o, &t->loader);
}

static Status open_prior(Trainer *t)
{
    return sources_open_prior(t->setup->sources, t->config, t->config->output.dir,
                              t->setup->prior_built ? SOURCES_KEPT : SOURCES_ANEW, stop_of(t));
}

/* The class pictures are drawn with the weights that the run starts from: before a checkpoint is read. */
static Status prepare_prior(Trainer *t)
{
    Setup *s = t->setup;
    if (!config_has_prior(t->config))
        return STATUS_OK;
    if (!s->prior_built) {
        TRY(prior_draw(t->config, &s->sizes, s->pipeline, t->comm, stop_of(t)));
        layerset_rest(vae_layers(s->model->vae));
    }
    TRY(by_first(t, open_prior));
    return writes(t)
               ? STATUS_OK
               : sources_open_prior(s->sources, t->config, t->config->output.dir, SOURCES_SEEN, stop_of(t));
}

static Status try_run(Trainer *t)
{
    return preflight(t->setup, t->config->output.dir, &t->state, &t->pace);
}

static Status restore(Trainer *t)
{
    return resume_state(t->config->output.dir, t->setup, t->resume_step, t->options->allow_changes, &t->state,
                        &t->saved_step);
}

/* Process 0 chooses the checkpoint, the others read the same. */
static Status restore_all(Trainer *t)
{
    TRY(by_first(t, restore));
    int64_t step = t->state.step;
    TRY(comm_tell(t->comm, &step, sizeof step));
    if (writes(t) || step == 0)
        return STATUS_OK;
    t->resume_step = step;
    return restore(t);
}

/* What is encoded once, and what the run has of its own before the first step. */
static Status make_ready(Trainer *t)
{
    Config *config = t->config;
    Setup *s = t->setup;
    TRY(sources_cache(s->sources, config, config->output.dir, s->pipeline, t->comm, s->model,
                      config->model.dtype, stop_of(t)));
    layerset_rest(vae_layers(s->model->vae));
    layerset_rest(clip_layers(s->model->clip));
    if (s->model->clip_2)
        layerset_rest(clip_layers(s->model->clip_2));
    TRY(batch_new(config, &s->shape, s->sources, s->pipeline, s->texts, &t->batch));
    if (s->sources->held_count > 0)
        TRY(validation_new(config, &s->shape, s->sources, s->pipeline, &t->validation));
    if (t->options->trace) {
        TRY(trace_new(t->options->trace, t->options->trace_steps, &s->shape, config->train.accumulate,
                      &t->trace));
        TRY(trace_start(t->trace, s->parameters, t->state.step));
    }
    TRY(pass_new(s, t->batch, t->trace, &t->before, &t->pass));
    return open_loader(t);
}

static Status open_run(Trainer *t)
{
    const CheckpointState *state = &t->state;
    TRY(run_open(t->config->output.dir, state->log_bytes, &t->run));
    if (t->config->output.events) /* what fell due after the last whole step may have to be done again */
        TRY(events_open(t->config->output.dir, state->step + (state->step > 0 && state->duties_done),
                        &t->run->events));
    TRY(resume_write_config(t->config, t->config->output.dir));
    return owned_take(t->config->output.dir, REPORT_FILE); /* here: the list's order is every run's */
}

/* Everything that needs the run's folder: the state to go on from, caches, the log. */
static Status start(Trainer *t)
{
    Config *config = t->config;
    Setup *s = t->setup;
    t->state.made_with = mem_printf("%s, %s, %d threads", ATELIER_VERSION, s->device, s->c->threads);
    if (!t->state.made_with)
        return STATUS_FAILED;
    TRY(learning_begin(s->parameters, &t->before));
    TRY(comm_agree(t->comm, ctx_reserve(s->c, s->arena_bytes)));
    TRY(by_first(t, try_run)); /* before class pictures and caches, which may take hours */
    TRY(prepare_prior(t));
    TRY(origins_find(s, &t->state.origins));
    TRY(team_same_origins(s, &t->state.origins));
    if (t->options->resume)
        TRY(restore_all(t));
    duty_last_words(t);
    t->state.scale = loss_scale_begin(config->model.dtype, t->state.scale);
    t->elapsed_before = t->state.elapsed;
    if (config->train.cache_latents || config->train.cache_text)
        layerset_rest(unet_layers(s->model->unet));
    TRY(comm_agree(t->comm, make_ready(t)));
    return by_first(t, open_run);
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
                 duty_how_to_go_on(t));
        return status_interrupted();
    }
    if (t->pass.sums && t->saved_step != t->state.step && !duty_can_save(t)) {
        log_info("interrupted, and another process is gone that keeps a part of the state; the checkpoint of "
                 "step %lld is the last. Go on with: %s",
                 (long long)t->saved_step, duty_how_to_go_on(t));
        return status_interrupted();
    }
    if (t->pass.sums && t->saved_step != t->state.step)
        TRY(duty_save(t));
    TRY(t->run ? duty_report(t, true) : STATUS_OK);
    log_info("interrupted; the state after step %lld of %lld is saved. Go on with: %s",
             (long long)t->state.step, (long long)t->setup->steps, duty_how_to_go_on(t));
    return status_interrupted();
}

static Status export(Trainer *t)
{
    return finish_export(t->setup, t->run->path);
}

static Status finish(Trainer *t)
{
    return finish_run(t->setup, t->run, &t->state, !t->options->no_output);
}

/* Results are of the averages, where there are any. */
static Status finish_together(Trainer *t)
{
    TRY(parameters_swap_averages(t->setup->parameters));
    TRY(by_first(t, export));
    TRY(parameters_swap_averages(t->setup->parameters));
    return by_first(t, finish);
}

static Status run(Trainer *t)
{
    duty_last_words(t);
    TRY(start(t));
    TRY(run_steps(t));
    TRY(learning_check_end(t->config, &t->state.still, t->state.change_norm, t->state.grad_norm,
                           t->state.lr));
    t->state.elapsed = t->elapsed_before + seconds_now() - t->began;
    return finish_together(t);
}

/* The whole run's time, from steps that are run here; what is trained by them is thrown away. */
static Status measure(Trainer *t, Estimate *whole)
{
    if (!t->options->json)
        log_info("measuring how long it takes, for up to 20 seconds or one step (--no-time leaves it out)");
    TRY(setup_load(t->setup));
    TRY(pace_measure(t->setup, seconds_now() - t->began, PACE_SECONDS, &t->pace));
    *whole = estimate_run(t->setup, &t->pace, 0, true);
    return STATUS_OK;
}

/* --plan. */
static Status say_plan(Trainer *t)
{
    ModeTable modes;
    TRY(mode_table(t->setup, &modes));
    if (!t->options->json) {
        setup_print(t->setup, stdout);
        modes_print(&modes, stdout);
        fflush(stdout);
    }
    Estimate whole;
    if (t->options->time)
        TRY(measure(t, &whole));
    if (t->options->json)
        return setup_print_json(t->setup, &modes, t->options->time ? &whole : NULL);
    if (t->options->time)
        estimate_print(&whole, "time      ", stdout);
    return STATUS_OK;
}

static void close_all(Trainer *t)
{
    loader_free(t->loader);
    pass_free(&t->pass);
    learning_end(&t->before);
    trace_free(t->trace);
    validation_free(t->validation);
    batch_free(t->batch);
    run_close(t->run);
    setup_free(t->setup);
    mem_free(t->state.made_with);
    run_unlock(t->lock);
}

/* The run's folder, for these processes alone, and whether there is anything to do in it. */
static Status take_folder(Trainer *t)
{
    const TrainOptions *o = t->options;
    t->folder_there = dir_there(t->config->output.dir);
    TRY(run_lock(t->config->output.dir, &t->lock));
    TRY(resume_check(t->config, o->resume, t->resume_step, o->allow_changes, &t->finished, &t->begun));
    if (t->finished)
        return STATUS_OK;
    run_clean(t->config->output.dir);
    if (!o->resume)
        TRY(checkpoint_check_names(t->config->output.dir, false));
    t->fresh = !owned_any(t->config->output.dir);
    return names_check(t->config, t->config->output.dir);
}

/* What the others take from it: settings that an earlier start has chosen. */
static Status look_at_folder(Trainer *t)
{
    const TrainOptions *o = t->options;
    if (!file_is_dir(t->config->output.dir))
        return status_refuse("%s (output.dir) is not there; all processes have to see the run's folder, on a "
                             "file system that the machines share",
                             t->config->output.dir);
    return resume_check(t->config, o->resume, t->resume_step, o->allow_changes, &t->finished, &t->begun);
}

static Status take_folder_together(Trainer *t)
{
    TRY(resume_folder(t->config, t->options->resume, &t->resume_step));
    TRY(by_first(t, take_folder));
    return comm_agree(t->comm, writes(t) ? STATUS_OK : look_at_folder(t));
}

static SourcesKept kept(const Trainer *t)
{
    return !t->begun ? SOURCES_ANEW : t->options->allow_changes ? SOURCES_KEPT_OR_ANEW : SOURCES_KEPT;
}

static void say_what_stays(const Trainer *t)
{
    if (t->pass.sums && t->saved_step > 0)
        log_info("the checkpoint of step %lld is whole; to go on from it: %s", (long long)t->saved_step,
                 duty_how_to_go_on(t));
}

/* What a run leaves behind that has not come to its first step. */
static void tidy(const Trainer *t, Status s)
{
    if (s == STATUS_REFUSED && t->fresh && t->state.step == 0)
        owned_remove(t->config->output.dir); /* a dataset that was built before the refusal, say */
    else if (s != STATUS_OK && t->fresh)
        owned_tidy(t->config->output.dir);
}

/* Everything but the end. */
static Status whole_run(Trainer *t)
{
    const TrainOptions *o = t->options;
    Config *config = t->config;
    TRY(o->plan ? STATUS_OK : take_folder_together(t));
    if (t->finished)
        return STATUS_OK;
    TRY(team_check(config, t->comm, o->trace != NULL));
    TRY(comm_agree(t->comm, setup_new(config, o->device, t->comm, o->plan ? NULL : config->output.dir,
                                      kept(t), o->trace != NULL, stop_of(t), &t->setup)));
    if (o->plan)
        return say_plan(t);
    setup_print(t->setup, NULL);
    TRY(team_meet(t->setup));
    TRY(comm_agree(t->comm, setup_load(t->setup)));
    return run(t);
}

Status trainer_run(Config *config, const TrainOptions *o)
{
    Trainer t = {.config = config,
                 .options = o,
                 .comm = o->comm ? o->comm : comm_alone(),
                 .lock = -1,
                 .folder_there = strlen(config->output.dir),
                 .saved_step = -1,
                 .began = seconds_now()};
    t.state.validation = t.state.validation_before = t.state.best_loss = NAN;
    Status s = whole_run(&t);
    if (s == STATUS_INTERRUPTED && comm_check(t.comm) != STATUS_OK)
        s = comm_check(t.comm); /* what stopped this process was another's end */
    if (s == STATUS_INTERRUPTED)
        s = interrupted(&t);
    const KeptStatus kept =
        status_keep(s); /* closing may fail too, for the same reason or as a consequence */
    if (s == STATUS_FAILED)
        say_what_stays(&t);
    if (writes(&t))
        tidy(&t, s);
    close_all(&t);
    stop_last_words("%s", "");
    status_again(&kept);
    if (s != STATUS_OK && !o->plan && writes(&t))
        dir_remove_empty(config->output.dir, t.folder_there); /* what nothing came into */
    return s;
}
