#include "preview.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
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

static Status write_grid(const PreviewDrawn *d, const Picture *pictures, const char *path)
{
    Picture grid = {0};
    const int count = d->config->preview.prompt_count;
    char *parameters = preview_parameters(d), *settings = preview_settings(d);
    Status s = parameters && settings ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK)
        s = picture_grid(pictures, count, count, &grid);
    if (s == STATUS_OK)
        s = picture_write_png(path, &grid,
                              (PictureText[]){{"parameters", parameters}, {PREVIEW_SETTINGS, settings}}, 2);
    picture_free(&grid);
    mem_free(parameters);
    mem_free(settings);
    return s;
}

/* RUN/NAME.ENDING. */
static Status take_file(const char *run, const char *name, const char *ending, char **path)
{
    char *file = mem_printf("%s%s", name, ending);
    *path = file ? path_join(run, file) : NULL;
    const Status s = *path ? owned_take(run, file) : STATUS_FAILED;
    mem_free(file);
    return s;
}

static Status write_both(const PreviewDrawn *d, const char *run, const char *name, const Picture *pictures)
{
    char *grid = NULL, *text = NULL, *legend = preview_legend(d);
    Status s = legend ? take_file(run, name, ".txt", &text) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = file_write_atomic(text, legend, strlen(legend));
    if (s == STATUS_OK)
        s = take_file(run, name, ".png", &grid);
    if (s == STATUS_OK)
        s = write_grid(d, pictures, grid);
    mem_free(legend);
    mem_free(grid);
    mem_free(text);
    return s;
}

typedef struct Drawing {
    Progress progress;
    int picture, count; /* which of them is drawn */
    int steps;          /* of one */
} Drawing;

static bool step_done(int step, int steps, const float *latents, void *arg)
{
    Drawing *d = arg;
    (void)steps;
    (void)latents;
    progress_update(&d->progress, (int64_t)d->picture * d->steps + step, "picture %d of %d", d->picture + 1,
                    d->count);
    return true; /* the context looks whether to stop */
}

static Status draw_all(Pipeline *p, const Config *config, Picture *pictures)
{
    Drawing d = {.count = config->preview.prompt_count};
    const SampleRequest first = preview_request(config, 0);
    Status s = pipeline_steps(pipeline_model(p), &first, &d.steps);
    progress_begin(&d.progress, "preview", "step", 0, (int64_t)d.steps * d.count);
    progress_quiet(&d.progress, 1);
    for (; d.picture < d.count && s == STATUS_OK; d.picture++) {
        const SampleRequest r = preview_request(config, d.picture);
        SampleResult result = {0};
        s = status_in(pipeline_sample(p, &r, step_done, &d, &result), "preview \"%s\"", r.prompt);
        if (s == STATUS_OK) {
            pictures[d.picture] = result.picture; /* taken over */
            result.picture = (Picture){0};
        }
        sample_result_free(&result);
    }
    progress_clear(&d.progress);
    return s;
}

Status preview_draw(Pipeline *p, const PreviewDrawn *drawn, const char *run)
{
    const int count = drawn->config->preview.prompt_count;
    Picture *pictures = mem_calloc((size_t)count, sizeof *pictures);
    char *name = mem_printf("samples/step-%06lld", (long long)drawn->step);
    char *folder = path_in(run, "samples");
    Status s = pictures && name && folder ? dir_make(folder) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = draw_all(p, drawn->config, pictures);
    if (s == STATUS_OK)
        s = write_both(drawn, run, name, pictures);
    for (int i = 0; pictures && i < count; i++)
        picture_free(&pictures[i]);
    mem_free(pictures);
    mem_free(name);
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
    char *legend = mem_printf("above step %lld, below step %lld", (long long)before, (long long)after);
    if (s == STATUS_OK)
        s = legend ? picture_write_png(path, &grid, &(PictureText){"Description", legend}, 1) : STATUS_FAILED;
    mem_free(legend);
    picture_free(&both[0]);
    picture_free(&both[1]);
    picture_free(&grid);
    mem_free(path);
    return s;
}
