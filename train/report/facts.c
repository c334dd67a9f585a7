/* What was trained, how far it has come, and what came of it. */
#include "page.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "train/export/export.h"
#include "draw_command.h"
#include "html.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static void fact(Buffer *b, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void fact(Buffer *b, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = mem_vprintf(format, args);
    va_end(args);
    buffer_add(b, "<dt>%s</dt><dd>", name);
    if (text)
        html_text(b, text);
    else
        b->failed = true;
    buffer_add(b, "</dd>\n");
    mem_free(text);
}

/* Pictures × repeats, from what the log says; 0: it says nothing yet. */
static double epoch_pictures(const Report *r)
{
    const double seen = (double)r->curves->step * r->config->train.batch * r->config->train.accumulate;
    return r->curves->epoch > 0 ? round(seen / r->curves->epoch) : 0;
}

/* 0: not known. */
static int64_t total_steps(const Report *r)
{
    const Config *config = r->config;
    if (config->train.epochs == 0)
        return config->train.steps;
    const int64_t per_step = (int64_t)config->train.batch * config->train.accumulate;
    return (int64_t)ceil((double)config->train.epochs * epoch_pictures(r) / (double)per_step);
}

static void add_trained(Buffer *b, const Config *config)
{
    const bool texts = config->method.text_encoder != TEXTS_FROZEN;
    fact(b, "Model", "%s, %s", config->model.base,
         config->model.tf32 ? "f32 multiplied in TF32" : dtype_name(config->model.dtype));
    if (config->method.kind == METHOD_LORA)
        fact(b, "Trained", "LoRA of rank %d, alpha %g, of the UNet%s", config->method.rank,
             (double)config->method.alpha, texts ? " and the text encoder" : "");
    else
        fact(b, "Trained", "the whole UNet%s%s", texts ? " and text encoder" : "",
             config->model.init == MODEL_INIT_RANDOM ? ", from random weights" : "");
}

static void add_pictures(Buffer *b, const Report *r)
{
    const Config *config = r->config;
    const double pictures = epoch_pictures(r);
    buffer_add(b, "<dt>Pictures</dt><dd>");
    if (pictures > 0)
        buffer_add(b, "%.0f an epoch, of ", pictures);
    for (int i = 0; i < config->dataset_count; i++) {
        buffer_add(b, "%s", i ? ", " : "");
        html_text(b, path_base(config->datasets[i].path));
    }
    if (config->datasets[0].repeats > 1)
        buffer_add(b, " (each counted as often as it is repeated)");
    buffer_add(b, "; %d a step", config->train.batch * config->train.accumulate);
    if (config_has_prior(config))
        buffer_add(b, " and as many class pictures");
    buffer_add(b, "</dd>\n");
}

static void add_losses(Buffer *b, const Curves *c)
{
    const double loss = curve_last(&c->loss_smooth);
    if (isfinite(loss))
        fact(b, "Loss", "%.4f, averaged over about the last 50 steps", loss);
    if (c->validation_best_step == 0)
        return;
    char before[40] = "";
    if (isfinite(c->validation_before))
        snprintf(before, sizeof before, "%.5f before, ", c->validation_before);
    fact(b, "Validation loss", "%s%.5f last; the least %.5f, at step %lld", before,
         curve_last(&c->validation), c->validation_best, (long long)c->validation_best_step);
}

static void add_cost(Buffer *b, const Curves *c)
{
    const double s = c->seconds_sum;
    char hours[24] = "", rest[24];
    if (c->step == 0)
        return;
    if (s >= 3600)
        snprintf(hours, sizeof hours, "%lld h ", (long long)(s / 3600));
    if (s >= 60)
        snprintf(rest, sizeof rest, "%d min", (int)(fmod(s, 3600) / 60));
    else
        snprintf(rest, sizeof rest, "%.0f s", s);
    fact(b, "Time", "%s%s in steps, %.3g s each", hours, rest, s / (double)c->step);
    if (c->memory_peak > 0)
        fact(b, "Memory", "%.2f GB at most after a step", c->memory_peak / 1e9);
}

void facts_add(Buffer *b, const Report *r)
{
    const Curves *c = r->curves;
    if (!r->config) {
        buffer_add(b, "<p class=\"note\">");
        html_text(b, r->trouble);
        buffer_add(b, "</p>\n");
    }
    buffer_add(b, "<dl>\n");
    if (r->config) {
        add_trained(b, r->config);
        add_pictures(b, r);
        fact(b, "Steps", "%lld of %lld, %.*f epochs", (long long)c->step, (long long)total_steps(r),
             c->epoch < 100 ? 1 : 0, c->epoch);
    } else {
        fact(b, "Steps", "%lld", (long long)c->step);
    }
    add_losses(b, c);
    add_cost(b, c);
    buffer_add(b, "</dl>\n");
}

/* The result ------------------------------------------------------------------------------------------- */

/* A file or folder of the run's as a line, if it is there. *path is the first such one's; caller: mem_free.
 */
static Status add_file(Buffer *b, const Report *r, const char *name, const char *what, char **path)
{
    char *file = path_in(r->run, "%s", name);
    if (!file)
        return STATUS_FAILED;
    if (!file_exists(file)) {
        mem_free(file);
        return STATUS_OK;
    }
    buffer_add(b, "<p>%s:<br><code>", what);
    html_text(b, file);
    buffer_add(b, "</code></p>\n");
    if (*path)
        mem_free(file);
    else
        *path = file;
    return STATUS_OK;
}

static Status add_result(Buffer *b, const Report *r, char **path)
{
    ExportFile files[ADAPTER_SPELLINGS];
    if (r->config->method.kind == METHOD_FULL) {
        TRY(add_file(b, r, "model", "The model", path));
        return add_file(b, r, EXPORT_SINGLE, "The same as a single file", path);
    }
    const int count = export_files(r->config, files);
    for (int i = 0; i < count; i++)
        TRY(add_file(b, r, files[i].name, i ? "The same for diffusers" : "The LoRA", path));
    return STATUS_OK;
}

/* Before the end: the LoRA of the last checkpoint, and how to go on. */
static Status add_checkpoint(Buffer *b, const Report *r, char **path)
{
    char *name = mem_printf("checkpoints/step-%06lld/%s.safetensors", (long long)r->curves->step,
                            r->config->train.ema > 0 ? "ema" : "weights");
    char *folder = text_for_shell(r->run);
    Status s = name && folder ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK) {
        buffer_add(b, "<p>The run is not done. It goes on with:</p>\n<pre class=\"wrap\">atelier train ");
        html_text(b, folder);
        buffer_add(b, "/config.yaml --resume auto</pre>\n");
    }
    if (s == STATUS_OK && r->config->method.kind == METHOD_LORA)
        s = add_file(b, r, name, "The LoRA as it stands", path);
    mem_free(name);
    mem_free(folder);
    return s;
}

Status result_add(Buffer *b, const Report *r)
{
    const Config *config = r->config;
    char *path = NULL;
    if (!config)
        return STATUS_OK;
    buffer_add(b, "<h2>Result</h2>\n");
    const bool done = r->curves->step >= total_steps(r);
    Status s = done ? add_result(b, r, &path) : add_checkpoint(b, r, &path);
    if (s == STATUS_OK && !path && done)
        buffer_add(b, "<p class=\"note\">All steps are done; the result is not written yet.</p>\n");
    if (s == STATUS_OK && path) {
        const bool whole = config->method.kind == METHOD_FULL;
        char *command = draw_command(config, whole ? path : config->model.base, whole ? NULL : path);
        buffer_add(b, "<p>Draw with it:</p>\n<pre class=\"wrap\">");
        if (command)
            html_text(b, command);
        else
            s = STATUS_FAILED;
        buffer_add(b, "</pre>\n");
        mem_free(command);
    }
    mem_free(path);
    return s;
}
