/* What happens between two steps: the held-out pictures are measured, the log is written, previews are drawn,
 * the state is kept; and how far it has come is shown. */
#include "duties.h"

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/stop.h"
#include "train/pictures/preview.h"
#include "train/report/report.h"

#include <stdio.h>
#include <string.h>

/* Saving ----------------------------------------------------------------------------------------------- */

const char *duty_how_to_go_on(const Trainer *t)
{
    return t->options->again ? t->options->again : "--resume auto";
}

void duty_last_words(const Trainer *t)
{
    char kept[80] = "; no checkpoint is there yet, and what was cached or drawn is kept";
    if (t->saved_step > 0)
        snprintf(kept, sizeof kept, "; the checkpoint of step %lld is kept", (long long)t->saved_step);
    else if (t->begun)
        snprintf(kept, sizeof kept, "; the checkpoints are as they were");
    stop_last_words("ended at once by a second signal%s. Go on with: %s", kept, duty_how_to_go_on(t));
}

bool duty_can_save(const Trainer *t)
{
    const Parameters *p = t->setup->parameters;
    return !p->torn && (share_is_whole(&p->share) || comm_check(t->comm) == STATUS_OK);
}

Status duty_save(Trainer *t)
{
    if (!writes(t)) {
        TRY(checkpoint_contribute(t->setup->parameters));
        t->saved_step = t->state.step;
        return STATUS_OK;
    }
    t->state.elapsed = t->elapsed_before + seconds_now() - t->began;
    const KeptStatus logged = status_keep(run_log_sync(t->run)); /* the state is saved all the same */
    const Status saved = checkpoint_write(t->run->path, t->setup->parameters, &t->state,
                                          t->config->output.keep, t->config->output.save_every);
    if (saved != STATUS_OK && logged.status != STATUS_OK)
        log_warn("%s", logged.message); /* the disk was full before */
    TRY(saved);
    t->saved_step = t->state.step;
    duty_last_words(t);
    TRY(status_again(&logged));
    return duty_report(t, stopped(t));
}

#define REPORT_SHARE 0.01 /* of a run's time at most */

Status duty_report(Trainer *t, bool now)
{
    const double began = seconds_now();
    if (!writes(t) || t->reported_step == t->state.step ||
        (!now && (began - t->reported) * REPORT_SHARE < t->report_seconds))
        return STATUS_OK;
    TRY(report_write(t->run->path));
    t->reported_step = t->state.step;
    t->reported = seconds_now();
    t->report_seconds = t->reported - began;
    return STATUS_OK;
}

Status duty_saved_before(Trainer *t, Status s)
{
    if (s == STATUS_OK || s == STATUS_INTERRUPTED)
        return s;
    const KeptStatus kept = status_keep(STATUS_FAILED); /* whatever it was, it came while working */
    if (t->state.step > 0 && t->saved_step != t->state.step && !t->averaged && duty_can_save(t) &&
        duty_save(t) != STATUS_OK) {
        progress_clear(&t->progress);
        log_warn("%s", status_message());
    }
    return status_again(&kept);
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

Status duty_validate(Trainer *t, double *loss)
{
    Setup *s = t->setup;
    const double began = seconds_now();
    progress_clear(&t->progress);
    TRY(swap_averages(t));
    layerset_hold_still(unet_layers(s->model->unet), true);
    const Status status =
        validation_run(t->validation, t->comm, s->c, setup_validation_plan, s, t->batch, loss);
    layerset_hold_still(unet_layers(s->model->unet), false);
    const Status back = swap_averages(t); /* an interruption saves the weights */
    TRY(status_in(status, "validation"));
    TRY(back);
    t->state.validation_seconds = seconds_now() - began;
    log_info("step %lld: validation loss %.5f%s", (long long)t->state.step, *loss,
             s->parameters->averages ? " (EMA weights)" : "");
    return STATUS_OK;
}

Status duty_preview(Trainer *t)
{
    Setup *s = t->setup;
    const bool averaged = s->parameters->averages != NULL;
    const double began = seconds_now();
    progress_clear(&t->progress);
    TRY(swap_averages(t));
    layerset_hold_still(unet_layers(s->model->unet), true);
    const Status status = preview_draw(s->pipeline, t->comm,
                                       &(PreviewDrawn){.config = t->config,
                                                       .model = s->model,
                                                       .weights = s->weights,
                                                       .step = t->state.step,
                                                       .averaged = averaged},
                                       t->config->output.dir);
    layerset_hold_still(unet_layers(s->model->unet), false);
    const Status back = swap_averages(t);
    TRY(status);
    TRY(back);
    t->state.preview_seconds = seconds_now() - began;
    log_info("step %lld: %s/samples/step-%06lld.png%s", (long long)t->state.step, t->config->output.dir,
             (long long)t->state.step, averaged ? " (EMA weights)" : "");
    return t->run ? run_previews(t->run, t->state.step) : STATUS_OK;
}

bool duty_has_previews(const Trainer *t)
{
    return t->config->preview.every > 0 && t->config->preview.prompt_count > 0;
}

static bool save_is_due(const Trainer *t)
{
    return due(t, t->config->output.save_every) || t->state.step == t->setup->steps ||
           t->state.step == t->state.best_step;
}

/* What falls due after a whole step. Until it is through, the state says so, and keeps the log's length from
 * before. */
static Status duties(Trainer *t)
{
    t->state.log_bytes = t->run ? t->run->log_bytes : 0;
    const bool validated = t->validation && due(t, t->config->validation.every);
    if (validated)
        TRY(duty_validate(t, &t->state.validation));
    if (validated && !(t->state.validation >= t->state.best_loss)) {
        t->state.best_step = t->state.step;
        t->state.best_loss = t->state.validation;
    }
    TRY(t->run ? run_log(t->run, numbers_json(t->setup, &t->state, validated)) : STATUS_OK);
    if (duty_has_previews(t) && due(t, t->config->preview.every))
        TRY(duty_preview(t));
    t->state.log_bytes = t->run ? t->run->log_bytes : 0;
    t->state.duties_done = true;
    return STATUS_OK;
}

Status duties_after_step(Trainer *t)
{
    TRY(duty_saved_before(t, comm_agree(t->comm, duties(t))));
    return save_is_due(t) ? comm_agree(t->comm, duty_save(t)) : STATUS_OK;
}
