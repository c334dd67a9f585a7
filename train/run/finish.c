#include "finish.h"

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "train/export/export.h"
#include "train/pictures/owned.h"
#include "train/pictures/preview.h"
#include "train/report/draw_command.h"
#include "train/report/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The adapter in one format, or (file NULL) the whole model. */
static Status export_one(const Export *e, const char *run, const ExportFile *file)
{
    const char *name = file ? file->name : "model";
    char *path = path_in(run, "%s", name);
    Status s = path ? owned_take(run, name) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = file ? export_adapter(e, file->spelling, path) : export_model(e, path);
    mem_free(path);
    return s;
}

/* The folder that was written once more, as one file. */
static Status export_as_file(const char *run)
{
    char *folder = path_in(run, "model"), *path = path_in(run, EXPORT_SINGLE);
    Status s = folder && path ? owned_take(run, EXPORT_SINGLE) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = export_single(folder, path);
    mem_free(folder);
    mem_free(path);
    return s;
}

Status finish_export(const Setup *s, const char *run)
{
    ExportFile files[ADAPTER_SPELLINGS];
    const Export e = setup_export(s);
    if (s->config->method.kind == METHOD_FULL) {
        TRY(export_one(&e, run, NULL));
        return s->config->output.single ? export_as_file(run) : STATUS_OK;
    }
    const int count = export_files(s->config, files);
    for (int i = 0; i < count; i++)
        TRY(export_one(&e, run, &files[i]));
    return STATUS_OK;
}

/* Both grids above each other, where they were drawn. */
static Status compare(const Setup *s, const char *run, bool *compared)
{
    char *before = preview_path(run, 0), *after = preview_path(run, s->steps);
    *compared = before && after && file_exists(before) && file_exists(after);
    mem_free(before);
    mem_free(after);
    return *compared ? preview_compare(run, 0, s->steps) : STATUS_OK;
}

static Status log_done(RunFolder *run, const CheckpointState *state)
{
    json_t *line = json_pack("{s:I,s:f,s:f,s:f,s:b,s:I}", "step", (json_int_t)state->step, "loss",
                             state->loss, "lr", state->lr, "seconds", state->elapsed, "done", 1, "peak_bytes",
                             (json_int_t)machine_peak_bytes());
    if (line && isfinite(state->validation)) {
        json_object_set_new(line, "validation_loss_before", json_real(state->validation_before));
        json_object_set_new(line, "validation_loss", json_real(state->validation));
        if (state->best_step > 0) {
            json_object_set_new(line, "best_step", json_integer(state->best_step));
            json_object_set_new(line, "best_validation_loss", json_real(state->best_loss));
        }
    }
    TRY(run_log(run, line));
    return run_log_sync(run);
}

/* A hint: where there is no memory for it, it is left out. */
static void say_how_to_draw(const Config *config, const char *model, const char *lora)
{
    char *line = draw_command(config, model, lora);
    if (line)
        log_info("  draw with it: %s", line);
    mem_free(line);
}

/* What was made, one file a line on standard output; what each is stands before them in a message. The run is
 * done: an output that cannot be written to makes no failure of it. */
typedef struct Made {
    const char *what, *name; /* name: in the run's folder */
} Made;

static void say_made(const Made *made, int count, const char *ema)
{
    char what[256] = "";
    for (int i = 0; i < count; i++) {
        const size_t n = strlen(what);
        snprintf(what + n, sizeof what - n, "%s%s", i ? ", " : "", made[i].what);
    }
    log_info("made: %s%s", what, ema);
}

static void print_made(const char *run, const Made *made, int count)
{
    for (int i = 0; i < count; i++)
        if (dprintf(STDOUT_FILENO, "%s/%s\n", run, made[i].name) < 0) {
            log_warn("the names of the files cannot be written to standard output: %m");
            return;
        }
}

/* What can be done with the result. */
static void say_what_next(const Setup *s, const char *run)
{
    const Config *config = s->config;
    const bool whole = config->method.kind == METHOD_FULL;
    char *result = path_in(run, "%s", whole ? "model" : "lora.safetensors");
    if (result && whole) {
        if (config->output.single)
            log_info("  copy " EXPORT_SINGLE
                     ", under a name of your own, to models/Stable-diffusion (AUTOMATIC1111) "
                     "or models/checkpoints (ComfyUI)");
        say_how_to_draw(config, result, NULL);
    } else if (result && config->output.kohya) {
        log_info(
            "  copy it, under a name of your own, to models/Lora (AUTOMATIC1111) or models/loras (ComfyUI)");
        say_how_to_draw(config, config->model.base, result);
    }
    mem_free(result);
}

/* The checkpoint is kept whatever output.keep says. */
static void say_best(const Setup *s, const char *run, const CheckpointState *state)
{
    const char *file = s->parameters->averages ? "ema" : "weights";
    char step[32];
    snprintf(step, sizeof step, "step-%06lld", (long long)state->best_step);
    if (state->best_step == 0 || state->best_step == state->step)
        return;
    log_info("  the best was %.5f, at step %lld: %s/checkpoints/%s%s%s%s", state->best_loss,
             (long long)state->best_step, run, step,
             s->config->method.kind == METHOD_LORA ? " (a LoRA as it stands: " : "",
             s->config->method.kind == METHOD_LORA ? file : "",
             s->config->method.kind == METHOD_LORA ? ".safetensors)" : "");
}

static void say(const Setup *s, const char *run, const CheckpointState *state, bool compared, bool listed)
{
    const Config *config = s->config;
    const char *ema = s->parameters->averages ? " (EMA weights)" : "";
    Made made[5];
    int count = 0;
    if (isfinite(state->validation))
        log_info("validation loss: %.5f before, %.5f after%s", state->validation_before, state->validation,
                 ema);
    if (isfinite(state->validation))
        say_best(s, run, state);
    if (config->method.kind == METHOD_FULL)
        made[count++] = (Made){"model", "model"};
    if (config->method.kind == METHOD_FULL && config->output.single)
        made[count++] = (Made){"the same as a single file", EXPORT_SINGLE};
    if (config->method.kind == METHOD_LORA && config->output.kohya)
        made[count++] = (Made){"LoRA", "lora.safetensors"};
    if (config->method.kind == METHOD_LORA && config->output.peft)
        made[count++] = (Made){"LoRA for diffusers (load_lora_weights)", "lora.peft.safetensors"};
    if (compared)
        made[count++] = (Made){"previews before and after", PREVIEW_COMPARED};
    made[count++] = (Made){"log", "log.jsonl"};
    made[count++] = (Made){"the run on a page", REPORT_FILE};
    say_made(made, count, ema);
    if (listed)
        print_made(run, made, count);
    say_what_next(s, run);
}

Status finish_run(Setup *s, RunFolder *run, const CheckpointState *state, bool listed)
{
    bool compared = false;
    TRY(compare(s, run->path, &compared));
    TRY(report_write(run->path)); /* a run that is done has a whole one */
    TRY(log_done(run, state));
    say(s, run->path, state, compared, listed);
    return STATUS_OK;
}
