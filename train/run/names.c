#include "names.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "train/events/events.h"
#include "train/export/export.h"
#include "train/pictures/owned.h"
#include "train/pictures/preview.h"
#include "train/pictures/sources.h"
#include "train/report/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NAME.h5 of each dataset and of the class pictures. */
static Status check_pictures(const Config *config, const char *folder)
{
    for (int i = 0; i < config->dataset_count + config_has_prior(config); i++) {
        const char *path = i < config->dataset_count ? config->datasets[i].path : config->prior.path;
        if (file_exists(path) && !file_is_dir(path))
            continue;
        char *label = source_label(config, i), *name = label ? mem_printf("%s.h5", label) : NULL;
        const Status s = name ? owned_check(folder, name) : STATUS_FAILED;
        mem_free(label);
        mem_free(name);
        TRY(s);
    }
    return STATUS_OK;
}

/* "step-000250.png", "step-000250.txt". */
static bool is_preview(const char *name)
{
    long long step;
    int used = 0;
    return sscanf(name, "step-%lld%n", &step, &used) == 1 && used > 0 &&
           (strcmp(name + used, ".png") == 0 || strcmp(name + used, ".txt") == 0);
}

static Status check_previews(const Config *config, const char *folder)
{
    char *samples = path_in(folder, "samples"), **names = NULL;
    int count = 0;
    Status s = samples ? STATUS_OK : STATUS_FAILED;
    if (config->preview.every > 0 && config->preview.prompt_count > 0 && samples && file_is_dir(samples)) {
        s = dir_list(samples, &names, &count);
        for (int i = 0; i < count && s == STATUS_OK; i++) {
            char *name = is_preview(names[i]) ? mem_printf("samples/%s", names[i]) : NULL;
            if (is_preview(names[i]))
                s = name ? owned_check(folder, name) : STATUS_FAILED;
            mem_free(name);
        }
        if (s == STATUS_OK)
            s = owned_check(folder, PREVIEW_COMPARED);
    }
    dir_list_free(names, count);
    mem_free(samples);
    return s;
}

/* True if both are there and one. */
static bool same_place(const char *a, const char *b)
{
    char *first = realpath(a, NULL), *second = realpath(b, NULL); /* malloc's own */
    const bool same = first && second && strcmp(first, second) == 0;
    free(first);
    free(second);
    return same;
}

/* What a run reads must not be what it writes at its end. */
static Status check_inputs(const Config *config, const char *folder)
{
    const char *const inputs[] = {config->model.base, config->model.vae};
    char *model = path_in(folder, "model"), *vae = path_in(folder, "model/vae");
    Status s = model && vae ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < 2 && s == STATUS_OK; i++)
        if (inputs[i] && (same_place(inputs[i], model) || same_place(inputs[i], vae)))
            s = status_refuse(
                "%s: is what this run reads, and where its result would go; choose another folder "
                "(output.dir)",
                inputs[i]);
    mem_free(model);
    mem_free(vae);
    return s;
}

Status names_check(const Config *config, const char *folder)
{
    ExportFile files[ADAPTER_SPELLINGS];
    const int count = config->method.kind == METHOD_LORA ? export_files(config, files) : 0;
    TRY(owned_check(folder, "config.yaml"));
    TRY(owned_check(folder, "log.jsonl"));
    TRY(owned_check(folder, REPORT_FILE));
    if (config->output.events)
        TRY(owned_check(folder, EVENTS_FILE));
    if (config->method.kind == METHOD_FULL) {
        TRY(check_inputs(config, folder));
        TRY(owned_check(folder, "model"));
        if (config->output.single)
            TRY(owned_check(folder, EXPORT_SINGLE));
    }
    for (int i = 0; i < count; i++)
        TRY(owned_check(folder, files[i].name));
    TRY(check_pictures(config, folder));
    return check_previews(config, folder);
}
