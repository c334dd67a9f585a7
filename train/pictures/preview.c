#include "preview.h"

#include "infer/safety/watermark.h"
#include "infer/text/foreign_syntax.h"
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
    r.negative =
        *config->preview.negative ? config->preview.negative : NULL; /* as `atelier sample` without one */
    r.prompt_2 = i < config->preview.prompt_2_count ? config->preview.prompts_2[i] : NULL;
    r.negative_2 = config->preview.negative_2;
    r.steps = config->preview.steps;
    r.guidance = config->preview.guidance;
    if (config->preview.sampler)
        r.sampler = config->preview.sampler;
    r.schedule = config->preview.schedule;
    r.seed = config->preview.seed + (uint64_t)i;
    r.size = (Size){config->preview.width, config->preview.height};
    r.clip_skip = config->method.clip_skip;
    r.unmarked = true; /* the grid is marked as a whole */
    return r;
}

void preview_tell(const Config *config)
{
    foreign_syntax_tell((const char *const *)config->preview.prompts, config->preview.prompt_count);
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
    const char *mark = guard_watermark(&(GuardRequest){.watermark = d->config->safety.watermark});
    if (s == STATUS_OK && mark)
        s = watermark_write(&grid, mark, strlen(mark));
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
    Pipeline *p;
    Comm *comm;
    const Config *config;
    Progress progress;
    int picture, count; /* which of them is drawn */
    int steps;          /* of one */
    Picture *pictures;  /* process 0: of all prompts */
} Drawing;

static bool step_done(int step, int steps, const SampleView *view, void *arg)
{
    Drawing *d = arg;
    (void)steps;
    (void)view;
    comm_alive(d->comm);
    progress_update(&d->progress, (int64_t)d->picture * d->steps + step, "picture %d of %d", d->picture + 1,
                    d->count);
    return true; /* the context looks whether to stop */
}

static Status draw_one(int64_t k, void *rgb, void *arg)
{
    Drawing *d = arg;
    const SampleRequest r = preview_request(d->config, (int)k);
    SampleResult result = {0};
    d->picture = (int)k;
    const Status s = status_in(pipeline_sample(d->p, &r, step_done, d, &result), "preview \"%s\"", r.prompt);
    if (s == STATUS_OK)
        memcpy(rgb, result.picture.rgb, 3 * (size_t)size_area(result.picture.size));
    sample_result_free(&result);
    return s;
}

static Status take_one(int64_t k, const void *rgb, void *arg)
{
    const Drawing *d = arg;
    memcpy(d->pictures[k].rgb, rgb, 3 * (size_t)size_area(d->pictures[k].size));
    return STATUS_OK;
}

/* All pictures, in process 0. */
static Status draw_all(Pipeline *p, Comm *comm, const Config *config, Picture *pictures)
{
    Drawing d = {
        .p = p, .comm = comm, .config = config, .count = config->preview.prompt_count, .pictures = pictures};
    const SampleRequest first = preview_request(config, 0);
    Size size = first.size;
    TRY(pipeline_check_size(pipeline_model(p), &size));
    TRY(pipeline_steps(pipeline_model(p), &first, &d.steps));
    for (int i = 0; i < d.count && comm->rank == 0; i++)
        TRY(picture_new(size, &pictures[i]));
    const size_t bytes = 3 * (size_t)size_area(size);
    void *one = mem_alloc(bytes);
    if (!one)
        return STATUS_FAILED;
    progress_begin(&d.progress, "preview", "step", 0, (int64_t)d.steps * d.count);
    progress_quiet(&d.progress, 1);
    const Status s = comm_work(
        comm,
        &(CommWork){
            .count = d.count, .bytes = bytes, .thing = one, .make = draw_one, .take = take_one, .arg = &d});
    progress_clear(&d.progress);
    mem_free(one);
    return s;
}

/* Before anything is drawn. */
static Status make_folder(const char *run)
{
    char *folder = path_in(run, "samples");
    const Status s = folder ? dir_make(folder) : STATUS_FAILED;
    mem_free(folder);
    return s;
}

Status preview_draw(Pipeline *p, Comm *comm, const PreviewDrawn *drawn, const char *run)
{
    const int count = drawn->config->preview.prompt_count;
    Picture *pictures = mem_calloc((size_t)count, sizeof *pictures);
    char *name = mem_printf("samples/step-%06lld", (long long)drawn->step);
    Status s = pictures && name ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && comm->rank == 0)
        s = make_folder(run);
    s = comm_agree(comm, s);
    if (s == STATUS_OK)
        s = draw_all(p, comm, drawn->config, pictures);
    if (s == STATUS_OK && comm->rank == 0)
        s = write_both(drawn, run, name, pictures);
    for (int i = 0; pictures && i < count; i++)
        picture_free(&pictures[i]);
    mem_free(pictures);
    mem_free(name);
    return s;
}

char *preview_path(const char *run, int64_t step)
{
    return path_in(run, "samples/step-%06lld.png", (long long)step);
}

static Status read_png(const char *run, int64_t step, Picture *out)
{
    char *path = preview_path(run, step), *bytes = NULL;
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
