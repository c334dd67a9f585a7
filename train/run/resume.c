#include "resume.h"

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "changes.h"
#include "run_folder.h"

#include <string.h>

static Status refuse_existing(const Config *config)
{
    return status_refuse(
        "%s: holds a run already; go on with it by --resume auto, or start a new one with another folder "
        "(--set output.dir=%s-2)",
        config->output.dir, config->output.dir);
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

/* What the run chose where the configuration leaves it open, so that the bytes stay the same on another
 * machine. */
static void take_over(Config *config, const Config *old)
{
    if (config->train.mode == MODE_AUTO)
        config->train.mode = old->train.mode;
    if (config->train.checkpointing == SWITCH_AUTO)
        config->train.checkpointing = old->train.checkpointing;
    if (config->train.pack_weights == SWITCH_AUTO)
        config->train.pack_weights = old->train.pack_weights;
    if (config->train.threads == 0)
        config->train.threads = old->train.threads;
    if (config->train.resolution == 0)
        config->train.resolution = old->train.resolution;
}

static Status compare(Config *config, const char *folder, bool allow_changes)
{
    char *path = path_in(folder, "config.yaml"), what[1024];
    Config *old = NULL;
    Status s = path ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_exists(path)) {
        s = status_in(config_read(path, NULL, 0, &old), "the run's own configuration");
        if (s == STATUS_OK) {
            take_over(config, old);
            if (changes_find(config, old, what, sizeof what) > 0)
                s = changed(folder, what, allow_changes);
        }
    }
    config_free(old);
    mem_free(path);
    return s;
}

Status resume_folder(Config *config, const char *resume)
{
    if (!resume || strcmp(resume, "auto") == 0)
        return STATUS_OK;
    if (!run_exists(resume))
        return status_in(file_is_dir(resume)   ? status_refuse("there is no run in this folder")
                         : file_exists(resume) ? status_refuse("is a file; name the run's folder")
                                               : file_missing(resume, "folder"),
                         "--resume %s", resume);
    char *dir = mem_strdup(resume);
    if (!dir)
        return STATUS_FAILED;
    mem_free(config->output.dir);
    config->output.dir = dir;
    return STATUS_OK;
}

Status resume_check(Config *config, const char *resume, bool allow_changes, bool *finished, bool *begun)
{
    const char *folder = config->output.dir;
    char *last = NULL;
    *finished = *begun = false;
    if (!resume)
        return run_exists(folder) ? refuse_existing(config) : STATUS_OK;
    if (run_finished(folder)) {
        log_info("%s: this run is finished; its results are there. For a longer one set another output.dir",
                 folder);
        *finished = true;
        return STATUS_OK;
    }
    TRY(checkpoint_clean(folder));
    TRY(checkpoint_last(folder, &last));
    *begun = last != NULL;
    mem_free(last);
    return *begun ? compare(config, folder, allow_changes) : STATUS_OK;
}

/* Things that a checkpoint remembers of the run, against what they are now. */
static Status check_restored(const char *last, const char *folder, const Setup *s, bool allow_changes,
                             const CheckpointState *then, const CheckpointState *now)
{
    char what[1024];
    origins_compare(&now->origins, &then->origins, s, what, sizeof what);
    if (what[0])
        TRY(changed(folder, what, allow_changes));
    if (then->step > s->steps)
        return status_refuse(
            "%s: has done %lld steps already, of the %lld that are asked for; set train.steps to "
            "at least that",
            folder, (long long)then->step, (long long)s->steps);
    if (strcmp(then->made_with, now->made_with) != 0)
        log_warn("%s was made with %s, this is %s: the result's last bits may differ from an uninterrupted "
                 "run's",
                 last, then->made_with, now->made_with);
    return STATUS_OK;
}

Status resume_state(const char *folder, const Setup *setup, bool allow_changes, CheckpointState *state,
                    int64_t *saved_step)
{
    char *last = NULL;
    CheckpointState then = {0};
    TRY(checkpoint_last(folder, &last));
    if (!last) {
        log_info("%s: no checkpoint yet; starting at step 1", folder);
        return STATUS_OK;
    }
    Status s = checkpoint_read(last, setup->parameters, &then);
    if (s == STATUS_OK)
        s = check_restored(last, folder, setup, allow_changes, &then, state);
    mem_free(then.made_with);
    if (s == STATUS_OK) {
        then.made_with = state->made_with;
        then.origins = state->origins;
        *state = then;
        *saved_step = state->step;
        checkpoint_prune(folder, state->step, setup->config->output.keep, setup->config->output.save_every);
        log_info("going on after step %lld from %s", (long long)state->step, last);
    }
    mem_free(last);
    return s;
}

Status resume_write_config(const Config *config, const char *folder)
{
    char *yaml = NULL, *path = path_in(folder, "config.yaml");
    Status s = path ? config_write(config, &yaml) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = file_write_atomic(path, yaml, strlen(yaml));
    mem_free(path);
    mem_free(yaml);
    return s;
}
