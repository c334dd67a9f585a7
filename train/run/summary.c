/* What a run comes to, before its first step: as text, and as --plan's JSON. */
#include "summary.h"

#include "kernels/base/json.h"
#include "kernels/base/log.h"
#include "kernels/base/text.h"
#include "train/pictures/preview.h"
#include "train/plan/largest.h"
#include "train/sizes/sizes_text.h"
#include "train/step/optimizer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDENT 11 /* columns of labels */

/* "10,941,316". */
static const char *count_text(int64_t n, char *buf, size_t size)
{
    char digits[32];
    const int length = snprintf(digits, sizeof digits, "%lld", (long long)n);
    size_t at = 0;
    for (int i = 0; i < length && at + 2 < size; i++) {
        if (i && (length - i) % 3 == 0)
            buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = 0;
    return buf;
}

/* "412 GFLOP", "63.1 TFLOP". */
static const char *flop_text(double flop, char *buf, size_t size)
{
    if (flop >= 1e13)
        snprintf(buf, size, "%.3g TFLOP", flop / 1e12);
    else
        snprintf(buf, size, "%.3g GFLOP", flop / 1e9);
    return buf;
}

static void print_prior(const Setup *s, FILE *out)
{
    const Config *config = s->config;
    char missing[160] = "", flop[32];
    const bool sizes = config->prior.resolution == 0 && s->sizes.count > 1;
    if (s->prior.missing)
        snprintf(missing, sizeof missing, "; %d %s missing and drawn first%s: %d step%s each, %s together",
                 s->prior.missing, s->prior.missing == 1 ? "is" : "are", sizes ? ", in the sizes below" : "",
                 config->prior.steps, text_plural(config->prior.steps),
                 flop_text(s->prior.flop * s->prior.missing, flop, sizeof flop));
    log_row(out, INDENT, "class      %s: %d of %d picture%s of \"%s\"%s", config->prior.path, s->prior.there,
            config->prior.pictures, text_plural(config->prior.pictures), config->prior.prompt, missing);
}

#define FOLDERS_SHOWN 8

/* What was taken from names of folders. */
static void print_folders(const Source *source, FILE *out)
{
    FoldersTaken taken;
    char text[1024];
    if (dataset_folders(source->dataset, &taken) != STATUS_OK) {
        log_warn("%s", status_message());
        return;
    }
    for (int i = 0; i < taken.count && i < FOLDERS_SHOWN; i++)
        log_row(out, INDENT, "           %s", folder_describe(&taken.items[i], text, sizeof text));
    if (taken.count > FOLDERS_SHOWN)
        log_row(out, INDENT, "           and %d more folders", taken.count - FOLDERS_SHOWN);
    if (taken.count && source->config->repeats)
        log_row(out, INDENT, "           but dataset.repeats gives each picture %d", source->config->repeats);
    folders_taken_free(&taken);
}

/* Which parts count. */
static void print_masks(const Source *source, const Config *config, FILE *out)
{
    const int count = dataset_masks(source->dataset), all = dataset_count(source->dataset);
    char floor[64] = "";
    if (config->loss.mask_floor > 0)
        snprintf(floor, sizeof floor, "; the rest of each counts %g", (double)config->loss.mask_floor);
    if (source->config->mask == MASK_NONE) {
        if (count)
            log_row(out, INDENT, "           masks: %d picture%s, not used (dataset.mask: none)", count,
                    text_plural(count));
    } else if (source->config->mask == MASK_ALPHA) {
        log_row(out, INDENT, "           masks: %d file%s, else the picture's alpha channel%s", count,
                text_plural(count), floor);
    } else if (count) {
        log_row(out, INDENT, "           masks: %d of %d picture%s %s one%s", count, all, text_plural(all),
                count == 1 ? "has" : "have", floor);
    }
}

/* What was decided of pictures that could have been decided otherwise. */
static Status find_remarks(const Setup *s, const Source *source, Remarks *out)
{
    const SizeModel m = {s->model->size_multiple, s->model->default_size};
    const int last = config_resolutions(s->config, source->config)->count - 1;
    FrameRule rule;
    Framer *framer;
    TRY(size_rule(s->config, source->config, last, &m, &rule));
    TRY(framer_new(&rule, &framer));
    const Status status = dataset_remarks(source->dataset, framer, out);
    framer_free(framer);
    return status;
}

static void print_remarks(const Setup *s, const Source *source, FILE *out)
{
    Remarks remarks;
    char text[2048];
    if (find_remarks(s, source, &remarks) != STATUS_OK) {
        log_warn("%s", status_message());
        return;
    }
    for (int k = 0; k < REMARK_KINDS; k++)
        if (remark_text(&remarks, (RemarkKind)k, text, sizeof text))
            log_row(out, INDENT, "           %s", text);
    remarks_free(&remarks);
}

static void say_size(const char *text, void *arg)
{
    log_row(arg, INDENT, "           %s", text);
}

/* The sizes, and which of them takes the most memory. */
static void print_sizes(const Setup *s, FILE *out)
{
    const Size most = size_multiplied(s->shape.size, vae_factor(s->model->vae));
    if (s->sizes.count < 2)
        return;
    log_row(out, INDENT, "sizes      %d; a step has one, and a step of %d×%d takes the most memory",
            s->sizes.count, most.width, most.height);
    sizes_print(&s->sizes, say_size, out);
}

static void print_pictures(const Setup *s, FILE *out)
{
    char a[32], b[32];
    for (int i = 0; i < s->sources->count; i++) {
        const Source *source = &s->sources->items[i];
        char held[64] = "";
        if (source->held_count)
            snprintf(held, sizeof held, ", %d held out for validation", source->held_count);
        char repeats[64] = "what their folders say";
        if (source->distinct == source->trained_count)
            snprintf(repeats, sizeof repeats, "%d repeat%s", source->repeats, text_plural(source->repeats));
        char weight[48] = "";
        if (source->config->weight != 1)
            snprintf(weight, sizeof weight, ", whose loss counts %g times", (double)source->config->weight);
        log_row(out, INDENT, "pictures   %s: %s%s, × %s%s", source->config->path,
                count_text(source->distinct, a, sizeof a), held, repeats, weight);
        print_folders(source, out);
        print_masks(source, s->config, out);
        print_remarks(s, source, out);
    }
    if (config_has_prior(s->config))
        print_prior(s, out);
    print_sizes(s, out);
    const int64_t per_step = (int64_t)s->config->train.batch * s->config->train.accumulate;
    const double an_epoch = 1 / setup_epochs(s, 1), epochs = setup_epochs(s, s->steps);
    log_row(out, INDENT,
            "steps      %s picture%s an epoch ÷ %lld a step (batch %d × accumulate %d) = %.4g step%s an "
            "epoch; %s step%s = %.4g epoch%s",
            count_text(s->sources->epoch_samples, a, sizeof a), text_plural(s->sources->epoch_samples),
            (long long)per_step, s->config->train.batch, s->config->train.accumulate, an_epoch,
            an_epoch == 1 ? "" : "s", count_text(s->steps, b, sizeof b), text_plural(s->steps), epochs,
            epochs == 1 ? "" : "s");
    char weight[32] = "as much";
    if (s->config->prior.weight != 1)
        snprintf(weight, sizeof weight, "%g times", (double)s->config->prior.weight);
    if (config_has_prior(s->config))
        log_row(out, INDENT, "           and beside them %lld class picture%s a step, whose loss counts %s",
                (long long)per_step, text_plural(per_step), weight);
}

static int64_t part_elements(const LayerSet *set)
{
    int64_t n = 0;
    for (int i = 0; i < set->count; i++) {
        n += set->items[i]->weight ? tensor_count(set->items[i]->weight) : 0;
        n += set->items[i]->bias ? tensor_count(set->items[i]->bias) : 0;
    }
    return n;
}

static const char *trained_where(const Setup *s)
{
    const int texts = s->parameters->groups & (1 << GROUP_TEXT | 1 << GROUP_TEXT_2);
    return !texts                       ? "UNet"
           : !s->model->clip_2          ? "UNet and text encoder"
           : texts == 1 << GROUP_TEXT   ? "UNet and first text encoder"
           : texts == 1 << GROUP_TEXT_2 ? "UNet and second text encoder"
                                        : "UNet and both text encoders";
}

static void print_trained(const Setup *s, FILE *out)
{
    const Config *config = s->config;
    char a[32], b[32];
    int64_t base = part_elements(unet_layers(s->model->unet)) + part_elements(clip_layers(s->model->clip)) +
                   (s->model->clip_2 ? part_elements(clip_layers(s->model->clip_2)) : 0);
    const int64_t trained = parameters_elements(s->parameters);
    const char *where = trained_where(s);
    if (config->method.kind == METHOD_LORA)
        log_row(out, INDENT,
                "trained    LoRA of rank %d, alpha %g on %d module%s of %s: %s parameters; %s frozen",
                config->method.rank, (double)config->method.alpha, s->parameters->module_count,
                text_plural(s->parameters->module_count), where, count_text(trained, a, sizeof a),
                count_text(base, b, sizeof b));
    else
        log_row(out, INDENT, "trained    %s whole, %s: %s parameters in %d layers; %s frozen", where,
                config->model.init == MODEL_INIT_RANDOM ? "from random weights" : "from the model's weights",
                count_text(trained, a, sizeof a), s->parameters->layer_count,
                count_text(base - trained, b, sizeof b));
}

static void print_memory(const Setup *s, FILE *out)
{
    const MemoryNeed *m = &s->memory;
    char total[32], part[6][32];
    log_row(
        out, INDENT,
        "memory     about %s: weights %s, activations %s, gradients %s, optimizer %s, workspace %s, other "
        "%s; mode %s",
        bytes_text(memory_total(m), total, sizeof total), bytes_text(m->weights, part[0], sizeof part[0]),
        bytes_text(m->activations, part[1], sizeof part[1]),
        bytes_text(m->gradients, part[2], sizeof part[2]), bytes_text(m->optimizer, part[3], sizeof part[3]),
        bytes_text(m->workspace, part[4], sizeof part[4]), bytes_text(m->other, part[5], sizeof part[5]),
        mode_name(s->config->train.mode));
    Largest largest;
    largest_part(s, &largest);
    log_row(out, INDENT, "           the largest part: %s, %s%s%s%s", largest.part,
            bytes_text(largest.bytes, total, sizeof total), *largest.lower ? " (less with " : "",
            largest.lower, *largest.lower ? ")" : "");
    if (m->host)
        log_row(out, INDENT, "           and about %s of the machine's own memory",
                bytes_text(m->host, total, sizeof total));
}

static void print_disk(const Setup *s, FILE *out)
{
    char total[32], one[32], result[32];
    log_row(out, INDENT, "disk       about %s: %s a checkpoint, of which %d stay%s; %s the result",
            bytes_text(s->disk.total, total, sizeof total), bytes_text(s->disk.checkpoint, one, sizeof one),
            s->config->output.keep, s->config->output.keep == 1 ? "s" : "",
            bytes_text(s->disk.result, result, sizeof result));
}

/* A model that was made for other pictures learns from them all the same, and slowly. */
#define FAR_SIZE 2 /* times larger or smaller a side */

static void print_size(const Setup *s, FILE *out)
{
    const Size size = config_size(s->config);
    const int made = s->model->default_size;
    if (size.width >= FAR_SIZE * made || FAR_SIZE * size.width <= made)
        log_row(out, INDENT,
                "           the model was made for pictures of %d×%d; at %d×%d it has to learn the size too "
                "(train.resolution)",
                made, made, size.width, size.height);
}

static void print_warmup(const Setup *s, FILE *out)
{
    const int64_t asked = s->config->optimizer.warmup, taken = optimizer_warmup(s->config, s->steps);
    if (taken == asked)
        return;
    if (taken)
        log_row(
            out, INDENT,
            "           the warm-up of %lld steps is longer than the run, which warms up over its first %lld",
            (long long)asked, (long long)taken);
    else
        log_row(out, INDENT, "           the warm-up of %lld steps is left out of a run so short",
                (long long)asked);
}

static void print_model(const Setup *s, FILE *out)
{
    const Size latent = s->shape.size, pixels = size_multiplied(latent, vae_factor(s->model->vae));
    const char *dtype = s->config->model.tf32 ? "f32 multiplied in TF32" : dtype_name(s->config->model.dtype);
    if (s->sizes.count > 1)
        log_row(out, INDENT, "model      %s, %s, pictures of %d sizes", s->model->name, dtype,
                s->sizes.count);
    else
        log_row(out, INDENT, "model      %s, %s, %d×%d pixels, latents %d×%d", s->model->name, dtype,
                pixels.width, pixels.height, latent.width, latent.height);
}

void setup_print(const Setup *s, FILE *out)
{
    const Config *config = s->config;
    print_model(s, out);
    print_size(s, out);
    print_pictures(s, out);
    print_warmup(s, out);
    print_trained(s, out);
    print_memory(s, out);
    print_disk(s, out);
    log_row(out, INDENT, "computed   on %s with %d thread%s; %.3g GFLOP a step", s->device, s->c->threads,
            s->c->threads == 1 ? "" : "s", s->step_flop * config->train.accumulate / 1e9);
    preview_tell(config);
}

void modes_print(const ModeTable *table, FILE *out)
{
    char bytes[MODE_COUNT][32];
    for (TrainMode mode = MODE_MINIMAL; mode < MODE_COUNT; mode++)
        bytes_text(memory_total(&table->need[mode]), bytes[mode], sizeof bytes[mode]);
    log_row(out, INDENT, "modes      minimal %s, balanced %s, speed %s (train.mode)", bytes[MODE_MINIMAL],
            bytes[MODE_BALANCED], bytes[MODE_SPEED]);
}

static json_t *modes_json(const ModeTable *table)
{
    json_t *j = json_object();
    for (TrainMode mode = MODE_MINIMAL; j && mode < MODE_COUNT; mode++)
        json_object_set_new(j, mode_name(mode), json_integer((json_int_t)memory_total(&table->need[mode])));
    return j;
}

static json_t *sizes_json(const Setup *s)
{
    json_t *list = json_array();
    for (int i = 0; list && i < s->sizes.count; i++) {
        const RunSize *z = &s->sizes.items[i];
        json_array_append_new(list, json_pack("{s:i,s:i,s:i,s:i,s:f}", "width", z->size.width, "height",
                                              z->size.height, "pictures", z->entries, "held_out", z->held,
                                              "cut_away", z->entries ? z->lost / z->entries : 0.0));
    }
    return list;
}

static json_t *time_json(const Estimate *e)
{
    return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "total", e->total, "step", e->step, "steps",
                     e->steps, "start", e->start, "class_pictures", e->classes, "caching", e->caching,
                     "validation", e->validation, "previews", e->previews, "saving", e->saving);
}

Status setup_print_json(const Setup *s, const ModeTable *modes, const Estimate *time)
{
    const MemoryNeed *m = &s->memory;
    json_t *j = json_pack(
        "{s:I,s:{s:I,s:I,s:I,s:I,s:I,s:I},s:I,s:I,s:f,s:I,s:s,s:i,s:b,s:s,s:o,s:I,s:I}", "peak_bytes",
        (json_int_t)memory_total(m), "categories", "weights", (json_int_t)m->weights, "activations",
        (json_int_t)m->activations, "gradients", (json_int_t)m->gradients, "optimizer",
        (json_int_t)m->optimizer, "workspace", (json_int_t)m->workspace, "other", (json_int_t)m->other,
        "steps", (json_int_t)s->steps, "epoch_pictures", (json_int_t)s->sources->epoch_samples, "epochs",
        setup_epochs(s, s->steps), "trained_parameters", (json_int_t)parameters_elements(s->parameters),
        "device", s->device, "threads", s->c->threads, "checkpointing", s->shape.checkpointing, "mode",
        mode_name(s->config->train.mode), "modes", modes_json(modes), "disk_bytes", (json_int_t)s->disk.total,
        "host_bytes", (json_int_t)memory_of_host(m));
    if (j && config_has_prior(s->config))
        json_object_set_new(j, "class_pictures",
                            json_pack("{s:i,s:i,s:f}", "there", s->prior.there, "missing", s->prior.missing,
                                      "flop_each", s->prior.flop));
    Largest largest;
    largest_part(s, &largest);
    if (j)
        json_object_set_new(j, "largest",
                            json_pack("{s:s,s:I,s:s}", "part", largest.part, "bytes",
                                      (json_int_t)largest.bytes, "lower", largest.lower));
    if (j)
        json_object_set_new(j, "sizes", sizes_json(s));
    if (j && time)
        json_object_set_new(j, "seconds", time_json(time));
    char *text = json_text(j, JSON_INDENT(2));
    if (!text)
        return status_in(STATUS_FAILED, "--plan");
    puts(text);
    free(text);
    return STATUS_OK;
}
