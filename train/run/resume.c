#include "resume.h"

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "train/export/export.h"
#include "train/pictures/owned.h"
#include "changes.h"
#include "run_folder.h"

#include <stdio.h>
#include <string.h>

static Status refuse_existing(const Config *config)
{
    char *set = mem_printf("output.dir=%s-2", config->output.dir), *quoted = set ? text_for_shell(set) : NULL;
    const Status s =
        quoted ? status_refuse("%s: holds a run already; go on with it by --resume auto, or start a "
                               "new one with another folder (--set %s)",
                               config->output.dir, quoted)
               : STATUS_FAILED;
    mem_free(set);
    mem_free(quoted);
    return s;
}

/* Refused, or only said. */
static Status changed(const char *folder, const char *what, bool allow_changes)
{
    if (allow_changes) {
        log_warn("%s; the result is not that of either run from the start", what);
        return STATUS_OK;
    }
    return status_refuse("%s: %s. Going on would end in something that was never begun: put it back (the "
                         "run's own configuration "
                         "is %s/config.yaml), begin a new run in another output.dir, or go on all the same "
                         "with --allow-changes",
                         folder, what, folder);
}

/* A run's own configuration says everything that its version knew: where it says nothing of buckets, every
 * picture became a square. */
static void take_over_buckets(Config *config, Config *old)
{
    for (int i = 0; i < old->dataset_count; i++)
        old->datasets[i].buckets &= !old->datasets[i].buckets_open;
    for (int i = 0; i < config->dataset_count && i < old->dataset_count; i++) {
        ConfigDataset *d = &config->datasets[i];
        if (d->buckets_open && d->buckets != old->datasets[i].buckets) {
            d->buckets = old->datasets[i].buckets;
            log_info("dataset %s: dataset.buckets is %s, as the run was begun", d->path,
                     d->buckets ? "on" : "off");
        }
    }
}

/* What the run chose where the configuration leaves it open, so that the bytes stay the same on another
 * machine. */
static Status take_over(Config *config, Config *old)
{
    take_over_buckets(config, old);
    if (config->train.mode == MODE_AUTO)
        config->train.mode = old->train.mode;
    if (config->train.checkpointing == SWITCH_AUTO)
        config->train.checkpointing = old->train.checkpointing;
    if (config->train.pack_weights == SWITCH_AUTO)
        config->train.pack_weights = old->train.pack_weights;
    if (config->train.offload == 0)
        config->train.offload = old->train.offload;
    if (config->train.threads == 0)
        config->train.threads = old->train.threads;
    if (config->train.resolution.sides[0] == 0)
        config->train.resolution = old->train.resolution;
    return strcmp(config->train.device, DEVICE_AUTO) == 0 ? config_set_device(config, old->train.device)
                                                          : STATUS_OK;
}

static Status check_length(const char *folder, int64_t done, int64_t asked)
{
    return done <= asked
               ? STATUS_OK
               : status_refuse("%s: has done %lld step%s already, of the %lld that are asked for; set "
                               "train.steps to at least that",
                               folder, (long long)done, text_plural(done), (long long)asked);
}

static Status compare(Config *config, const char *folder, bool allow_changes)
{
    char *path = path_in(folder, "config.yaml"), what[1024];
    const Device *dev;
    Config *old = NULL;
    Status s = path ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_exists(path)) {
        s = status_in(config_read(path, NULL, 0, &old), "the run's own configuration");
        if (s == STATUS_OK)
            s = take_over(config, old);
        if (s == STATUS_OK)
            s = setup_device(config, &dev); /* which may have no bf16 */
        if (s == STATUS_OK) {
            if (changes_find(config, old, what, sizeof what) > 0)
                s = changed(folder, what, allow_changes);
        }
    }
    config_free(old);
    mem_free(path);
    return s;
}

size_t resume_split(const char *resume, int64_t *step)
{
    const char *at = strrchr(resume, '@');
    int64_t n;
    *step = CHECKPOINT_ANY;
    if (!at || at == resume || file_exists(resume) || !text_to_int(at + 1, &n) || n < 0)
        return strlen(resume);
    *step = n;
    return (size_t)(at - resume);
}

/* "--resume RUN@4", to be pasted. Caller: mem_free. NULL: out of memory. */
static char *resume_option(const char *run, int64_t step)
{
    char *name = mem_printf("%s@%lld", run, (long long)step), *quoted = name ? text_for_shell(name) : NULL;
    char *option = quoted ? mem_printf("--resume %s", quoted) : NULL;
    mem_free(name);
    mem_free(quoted);
    return option;
}

/* RUN/checkpoints/step-000004, whether it is there or not: the command that is meant. */
static Status refuse_checkpoint(const char *resume)
{
    char *path = mem_printf("%.*s", (int)strlen(resume) - (resume[strlen(resume) - 1] == '/'), resume);
    char *all = path ? path_parent(path) : NULL, *run = all ? path_parent(all) : NULL, *option = NULL;
    const int64_t step = path ? checkpoint_step(path_base(path)) : -1;
    const bool meant = run && step >= 0 && strcmp(path_base(all), "checkpoints") == 0 && run_exists(run);
    Status s = run ? STATUS_OK : STATUS_FAILED;
    if (meant)
        s = (option = resume_option(run, step))
                ? status_refuse("names a checkpoint, and a run is gone on with by its folder: %s", option)
                : STATUS_FAILED;
    mem_free(option);
    mem_free(path);
    mem_free(all);
    mem_free(run);
    return s;
}

static Status refuse_folder(const char *resume)
{
    TRY(refuse_checkpoint(resume));
    return file_is_dir(resume)   ? status_refuse("there is no run in this folder")
           : file_exists(resume) ? status_refuse("is a file; name the run's folder")
                                 : file_missing(resume, "folder");
}

Status resume_folder(Config *config, const char *resume, int64_t *step)
{
    *step = CHECKPOINT_ANY;
    if (!resume || strcmp(resume, "auto") == 0)
        return STATUS_OK;
    if (!*resume)
        return status_refuse("--resume is empty; it wants the run's folder, or auto");
    char *dir = mem_printf("%.*s", (int)resume_split(resume, step), resume);
    if (!dir)
        return STATUS_FAILED;
    if (strcmp(dir, "auto") == 0 && !file_exists(dir)) { /* auto@STEP */
        mem_free(dir);
        return STATUS_OK;
    }
    if (!run_exists(dir)) {
        const Status s = status_in(refuse_folder(dir), "--resume %s", resume);
        mem_free(dir);
        return s;
    }
    mem_free(config->output.dir);
    config->output.dir = dir;
    return STATUS_OK;
}

/* There is none of that step nor before it. */
static Status refuse_early(const char *folder, int64_t step)
{
    char *last = NULL, *option = NULL;
    Status s = checkpoint_last(folder, CHECKPOINT_ANY, &last);
    if (last)
        option = resume_option(folder, checkpoint_step(path_base(last)));
    if (s == STATUS_OK)
        s = status_refuse("%s: has no checkpoint of step %lld, nor of an earlier one%s%s", folder,
                          (long long)step, option ? "; its last: " : "", option ? option : "");
    mem_free(option);
    mem_free(last);
    return s;
}

/* The checkpoint of `step`; CHECKPOINT_ANY: the last, if there is one. Caller: mem_free. */
static Status find_checkpoint(const char *folder, int64_t step, char **found)
{
    TRY(checkpoint_last(folder, step, found));
    const int64_t there = *found ? checkpoint_step(path_base(*found)) : -1;
    if (step == CHECKPOINT_ANY || there == step)
        return STATUS_OK;
    mem_free(*found);
    *found = NULL;
    if (there < 0)
        return refuse_early(folder, step);
    char *option = resume_option(folder, there);
    const Status s = option ? status_refuse("%s: has no checkpoint of step %lld; the last before it: %s",
                                            folder, (long long)step, option)
                            : STATUS_FAILED;
    mem_free(option);
    return s;
}

/* Asked for longer than it ran. Epochs are steps only once the pictures are counted: there more of them than
 * before is taken for longer. */
static Status is_longer(const Config *config, const char *folder, int64_t done, bool *longer)
{
    Config *old = NULL;
    *longer = config->train.steps > done;
    if (config->train.epochs == 0)
        return STATUS_OK;
    char *path = path_in(folder, "config.yaml");
    Status s = path ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_exists(path))
        s = status_in(config_read(path, NULL, 0, &old), "the run's own configuration");
    *longer = old && config->train.epochs > old->train.epochs;
    config_free(old);
    mem_free(path);
    return s;
}

/* The first result that the configuration asks for and that is not there; NULL: all are. Caller: mem_free. */
static char *missing_result(const Config *config, const char *folder)
{
    ExportFile files[ADAPTER_SPELLINGS] = {{.name = "model"}, {.name = EXPORT_SINGLE}};
    const int count =
        config->method.kind == METHOD_FULL ? 1 + config->output.single : export_files(config, files);
    for (int i = 0; i < count; i++) {
        char *path = path_in(folder, "%s", files[i].name);
        if (!path || !file_exists(path))
            return path;
        mem_free(path);
    }
    return NULL;
}

/* A run that is through: one that is to be longer is gone on with, and a result that is gone is made again.
 */
static Status look_at_finished(const Config *config, int64_t done, bool *finished)
{
    const char *folder = config->output.dir;
    char *last = NULL;
    bool longer;
    TRY(is_longer(config, folder, done, &longer));
    *finished = !longer;
    if (longer)
        return STATUS_OK;
    char *missing = missing_result(config, folder);
    if (!missing) {
        log_info("%s: this run is finished; its results are there. For a longer one raise train.steps",
                 folder);
        return STATUS_OK;
    }
    Status s = checkpoint_last(folder, CHECKPOINT_ANY, &last);
    if (s == STATUS_OK && !last)
        s = status_refuse(
            "%s: this run is finished, but %s is gone, and so are its checkpoints: nothing is left "
            "to make it from; begin again with another output.dir",
            folder, missing);
    else if (s == STATUS_OK)
        log_warn("%s: is gone; it is made again from the run's last checkpoint", missing);
    *finished = false;
    mem_free(missing);
    mem_free(last);
    return s;
}

Status resume_check(Config *config, const char *resume, int64_t step, bool allow_changes, bool *finished,
                    bool *begun)
{
    const char *folder = config->output.dir;
    char *last = NULL;
    int64_t done;
    *finished = *begun = false;
    if (!resume)
        return run_exists(folder) ? refuse_existing(config) : STATUS_OK;
    if (step == CHECKPOINT_ANY && run_finished(folder, &done))
        TRY(look_at_finished(config, done, finished));
    if (*finished)
        return STATUS_OK;
    TRY(checkpoint_clean(folder));
    TRY(checkpoint_check_names(folder, owned_any(folder)));
    TRY(find_checkpoint(folder, step, &last));
    *begun = last != NULL;
    done = last ? checkpoint_step(path_base(last)) : 0;
    mem_free(last);
    if (config->train.epochs == 0) /* else it is known when the pictures are counted */
        TRY(check_length(folder, done, config->train.steps));
    return *begun ? compare(config, folder, allow_changes) : STATUS_OK;
}

/* s, the failure of reading it, and how to go on from the one before. */
static Status damaged(Status s, const char *folder, const char *checkpoint)
{
    char why[STATUS_MESSAGE_SIZE], *before = NULL;
    snprintf(why, sizeof why, "%.*s", (int)strcspn(status_message(), ";"), status_message());
    const int64_t step = checkpoint_step(path_base(checkpoint));
    TRY(checkpoint_last(folder, step - 1, &before));
    char *option = before ? resume_option(folder, checkpoint_step(path_base(before))) : NULL;
    if (option)
        status_refuse(
            "%s: this checkpoint is damaged (%s). Go on from the one before it by %s; what was trained "
            "since is trained again",
            checkpoint, why, option);
    else if (!before)
        status_refuse("%s: this checkpoint is damaged (%s), and there is none before it; begin again with "
                      "another output.dir",
                      checkpoint, why);
    mem_free(option);
    mem_free(before);
    return s;
}

/* Things that a checkpoint remembers of the run, against what they are now. */
static Status check_restored(const char *last, const char *folder, const Setup *s, bool allow_changes,
                             const CheckpointState *then, const CheckpointState *now)
{
    char what[1024];
    origins_compare(&now->origins, &then->origins, s, what, sizeof what);
    if (what[0])
        TRY(changed(folder, what, allow_changes));
    TRY(check_length(folder, then->step, s->steps));
    if (strcmp(then->made_with, now->made_with) != 0)
        log_warn("%s was made with %s, this is %s: the result's last bits may differ from an uninterrupted "
                 "run's",
                 last, then->made_with, now->made_with);
    return STATUS_OK;
}

Status resume_state(const char *folder, const Setup *setup, int64_t step, bool allow_changes,
                    CheckpointState *state, int64_t *saved_step)
{
    char *last = NULL;
    bool broken;
    CheckpointState then = {0};
    TRY(find_checkpoint(folder, step, &last));
    if (!last) {
        log_info("%s: no checkpoint yet; starting at step 1", folder);
        return STATUS_OK;
    }
    Status s = checkpoint_read(last, setup->parameters, &then, &broken);
    if (s != STATUS_OK && broken && !status_is_memory())
        s = damaged(s, folder, last);
    if (s == STATUS_OK)
        s = check_restored(last, folder, setup, allow_changes, &then, state);
    mem_free(then.made_with);
    if (s == STATUS_OK) {
        then.made_with = state->made_with;
        then.origins = state->origins;
        *state = then;
        *saved_step = state->step;
        checkpoint_prune(folder, state->step, setup->config->output.keep, setup->config->output.save_every,
                         state->best_step);
        log_info("going on after step %lld from %s", (long long)state->step, last);
    }
    mem_free(last);
    return s;
}

Status resume_write_config(const Config *config, const char *folder)
{
    char *yaml = NULL, *path = path_in(folder, "config.yaml");
    Status s = path ? owned_take(folder, "config.yaml") : STATUS_FAILED;
    if (s == STATUS_OK)
        s = config_write(config, &yaml);
    if (s == STATUS_OK)
        s = file_write_atomic(path, yaml, strlen(yaml));
    mem_free(path);
    mem_free(yaml);
    return s;
}
