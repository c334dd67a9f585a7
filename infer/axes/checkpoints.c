#include "checkpoints.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECKPOINT_NAME "step-"

static Status add_file(Axis *a, const char *label, const char *file)
{
    TRY(axis_add(a, label, NULL));
    TRY(words_add(axis_words(a), "--lora"));
    return words_add(axis_words(a), "%s", file);
}

/* The averages where a run keeps them, as its own previews do. */
static char *weights_of(const char *checkpoint)
{
    static const char *const NAMES[] = {"ema.safetensors", "weights.safetensors"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char *path = path_in(checkpoint, "%s", NAMES[i]);
        if (!path || file_exists(path))
            return path;
        mem_free(path);
    }
    return mem_strdup("");
}

/* "step 250" of ".../step-000250". */
static Status add_checkpoint(Axis *a, const char *folder)
{
    int64_t step = 0;
    char label[48];
    const char *name = path_base(folder), *number = strncmp(name, CHECKPOINT_NAME, 5) ? name : name + 5;
    while (number[0] == '0' && number[1])
        number++;
    if (text_to_int(number, &step))
        snprintf(label, sizeof label, "step %lld", (long long)step);
    else
        snprintf(label, sizeof label, "%.47s", name);
    char *file = weights_of(folder);
    const Status s = !file   ? STATUS_FAILED
                     : *file ? add_file(a, label, file)
                             : status_refuse("%s: is no checkpoint (no weights.safetensors)", folder);
    mem_free(file);
    return s;
}

/* Others of that beginning are half written, or put aside as damaged. */
static bool is_whole(const char *name)
{
    const size_t begin = strlen(CHECKPOINT_NAME);
    return strncmp(name, CHECKPOINT_NAME, begin) == 0 && name[begin] &&
           name[begin + strspn(name + begin, "0123456789")] == 0;
}

static Status add_checkpoints_in(Axis *a, const char *all)
{
    char **names;
    int count;
    TRY(dir_list(all, &names, &count)); /* sorted, and numbers have as many digits */
    Status s = STATUS_OK;
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        if (!is_whole(names[i]))
            continue;
        char *folder = path_join(all, names[i]);
        s = folder ? add_checkpoint(a, folder) : STATUS_FAILED;
        mem_free(folder);
    }
    dir_list_free(names, count);
    return s;
}

static Status add_run(Axis *a, const char *run)
{
    char *all = path_in(run, "checkpoints"), *result = path_in(run, "lora.safetensors"),
         *model = path_in(run, "model");
    const int before = a->count;
    Status s = all && result && model ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_is_dir(model))
        s = status_refuse(
            "%s: trained a whole model, whose checkpoints hold no LoRA; compare finished models with "
            "--sheet model=%s,…",
            run, model);
    if (s == STATUS_OK && file_is_dir(all))
        s = add_checkpoints_in(a, all);
    if (s == STATUS_OK && a->count == before &&
        file_exists(result)) /* else the last checkpoint is the same */
        s = add_file(a, "result", result);
    if (s == STATUS_OK && a->count == before)
        s = status_refuse(
            "%s: holds no checkpoints and no lora.safetensors; is it a run's folder (output.dir)?", run);
    mem_free(all);
    mem_free(result);
    mem_free(model);
    return s;
}

Status checkpoints_add(Axis *a, const char *value)
{
    if (!strcmp(value, "none"))
        return axis_add(a, "none", NULL);
    if (!file_exists(value))
        return file_missing(value, "run, checkpoint or file");
    if (!file_is_dir(value))
        return add_file(a, path_base(value), value);
    char *state = path_in(value, "state.json");
    if (!state)
        return STATUS_FAILED;
    const bool checkpoint = file_exists(state);
    mem_free(state);
    return checkpoint ? add_checkpoint(a, value) : add_run(a, value);
}
