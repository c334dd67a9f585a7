#include "preview.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "owned.h"

#include <string.h>

#define PNG_LIMIT (256u << 20)

SampleRequest preview_request(const Config *config, int i)
{
    SampleRequest r = sample_request_default();
    r.prompt = config->preview.prompts[i];
    r.negative = config->preview.negative;
    r.steps = config->preview.steps;
    r.guidance = config->preview.guidance;
    if (config->preview.sampler)
        r.sampler = config->preview.sampler;
    r.seed = config->preview.seed + (uint64_t)i;
    r.size = (Size){config->preview.width, config->preview.height};
    r.clip_skip = config->method.clip_skip;
    return r;
}

Status preview_plan(Pipeline *p, const Config *config, size_t *bytes)
{
    const SampleRequest r = preview_request(config, 0);
    return pipeline_plan(p, &r, bytes);
}

/* All prompts on one line each. Caller: mem_free. */
static char *prompt_list(const Config *config)
{
    char *all = mem_strdup("");
    for (int i = 0; i < config->preview.prompt_count && all; i++) {
        char *more = mem_printf("%s%s%s", all, i ? "\n" : "", config->preview.prompts[i]);
        mem_free(all);
        all = more;
    }
    return all;
}

static Status write_grid(const Config *config, const Picture *pictures, const char *path, int64_t step,
                         bool averaged)
{
    Picture grid = {0};
    char *prompts = prompt_list(config);
    char *settings = mem_printf(
        "Step: %lld, Weights: %s, Steps: %d, Sampler: %s, CFG scale: %g, Seed: %llu and on", (long long)step,
        averaged ? "EMA" : "as trained", config->preview.steps, config->preview.sampler,
        (double)config->preview.guidance, (unsigned long long)config->preview.seed);
    Status s = prompts && settings ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK)
        s = picture_grid(pictures, config->preview.prompt_count, config->preview.prompt_count, &grid);
    if (s == STATUS_OK)
        s = picture_write_png(
            path, &grid,
            (PictureText[]){{"prompts", prompts},
                            {"negative prompt", config->preview.negative ? config->preview.negative : ""},
                            {"settings", settings}},
            3);
    picture_free(&grid);
    mem_free(prompts);
    mem_free(settings);
    return s;
}

Status preview_draw(Pipeline *p, const Config *config, const char *run, int64_t step, bool averaged)
{
    const int count = config->preview.prompt_count;
    Picture *pictures = mem_calloc((size_t)count, sizeof *pictures);
    char *name = mem_printf("samples/step-%06lld.png", (long long)step);
    char *path = name ? path_join(run, name) : NULL;
    char *folder = path_in(run, "samples");
    Status s = pictures && path && folder ? dir_make(folder) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = owned_take(run, name);
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        const SampleRequest r = preview_request(config, i);
        SampleResult result = {0};
        s = status_in(pipeline_sample(p, &r, NULL, NULL, &result), "preview \"%s\"", r.prompt);
        if (s == STATUS_OK) {
            pictures[i] = result.picture; /* taken over */
            result.picture = (Picture){0};
        }
        sample_result_free(&result);
    }
    if (s == STATUS_OK)
        s = write_grid(config, pictures, path, step, averaged);
    for (int i = 0; pictures && i < count; i++)
        picture_free(&pictures[i]);
    mem_free(pictures);
    mem_free(name);
    mem_free(path);
    mem_free(folder);
    return s;
}

static Status read_png(const char *run, int64_t step, Picture *out)
{
    char *path = path_in(run, "samples/step-%06lld.png", (long long)step), *bytes = NULL;
    size_t size = 0;
    Status s = path ? file_read(path, PNG_LIMIT, &bytes, &size) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = status_in(picture_decode((const uint8_t *)bytes, size, out), "%s", path);
    mem_free(bytes);
    mem_free(path);
    return s;
}

Status preview_compare(const char *run, int64_t before, int64_t after)
{
    Picture both[2] = {{.rgb = NULL}, {.rgb = NULL}}, grid = {0};
    char *path = path_in(run, PREVIEW_COMPARED);
    Status s = path ? owned_take(run, PREVIEW_COMPARED) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = read_png(run, before, &both[0]);
    if (s == STATUS_OK)
        s = read_png(run, after, &both[1]);
    if (s == STATUS_OK)
        s = picture_grid(both, 2, 1, &grid);
    if (s == STATUS_OK)
        s = picture_write_png(path, &grid, NULL, 0);
    picture_free(&both[0]);
    picture_free(&both[1]);
    picture_free(&grid);
    mem_free(path);
    return s;
}
