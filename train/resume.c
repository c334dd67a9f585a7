#include "resume.h"

#include "../kernels/file.h"
#include "../kernels/log.h"
#include "../kernels/mem.h"
#include "run_folder.h"

#include <string.h>

#define SHOWN_DIFFERENCES 5

static Status refuse_existing(const Config *config)
{
    return status_refuse(
        "%s: holds a run already; go on with it by --resume auto, or start a new one with another folder "
        "(--set output.dir=%s-2)",
        config->output.dir, config->output.dir);
}

/* Lines of `now` that `then` does not have, the first few. */
static void say_differences(const char *folder, const char *now, const char *then)
{
    int shown = 0;
    for (const char *line = now; *line;) {
        const size_t length = strcspn(line, "\n");
        char text[256];
        if (length > 0 && length < sizeof text - 2) {
            memcpy(text, line, length);
            text[length] = '\n';
            text[length + 1] = 0;
            if (!strstr(then, text) && shown++ < SHOWN_DIFFERENCES)
                log_warn("not as in %s/config.yaml: %.*s", folder, (int)length, line);
        }
        line += length + (line[length] == '\n');
    }
    if (shown > SHOWN_DIFFERENCES)
        log_warn("… and %d more", shown - SHOWN_DIFFERENCES);
}

/* What the run chose where the configuration leaves it open, so that the bytes stay the same on another
 * machine. */
static Status take_over(Config *config, const char *folder)
{
    char *path = run_path(folder, "config.yaml"), *now = NULL, *then = NULL;
    Config *old = NULL;
    Status s = path ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_exists(path)) {
        s = config_read(path, NULL, 0, &old);
        if (s == STATUS_OK) {
            if (config->train.mode == MODE_AUTO)
                config->train.mode = old->train.mode;
            if (config->train.checkpointing == CHECKPOINTING_AUTO)
                config->train.checkpointing = old->train.checkpointing;
            if (config->train.pack_weights == PACK_AUTO)
                config->train.pack_weights = old->train.pack_weights;
            if (config->train.threads == 0)
                config->train.threads = old->train.threads;
            if (config->train.resolution == 0)
                config->train.resolution = old->train.resolution;
            s = config_write(config, &now);
        }
        if (s == STATUS_OK)
            s = config_write(old, &then);
        if (s == STATUS_OK)
            say_differences(folder, now, then);
    }
    config_free(old);
    mem_free(path);
    mem_free(now);
    mem_free(then);
    return s;
}

Status resume_check(Config *config, const char *resume, bool *finished)
{
    *finished = false;
    if (!resume)
        return run_exists(config->output.dir) ? refuse_existing(config) : STATUS_OK;
    if (strcmp(resume, "auto") != 0) {
        if (!run_exists(resume))
            return status_refuse("--resume %s: there is no run in this folder", resume);
        char *dir = mem_strdup(resume);
        if (!dir)
            return STATUS_FAILED;
        mem_free(config->output.dir);
        config->output.dir = dir;
    }
    if (run_finished(config->output.dir)) {
        log_info("%s: this run is finished; its results are there. For a longer one set another output.dir",
                 config->output.dir);
        *finished = true;
        return STATUS_OK;
    }
    return take_over(config, config->output.dir);
}

Status resume_state(const char *folder, Parameters *p, CheckpointState *state, int64_t *saved_step)
{
    char *last = NULL, *made_with = state->made_with;
    checkpoint_clean(folder);
    TRY(checkpoint_last(folder, &last));
    if (!last) {
        log_info("%s: no checkpoint yet; starting at step 1", folder);
        return STATUS_OK;
    }
    const Status s = checkpoint_read(last, p, state);
    if (s == STATUS_OK) {
        if (strcmp(state->made_with, made_with) != 0)
            log_warn("%s was made with %s, this is %s: the result's last bits may differ from an "
                     "uninterrupted run's",
                     last, state->made_with, made_with);
        mem_free(state->made_with);
        *saved_step = state->step;
        log_info("going on after step %lld from %s", (long long)state->step, last);
    }
    state->made_with = made_with;
    mem_free(last);
    return s;
}

Status resume_write_config(const Config *config, const char *folder)
{
    char *yaml = NULL, *path = run_path(folder, "config.yaml");
    Status s = path ? config_write(config, &yaml) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = file_write_atomic(path, yaml, strlen(yaml));
    mem_free(path);
    mem_free(yaml);
    return s;
}
