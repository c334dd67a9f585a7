#include "preview_text.h"

#include "infer/safety/licence.h"
#include "kernels/base/mem.h"
#include "preview.h"

/* Appends to *text, which it frees where there is no memory for more. */
static void append(char **text, const char *between, const char *more)
{
    char *longer = *text && more ? mem_printf("%s%s%s", *text, between, more) : NULL;
    mem_free(*text);
    *text = longer;
}

/* What one() says of each picture, one after the other. */
static char *of_each(const PreviewDrawn *d, char *(*one)(const PictureOrigin *), const char *between)
{
    const Config *config = d->config;
    const Licence licence = licence_of(d->model);
    char *all = mem_strdup("");
    for (int i = 0; i < config->preview.prompt_count; i++) {
        SampleRequest r = preview_request(config, i);
        if (pipeline_check_size(d->model, &r.size) != STATUS_OK) {
            mem_free(all);
            return NULL;
        }
        r.sampler = pipeline_sampler(d->model, &r);
        const PictureOrigin origin = {
            .request = &r,
            .tells_none = d->model->family == FAMILY_SDXL,
            .model = config->model.base,
            .weights = d->weights,
            .dtype = dtype_name(config->model.dtype),
            .tf32 = config->model.tf32,
            .licence = licence.name,
            .watermark = guard_watermark(&(GuardRequest){.watermark = config->safety.watermark})};
        char *text = one(&origin);
        append(&all, i ? between : "", text);
        mem_free(text);
    }
    return all;
}

char *preview_parameters(const PreviewDrawn *d)
{
    return of_each(d, picture_parameters, "\n\n");
}

char *preview_settings(const PreviewDrawn *d)
{
    char *pictures = of_each(d, picture_settings, ",");
    char *text = pictures ? mem_printf("{\"step\":%lld,\"averaged\":%s,\"pictures\":[%s]}",
                                       (long long)d->step, d->averaged ? "true" : "false", pictures)
                          : NULL;
    mem_free(pictures);
    return text;
}

char *preview_legend(const PreviewDrawn *d)
{
    const Config *config = d->config;
    const int count = config->preview.prompt_count;
    char *all = mem_printf("step %lld%s%s:\n", (long long)d->step, d->averaged ? ", EMA weights" : "",
                           count > 1 ? ", from left to right" : "");
    for (int i = 0; i < count; i++) {
        const SampleRequest r = preview_request(config, i);
        char *line = mem_printf("%d. %s (seed %llu)\n", i + 1, r.prompt, (unsigned long long)r.seed);
        append(&all, "", line);
        mem_free(line);
    }
    return all;
}
