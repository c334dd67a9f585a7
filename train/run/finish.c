#include "finish.h"

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "train/export/export.h"
#include "train/pictures/owned.h"
#include "train/pictures/preview.h"

#include <math.h>
#include <stdio.h>

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

static Status export_all(const Setup *s, const char *run)
{
    ExportFile files[ADAPTER_SPELLINGS];
    const Export e = setup_export(s);
    if (s->config->method.kind == METHOD_FULL)
        return export_one(&e, run, NULL);
    const int count = export_files(s->config, files);
    for (int i = 0; i < count; i++)
        TRY(export_one(&e, run, &files[i]));
    return STATUS_OK;
}

/* Both grids above each other, where they were drawn. */
static Status compare(const Setup *s, const char *run, bool *compared)
{
    char *before = path_in(run, "samples/step-000000.png");
    char *after = path_in(run, "samples/step-%06lld.png", (long long)s->steps);
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

/* A command that draws with what was made; lora: its file in the run's folder, or NULL. It is a hint: where
 * there is no memory for it, it is left out. */
static void say_how_to_draw(const char *model, const char *lora)
{
    char *first = text_for_shell(model), *second = lora ? text_for_shell(lora) : NULL;
    if (first && (second || !lora))
        log_info("  draw with it: atelier sample --model %s%s%s --prompt \"…\"", first,
                 second ? " --lora " : "", second ? second : "");
    mem_free(first);
    mem_free(second);
}

/* result: the path of what was made. */
static void say_result(const Config *config, const char *result, const char *ema)
{
    if (config->method.kind == METHOD_FULL) {
        log_info("model: %s%s", result, ema);
        say_how_to_draw(result, NULL);
    } else if (config->output.kohya) {
        log_info("LoRA: %s%s", result, ema);
        log_info(
            "  copy it, under a name of your own, to models/Lora (AUTOMATIC1111) or models/loras (ComfyUI)");
        say_how_to_draw(config->model.base, result);
    }
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

static void say(const Setup *s, const char *run, const CheckpointState *state, bool compared)
{
    const Config *config = s->config;
    const char *ema = s->parameters->averages ? " (EMA weights)" : "";
    if (isfinite(state->validation))
        log_info("validation loss: %.5f before, %.5f after%s", state->validation_before, state->validation,
                 ema);
    if (isfinite(state->validation))
        say_best(s, run, state);
    if (compared)
        log_info("before and after: %s/samples/before-after.png", run);
    char *result = path_in(run, "%s", config->method.kind == METHOD_FULL ? "model" : "lora.safetensors");
    if (result)
        say_result(config, result, ema);
    mem_free(result);
    if (config->method.kind == METHOD_LORA && config->output.peft)
        log_info("LoRA for diffusers: %s/lora.peft.safetensors%s (load_lora_weights)", run, ema);
    log_info("log: %s/log.jsonl", run);
}

Status finish_run(Setup *s, RunFolder *run, const CheckpointState *state)
{
    bool compared = false;
    TRY(parameters_swap_averages(s->parameters));
    Status status = export_all(s, run->path);
    if (status == STATUS_OK)
        status = parameters_swap_averages(s->parameters);
    if (status == STATUS_OK)
        status = compare(s, run->path, &compared);
    if (status == STATUS_OK)
        status = log_done(run, state);
    if (status == STATUS_OK)
        say(s, run->path, state, compared);
    return status;
}
